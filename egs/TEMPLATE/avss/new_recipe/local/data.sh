#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the my_dataset recipe: data/{train,valid,test}. Run it in the recipe's folder. Options go to the reader as
# they are; see local/data.sh --help. Change the reader to the layout of the corpus, or bring the corpus to its layout:
#   <root>/audio/{train,val,test}/{mix,s1,s2}/<clip 1>_<clip 2>.wav and <root>/mouths/<clip>.npz
# A corpus of clips (video with sound) takes the way of egs/grid/avss instead: folders with video.scp, text and utt2spk
# from here, and no --source mixtures in run.sh.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
few=()
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || few=(--max_mixtures 8)

reader=(python -m espnet_av.corpora.avss_layout --licence "the licence of my_dataset" "${few[@]}")
if [[ ${ESPNET_AV_DEBUG:-false} == true && " $* " != *" --my_dataset_root "* ]]; then # remove this with example.sh
  example=debug/example
  bash "$(dirname -- "${BASH_SOURCE[0]}")/example.sh" "${example}"
  reader+=(--root "${example}")
fi
exec "${reader[@]}" "${@/#--my_dataset_root/--root}"

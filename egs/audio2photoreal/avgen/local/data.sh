#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the audio2photoreal recipe: check every file of a person against the layout, write data folders. Run it in
# the recipe's folder. The driver passes --output_dir, --seed and the recipe's own options.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
output_dir=data
seed=0
a2p_root=""
subject=PXB184
split=a2p
token_dir=""
max_wrong_share=0.1
help_message="Usage: local/data.sh --a2p_root DIR [options]
  --output_dir DIR    where the data folders go (default: ${output_dir})
  --seed N            has no effect: the sets are those of the publication
  --subject NAME      the person, a folder below the root (default: ${subject})
  --split a2p|avflow  which scenes are tests (default: ${split})
  --token_dir NAME    folder of the tokens in the person's folder (default: the usual ones)
  --max_wrong_share X  more wrong scenes than this are an error (default: ${max_wrong_share})"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
: "${seed}"
more=()
[[ -z ${token_dir} ]] || more+=(--token_dir "${token_dir}")

exec python -m espnet_av.corpora.audio2photoreal --root "${a2p_root}/${subject}" --output_dir "${output_dir}" \
  --split "${split}" --licence CC-BY-NC-4.0 --max_wrong_share "${max_wrong_share}" "${more[@]}"

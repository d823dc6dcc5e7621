#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Sessions with several conversations at one table, MCoRec (CHiME-9): bash run.sh --mcorec_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

config=conf/train.yaml
for word; do # the published size is too large to be tried out
  [[ ${word} != --debug && ${word} != --debug=true ]] || config=conf/train_debug.yaml
done

exec bash ../../TEMPLATE/avsr/avsr.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root mcorec_root "${MCOREC_ROOT:-}" "folder with train/<session> and dev/<session>" \
  --recipe_option train_sessions "train/*" "pattern of the sessions to train on, below the folder" \
  --recipe_option test_sessions "dev/*" "pattern of the sessions to test on" \
  --recipe_option segmentations "asd_chunk fixed_chunk" "how sessions are cut in stage 7a: also gold_chunk" \
  --test_sets test \
  --token_type bpe \
  --vocab_size 5000 \
  --roi center \
  --max_sec 16 \
  --model_licence "not redistributable" \
  --config "${config}" \
  "$@"

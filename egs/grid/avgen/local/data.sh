#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the GRID recipe: face and head of one talker are measured, below <output_dir>/talker; then data folders. Run
# it in the recipe's folder. The driver passes --output_dir, --seed and the recipe's own options; the number of processes
# and ESPNET_AV_DEBUG (a few clips) come along.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
output_dir=data
seed=0
grid_root=""
talker=""
num_valid=20
num_test=20
help_message="Usage: local/data.sh --grid_root DIR [options]
  --grid_root DIR     folder with s<N>/*.mpg and align/, or of one talker with video/ and align/
  --output_dir DIR    where the data folders go (default: ${output_dir})
  --talker NAME       s1, s2, ... (default: the first one)
  --num_valid N       clips of the validation set (default: ${num_valid})
  --num_test N        clips of the test set (default: ${num_test})
  --seed N            of the division and of the codes (default: ${seed})"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
few=()
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || few=(--max_clips 24 --num_valid 4 --num_test 4)

exec python -m espnet_av.corpora.grid_talk --grid_root "${grid_root}" --corpus_dir "${output_dir}/talker" \
  --output_dir "${output_dir}" --num_valid "${num_valid}" --num_test "${num_test}" --seed "${seed}" \
  --nj "${ESPNET_AV_NJ:-1}" ${talker:+--talker "${talker}"} "${few[@]}"

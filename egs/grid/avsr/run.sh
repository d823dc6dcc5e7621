#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Speech recognition from real talking faces, GRID: bash run.sh --grid_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

test_sets="test"
for snr in n5 0 5 10; do
  test_sets+=" test_snr_${snr}_interferer_1"
done

exec bash ../../TEMPLATE/avsr/avsr.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root grid_root "${GRID_ROOT:-}" "folder with s<N>/*.mpg and align/ (https://zenodo.org/records/3625687)" \
  --recipe_option train_list "" "clips of the training set, one name a line (default: a random split)" \
  --recipe_option valid_list "" "clips of the validation set" \
  --recipe_option test_list "" "clips of the test set" \
  --recipe_option interferer_snrs "-5 0 5 10" "levels in dB of the test sets with a second talker" \
  --test_sets "${test_sets}" \
  --token_type word \
  "$@"

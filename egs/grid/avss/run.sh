#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Separation of two talkers by their lips, GRID: bash run.sh --grid_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avss/avss.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root grid_root "${GRID_ROOT:-}" "folder with s<N>/*.mpg and align/ (https://zenodo.org/records/3625687)" \
  --recipe_option train_list "" "clips of the training set, one name a line (default: a random split)" \
  --recipe_option valid_list "" "clips of the validation set" \
  --recipe_option test_list "" "clips of the test set" \
  --test_sets test \
  --lip_reader ../avsr \
  --lip_variants 4 \
  --config conf/train_rtfsnet_mini.yaml \
  "$@"

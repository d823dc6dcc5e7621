#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Separation of two talkers by their lips on my_dataset: bash run.sh --my_dataset_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avss/avss.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root my_dataset_root "${MY_DATASET_ROOT:-}" "folder with audio/{train,val,test}/{mix,s1,s2} and mouths" \
  --source mixtures \
  --config conf/train_rtfsnet_mini.yaml \
  "$@"

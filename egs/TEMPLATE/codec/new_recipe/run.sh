#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# A speech codec for 1 and 6 kbps on my_dataset: bash run.sh --my_dataset_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/codec/codec.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root my_dataset_root "${MY_DATASET_ROOT:-}" "folder with <speaker>/<clip>.wav" \
  --test_sets "test_track{track}_clean test_track{track}_noisy test_track{track}_reverb" \
  --min_wav_duration 1 \
  --config conf/train_track1_mini.yaml \
  "$@"

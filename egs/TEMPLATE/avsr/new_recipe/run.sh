#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Speech recognition from talking faces on my_dataset: bash run.sh --my_dataset_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avsr/avsr.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root my_dataset_root "${MY_DATASET_ROOT:-}" "folder with <speaker>/<clip>.mp4 and <clip>.txt" \
  "$@"

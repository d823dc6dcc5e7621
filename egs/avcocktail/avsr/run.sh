#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Recordings of parties, cut in three ways, AVCocktail: bash run.sh --avcocktail_root DIR --checkpoint_path DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avsr/evaluate.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option avcocktail_root "${AVCOCKTAIL_ROOT:-}" \
  "folder with the shards, or their name on the hub: nguyenvulebinh/AVCocktail" \
  --recipe_option data_cache_dir "" "where shards of the hub are kept" \
  --dataset_name AVCocktail \
  "$@"

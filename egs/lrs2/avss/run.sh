#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Separation of two talkers by their lips, LRS2-2Mix: bash run.sh --lrs2_root DIR --lip_frontend FILE [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avss/avss.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root lrs2_root "${LRS2_2MIX_ROOT:-}" "LRS2-2Mix: audio/wav16k/min/{tr,cv,tt} and mouths; with mixing lists: the clips" \
  --recipe_option lists_dir "" "JSON lists of the mixtures, or mixing lists from which they are made (default: folders)" \
  --recipe_option mouth_dir "" "mouth crops <clip>.npz (default: mouths below the root)" \
  --source mixtures \
  --min_train_sec 2 \
  --lip_variants 8 \
  --model_licence "not redistributable" \
  "$@"

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Speech and a moving face of one actor, from recordings in the layout of AV-Flow's 50 hours:
# bash run.sh --av50h_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avgen/avgen.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root av50h_root "${AV50H_ROOT:-}" "holds audio/, expression_codes/, headpose/, and perhaps participant/ and tokens" \
  --recipe_option token_dir "" "folder of the tokens below it; the first of the usual ones when not given" \
  --recipe_option max_wrong_share 0.05 "more segments than this that differ from the layout are an error" \
  --token_model given \
  --text_model none \
  --min_sec 4.1 \
  --model_licence CC-BY-NC-4.0 \
  "$@"

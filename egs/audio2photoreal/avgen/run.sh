#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Speech and a moving face of one person of Audio2Photoreal: bash run.sh --a2p_root DIR [--subject NAME] [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avgen/avgen.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root a2p_root "${A2P_ROOT:-}" "holds a folder for each person" \
  --recipe_option subject PXB184 "the person: PXB184, RLW104, TXB805 or GQS883" \
  --recipe_option split a2p "which scenes are tests: a2p (as the data say), or avflow (as AV-Flow took them)" \
  --recipe_option token_dir "" "folder of the tokens in the person's folder; the first of the usual ones when not given" \
  --recipe_option max_wrong_share 0.1 "more scenes than this that differ from the layout are an error" \
  --token_model given \
  --text_model none \
  --min_sec 4.1 \
  --model_licence CC-BY-NC-4.0 \
  "$@"

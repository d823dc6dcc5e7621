#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Speech and a moving face, generated together, from one real talker of GRID: bash run.sh --grid_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avgen/avgen.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root grid_root "${GRID_ROOT:-}" "folder with s<N>/*.mpg and align/ (https://zenodo.org/records/3625687)" \
  --recipe_option talker "" "the talker: s1, s2, ... (default: the first one)" \
  --recipe_option num_valid 20 "clips of the validation set" \
  --recipe_option num_test 20 "clips of the test set; the others are trained on" \
  --token_config conf/train_tokens_talker.yaml \
  --head_vae_config conf/train_head_vae_mini.yaml \
  --text_model none \
  --text_config conf/train_text_mini.yaml \
  --vocoder griffinlim \
  --vocoder_config conf/train_vocoder_mini.yaml \
  --config conf/train_short.yaml \
  "$@"

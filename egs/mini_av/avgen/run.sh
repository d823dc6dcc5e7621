#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Speech and a moving face, generated together, on mini_av, whose actor is made on the spot: bash run.sh [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avgen/avgen.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option corpus_size default "recordings: tiny, default, large, or a number of training recordings" \
  --token_set sentences \
  --head_vae_config conf/train_head_vae_mini.yaml \
  --text_config conf/train_text_mini.yaml \
  --vocoder griffinlim \
  --vocoder_config conf/train_vocoder_mini.yaml \
  --config conf/train_mini.yaml \
  "$@"

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Separation of two talkers by their lips on mini_av, a corpus made on the spot: bash run.sh [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/avss/avss.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option corpus_size default "clips: tiny, default, large, or a number of training clips per speaker" \
  --test_sets "test_seen test_unseen" \
  --test_mixtures 90 \
  --lip_reader ../avsr \
  --lip_variants 4 \
  --config conf/train_rtfsnet_mini.yaml \
  "$@"

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# A speech codec for 1 and 6 kbps on mini_av, whose voices are made on the spot: bash run.sh [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/codec/codec.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option corpus_size default "speech: tiny, default, large, or a number of training utterances per speaker" \
  --test_sets "test_track{track}_clean test_track{track}_noisy test_track{track}_reverb" \
  --min_wav_duration 1 \
  --config conf/train_track1_mini.yaml \
  "$@"

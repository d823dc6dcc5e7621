#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Speech recognition from talking faces on mini_av, a corpus made on the spot: bash run.sh [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

test_sets="test_seen test_unseen silent"
for snr in n5 0 5 10; do
  for number in 1 2; do
    test_sets+=" test_seen_snr_${snr}_interferer_${number}"
  done
done

exec bash ../../TEMPLATE/avsr/avsr.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option corpus_size default "clips: tiny, default, large, or a number of training clips per speaker" \
  --test_sets "${test_sets}" \
  --token_type word \
  "$@"

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The cocktail-party training mix, LRS2 + VoxCeleb2 + AVYT + AVYT-mix: bash run.sh --avyt_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

test_sets="test"
for snr in n5 0 5 10; do
  for number in 1 2; do
    test_sets+=" test_snr_${snr}_interferer_${number}"
  done
done
config=conf/train.yaml
for word; do # the published size is too large to be tried out
  [[ ${word} != --debug && ${word} != --debug=true ]] || config=conf/train_debug.yaml
done

exec bash ../../TEMPLATE/avsr/avsr.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option avyt_root "${AVYT_ROOT:-}" "folder with the shards, or their name on the hub: nguyenvulebinh/AVYT" \
  --recipe_option streaming_dataset false "read the hub's shards while training; otherwise they are downloaded first" \
  --recipe_option include_mcorec false "train on MCoRec (gated) as well, with the probabilities for five sources" \
  --recipe_option mcorec_root "" "folder with its shards, or their name on the hub (MCoRecChallenge/MCoRec)" \
  --recipe_option cache_dir "" "where files of the hub are kept" \
  --recipe_option unpack_train false "make data folders of all training clips; they are then mixed by their numbers" \
  --recipe_option legacy_order false "clips in stored order, as in the original training" \
  --recipe_option legacy_valid false "validate on a test set too, as in the original training" \
  --recipe_option token_clips 5000 "clips of LRS2 that tokens are made from and other speakers are taken from" \
  --recipe_option shuffle_buffer 4000 "clips held in memory for shuffling" \
  --test_sets "${test_sets}" \
  --token_type bpe \
  --vocab_size 5000 \
  --roi center \
  --model_licence "not redistributable" \
  --config "${config}" \
  "$@"

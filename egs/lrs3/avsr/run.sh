#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Audio-visual speech recognition on LRS3: bash run.sh --lrs3_root DIR [--help]
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
  --recipe_root lrs3_root "${LRS3_ROOT:-}" "folder with pretrain/, trainval/, test/; or auto_avsr's preparation" \
  --recipe_option valid_list "" "clips of the validation set, AV-HuBERT's lrs3-valid.id (default: held-out talks)" \
  --recipe_option include_pretrain true "train on the pretrain part too, cut by its word times: true or false" \
  --recipe_option max_cut_sec 16 "length that clips of the pretrain part are cut to, in seconds" \
  --recipe_option vox2_root "" "VoxCeleb2 (or auto_avsr's preparation of it), joined to the training set" \
  --recipe_option vox2_transcript_file "" "transcripts of VoxCeleb2, lines '<id>/<video>/<n> WORDS'" \
  --recipe_option unit_file "" "auto_avsr's unigram5000_units.txt, where its preparation has no text files" \
  --recipe_option interferer_snrs "-5 0 5 10" "levels in dB of the test sets with interferers" \
  --recipe_option interferer_numbers "1 2" "numbers of interferers of these sets" \
  --test_sets "${test_sets}" \
  --token_type bpe \
  --vocab_size 5000 \
  --max_sec 16 \
  --model_licence "not redistributable" \
  --config "${config}" \
  "$@"

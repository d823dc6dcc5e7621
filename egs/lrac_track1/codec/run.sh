#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# LRAC challenge, track 1: bash run.sh --lrac_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/codec/codec.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root lrac_root "${LRAC_ROOT:-data}" "what the LRAC data toolkit made: speech, speech_validation, open_testset_track1_*, ..." \
  --recipe_option check_files 2000 "files of each set that stage 1 opens: a number, or all" \
  --track 1 \
  --train_set speech \
  --model_licence "not redistributable" \
  --valid_set speech_validation \
  --test_sets "open_testset_track1_clean open_testset_track1_noisy open_testset_track1_reverb" \
  "$@"

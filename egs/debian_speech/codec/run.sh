#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# A speech codec for 1 and 6 kbps on real speech out of Debian packages: bash run.sh [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/codec/codec.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option cache_dir downloads "where downloaded packages are kept (315 MB)" \
  --recipe_option deb_dir "" "folder with the packages, for machines without network (default: apt-get download)" \
  --recipe_option any_version false "take packages of another release too, unchecked" \
  --recipe_option max_clips "" "clips of each speaker (default: all)" \
  --recipe_option join_sec 4 "short clips of a speaker are joined to this length; 0: not" \
  --test_sets "test_track{track}_clean test_track{track}_noisy test_track{track}_reverb test_fillets test_fullband" \
  --min_wav_duration 1 \
  --model_licence "not redistributable" \
  --config conf/train_track1_mini.yaml \
  "$@"

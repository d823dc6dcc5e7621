#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Active separation in Matterport3D with the cached data of SoundSpaces: bash run.sh --soundspaces_root DIR [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/activesep/activesep.sh --called_as "$0" "${folder}" "$#" \
  --recipe_root soundspaces_root "${SOUNDSPACES_ROOT:-}" "metadata/, binaural_rirs/, scene_observations/, audio_data/, active_datasets/, passive_datasets/" \
  --recipe_option observations scene_observations "folder of the observations below --soundspaces_root" \
  --recipe_option splits "" "published episodes of sets under other names: SET=SPLIT,..." \
  --dataset mp3d \
  --pack_scenes false \
  --model_licence "not redistributable" \
  "$@"

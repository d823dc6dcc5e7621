#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the mp3d recipe: find the parts of the SoundSpaces data and link them. Run it in the recipe's folder.
# The driver passes --output_dir, --seed and the recipe's own options; ESPNET_AV_SETS and ESPNET_AV_DATASET come along.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
output_dir=data
# shellcheck disable=SC2034 # the driver passes it to every recipe
seed=0
soundspaces_root=""
observations=scene_observations
splits=""
help_message="Usage: local/data.sh [options]
  --output_dir DIR         where the links and lists go (default: ${output_dir})
  --seed N                 has no effect
  --soundspaces_root DIR   your copy of the data
  --observations NAME      folder of the observations below it (default: ${observations})
  --splits SET=SPLIT,...   episodes of sets under other names, e.g. train=train_731243episodes (default: published)"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
read -r -a sets <<<"${ESPNET_AV_SETS:-train valid_unheard test_heard test_unheard}"
read -r -a given <<<"${splits//,/ }"

exec python -m espnet_av.corpora.soundspaces --root "${soundspaces_root}" --output_dir "${output_dir}" \
  --dataset "${ESPNET_AV_DATASET:-mp3d}" --observations "${observations}" --sets "${sets[@]}" --splits "${given[@]}"

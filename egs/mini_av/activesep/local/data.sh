#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the mini_av recipe: plans of houses and clips of sounds; stage 2 computes what they sound and look like.
# Run it in the recipe's folder. The driver passes --output_dir, --seed and the recipe's own options; ESPNET_AV_NJ,
# ESPNET_AV_DEBUG and ESPNET_AV_SETS come along.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
output_dir=data
seed=0
nj=${ESPNET_AV_NJ:-2}
corpus_size=default
num_houses=2
new_houses=0
voices=espeak
help_message="Usage: local/data.sh [options]
  --output_dir DIR    where everything goes (default: ${output_dir})
  --seed N            the same seed gives the same houses and sounds (default: ${seed})
  --nj N              processes (default: ${nj})
  --corpus_size SIZE  tiny, default or large (default: ${corpus_size})
  --num_houses N      houses to learn in (default: ${num_houses})
  --new_houses N      further houses for validation and tests (default: ${new_houses})
  --voices KIND       espeak or formula (default: ${voices})"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || corpus_size=tiny num_houses=1
read -r -a sets <<<"${ESPNET_AV_SETS:-train valid_unheard test_heard test_unheard}"

exec python -m espnet_av.corpora.mini_world --output_dir "${output_dir}" --nj "${nj}" --seed "${seed}" \
  --corpus_size "${corpus_size}" --num_houses "${num_houses}" --new_houses "${new_houses}" --voices "${voices}" \
  --sets "${sets[@]}"

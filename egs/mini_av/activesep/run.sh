#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# An agent that moves to hear better, in houses and with voices that are made on the spot: bash run.sh [--help]
set -euo pipefail
recipe=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
folder=${PWD}
cd "${recipe}"

exec bash ../../TEMPLATE/activesep/activesep.sh --called_as "$0" "${folder}" "$#" \
  --recipe_option corpus_size default "houses and sounds: tiny, default, or large" \
  --recipe_option num_houses 2 "houses to learn in" \
  --recipe_option new_houses 0 "further houses for validation and tests; 0: those of training, with other episodes" \
  --recipe_option voices espeak "espeak: voices of mini_av; formula: simpler ones that need no package" \
  --dataset mini \
  --config conf/train_policy_mini.yaml \
  --passive_config conf/train_passive_mini.yaml \
  --infer_config conf/eval_mini.yaml \
  --episode_start far \
  --train_points 400 --valid_points 60 \
  --train_episodes 8000 --valid_episodes 60 --test_episodes 300 \
  --policy_seeds "0 1 2" \
  --search_first 2 --search_interval 1 \
  --max_mover_agents 1 \
  "$@"

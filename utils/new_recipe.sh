#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Start a recipe for a new dataset: bash utils/new_recipe.sh my_corpus/avsr [--like mini_av/avsr]
# Needs nothing but python3; see --help.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
PYTHONPATH=${root} exec "${ESPNET_AV_PYTHON:-python3}" -m espnet_av.bin.new_recipe "$@"

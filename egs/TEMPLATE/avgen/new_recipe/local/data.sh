#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the my_dataset recipe: data/{train,valid,test}. Run it in the recipe's folder. Options go to the reader as
# they are; see local/data.sh --help. Change the reader to the layout of the corpus, or bring the corpus to its layout:
#   <root>/audio/<segment>.wav                       48 kHz; actor in the first channel, partner in the second
#   <root>/expression_codes/<segment>.npy            (N, 256), 30 Hz
#   <root>/headpose/<segment>--headpose.npy          (N, 3, 4) rotation and translation
#   <root>/text                                      <segment> and what is said; may be absent
# Dates in the names of segments tell the sets apart; see espnet_av/corpora/fifty_hours.py.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
output_dir=data
# shellcheck disable=SC2034 # the driver passes it to every recipe
seed=0
my_dataset_root=""
# shellcheck disable=SC2034 # read by parse_options.sh
help_message="Usage: local/data.sh [options]
  --output_dir DIR        where the data folders go (default: ${output_dir})
  --seed N                has no effect: the sets are given
  --my_dataset_root DIR   the recordings"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
if [[ ${ESPNET_AV_DEBUG:-false} == true && -z ${my_dataset_root} ]]; then # remove this with example.sh
  my_dataset_root=debug/example
  bash "$(dirname -- "${BASH_SOURCE[0]}")/example.sh" "${my_dataset_root}"
fi

exec python -m espnet_av.corpora.fifty_hours --root "${my_dataset_root}" --output_dir "${output_dir}" \
  --licence "the licence of my_dataset"

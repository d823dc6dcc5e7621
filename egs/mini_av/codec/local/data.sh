#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the mini_av codec recipe: generate full-band voices, noises and rooms. Run it in the recipe's folder.
# The driver passes --output_dir, --seed and the recipe's own options; ESPNET_AV_NJ and ESPNET_AV_DEBUG come along.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
output_dir=data
seed=0
nj=${ESPNET_AV_NJ:-2}
corpus_size=default
help_message="Usage: local/data.sh [options]
  --output_dir DIR    where the data folders go (default: ${output_dir})
  --seed N            the same seed gives the same corpus (default: ${seed})
  --nj N              processes (default: ${nj})
  --corpus_size SIZE  tiny, default, large, or a number of training utterances per speaker (default: ${corpus_size})"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || corpus_size=tiny

exec python -m espnet_av.corpora.hq_voices --output_dir "${output_dir}" --nj "${nj}" --seed "${seed}" \
  --size "${corpus_size}"

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the AVYT recipe: data/{train,valid,test,...} and data/train_stream.yaml, the shards that training reads.
# Run it in the recipe's folder. All options go to the reader as they are: local/data.sh --help. With --debug it takes a
# few clips of each set.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
few=()
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || few=(--max_clips 16 --shuffle_buffer 32)

exec python -m espnet_av.corpora.avyt "$@" "${few[@]}"

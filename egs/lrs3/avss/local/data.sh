#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the LRS3-2Mix recipe: data/{train,valid,test}. Run it in the recipe's folder.
# All options go to the reader as they are: local/data.sh --help. With --debug it reads a few mixtures of each set.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
few=()
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || few=(--max_mixtures 8)

exec python -m espnet_av.corpora.two_mix --corpus lrs3 "${few[@]}" "$@"

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the LRAC recipe for track 1: check what the data toolkit made. Run it in the recipe's folder.
# All options go to the checker as they are: local/data.sh --help. The driver tells names of sets by ESPNET_AV_SETS.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
more=()
[[ -z ${ESPNET_AV_SETS:-} ]] || more+=(--sets "${ESPNET_AV_SETS}")
[[ -z ${ESPNET_AV_MIXES:-} ]] || more+=(--lists "${ESPNET_AV_MIXES}")

exec python -m espnet_av.corpora.lrac --track 1 "${more[@]}" "$@"

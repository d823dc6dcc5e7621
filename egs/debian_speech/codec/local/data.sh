#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the debian_speech recipe: fetch the packages and make the data folders. Run it in the recipe's folder.
# All options go to the reader as they are: local/data.sh --help. With --debug it takes a few clips of each speaker.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
few=()
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || few=(--max_clips 24)

exec python -m espnet_av.corpora.debian_speech --nj "${ESPNET_AV_NJ:-1}" "$@" "${few[@]}"

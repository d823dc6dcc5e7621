#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the GRID recipe: data/{train,valid,test}, folders of clips; the mixtures are made in stage 2.
# Run it in the recipe's folder. All options go to the reader as they are: local/data.sh --help
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"

python -m espnet_av.corpora.grid "$@"
exec python -m espnet_av.corpora.augment_sounds "$@"

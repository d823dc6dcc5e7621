#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the GRID recipe: data/{train,valid,test} and, with --interferer_snrs, the test sets with a second talker.
# Run it in the recipe's folder. All options go to the reader as they are; see
#   local/data.sh --help
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
python=${ESPNET_AV_PYTHON:-}
if [[ -z "${python}" ]]; then
    python=${root}/tools/venv/bin/python
    [[ -x "${python}" ]] || python=python3
fi

export PYTHONPATH="${root}${PYTHONPATH:+:${PYTHONPATH}}"
exec "${python}" -m espnet_av.corpora.grid "$@"

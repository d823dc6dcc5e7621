#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the my_dataset recipe: data/{train,valid,test}. Options go to the reader as they are; see
#   local/data.sh --help
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
exec python "$(dirname -- "${BASH_SOURCE[0]}")/prepare.py" "$@"

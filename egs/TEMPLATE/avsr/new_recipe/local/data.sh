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
reader=(python "$(dirname -- "${BASH_SOURCE[0]}")/prepare.py")
if [[ ${ESPNET_AV_DEBUG:-false} == true && " $* " != *" --my_dataset_root "* ]]; then # remove this with example.sh
  example=debug/example
  bash "$(dirname -- "${BASH_SOURCE[0]}")/example.sh" "${example}"
  reader+=(--my_dataset_root "${example}")
fi
exec "${reader[@]}" "$@"

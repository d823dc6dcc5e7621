#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Make a tiny corpus in the layout that local/data.sh reads: local/example.sh DIR. --debug uses it where no corpus is named;
# when the reader is changed to another layout, remove this file, and --debug needs --my_dataset_root DIR.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
exec python -m espnet_av.corpora.example_corpus --task avgen --output_dir "${1:-debug/example}"

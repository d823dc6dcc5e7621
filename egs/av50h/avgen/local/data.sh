#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 1 of the av50h recipe: check every file against the layout, write data folders. Run it in the recipe's folder.
# The driver passes --output_dir, --seed and the recipe's own options.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
output_dir=data
seed=0
av50h_root=""
token_dir=""
max_wrong_share=0.05
help_message="Usage: local/data.sh --av50h_root DIR [options]
  --output_dir DIR       where the data folders go (default: ${output_dir})
  --seed N               has no effect: the sets are those of the publication
  --token_dir NAME       folder of the tokens below the root (default: the usual ones)
  --max_wrong_share X    more wrong segments than this are an error (default: ${max_wrong_share})"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
: "${seed}"
more=()
[[ -z ${token_dir} ]] || more+=(--token_dir "${token_dir}")

exec python -m espnet_av.corpora.fifty_hours --root "${av50h_root}" --output_dir "${output_dir}" \
  --licence CC-BY-NC-4.0 --max_wrong_share "${max_wrong_share}" "${more[@]}"

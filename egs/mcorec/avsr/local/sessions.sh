#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stage 7a: transcribe and score whole sessions, once for each way to cut them. Run it in the recipe's folder; any model
# will do: bash local/sessions.sh --mcorec_root DIR --model DIR --output_dir DIR
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../../../.." && pwd)
mcorec_root="" model="" output_dir="" infer_config=conf/infer.yaml
train_sessions="train/*"
test_sessions="dev/*"
segmentations="asd_chunk fixed_chunk"
device=""
help_message="Usage: local/sessions.sh --mcorec_root DIR --model DIR --output_dir DIR [options]
  --mcorec_root DIR        folder with dev/<session>
  --model DIR              packed model or experiment
  --output_dir DIR         receives <segmentation>/<session>/ and <segmentation>/results.json
  --test_sessions PATTERN  sessions below the folder (default: ${test_sessions})
  --train_sessions PATTERN not used here
  --segmentations 'NAME..' asd_chunk, fixed_chunk, gold_chunk (default: ${segmentations})
  --infer_config FILE      beam_size, ctc_weight and batch_size (default: ${infer_config})
  --device NAME            cpu, cuda, ... (default: a GPU where there is one)"
# shellcheck source=../../../../utils/parse_options.sh
. "${root}/utils/parse_options.sh"
# shellcheck source=../../../../utils/path.sh
. "${root}/utils/path.sh"
: "${train_sessions}"

more=()
[[ -z ${device} ]] || more+=(--device "${device}")
[[ ${ESPNET_AV_DEBUG:-false} == false ]] || more+=(--max_sessions 1)
for name in beam_size ctc_weight batch_size; do
  value=$(sed -n "s/^${name}: *\([0-9.]*\).*/\1/p" "${infer_config}")
  [[ -z ${value} ]] || more+=("--${name}" "${value}")
done
for segmentation in ${segmentations}; do
  printf '%s\n' "${segmentation}"
  python -m espnet_av.bin.avsr_sessions --session_dirs "${mcorec_root}/${test_sessions}" --model "${model}" \
    --output_root "${output_dir}/${segmentation}" --segmentation "${segmentation}" \
    --results "${output_dir}/${segmentation}/results.json" "${more[@]}"
done

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The stages of recipes that only evaluate a recogniser on published test sets. egs/<dataset>/avsr/run.sh calls this file
# in its folder as it would call avsr.sh. Stage numbers are those of avsr.sh.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
# shellcheck source=../../../utils/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../../utils/common.sh"
recipe_begin "$@"
shift "${recipe_shift}"

# ---------------------------------------------------------------------------------------------------------- options
recipe_defaults
dataset_name=lrs2 # of the command 'evaluate'
model_type=avsr_cocktail
checkpoint_path="" # folder, weights or hub name
set_id="*"
modality=av
beam_size=3
max_length=15
batch_size=8
device=auto
cache_dir=model-bin
unigram_model_file="" units_file=""
help_message="Usage: bash ${recipe_called} [options]

Evaluation of an audio-visual recogniser on published test sets: word error rates, hypotheses, confidence intervals.

${recipe_help}Of this task:
  --checkpoint_path M      experiment, packed model, weights file or hub name (default: the published model)
  --model_type NAME        avsr_cocktail or auto_avsr (default: ${model_type})
  --unigram_model_file F   SentencePiece model of a weights file
  --units_file F           unit list of a weights file
  --set_id 'NAME...'       sets, * is all of them (default: ${set_id})
  --modality NAME          av, audio or video (default: ${modality})
  --beam_size N            hypotheses kept (default: ${beam_size})
  --max_length S           longer clips are decoded in pieces (default: ${max_length})
  --batch_size N           clips decoded together (default: ${batch_size})
  --device NAME            cpu, cuda, ...; auto: a GPU where there is one (default: ${device})
  --cache_dir DIR          where files of the hub are kept (default: ${cache_dir})

$(recipe_common_help)"
# shellcheck source=../../../utils/parse_options.sh
. "${ESPNET_AV_ROOT}/utils/parse_options.sh"
[[ $# -eq 0 ]] || die 2 "unexpected argument '$1'; options are --name value, see --help"
recipe_check
for name in checkpoint_path unigram_model_file units_file cache_dir; do recipe_user_path "${name}"; done
[[ ${model_type} =~ ^(avsr_cocktail|auto_avsr|muavic_en)$ ]] || die 2 "--model_type is avsr_cocktail or auto_avsr; got '${model_type}'"
[[ ${modality} =~ ^(av|audio|video)$ ]] || die 2 "--modality is av, audio or video; got '${modality}'"
if [[ -z ${tag} ]]; then
  tag=$(basename "${checkpoint_path:-${model_type}}" | tr -c 'A-Za-z0-9_.\n' -)_${modality}_beam${beam_size}
fi
exp=${expdir}/${tag}
read -r -a set_ids <<<"${set_id}"
[[ ${follow} == false ]] || recipe_follow "${exp}/logs"

# ------------------------------------------------------------------------------------------------------------ stages
check_prepare() {
  recipe_data_args
}

prepare() {
  run_job 1 -- env ESPNET_AV_NJ="${nj}" ESPNET_AV_DEBUG="${debug}" \
    bash local/data.sh --output_dir "${datadir}" "${data_args[@]}"
}

infer() { # decoding and scoring are one command: sets that are done are kept when it is started again
  local -a command=(python -m espnet_av.bin.avsr_evaluate --dataset_name "${dataset_name}" --model_type "${model_type}"
    --set_id "${set_ids[@]}" --data_root "${datadir}/shards" --modality "${modality}" --beam_size "${beam_size}"
    --max_length "${max_length}" --batch_size "${batch_size}" --device "${device}" --cache_dir "${cache_dir}"
    --nj "${nj}" --seed "${seed}" --output_dir_name "${exp}" --resume)
  [[ -z ${checkpoint_path} ]] || command+=(--checkpoint_path "${checkpoint_path}")
  [[ -z ${unigram_model_file} ]] || command+=(--unigram_model "${unigram_model_file}")
  [[ -z ${units_file} ]] || command+=(--units "${units_file}")
  run_job 1 --num_threads "${nj}" -- "${command[@]}"
}

report() {
  run_job 1 -- python -m espnet_av.bin.report --exp_dir "${exp}" --dump_dir "${exp}/reference" \
    --output "${exp}/report.html" --alignment false
}

stages_begin "${exp}"
stage_marks "${datadir}/.stages"
stage 1 prepare prepare group: data_prep in: local/data.sh out: "${datadir}/shards" "${datadir}/sets.json" \
  options: "${recipe_options[@]}"
stage_marks "${exp}/.stages"
stage 6 infer infer group: eval in: "${datadir}/sets.json" out: "${exp}/results.json" "${exp}/RESULTS.md" \
  options: dataset_name model_type checkpoint_path unigram_model_file units_file set_id modality beam_size max_length
published=() # figures of others, which the report shows beside the results
[[ ! -f conf/published.yaml ]] || published=(conf/published.yaml)
stage 8 report report group: eval in: "${exp}/results.json" "${published[@]}" out: "${exp}/report.html"
stages_end
[[ ${list} == false && ${dry_run} == false && -f ${exp}/RESULTS.md ]] || exit 0
printf '\n'
awk '/^\|/ {print; found = 1; next} found {exit}' "${exp}/RESULTS.md"
printf '\nresults: %s\nreport:  %s\n' "$(show_path "${exp}/RESULTS.md")" "$(show_path "${exp}/report.html")"

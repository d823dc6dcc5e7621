#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The stages of every recipe that generates talking faces. egs/<dataset>/avgen/run.sh calls this file in its folder:
# first what the recipe is (see recipe_begin in utils/common.sh), then its defaults, then the user's options.
# Configurations are looked for in the recipe's conf/ first, then in egs/TEMPLATE/avgen/conf/.
#
# local/data.sh makes data folders <output_dir>/<set> of recordings: wav.scp (channels: actor, partner), face.scp,
# head.scp, utt2spk, data.json with motion_fps, and where they are known text, tokens.scp, missing.scp, phones.scp,
# other_expression.scp, other_head.scp; beside them face_basis.npz, where it is known what face codes mean. With
# --token_set NAME it makes <output_dir>/NAME too: wav.scp, text and utt2spk of further sounds.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
# shellcheck source=../../../utils/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../../utils/common.sh"
# shellcheck source=../../../utils/training.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../../utils/training.sh"
# shellcheck source=../../../utils/model_stages.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../../utils/model_stages.sh"
recipe_begin "$@"
shift "${recipe_shift}"

# ---------------------------------------------------------------------------------------------------------- options
# shellcheck source=options.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/options.sh"
# shellcheck source=../../../utils/parse_options.sh
. "${ESPNET_AV_ROOT}/utils/parse_options.sh"
[[ $# -eq 0 ]] || die 2 "unexpected argument '$1'; options are --name value, see --help"
check_options

# ------------------------------------------------------------------------------------------------- names and folders
read -r -a test_names <<<"${test_sets}"
read -r -a data_words <<<"${local_data_opts}"
read -r -a train_words <<<"${train_args}"
read -r -a infer_words <<<"${infer_args}"
read -r -a score_words <<<"${score_args}"
names=("${train_set}" "${valid_set}" "${test_names[@]}")
raw=("${names[@]/#/${datadir}/}")
formatted=("${names[@]/#/${dumpdir}/org/}")
filtered=("${names[@]/#/${dumpdir}/filtered/}")
ready=("${names[@]/#/${dumpdir}/}")
train_dir=${dumpdir}/${train_set}
valid_dir=${dumpdir}/${valid_set}
tests=("${test_names[@]/#/${dumpdir}/}")
# shellcheck source=parts.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/parts.sh"
if [[ -z ${tag} ]]; then
  tag=$(training_tag "${config}")
  [[ ${face_statistics} == per_value ]] || tag+=_face-${face_statistics}
  [[ -z ${download_model} ]] || tag=$(basename "${download_model%.*}" | tr -c 'A-Za-z0-9_.\n' -)
fi
exp=${expdir}/${tag}
model=${download_model:-${exp}}
statistics_file=${exp}/stats/statistics.npz
[[ -z ${download_model} ]] || skip_train=true
basis=()
[[ -z ${face_basis} ]] || basis=(--face_basis "${face_basis}")
# shellcheck source=systems.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/systems.sh"
[[ ${follow} == false ]] || recipe_follow "${exp}/logs"

# ------------------------------------------------------------------------------------------------------------ stages
check_prepare() {
  recipe_data_args
}

prepare() {
  run_job 1 -- env ESPNET_AV_NJ="${nj}" ESPNET_AV_DEBUG="${debug}" ESPNET_AV_SETS="${names[*]}" \
    ESPNET_AV_TOKENS="${token_model}" \
    bash local/data.sh --output_dir "${datadir}" --seed "${seed}" "${data_args[@]}" "${data_words[@]}"
}

format() {
  local -a few=()
  [[ ${debug} == false ]] || few=(--max_recordings 12)
  run_job "JOB=$(comma_separated "${names[@]}")" --max_jobs_run 1 --num_threads "${nj}" -- \
    python -m espnet_av.bin.avgen_format check --data_dir "${datadir}/JOB" --output_dir "${dumpdir}/org/JOB" \
    --max_dropped_share "${max_dropped_share}" --nj "${nj}" "${few[@]}"
}

filter() {
  local -a more=()
  [[ ${participant} == false ]] || more=(--participant)
  doctor_drop=none run_doctor --train_sets "${train_set}" -- "${formatted[@]}" # a report; the filter has its own rules
  run_job "JOB=$(comma_separated "${names[@]}")" --max_jobs_run 1 --num_threads "${nj}" -- \
    python -m espnet_av.bin.avgen_format filter --data_dir "${dumpdir}/org/JOB" --output_dir "${dumpdir}/filtered/JOB" \
    --min_sec "${min_sec}" --max_sec "${max_sec}" --max_missing_share "${max_missing_share}" \
    --max_dropped_share "${max_dropped_share}" --nj "${nj}" "${more[@]}"
}

statistics() {
  local pair
  local -a more=()
  for pair in "${set[@]}"; do more+=(--set "${pair}"); done
  run_job 1 -- python -m espnet_av.bin.avgen_statistics "${train_dir}" "${statistics_file}" --config "${config}" \
    --face "${face_statistics}" "${basis[@]}" "${more[@]}"
}

train() {
  run_training espnet_av.bin.avgen_train --train_dir "${train_dir}" --valid_dir "${valid_dir}" \
    --statistics "${statistics_file}" --head_vae "${head_vae_source}" "${train_words[@]}"
}

infer() {
  local name set_name
  local -a own=() job=() more=(--vocoder "${vocoder_source}" "${basis[@]}")
  [[ -z ${text_source} ]] || more+=(--text_to_tokens "${text_source}")
  [[ -z ${token_source} ]] || more+=(--token_model "${token_source}")
  [[ ${vad} == none ]] || more+=(--vad "${vad}") # otherwise as the model's pack says
  [[ ${debug} == false ]] || more+=(--max_utts 2 --nfe 2)
  if ((ngpu > 0)); then job=(--gpu 1) more+=(--device cuda); else more+=(--device cpu --num_threads "${nj}"); fi
  for name in "${systems[@]}"; do
    read -r -a own <<<"${system_args[${name}]}"
    for set_name in "${test_names[@]}"; do
      run_job "${name}.${set_name}" --num_threads "${nj}" "${job[@]}" -- python -m espnet_av.bin.avgen_infer \
        --model "${system_model[${name}]}" --data_dir "${dumpdir}/${set_name}" \
        --output_dir "${exp}/decode/${name}/${set_name}" --system "${name}" --infer_config "${infer_config}" \
        --num_samples "${num_samples}" --seed "${seed}" "${more[@]}" "${own[@]}" "${infer_words[@]}"
    done
  done
}

score() {
  local -a more=("${basis[@]}")
  [[ ${vocoder_source} == auto ]] || more+=(--vocoder "${vocoder_source}")
  [[ -z ${head_vae_source} ]] || more+=(--head_vae "${head_vae_source}")
  [[ -z ${recogniser} ]] || more+=(--asr "${recogniser}")
  [[ ${debug} == false ]] || more+=(--allow_missing true --num_resamples 20)
  run_job 1 --num_threads "${nj}" -- python -m espnet_av.bin.avgen_score --exp_dir "${exp}" --data_dirs "${tests[@]}" \
    --config "${score_config}" --nj "${nj}" "${more[@]}" "${score_words[@]}"
}

draw_and_report() {
  local -a more=("${basis[@]}")
  [[ -z ${mesh} ]] || more+=(--mesh "${mesh}")
  [[ -z ${codec} ]] || more+=(--codec "${codec}")
  [[ ${renderer} == none ]] ||
    run_job videos --num_threads "${nj}" -- python -m espnet_av.bin.avgen_videos --exp_dir "${exp}" \
      --data_dirs "${tests[@]}" --renderer "${renderer}" --num_videos "${num_videos}" "${more[@]}"
  report
}

pack() {
  local -a more=("${basis[@]}")
  [[ ${vocoder_source} == griffinlim ]] || more+=(--vocoder "${vocoder_source}")
  [[ -z ${text_source} ]] || more+=(--text_to_tokens "${text_source}")
  [[ -z ${token_source} || ${token_source} == wav2vec2 ]] || more+=(--token_model "${token_source}")
  [[ ${vad} == none || ${token_model} == given ]] || more+=(--vad "${vad}" --silence "${silence_file}")
  run_job 1 -- python -m espnet_av.bin.avgen_pack --exp_dir "${exp}" --output_dir "${exp}/pack" \
    --licence "${model_licence}" --data_dir "${train_dir}" --dump_dir "${dumpdir}" "${more[@]}"
}

read -r -a train_options < <(training_options)
source_tables=() # of a corpus that lies ready: stage 1 looks at it again when they change
for root_name in "${recipe_roots[@]}"; do
  for folder_name in "" /audio /headpose "/${subject:-audio}"; do
    [[ ! -d ${!root_name}${folder_name} ]] || source_tables+=("${!root_name}${folder_name}")
  done
done
made=()
for name in "${systems[@]}"; do
  for set_name in "${test_names[@]}"; do made+=("${exp}/decode/${name}/${set_name}/infer.json"); done
done
stages_begin "${exp}"
stage_marks "${datadir}/.stages"
stage 1 prepare prepare group: data_prep in: local/data.sh "${source_tables[@]}" out: "${raw[@]}" "${token_data[@]}" \
  options: seed debug train_set valid_set test_sets local_data_opts "${recipe_options[@]}"
stage_marks "${dumpdir}/.stages"
stage 2 format format group: data_prep in: "${raw[@]}" out: "${formatted[@]}" options: max_dropped_share
stage 3 filter filter group: data_prep in: "${formatted[@]}" out: "${filtered[@]}" \
  options: min_sec max_sec max_missing_share max_dropped_share participant
declare_parts
stage_marks "${exp}/.stages"
if [[ -z ${download_model} ]]; then
  stage 5 train train group: train in: "${config}" "${train_dir}" "${valid_dir}" "${statistics_file}" "${head_vae_in[@]}" \
    out: "${exp}/config.yaml" "${exp}/checkpoint.pth" options: seed set train_args "${train_options[@]}"
fi
stage 6 infer infer group: eval in: "${infer_config}" "${model_in[@]}" "${tests[@]}" "${vocoder_in[@]}" "${text_in[@]}" \
  out: "${made[@]}" options: seed num_samples inputs steps partners compare infer_args
stage 7 score score group: eval in: "${made[@]}" "${score_config}" "${tests[@]}" \
  out: "${exp}/results.json" "${exp}/RESULTS.md" options: asr score_args
stage 8 report draw_and_report group: eval in: "${exp}/results.json" ${mesh:+"${mesh}"} out: "${exp}/report.html" \
  options: renderer num_videos mesh codec
if [[ -z ${download_model} ]]; then
  stage 9 pack pack group: pack in: "${exp}/config.yaml" "${exp}/checkpoint.pth" "${vocoder_in[@]}" "${text_in[@]}" \
    out: "${exp}/pack" options: model_licence
  upload_stage
fi
stages_end
show_results

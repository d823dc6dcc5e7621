#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The stages of every codec recipe, numbered as in the LRAC challenge. egs/<dataset>/codec/run.sh calls this file in its
# folder: first what the recipe is (see recipe_begin in utils/common.sh), then its defaults, then the user's options.
# Configurations are looked for in the recipe's conf/ first, then in egs/TEMPLATE/codec/conf/.
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
test_sets=${test_sets//\{track\}/${track}} # a recipe with tests of both tracks names them test_track{track}_noisy
read -r -a test_names <<<"${test_sets}"
read -r -a rates <<<"${target_bandwidths}"
read -r -a data_words <<<"${local_data_opts}"
read -r -a train_words <<<"${train_args}"
read -r -a infer_words <<<"${inference_args}"
read -r -a score_words <<<"${scoring_args}"
read -r -a opus_words <<<"${opus_kbps#none}"
learning=("${train_set}" "${valid_set}")
names=("${learning[@]}" "${test_names[@]}")
raw=("${names[@]/#/${datadir}/}")
tests=("${test_names[@]/#/${dumpdir}/raw/}")
unfiltered=("${learning[@]/#/${dumpdir}/raw/org/}")
formatted=("${unfiltered[@]}" "${tests[@]}")
filtered=("${learning[@]/#/${dumpdir}/raw/}")
sounds=() # lists of noise and room responses
for list_name in noise rirs noise_val rirs_val; do
  [[ ${mixes} == false ]] || sounds+=("${datadir}/${list_name}.scp")
done
[[ -n ${tag} ]] || tag=$(training_tag "${config}" "raw_fs${fs}")
exp=${codec_exp:-${expdir}/codec_${tag}}
model=${exp}
model_in=("${exp}/checkpoint.pth")
if [[ -n ${download_model} ]]; then
  recipe_user_path download_model
  skip_train=true model=${download_model} model_in=()
  exp=${codec_exp:-${expdir}/$(basename "${download_model%.*}" | tr -c 'A-Za-z0-9_.\n' -)}
fi
[[ -n ${inference_model} || -n ${download_model} ]] || inference_model=valid.mel_loss.best.pth
if [[ -z ${inference_tag} ]]; then
  inference_tag=$(basename "${infer_config%.*}")${inference_model:+_$(basename "${inference_model%.pth}")}
fi
decoded=("${rates[@]/#/${exp}/${inference_tag}_}")
decoded=("${decoded[@]/%/kbps}")
[[ ${follow} == false ]] || recipe_follow "${exp}/logs"

# ------------------------------------------------------------------------------------------------------------ stages
check_prepare() {
  recipe_data_args
}

prepare() {
  run_job 1 -- env ESPNET_AV_NJ="${nj}" ESPNET_AV_DEBUG="${debug}" ESPNET_AV_TRACK="${track}" \
    ESPNET_AV_SETS="${names[*]}" ESPNET_AV_MIXES="${mixes}" \
    bash local/data.sh --output_dir "${datadir}" --seed "${seed}" "${data_args[@]}" "${data_words[@]}"
}

format() { # inputs and references of tests are converted into files of their own
  local index
  local -a few=()
  [[ ${debug} == false ]] || few=(--max_utterances 24)
  for index in "${!names[@]}"; do
    run_job "${names[index]}" --num_threads "${nj}" -- python -m espnet_av.bin.format_audio \
      --data_dir "${raw[index]}" --output_dir "${formatted[index]}" --audio_dir "${dumpdir}/raw/audio" --fs "${fs}" \
      --audio_format "${audio_format}" --max_dropped_share "${max_dropped_share}" --nj "${nj}" "${few[@]}"
    few=("${few[@]/24/4}")
  done
}

filter() { # tests keep all
  run_doctor --train_sets "${train_set}" --drop_sets "${learning[@]}" -- "${formatted[@]}"
  run_job "JOB=$(comma_separated "${learning[@]}")" --max_jobs_run "${nj}" -- \
    python -m espnet_av.bin.filter_audio --data_dir "${dumpdir}/raw/org/JOB" --output_dir "${dumpdir}/raw/JOB" \
    --min_wav_duration "${min_wav_duration}" --max_wav_duration "${max_wav_duration}" \
    "${doctor_args[@]}"
}

stats() {
  if [[ ${mixes} == false ]]; then
    say "a codec needs no statistics of its data"
    return
  fi
  run_job 1 -- python -m espnet_av.bin.sound_lists --lists_dir "${datadir}" --output_dir "${dumpdir}/raw"
}

train() {
  local name
  local -a data=()
  training_data train "raw/${train_set}" "${dumpdir}/raw/${train_set}/utt2num_samples"
  training_data valid "raw/${valid_set}" "${dumpdir}/raw/${valid_set}/utt2num_samples"
  if [[ ${mixes} == true ]]; then
    for name in noise_scp:noise rir_scp:rirs validation_noise_scp:noise_val validation_rir_scp:rirs_val; do
      data+=("--${name%%:*}" "${dumpdir}/raw/${name#*:}.scp")
    done
  fi
  run_training espnet_av.bin.codec_train "${data[@]}" "${train_words[@]}"
}

infer() {
  local -a job=() more=(--num_threads 1)
  [[ -z ${inference_model} ]] || more+=(--inference_model "${inference_model}")
  [[ ${gpu_inference} == false ]] || job=(--gpu 1) more+=(--device cuda)
  run_job "JOB=$(comma_separated "${rates[@]}")" --max_jobs_run "${inference_nj:-${nj}}" "${job[@]}" -- \
    python -m espnet_av.bin.codec_infer --train_dir "${model}" --config "${infer_config}" --target_bandwidth JOB \
    --data_dirs "${tests[@]}" --output_dir "${exp}/${inference_tag}_JOBkbps" "${more[@]}" "${infer_words[@]}"
}

score() {
  local -a more=()
  [[ -z ${asr} ]] || more+=(--asr "${asr}")
  [[ -z ${opus_kbps} ]] || more+=(--opus_kbps "${opus_words[@]}")
  [[ ${debug} == false ]] || more+=(--max_utts 2)
  run_job 1 --num_threads "${nj}" -- python -m espnet_av.bin.codec_score --exp_dir "${exp}" \
    --decode_dirs "${decoded[@]}" --data_dirs "${tests[@]}" --config "${scoring_config}" --score_tag "${scoring_tag}" \
    --nj "${nj}" "${more[@]}" "${score_words[@]}"
}

pack() {
  pack_model --dump_dir "${dumpdir}"
}

read -r -a train_options < <(training_options)
recipe_source_tables "*.scp" "*/wav.scp" "kaldi/*/wav.scp"
checked=()
[[ ${mixes} == false ]] || checked=("${dumpdir}/raw"/{noise,rirs,noise_val,rirs_val}.scp)
wavs=()
for name in "${test_names[@]}"; do wavs+=("${decoded[@]/%//${name}/wav/wav.scp}"); done
stages_begin "${exp}"
stage_marks "${datadir}/.stages"
stage 1 prepare prepare group: data_prep in: local/data.sh "${source_tables[@]}" out: "${raw[@]}" "${sounds[@]}" \
  options: seed debug track train_set valid_set test_sets local_data_opts "${recipe_options[@]}"
stage_marks "${dumpdir}/.stages"
stage 2 format format group: data_prep in: "${raw[@]}" out: "${formatted[@]}" options: fs audio_format max_dropped_share
stage 3 filter filter group: data_prep in: "${unfiltered[@]}" out: "${filtered[@]}" \
  options: min_wav_duration max_wav_duration
stage 4 stats stats group: data_prep in: "${filtered[@]}" "${sounds[@]}" out: "${checked[@]}"
stage_marks "${exp}/.stages"
[[ -n ${download_model} ]] || stage 5 train train group: train in: "${config}" "${filtered[@]}" "${checked[@]}" \
  out: "${exp}/config.yaml" "${exp}/checkpoint.pth" options: seed set train_args "${train_options[@]}"
stage 6 infer infer group: eval in: "${model_in[@]}" "${infer_config}" "${tests[@]}" out: "${wavs[@]}" \
  options: target_bandwidths inference_model inference_args download_model
stage 7 score score group: eval in: "${wavs[@]}" "${scoring_config}" "${tests[@]}" \
  out: "${exp}/results.json" "${exp}/RESULTS.md" options: scoring_tag scoring_args opus_kbps asr
if [[ -z ${download_model} ]]; then
  stage 8 report report group: eval in: "${exp}/results.json" "${exp}/history.jsonl" out: "${exp}/report.html"
  stage 9 pack pack group: pack in: "${exp}/config.yaml" "${exp}/checkpoint.pth" out: "${exp}/pack" options: model_licence
  upload_stage
fi
stages_end
show_results

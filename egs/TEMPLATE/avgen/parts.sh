# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stages 3a to 4e of recipes that generate talking faces: the models beside the generator. Each is trained here, or named by the
# user. Sourced by avgen.sh.
# shellcheck disable=SC2034,SC2154 # variables of the driver

# part_tag CONFIG ARGUMENTS: name of the experiment of a model beside the generator
part_tag() {
  local part_tag_name
  part_tag_name=$(basename "${1%.*}")
  part_tag_name=${part_tag_name#train_}
  [[ -z $2 ]] || part_tag_name+=_$(tr -c 'A-Za-z0-9_.\n' - <<<"$2")
  ((seed == 0)) || part_tag_name+=_seed${seed}
  printf '%s' "${part_tag_name}"
}

token_exp=${expdir}/$(part_tag "${token_config}" "${token_args}")
head_vae_exp=${expdir}/$(part_tag "${head_vae_config}" "${head_vae_args}")
text_exp=${expdir}/$(part_tag "${text_config}" "${text_args}")
vocoder_exp=${expdir}/$(part_tag "${vocoder_config}" "${vocoder_args}")
token_source=${token_model} head_vae_source=${head_vae} text_source=${text_model#none} vocoder_source=${vocoder}
token_in=() head_vae_in=() text_in=() vocoder_in=() # what later stages read of them
[[ ${token_model} != given ]] || token_source=""

# trained_here NAME: whether the model of option --NAME is trained by this recipe; with --download_model none is
trained_here() {
  [[ ${!1} == own && -z ${download_model} ]]
}

token_data=() # data of the token model beside the training set
[[ -z ${token_set} ]] || token_data=("${datadir}/${token_set}")
if trained_here token_model; then token_source=${token_exp} token_in=("${token_exp}/checkpoint.pth"); fi
if trained_here head_vae; then head_vae_source=${head_vae_exp} head_vae_in=("${head_vae_exp}/checkpoint.pth"); fi
if trained_here text_model; then text_source=${text_exp} text_in=("${text_exp}/checkpoint.pth"); fi
if trained_here vocoder; then vocoder_source=${vocoder_exp} vocoder_in=("${vocoder_exp}/checkpoint.pth"); fi
if [[ -n ${download_model} ]]; then # what is not named lies beside the model
  [[ ${token_model} != own ]] || token_source=${download_model}/tokens
  [[ ${head_vae} != own ]] || head_vae_source=""
  [[ ${text_model} != own ]] || text_source=""
  # what the recipe prefers gives way to what the model brings along; what the user says does not
  { [[ ${vocoder} != own ]] && recipe_user_gave vocoder; } || vocoder_source=auto
fi
recogniser=${asr#none}
[[ -n ${asr} || -z ${token_source} ]] || recogniser=ctc:${token_source}
silence_file=${dumpdir}/tokens/silence.npy

# train_part MODULE CONFIG EXPERIMENT WORDS ARGUMENT...: train a model beside the generator; settings under the names of
# Hugging Face trainings are the generator's
train_part() {
  local exp=$3 config=$2 batch_size="" max_steps="" gradient_accumulation_steps="" save_steps="" eval_steps="" \
    log_interval="" learning_rate="" warmup_steps="" model_name_or_path=""
  local -a set=() words=()
  read -r -a words <<<"$4"
  run_training "$1" "${@:5}" "${words[@]}"
}

# part_data FOLDER_OF_TRAIN FOLDER_OF_VALID FILE,STREAM,TYPE...: leave the words that name the streams in data
part_data() {
  local stream
  data=()
  for stream in "${@:3}"; do
    data+=(--train_data_path_and_name_and_type "$1/${stream}" --valid_data_path_and_name_and_type "$2/${stream}")
  done
}

# part_sounds RATE FOLDER_OF_SETS [OPTION]...: the actor alone, at a rate, for trainings on sound
part_sounds() {
  run_job "JOB=${train_set},${valid_set}" --max_jobs_run 1 --num_threads "${nj}" -- \
    python -m espnet_av.bin.avgen_format sounds --data_dir "$2/JOB" --output_dir "${dumpdir}/sound_$1/JOB" --fs "$1" \
    --nj "${nj}" "${@:3}"
}

train_token_model() {
  local learn_from=${dumpdir}/sound_16000/${train_set}
  local -a data
  part_sounds 16000 "${dumpdir}/filtered" --with_text
  if [[ -n ${token_set} ]]; then
    run_job "${token_set}" --num_threads "${nj}" -- python -m espnet_av.bin.avgen_format sounds --fs 16000 --with_text \
      --data_dir "${datadir}/${token_set}" --output_dir "${dumpdir}/sound_16000/${token_set}" --nj "${nj}"
    run_job combine -- "${ESPNET_AV_ROOT}/utils/combine_data" "${learn_from}_${token_set}" "${learn_from}" \
      "${dumpdir}/sound_16000/${token_set}"
    learn_from+=_${token_set}
  fi
  part_data "${learn_from}" "${dumpdir}/sound_16000/${valid_set}" wav.scp,speech,sound text,text,text
  train_part espnet_av.bin.avgen_tokens_train "${token_config}" "${token_exp}" "${token_args}" "${data[@]}"
}

check_tokens() {
  [[ ${token_source} != "${download_model}/tokens" || -d ${token_source} || ${dry_run} == true ]] ||
    die 3 "no folder ${token_source}: name the model that makes the tokens with --token_model"
}

tokens() {
  local -a more=(--vad "${vad}") job=()
  local silence=measure
  [[ -z ${download_model} || ! -f ${token_source}/silence.npy ]] || silence=${token_source}/silence.npy
  [[ ${vad} == none ]] || more+=(--silence "${silence}")
  if ((ngpu > 0)); then job=(--gpu 1) more+=(--device cuda); else more+=(--device cpu); fi
  run_job 1 --num_threads "${nj}" "${job[@]}" -- env OMP_NUM_THREADS="${nj}" python -m espnet_av.bin.avgen_tokens \
    --data_dirs "${filtered[@]}" --data_output_dir "${dumpdir}" --output_dir "${dumpdir}/tokens" \
    --model "${token_source:-given}" --max_dropped_share "${max_dropped_share}" "${more[@]}"
}

train_head_vae() {
  local -a data
  part_data "${train_dir}" "${valid_dir}" head.scp,head,npy
  train_part espnet_av.bin.avgen_head_vae_train "${head_vae_config}" "${head_vae_exp}" "${head_vae_args}" "${data[@]}"
}

train_text() {
  local -a data
  part_data "${train_dir}" "${valid_dir}" text,text,text tokens.scp,tokens,npy
  train_part espnet_av.bin.avgen_text_train "${text_config}" "${text_exp}" "${text_args}" "${data[@]}"
}

train_vocoder() {
  local -a data
  part_sounds 22050 "${dumpdir}"
  part_data "${dumpdir}/sound_22050/${train_set}" "${dumpdir}/sound_22050/${valid_set}" wav.scp,audio,sound
  [[ ${debug} == false ]] || data+=(--valid_max_chunks 2)
  train_part espnet_av.bin.avgen_vocoder_train "${vocoder_config}" "${vocoder_exp}" "${vocoder_args}" \
    "${data[@]}" --train_shape_file "${dumpdir}/sound_22050/${train_set}/utt2num_samples" \
    --valid_shape_file "${dumpdir}/sound_22050/${valid_set}/utt2num_samples"
}

# Declare the stages that make the models beside the generator, in order.
declare_parts() {
  if trained_here token_model; then
    stage_marks "${token_exp}/.stages"
    stage 3a recogniser train_token_model group: data_prep in: "${token_config}" "${filtered[@]:0:2}" "${token_data[@]}" \
      out: "${token_exp}/config.yaml" "${token_exp}/checkpoint.pth" options: seed token_args
  fi
  stage_marks "${dumpdir}/.stages"
  stage 4 tokens tokens group: data_prep in: "${filtered[@]}" "${token_in[@]}" out: "${ready[@]}" \
    options: token_model vad max_dropped_share
  if [[ -z ${download_model} ]]; then
    stage_marks "${exp}/.stages"
    stage 4b stats statistics group: data_prep in: "${config}" "${train_dir}" out: "${statistics_file}" \
      options: set face_statistics face_basis
  fi
  if trained_here head_vae; then
    stage_marks "${head_vae_exp}/.stages"
    stage 4c head_vae train_head_vae group: data_prep in: "${head_vae_config}" "${train_dir}/head.scp" \
      out: "${head_vae_exp}/config.yaml" "${head_vae_exp}/checkpoint.pth" options: seed head_vae_args
  fi
  if trained_here text_model; then
    stage_marks "${text_exp}/.stages"
    stage 4d text train_text group: data_prep in: "${text_config}" "${train_dir}" \
      out: "${text_exp}/config.yaml" "${text_exp}/checkpoint.pth" options: seed text_args
  fi
  if trained_here vocoder; then
    stage_marks "${vocoder_exp}/.stages"
    stage 4e vocoder train_vocoder group: data_prep in: "${vocoder_config}" "${train_dir}/wav.scp" \
      out: "${vocoder_exp}/config.yaml" "${vocoder_exp}/checkpoint.pth" options: seed vocoder_args
  fi
}

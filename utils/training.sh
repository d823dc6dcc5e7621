# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# What the drivers of all tasks share about training: settings under the names that Hugging Face trainings use, one or
# several processes, and what becomes of a finished training. Sourced by egs/TEMPLATE/<task>/<task>.sh after common.sh.
# shellcheck disable=SC2154 # variables of the driver

# Set the variables of these options; empty: what the configuration says.
training_defaults() {
  # shellcheck disable=SC2034 # read by name below
  batch_size="" max_steps="" gradient_accumulation_steps="" save_steps="" eval_steps="" log_interval=""
  # shellcheck disable=SC2034
  learning_rate="" warmup_steps="" report_to=""
  model_name_or_path="" # weights to start from
  resume_from_checkpoint=false
  # shellcheck disable=SC2034
  output_dir="" checkpoint_name="" # other names of --expdir and --tag
}

training_help() {
  cat <<END
Of training; without them the configuration decides:
  --batch_size N           clips per process in a batch, at most
  --max_steps N            optimizer steps until the end, whatever the number of epochs
  --gradient_accumulation_steps N  batches per optimizer step
  --learning_rate X        highest learning rate
  --warmup_steps N         steps of the linear warm-up
  --save_steps N           save the state every N steps as well
  --eval_steps N           validate every N steps instead of every epoch
  --log_interval N         batches between two lines of the log
  --report_to NAMES        none, wandb, tensorboard
  --model_name_or_path M   start from this model: a weights file, a model folder or a name on the Hugging Face Hub
  --resume_from_checkpoint go on from the last state, also of a finished training (default: ${resume_from_checkpoint};
                           an interrupted training goes on by itself)
  --output_dir DIR         the same as --expdir
  --checkpoint_name NAME   the same as --tag
END
}

# same_option NAME OTHER: the value of --NAME is that of --OTHER
same_option() {
  [[ -n ${!1} ]] || return 0
  [[ -z ${!2} || ${!2} == "${!1}" ]] || die 2 "--$1 is another name of --$2; got '${!1}' and '${!2}'"
  printf -v "$2" '%s' "${!1}"
}

# Check the settings; call it before recipe_check, which completes --expdir.
training_check() {
  local name hub_name='^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$'
  same_option output_dir expdir
  same_option checkpoint_name tag
  for name in batch_size max_steps gradient_accumulation_steps save_steps eval_steps log_interval warmup_steps; do
    [[ ${!name} =~ ^([0-9]+)?$ ]] || die 2 "--${name} takes a whole number; got '${!name}'"
  done
  [[ ${learning_rate} =~ ^(([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?)?$ ]] ||
    die 2 "--learning_rate takes a number above 0; got '${learning_rate}'"
  [[ -n ${model_name_or_path} ]] || return 0 # found out now, not after hours of data preparation
  recipe_user_path model_name_or_path
  [[ ! -e ${model_name_or_path} ]] || return 0
  [[ ${model_name_or_path} =~ ${hub_name} ]] ||
    die 3 "--model_name_or_path: no file or folder ${model_name_or_path}, and no name on the Hugging Face Hub"
  warn "--model_name_or_path: no path ${model_name_or_path}; stage 5 looks on the Hub"
}

# training_tag CONFIG [PART]: print the name of an experiment that these settings, --set and --seed make
training_tag() {
  local name tag
  tag=$(basename "${1%.*}")${2:+_$2}
  for name in "${set[@]}"; do tag+=_${name//[^A-Za-z0-9_.]/-}; done
  for name in batch_size gradient_accumulation_steps learning_rate warmup_steps; do
    [[ -z ${!name} ]] || tag+=_${name}-${!name}
  done
  [[ -z ${model_name_or_path} ]] || tag+=_from-$(basename "${model_name_or_path}" | tr -c 'A-Za-z0-9_.\n' -)
  ((seed == 0)) || tag+=_seed${seed}
  printf '%s' "${tag}"
}

# Print the settings that were given, for the options of stage 5; a later version with more of them trains nothing anew.
training_options() {
  local name
  for name in batch_size max_steps gradient_accumulation_steps eval_steps learning_rate warmup_steps model_name_or_path; do
    [[ -z ${!name} ]] || printf '%s ' "${name}"
  done
  printf '\n'
}

# training_data KIND SET SHAPE: append to the array data what training reads of a set
training_data() {
  local stream name type
  while read -r stream name type; do
    data+=("--$1_data_path_and_name_and_type" "${dumpdir}/$2/${stream},${name},${type}")
  done < <(grep -v '^ *#' "${dumpdir}/$2/streams" 2>/dev/null ||
    printf '%s\n' "wav.scp speech sound" "mouth.scp video video_npy" "text text text")
  data+=("--$1_shape_file" "$3") # batches are made by its lengths
}

# run_training MODULE ARGUMENT...: train with all settings, in one process or several
run_training() {
  local name wanted=$((ngpu > nproc ? ngpu : nproc)) threads=1 start=(python -m "$1") clips=${batch_size}
  local world=$((wanted * num_nodes))
  local -a overrides=() job=()
  for name in gradient_accumulation_steps save_steps eval_steps log_interval learning_rate warmup_steps report_to \
    model_name_or_path; do
    [[ -z ${!name} ]] || overrides+=("--${name}" "${!name}")
  done
  [[ ${debug} == false || -n ${clips} ]] || clips=2 # batches of large models do not fit into every computer
  [[ -z ${clips} ]] || overrides+=(--batch_size "$((clips * world))" --valid_batch_size "$((clips * world))")
  [[ -z ${max_steps} || ${debug} == true ]] || overrides+=(--max_steps "${max_steps}" --max_epoch 0)
  [[ ${debug} == false ]] || overrides+=(--max_steps 2 --max_epoch 1)
  [[ ${resume_from_checkpoint} == false ]] || overrides+=(--resume_from_checkpoint true)
  for name in "${set[@]}"; do overrides+=(--set "${name}"); done
  if ((world > 1)); then
    start=("${ESPNET_AV_ROOT}/utils/torchrun" "${wanted}" python -m "$1")
    ((num_nodes == 1)) || start=("${start[0]}" --num_nodes "${num_nodes}" "${start[@]:1}") job+=(--num_nodes "${num_nodes}")
    overrides+=(--dist_backend "$( ((ngpu > 0)) && echo nccl || echo gloo)")
  fi
  ((ngpu == 0)) || job+=(--gpu "${ngpu}")
  ((ngpu > 0 || nj < wanted)) || threads=$((nj / wanted))
  [[ ${STAGE_REDO} == false || ${resume_from_checkpoint} == true ]] || set_aside
  [[ ${dry_run} == false || ${num_nodes} == 1 ]] ||
    printf '  # srun starts this on each node: %s ...\n' "$("${start[0]}" --dry_run "${start[@]:1}")"
  run_job 1 --num_threads "${nj}" "${job[@]}" -- env OMP_NUM_THREADS="${threads}" "${start[@]}" --config "${config}" \
    --output_dir "${exp}" --seed "${seed}" --ngpu "$((ngpu > 0 ? 1 : 0))" "${@:2}" "${overrides[@]}"
}

# A finished training that is done anew is not lost: what it made moves to <experiment>/old.<N>.
set_aside() {
  local number=1 path
  while [[ -e ${exp}/old.${number} ]]; do number=$((number + 1)); done
  for path in "${exp}"/*; do
    [[ -e ${path} ]] || continue # no files at all
    case "${path##*/}" in logs | stats | stages.jsonl | old.*) continue ;; esac
    mkdir -p "${exp}/old.${number}"
    mv "${path}" "${exp}/old.${number}/"
  done
  [[ ! -d ${exp}/old.${number} ]] || say "the earlier training is kept in ${exp}/old.${number}"
}

# shellcheck shell=bash source-path=SCRIPTDIR
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by the stage drivers (egs/TEMPLATE/<task>/<task>.sh): messages, the options that all recipes share, and jobs.
# The stages themselves (order, done markers, failure box) are in utils/stages.sh, which this file sources.
#
# Exit codes: 0 ok, 2 usage, 3 missing data or licence, 4 bad environment, 5 stage failed, 99 stopped with state saved.

if ((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] < 404)); then
  printf '%s: error: bash 4.4 or newer is needed; this is %s; fix: install bash (macOS: brew install bash)\n' \
    "${0##*/}" "${BASH_VERSION}" >&2
  exit 4
fi

ESPNET_AV_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)

# log MESSAGE...: one line with the time and the caller's file and line.
log() {
  printf '%s (%s:%s) %s\n' "$(date +%H:%M:%S)" "${BASH_SOURCE[1]##*/}" "${BASH_LINENO[0]}" "$*"
}

# say MESSAGE...: one line for the user.
say() {
  printf '[espnet_av] %s\n' "$*"
}

# comma_separated WORD...: print the words with commas between them.
comma_separated() {
  local IFS=,
  printf '%s' "$*"
}

# warn MESSAGE...: one line for the user on standard error.
warn() {
  printf '[espnet_av] warning: %s\n' "$*" >&2
}

# die CODE MESSAGE...: end the script with a message. Lines of the message after the first tell the fix.
die() {
  local code=$1
  shift
  printf '[espnet_av] error: %s\n' "$*" >&2
  STAGE_ID="" STAGE_WHERE=""
  exit "${code}"
}

# min A B...: the smallest of some whole numbers.
min() {
  local smallest=$1 number
  for number; do ((number >= smallest)) || smallest=${number}; done
  printf '%s\n' "${smallest}"
}

# print_args WORD...: the words quoted so that they can be pasted into a shell.
print_args() {
  local word line=""
  for word; do
    if [[ ${word} =~ ^[A-Za-z0-9_./:=,@%+-]+$ ]]; then line+=" ${word}"; else line+=" $(printf '%q' "${word}")"; fi
  done
  printf '%s\n' "${line# }"
}

# hms SECONDS: HH:MM:SS.
hms() {
  printf '%02d:%02d:%02d' "$(($1 / 3600))" "$(($1 / 60 % 60))" "$(($1 % 60))"
}

# show_path PATH: the path as the user sees it from the folder the recipe was called in.
show_path() {
  if [[ $1 == /* || ${recipe_cwd} == "${PWD}" ]]; then printf '%s' "$1"; else printf '%s' "${PWD}/$1"; fi
}

# ---------------------------------------------------------------------------------------------------------------
# Recipes

# recipe_begin "$@": take what run.sh puts before the options, and leave the number of words taken in recipe_shift.
#   --called_as NAME FOLDER N         how the user called run.sh, from where, and how many arguments are the user's
#   --recipe_option NAME VALUE HELP   an option of this recipe's local/data.sh, with its default
#   --recipe_root NAME VALUE HELP     the same for the folder of a corpus that the user must have (exit 3 without it)
recipe_begin() {
  local total=$#
  recipe_called=$0
  recipe_cwd=${PWD}
  user_args=()
  recipe_options=()
  recipe_roots=()
  recipe_help=""
  while [[ ${1-} == --called_as || ${1-} == --recipe_option || ${1-} == --recipe_root ]]; do
    if [[ $1 == --called_as ]]; then
      recipe_called=$2
      recipe_cwd=$3
      user_args=()
      (($4 == 0)) || user_args=("${@: -$4}")
    else
      [[ $2 =~ ^[a-z][a-z0-9_]*$ ]] || die 2 "$1: not a name for an option: '$2'"
      recipe_check_free "$1" "$2"
      printf -v "$2" '%s' "$3"
      recipe_options+=("$2")
      [[ $1 == --recipe_option ]] || recipe_roots+=("$2")
      printf -v recipe_help '%s  %-24s %s%s\n' "${recipe_help}" "--$2" "$4" "${3:+ (default: $3)}"
    fi
    shift 4
  done
  recipe_shift=$((total - $#))
  ((recipe_shift > 0)) || user_args=("$@")
  [[ -z ${recipe_help} ]] || recipe_help=$'Of this recipe:\n'"${recipe_help}"
}

# recipe_check_free WHAT NAME: end unless the driver that called recipe_begin has no variable of that name.
recipe_check_free() {
  local -a files=()
  mapfile -t files < <(grep -L '^recipe_begin ' "${BASH_SOURCE[2]%/*}"/*.sh "${ESPNET_AV_ROOT}"/utils/*.sh)
  ! grep -qE "(^|[[:space:](;])$2[+]?=|(read|mapfile|local|for)( [^<;&|]*)? $2([^a-z0-9_=]|$)" "${BASH_SOURCE[2]}" "${files[@]}" ||
    die 2 "$1 $2: the driver has a variable of that name, which would overwrite it; give the option another name"
}

# recipe_user_gave NAME: whether the user said --NAME, not the recipe.
recipe_user_gave() {
  local word
  for word in "${user_args[@]}"; do
    word=${word%%=*}
    [[ ${word//-/_} != "__$1" ]] || return 0
  done
  return 1
}

# recipe_defaults: declare the options that every recipe has. Call it before the driver's own defaults.
recipe_defaults() {
  stage=1 stop_stage=9 skip_stages=""
  skip_data_prep=false skip_train=false skip_eval=false skip_pack=false skip_upload=true
  list=false dry_run=false debug=false force=false follow=false
  nj=$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2)
  ngpu=0 nproc=1 num_nodes=1 backend=local seed=0
  config=conf/train.yaml infer_config=conf/infer.yaml set=()
  tag="" datadir="" dumpdir="" expdir=""
  train_set=train valid_set=valid test_sets=test
  doctor=true doctor_drop=default
}

# recipe_common_help: their part of the help, with the defaults as they are now.
recipe_common_help() {
  cat <<TEXT
Stages:
  --list                   show the stages, what they read and write, and which are done
  --stage N                first stage to run, by number or name (default: ${stage})
  --stop_stage N           last stage to run (default: ${stop_stage})
  --skip_stages 'N N'      stages to leave out
  --skip_data_prep         leave out stages 1-4
  --skip_train             leave out training (5)
  --skip_eval              leave out inference, scoring and report (6-8)
  --skip_pack              leave out packing (9)
  --skip_upload            leave out the upload (default: true)
  --force                  do stages anew that are done; training starts over
  --dry_run                print the commands and the sizes of their inputs, run nothing
  --debug                  everything end to end on a few clips with two training steps, below debug/
  --follow                 show the newest log of this experiment as it grows
Machine:
  --nj N                   jobs side by side (default: CPU cores)
  --ngpu N                 GPUs for training (default: 0)
  --nproc N                training processes without GPUs (default: 1)
  --num_nodes N            machines for training, each with --ngpu GPUs or --nproc processes; with --backend slurm
  --backend local|slurm    where jobs run; slurm reads conf/slurm.conf (default: local)
Experiment:
  --seed N                 seed of data, training and decoding (default: 0)
  --config FILE            training configuration (default: ${config})
  --infer_config FILE      decoding configuration (default: ${infer_config})
  --set KEY=VALUE          override one key of the configuration; may be repeated
  --tag NAME               name of the experiment (default: made from the options)
  --datadir DIR            data folders of stage 1 (default: data)
  --dumpdir DIR            data folders of stages 2 and 3 (default: dump)
  --expdir DIR             experiments (default: exp)
  --train_set NAME         set to train on (default: train, or what the recipe sets)
  --valid_set NAME         set to select models on (default: valid)
  --test_sets 'NAME NAME'  sets to test on (default: what the recipe sets)
  --doctor true|false      look into every clip in stage 3, below <dumpdir>/doctor (default: ${doctor})
  --doctor_drop 'KIND...'  findings that leave a clip out of training, or none (default: see check-data --list_kinds)
TEXT
}

# recipe_settings: the values of the shared options, one a line; kept as <experiment>/recipe.txt.
recipe_settings() {
  printf '%s\n' "command=$(print_args bash "${recipe_called}" "${user_args[@]}")" "backend=${backend}" "nj=${nj}" \
    "ngpu=${ngpu}" "nproc=${nproc}" "num_nodes=${num_nodes}" "seed=${seed}" "config=${config}" "infer_config=${infer_config}" \
    "set=$(print_args "${set[@]}")" "tag=${tag}" "datadir=${datadir}" "dumpdir=${dumpdir}" "expdir=${expdir}" \
    "train_set=${train_set}" "valid_set=${valid_set}" "test_sets=${test_sets}" "debug=${debug}" "force=${force}" \
    "follow=${follow}" "stage=${stage}" "stop_stage=${stop_stage}" "skip_stages=${skip_stages}" \
    "skip_data_prep=${skip_data_prep}" "skip_train=${skip_train}" "skip_eval=${skip_eval}" "skip_pack=${skip_pack}" \
    "skip_upload=${skip_upload}"
}

# recipe_check: check the shared options and make paths of the user independent of the folder.
recipe_check() {
  local name place=""
  for name in nj ngpu nproc num_nodes seed; do
    [[ ${!name} =~ ^[0-9]+$ ]] || die 2 "--${name} takes a whole number; got '${!name}'"
  done
  ((nj >= 1 && nproc >= 1 && num_nodes >= 1)) ||
    die 2 "--nj, --nproc and --num_nodes start at 1; got ${nj}, ${nproc} and ${num_nodes}"
  [[ ${backend} == local || ${backend} == slurm ]] || die 2 "--backend is local or slurm; got '${backend}'"
  ((num_nodes == 1)) || [[ ${backend} == slurm ]] || die 2 "--num_nodes ${num_nodes} needs --backend slurm"
  [[ ${tag} =~ ^[A-Za-z0-9_.+=@-]*$ && ${tag} != .* ]] ||
    die 2 "--tag becomes a folder name: letters, digits and _ . + = @ - only; got '${tag}'"
  [[ ${debug} == false ]] || place=debug/
  datadir=${datadir:-${place}data}
  dumpdir=${dumpdir:-${place}dump}
  expdir=${expdir:-${place}exp}
  for name in config infer_config; do # a misspelt path is not found out after hours
    recipe_user_path "${name}"
    [[ -f ${!name} || ${!name} =~ ^conf/(train|infer)\.yaml$ ]] || die 2 "--${name}: no file ${!name}"
  done
  for name in "${recipe_options[@]}"; do
    case "${name}" in *_root | *_list | *_dir | *_file) recipe_user_path "${name}" ;; esac
  done
}

# recipe_user_path NAME: a relative path in variable NAME may be meant from where the user called run.sh.
recipe_user_path() {
  local value=${!1}
  if [[ -n ${value} && ${value} != /* && ! -e ${value} && -e ${recipe_cwd}/${value} ]]; then
    printf -v "$1" '%s' "${recipe_cwd}/${value}"
  fi
}

# find_config NAME: the configuration in variable NAME is that of the driver's folder where the recipe has none.
find_config() {
  local path=${0%/*}/${!1}
  recipe_user_path "$1"
  [[ -e ${!1} || ! -f ${path} ]] || printf -v "$1" '%s' "${path}"
}

# recipe_data_args: leave the recipe's own options as words for local/data.sh in data_args; exit 3 without a corpus.
# With --debug a recipe that has local/example.sh makes a corpus of its own where none is named.
recipe_data_args() {
  local name
  for name in "${recipe_roots[@]}"; do
    [[ -n ${!name} || ${debug} == false || ! -f local/example.sh ]] || continue
    [[ -n ${!name} || ${dry_run} == true ]] || die 3 "this recipe needs your copy of the corpus; say where it is: --${name} DIR"$'\n'"${recipe_help}"
    [[ -d ${!name} || ${dry_run} == true ]] || die 3 "--${name}: no folder ${!name}"$'\n'"${recipe_help}"
  done
  data_args=()
  for name in "${recipe_options[@]}"; do
    [[ -z ${!name} ]] || data_args+=("--${name}" "${!name}")
  done
}

# recipe_source_tables PATTERN...: leave in source_tables what matches below a corpus that lies ready; stage 1, which
# reads it, looks at the corpus again when it changes.
recipe_source_tables() {
  local name pattern
  source_tables=()
  for name in "${recipe_roots[@]}"; do
    for pattern in "$@"; do
      ! compgen -G "${!name}/${pattern}" >/dev/null || source_tables+=("${!name}/${pattern}")
    done
  done
}

# recipe_resume STAGE [OPTION VALUE]: the command that goes on at a stage, with the user's other options.
recipe_resume() {
  local word name drop=false
  local -a kept=() replaced=(stage force list dry_run)
  [[ $# -lt 2 ]] || replaced+=("${2#--}")
  for word in "${user_args[@]}"; do
    if [[ ${word} == --* ]]; then
      name=${word#--}
      name=${name%%=*}
      drop=false
      [[ " ${replaced[*]} " != *" ${name//-/_} "* ]] || drop=true
    fi
    [[ ${drop} == true ]] || kept+=("${word}")
    [[ ${word} != --*=* ]] || drop=false
  done
  print_args bash "${recipe_called}" "${kept[@]}" --stage "$@"
}

# run_job NAME [OPTION OF utils/run]... -- COMMAND...: run a command of the current stage through the chosen back end,
# with the log <experiment>/logs/<stage>.<NAME>.log. NAME may be JOB=1:N; JOB is then replaced in the command.
run_job() {
  local name=$1 log code=0
  local -a options=() runner=(utils/run --progress)
  shift
  while [[ $1 != -- ]]; do
    options+=("$1")
    shift
  done
  shift
  log=${STAGE_LOGS}/${STAGE_NAME}.${name%%=*}.log
  [[ ${backend} == local ]] || runner=(utils/slurm --config conf/slurm.conf)
  if [[ ${dry_run} == true ]]; then
    printf '  $ %s%s\n' "$(print_args "$@")" "$([[ ${name} != *=* ]] || printf '   # %s' "${name}")"
    [[ ${backend} == slurm ]] || return 0
  fi
  [[ ${name} != *=* ]] || options+=("${name}")
  if [[ ${dry_run} == true ]]; then
    "${ESPNET_AV_PYTHON:-python3}" "${ESPNET_AV_ROOT}/utils/slurm" "${runner[@]:1}" --dry_run --no-shell \
      "${options[@]}" "${log}" "$@" | sed 's/^/    /'
    return
  fi
  ESPNET_AV_STATUS=${STAGE_LOGS}/.failed ESPNET_AV_USAGE=${STAGE_LOGS}/.usage \
    "${ESPNET_AV_PYTHON}" "${ESPNET_AV_ROOT}/${runner[0]}" "${runner[@]:1}" --no-shell "${options[@]}" "${log}" "$@" &
  STAGE_PID=$!
  wait "${STAGE_PID}" || code=$?
  STAGE_PID=""
  return "${code}"
}

# run_doctor [OPTION OF data_doctor]... -- FOLDER...: look into the clips that stage 3 filters. What it leaves out is
# taken by the filters, which doctor_args tells where it stands; the report of a finished stage 3 is not missed.
run_doctor() {
  local -a drop=()
  doctor_args=()
  [[ ${doctor} == true ]] || return 0
  read -r -a drop <<<"${doctor_drop#none}"
  [[ ${doctor_drop} != default ]] || drop=()
  [[ ${doctor_drop} == default ]] || drop=(--drop "${drop[@]}")
  run_job doctor --num_threads "${nj}" -- python -m espnet_av.bin.data_doctor --output_dir "${dumpdir}/doctor" \
    --nj "${nj}" "${drop[@]}" "$@"
  # shellcheck disable=SC2034 # of the driver
  doctor_args=(--doctor_report "${dumpdir}/doctor/doctor.json")
}

# recipe_follow FOLDER: show the newest log there as it grows.
recipe_follow() {
  local newest
  newest=$(find "$1" -maxdepth 1 -name '*.log' -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -n 1 | cut -d' ' -f2-)
  [[ -n ${newest} ]] || die 3 "no log in $1 yet; start the recipe first, with the same --tag"
  say "following ${newest} (Ctrl-C ends this, not the recipe)"
  exec tail -n 30 -F "${newest}"
}

# shellcheck source=stages.sh
. "${ESPNET_AV_ROOT}/utils/stages.sh"

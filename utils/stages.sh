# shellcheck shell=bash source-path=SCRIPTDIR
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced by utils/common.sh: numbered stages that know what they read and write.
#
#   stages_begin exp/<tag>                 where logs and stages.jsonl go; sets the traps
#   stage_marks dump/.stages               where the markers of the stages that follow lie
#   stage 3 filter do_filter group: data_prep in: dump/a dump/b out: dump/c options: min_sec max_sec
#   stages_end
#
# `do_filter` is a function; a function `check_do_filter` is called before it, and before anything is prepared for it.
# It runs unless the stage is done: the marker <marks>/3.filter.done holds a digest of every input (of a folder: the
# files directly in it; content, or size and time above 8 MB), of the named options and of the outputs. An option or
# input that differs, or an output that is gone: the stage runs again and says why. An output that was edited by hand
# is kept; the stages that read it see it as a changed input. While a stage runs its mark is 3.filter.started.

: "${list:=false}" "${dry_run:=false}" "${force:=false}" "${skip_stages:=}" "${nj:=1}" "${ngpu:=0}" "${backend:=local}"
STAGE_ID="" STAGE_NAME="" STAGE_PID="" STAGE_LOGS="" STAGE_MARKS="" STAGE_EXP="" STAGE_PREFLIGHT=false STAGE_STOPPED=false
STAGE_REDO=false # whether the stage that runs was done before
STAGE_BEGAN=0 STAGE_NUM_RUN=0 STAGE_NUM_DONE=0 STAGE_NUM_SEEN=0 STAGE_WHERE="" STAGE_WHY=""
STAGE_IN=() STAGE_OUT=() STAGE_OPTIONS=()
declare -A STAGE_MAKERS=() STAGE_UNFINISHED=()

stages_begin() {
  STAGE_EXP=$1
  STAGE_LOGS=$1/logs
  set -E
  trap 'STAGE_WHERE="${BASH_SOURCE[0]:-$0}:${LINENO}: ${BASH_COMMAND}"' ERR
  trap '_stage_on_exit $?' EXIT
  trap '_stage_on_signal INT 130' INT
  trap '_stage_on_signal TERM 143' TERM
  [[ ${list} == false ]] || printf '%-5s  %-9s  %-11s  %s\n' stage name 'done' 'in -> out'
}

stage_marks() {
  STAGE_MARKS=$1
}

stage() {
  local id=$1 name=$2 work=$3 group="" kind="" word mark path
  shift 3
  STAGE_IN=() STAGE_OUT=() STAGE_OPTIONS=()
  for word; do
    case "${word}" in
      in: | out: | options: | group:) kind=${word} ;;
      *)
        case "${kind}" in
          in:) STAGE_IN+=("${word}") ;;
          out:) STAGE_OUT+=("${word}") ;;
          options:) STAGE_OPTIONS+=("${word}") ;;
          group:) group=${word} ;;
          *) die 2 "stage ${id}: expected in:, out:, options: or group: before '${word}'" ;;
        esac
        ;;
    esac
  done
  mark=${STAGE_MARKS}/${id}.${name}
  for path in "${STAGE_OUT[@]}"; do STAGE_MAKERS[${path}]="${id} ${name}"; done
  if [[ ${list} == true ]]; then
    _stage_list_row "${id}" "${name}" "${mark}"
    return
  fi
  _stage_is_wanted "${id}" "${name}" "${group}" || {
    [[ ! -e ${mark}.started ]] || STAGE_UNFINISHED["${id} ${name}"]=1
    return 0
  }
  if [[ ${dry_run} == true ]]; then
    _stage_dry_run "${id}" "${name}" "${work}" "${mark}"
    return
  fi
  _stage_check_inputs "${id}" "${name}"
  if [[ ${force} == false ]] && _stage_is_done "${mark}"; then
    STAGE_NUM_DONE=$((STAGE_NUM_DONE + 1))
    say "stage ${id} \"${name}\" is already done"
    return
  fi
  _stage_run "${id}" "${name}" "${work}" "${mark}"
}

stages_end() {
  [[ ${list} == false ]] || return 0
  ((STAGE_NUM_SEEN > 0)) || die 2 "no stage is left to run by --stage ${stage} --stop_stage ${stop_stage} and the --skip options; see --list"
  if ((STAGE_NUM_RUN == 0 && STAGE_NUM_DONE > 0)); then
    say "nothing to do: all ${STAGE_NUM_DONE} stages are already done (--force does them anew)"
  fi
}

# 5 -> 500, 5b -> 502; the result is left in STAGE_KEY.
_stage_key() {
  local letters=" abcdefghijklmnopqrstuvwxyz" letter=${1##*[0-9]}
  letters=${letters%%"${letter:- }"*}
  STAGE_KEY=$((10#${1%%[a-z]*} * 100 + ${#letters}))
}

# Whether --stage, --stop_stage, --skip_stages and --skip_<group> leave the stage in.
_stage_is_wanted() {
  local id=$1 name=$2 group=$3 key word flag=skip_$3
  _stage_key "${id}"
  key=${STAGE_KEY}
  [[ ${stage} != "${name}" ]] || stage=${id}
  [[ ${stage} =~ ^[0-9]+[a-z]?$ ]] || return 1
  _stage_key "${stage}"
  ((key >= STAGE_KEY)) || return 1
  if [[ ${stop_stage} =~ ^[0-9]+[a-z]?$ ]]; then
    _stage_key "${stop_stage}"
    [[ ${stop_stage} == *[a-z] ]] || STAGE_KEY=$((STAGE_KEY + 99))
    ((key <= STAGE_KEY)) || return 1
  elif [[ ${stop_stage} == "${name}" ]]; then
    stop_stage=${id}
  fi
  [[ -z ${group} || ${!flag:-false} == false ]] || return 1
  for word in ${skip_stages//,/ }; do
    [[ ${word} != "${id}" && ${word} != "${name}" ]] || return 1
  done
  STAGE_NUM_SEEN=$((STAGE_NUM_SEEN + 1))
}

# End with exit code 3 when an input is absent, or is the unfinished work of an earlier stage.
_stage_check_inputs() {
  local id=$1 name=$2 path maker
  for path in "${STAGE_IN[@]}"; do
    maker=$(_stage_maker "${path}")
    if ! _stage_exists "${path}"; then
      [[ -n ${maker} ]] || die 3 "stage ${id} \"${name}\" needs ${path}, which does not exist"
      die 3 "stage ${id} \"${name}\" needs ${path}, which does not exist; stage ${maker%% *} \"${maker#* }\" makes it"$'\n'"  run: $(recipe_resume "${maker%% *}")"
    fi
    if [[ -n ${maker} && -n ${STAGE_UNFINISHED[${maker}]:-} ]]; then
      die 3 "stage ${id} \"${name}\" reads ${path}, but stage ${maker%% *} \"${maker#* }\", which makes it, was not finished"$'\n'"  run: $(recipe_resume "${maker%% *}")"
    fi
  done
}

# The "number name" of the stage that makes a path, or a folder above it.
_stage_maker() {
  local path=$1
  while [[ -n ${path} && ${path} != . && ${path} != / ]]; do
    if [[ -n ${STAGE_MAKERS[${path}]:-} ]]; then
      printf '%s' "${STAGE_MAKERS[${path}]}"
      return
    fi
    [[ ${path} == */* ]] || return 0
    path=${path%/*}
  done
}

_stage_exists() {
  if [[ $1 == *[*?[]* ]]; then compgen -G "$1" >/dev/null; else [[ -e $1 ]]; fi
}

# Lines `<prefix> <digest>  <file>` of files and of the files directly in folders; absent paths give nothing.
_stage_digest() {
  local prefix=$1 path
  local -a found=()
  shift
  for path; do
    if [[ ${path} == *[*?[]* ]]; then
      mapfile -t -O "${#found[@]}" found < <(compgen -G "${path}" || true)
    elif [[ -e ${path} ]]; then
      found+=("${path}")
    fi
  done
  ((${#found[@]})) || return 0
  {
    find "${found[@]}" -maxdepth 1 -type f ! -name '.*' ! -name '*.log' -size -16385 -exec cksum {} +
    find "${found[@]}" -maxdepth 1 -type f ! -name '.*' ! -name '*.log' -size +16384 -exec sh -c \
      'for f; do printf "%s-%s 0 %s\n" "$(wc -c <"$f" | tr -d " ")" "$(date -r "$f" +%s)" "$f"; done' sh {} +
  } | awk -v prefix="${prefix}" '{d = $1 "-" $2; $1 = $2 = ""; print prefix, d, $0}' | LC_ALL=C sort
}

# What the result of the stage depends on, one line each.
_stage_conditions() {
  local name
  for name in "${STAGE_OPTIONS[@]}"; do
    local -n _stage_value=${name}
    printf 'option %s=%s\n' "${name}" "$(print_args "${_stage_value[@]}")"
    unset -n _stage_value
  done
  _stage_digest in "${STAGE_IN[@]}"
}

# Whether the marker says that the stage is done; the reason why not is left in STAGE_WHY.
_stage_is_done() {
  local mark=$1 path edited
  STAGE_WHY=""
  [[ ! -e ${mark}.started ]] || STAGE_WHY="it was not finished last time"
  [[ -f ${mark}.done ]] || return 1
  STAGE_WHY=$(comm -3 <(grep -E '^(option|in) ' "${mark}.done" | LC_ALL=C sort) <(_stage_conditions | LC_ALL=C sort) |
    awk -F '\t' 'NR == 1 {$0 = $NF; if (sub(/^option /, "")) {sub(/=.*/, ""); print "option --" $0 " changed"}
      else {sub(/^in [^ ]+ +/, ""); print $0 " changed"}}')
  [[ -z ${STAGE_WHY} ]] || return 1
  for path in "${STAGE_OUT[@]}"; do
    if ! _stage_exists "${path}"; then
      STAGE_WHY="${path} is gone"
      return 1
    fi
  done
  edited=$(comm -13 <(grep '^out ' "${mark}.done" | LC_ALL=C sort) <(_stage_digest out "${STAGE_OUT[@]}") |
    awk 'NR == 1 {sub(/^out [^ ]+ +/, ""); print}')
  [[ -z ${edited} ]] || say "note: ${edited} was changed after its stage had made it, and is kept (--force makes it anew)"
}

_stage_run() {
  local id=$1 name=$2 work=$3 mark=$4 path because="" hint=""
  STAGE_REDO=false
  [[ ! -f ${mark}.done ]] || STAGE_REDO=true
  [[ ${STAGE_REDO} == false ]] || STAGE_WHY=${STAGE_WHY:---force}
  [[ -z ${STAGE_WHY} ]] || because=" again: ${STAGE_WHY}"
  mkdir -p "${STAGE_LOGS}" "${STAGE_MARKS}"
  _stage_refuse_second "${mark}.started" "${id}" "${name}"
  if declare -F "check_${work}" >/dev/null; then "check_${work}"; fi
  _stage_banner "${id}" "${name}" "${because}"
  STAGE_ID=${id} STAGE_NAME=${name} STAGE_BEGAN=${SECONDS} STAGE_WHERE=""
  _stage_preflight
  rm -f "${mark}.done" "${STAGE_LOGS}/.failed" "${STAGE_LOGS}/.usage"
  printf '%s %s %s %s\n' "$(uname -n)" "$$" "$(_process_birth "$$")" "$(date +%Y-%m-%dT%H:%M:%S%z)" >"${mark}.started"
  _stage_conditions >"${mark}.started.conditions"
  "${work}"
  for path in "${STAGE_OUT[@]}"; do
    [[ ${id} != 1 ]] || hint="; name the sets that there are: --train_set, --valid_set, --test_sets"
    _stage_exists "${path}" || die 5 "stage ${id} \"${name}\" ended well but did not make ${path}${hint}"
  done
  {
    printf '# stage %s %s, done %s\n' "${id}" "${name}" "$(date +%Y-%m-%dT%H:%M:%S%z)"
    cat "${mark}.started.conditions"
    _stage_digest out "${STAGE_OUT[@]}"
  } >"${mark}.tmp"
  mv "${mark}.tmp" "${mark}.done"
  rm -f "${mark}.started" "${mark}.started.conditions"
  _stage_account "${id}" "${name}"
  STAGE_ID="" STAGE_NUM_RUN=$((STAGE_NUM_RUN + 1))
}

# Two runs must not write into the same folders.
_stage_refuse_second() {
  local host pid birth rest
  [[ -f $1 ]] || return 0
  read -r host pid birth rest <"$1" || return 0
  if [[ ${host} == "$(uname -n)" && ${pid} != "$$" && $(_process_birth "${pid}") == "${birth}" ]]; then
    die 5 "stage $2 \"$3\" is being run by process ${pid} since ${rest}; wait for it, or end it with: kill ${pid}"
  fi
}

# When a process began, in a form to compare; "ended" where it has. Its number alone says little: after a restart it is some
# other process's, and a killed one stays as a zombie where nobody asks for its end (a container without an init).
_process_birth() {
  local line=""
  local -a fields
  if [[ ! -r /proc/self/stat ]]; then
    if kill -0 "$1" 2>/dev/null; then printf 'unknown'; else printf 'ended'; fi
    return
  fi
  read -r line 2>/dev/null <"/proc/$1/stat" || true
  read -r -a fields <<<"${line##*) }" # "PID (NAME) STATE ...", where a name may have blanks; proc(5)
  if [[ ${fields[0]:-Z} == [ZX] ]]; then printf 'ended'; else printf '%s' "${fields[19]}"; fi
}

_stage_banner() {
  printf '\n[espnet_av] stage %s "%s"%s\n  in   %s\n  out  %s\n  log  %s\n' "$1" "$2" "$3" \
    "$(_stage_brief "${STAGE_IN[@]}")" "$(_stage_brief "${STAGE_OUT[@]}")" "$(show_path "${STAGE_LOGS}/$2.*.log")"
}

_stage_brief() {
  if (($# > 3)); then printf '%s %s ... %s (%s paths)' "$1" "$2" "${!#}" "$#"; else printf '%s' "${*:--}"; fi
}

# Once, before the first stage that has work to do: the environment and the machine.
_stage_preflight() {
  local found gpus=${ngpu}
  [[ ${STAGE_PREFLIGHT} == false ]] || return 0
  STAGE_PREFLIGHT=true
  [[ ${backend} == local ]] || gpus=0
  # shellcheck source=path.sh
  . "${ESPNET_AV_ROOT}/utils/path.sh"
  found=$("${ESPNET_AV_ROOT}/utils/preflight.sh" "${gpus}") || _stage_quit 4
  printf '%s\n' "${found}" | sed 's/^/  /'
  ESPNET_AV_VERSIONS=$(sed -n 's/^versions: //p' <<<"${found}")
  ESPNET_AV_COMMIT=$(git -C "${ESPNET_AV_ROOT}" rev-parse --short HEAD 2>/dev/null || echo unknown)
  export ESPNET_AV_VERSIONS ESPNET_AV_COMMIT
  recipe_settings >"${STAGE_EXP}/recipe.txt"
}

_stage_quit() {
  STAGE_ID="" STAGE_WHERE=""
  exit "$1"
}

# One line on the screen and one in stages.jsonl: wall time, CPU time and the peak memory of the largest process.
_stage_account() {
  local id=$1 name=$2 wall=$((SECONDS - STAGE_BEGAN)) cpu rss jobs table=${STAGE_EXP}/stages.jsonl
  read -r jobs cpu rss < <(awk -F '\t' '{n++; cpu += $3; if ($4 > rss) rss = $4}
    END {printf "%d %.2f %.1f\n", n, cpu, rss}' "${STAGE_LOGS}/.usage" 2>/dev/null || echo 0 0 0)
  rm -f "${STAGE_LOGS}/.usage"
  {
    [[ ! -f ${table} ]] || grep -v -F "\"stage\": \"${id}\"," "${table}" || true
    printf '{"stage": "%s", "name": "%s", "wall_s": %s, "cpu_s": %s, "max_rss_mb": %s, "jobs": %s, "host": "%s", "ended": "%s"}\n' \
      "${id}" "${name}" "${wall}" "${cpu}" "${rss}" "${jobs}" "$(uname -n)" "$(date +%Y-%m-%dT%H:%M:%S%z)"
  } >"${table}.tmp"
  mv "${table}.tmp" "${table}"
  say "stage ${id} \"${name}\" done in $(hms "${wall}") (CPU $(hms "${cpu%.*}"), peak memory ${rss%.*} MB)"
}

_stage_list_row() {
  local id=$1 name=$2 mark=$3 state=no
  if _stage_is_done "${mark}" >/dev/null; then
    state=yes
  elif [[ -e ${mark}.started ]]; then
    state=interrupted
  elif [[ -f ${mark}.done ]]; then
    state=outdated
  fi
  printf '%-5s  %-9s  %-11s  %s -> %s\n' "${id}" "${name}" "${state}" \
    "$(_stage_brief "${STAGE_IN[@]}")" "$(_stage_brief "${STAGE_OUT[@]}")"
}

_stage_dry_run() {
  local id=$1 name=$2 work=$3 path size count last
  _stage_banner "${id}" "${name}" " (dry run)"
  for path in "${STAGE_IN[@]}"; do
    size=$(du -sh "${path}" 2>/dev/null | cut -f1) || true
    count=""
    [[ ! -f ${path}/utt2spk ]] || count=", $(wc -l <"${path}/utt2spk" | tr -d ' ') utterances"
    printf '  %s: %s%s\n' "${path}" "${size:-not there yet}" "${count}"
  done
  last=$(sed -n "s/.*\"stage\": \"${id}\",.*\"wall_s\": \([0-9]*\).*/\1/p" "${STAGE_EXP}/stages.jsonl" 2>/dev/null | tail -n 1) || true
  [[ -z ${last} ]] || printf '  took %s last time\n' "$(hms "${last}")"
  STAGE_NAME=${name}
  if declare -F "check_${work}" >/dev/null; then "check_${work}"; fi
  "${work}"
  STAGE_NUM_RUN=$((STAGE_NUM_RUN + 1))
}

# ---------------------------------------------------------------------------------------------------------------
# When something goes wrong

# What an exit code and the end of a log mean.
_stage_meaning() {
  local code=$1 last=$2
  case "${last}" in
    *"No space left on device"*) printf 'disk full' && return 0 ;;
    *MemoryError* | *"out of memory"* | *"Cannot allocate memory"*) printf 'out of memory' && return 0 ;;
  esac
  case "${code}" in
    2) printf 'wrong option' ;;
    3) printf 'missing or wrong data' ;;
    4) printf 'bad environment' ;;
    28) printf 'disk full' ;;
    99) printf 'stopped on request, its state is saved' ;;
    124) printf 'ran into its time limit' ;;
    126 | 127) printf 'command not found' ;;
    134) printf 'aborted' ;;
    137) printf 'likely out of memory' ;;
    139) printf 'segmentation fault' ;;
    143) printf 'terminated' ;;
  esac
}

_stage_failure_box() {
  local code=$1 job=1 of=1 log="" cause="" last="" meaning anchor=when-a-stage-fails where="" line
  local -a more=()
  if [[ -s ${STAGE_LOGS}/.failed ]]; then
    IFS=$'\t' read -r code job of log cause <"${STAGE_LOGS}/.failed"
    last=$(grep -v -E '^# (command|directory|host|commit|versions|started|Accounting|Ended)|^#$' "${log}" | tail -n 30 || true)
  fi
  meaning=${cause:-$(_stage_meaning "${code}" "${last}")}
  case "${meaning}" in
    *memory)
      anchor=memory
      ((nj <= 1)) || more=(--nj "$(((nj + 1) / 2))")
      ;;
    'disk full') anchor=disk-full ;;
    stopped*) anchor=stopping-and-going-on ;;
  esac
  [[ -z ${cause} ]] || anchor=on-a-cluster # only a scheduler gives one
  ((of <= 1)) || where=" - job ${job} of ${of}"
  {
    printf '\n[espnet_av] stage %s "%s" FAILED after %s (exit %s%s)%s\n' "${STAGE_ID}" "${STAGE_NAME}" \
      "$(hms $((SECONDS - STAGE_BEGAN)))" "${code}" "${meaning:+, ${meaning}}" "${where}"
    if [[ -n ${log} ]]; then
      printf '  log: %s   last lines:\n' "$(show_path "${log}")"
      while IFS= read -r line; do printf '    | %s\n' "${line}"; done <<<"${last}"
    else
      printf '  at: %s\n' "${STAGE_WHERE:-an unknown place}"
    fi
    printf '  try: %s      help: egs/README.md#%s\n' "$(recipe_resume "${STAGE_ID}" "${more[@]}")" "${anchor}"
  } >&2
  STAGE_CODE=${code}
}

_stage_on_exit() {
  local code=$1
  set +e # the box must come whatever happens
  trap - EXIT ERR
  [[ ${STAGE_STOPPED} == false ]] || return 0
  if [[ -z ${STAGE_ID} ]]; then # not in a stage
    ((code == 0)) || [[ -z ${STAGE_WHERE} ]] || printf '[espnet_av] error: exit %s at %s\n' "${code}" "${STAGE_WHERE}" >&2
    return 0
  fi
  ((code != 0)) || code=1
  _stage_failure_box "${code}"
  case "${STAGE_CODE}" in
    2 | 3 | 4 | 99) exit "${STAGE_CODE}" ;;
    *) exit 5 ;;
  esac
}

_stage_on_signal() {
  local code=$2 job_code=0
  set +e
  trap '' INT TERM
  STAGE_STOPPED=true
  if [[ -n ${STAGE_PID} ]]; then
    kill -TERM "${STAGE_PID}" 2>/dev/null || true
    wait "${STAGE_PID}" || job_code=$?
  fi
  ((job_code != 99)) || code=99
  if [[ -n ${STAGE_ID} ]]; then
    {
      printf '\n[espnet_av] stage %s "%s" stopped by SIG%s after %s; finished work is kept%s\n' "${STAGE_ID}" "${STAGE_NAME}" "$1" \
        "$(hms $((SECONDS - STAGE_BEGAN)))" "$( ((code != 99)) || printf ', the state of training is saved')"
      printf '  continue: %s\n' "$(recipe_resume "${STAGE_ID}")"
    } >&2
  fi
  exit "${code}"
}

# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Options of a bash script. Declare a variable with its default for each option, then source this file:
#
#   nj=4; skip_train=false; set=()
#   help_message="Usage: $0 [--nj N] [--skip_train] [--set KEY=VALUE]..."
#   . utils/parse_options.sh
#
# --some_name V, --some-name V, --some_name=V   put V into some_name; V is data and never run as code
# --flag                                        for a variable that holds true or false: the same as --flag true
# --list_name V                                 for an array: adds one element
# --config F                                    unless the script declares `config`: lines `name=value` of file F,
#                                               which count before all other options
# --help, -h                                    prints help_message; `--` ends the options
#
# What is left in "$@" are the other arguments. Wrong usage ends the script with exit code 2.
# Every name used here starts with _po_, so that no option can meet it.

_po_is_declared() {
  declare -p "$1" &>/dev/null
}

_po_fail() {
  printf '%s: error: %s\n' "${0##*/}" "$1" >&2
  exit 2
}

# Number of edits between two words; the result is left in _po_distance.
_po_count_edits() {
  local _po_a=$1 _po_b=$2 _po_i _po_j _po_cost
  local -a _po_row=() _po_next=()
  for ((_po_j = 0; _po_j <= ${#_po_b}; _po_j++)); do _po_row[_po_j]=${_po_j}; done
  for ((_po_i = 1; _po_i <= ${#_po_a}; _po_i++)); do
    _po_next=("${_po_i}")
    for ((_po_j = 1; _po_j <= ${#_po_b}; _po_j++)); do
      _po_cost=1
      [[ ${_po_a:_po_i-1:1} != "${_po_b:_po_j-1:1}" ]] || _po_cost=0
      _po_cost=$((_po_row[_po_j - 1] + _po_cost))
      ((_po_row[_po_j] + 1 >= _po_cost)) || _po_cost=$((_po_row[_po_j] + 1))
      ((_po_next[_po_j - 1] + 1 >= _po_cost)) || _po_cost=$((_po_next[_po_j - 1] + 1))
      _po_next[_po_j]=${_po_cost}
    done
    _po_row=("${_po_next[@]}")
  done
  _po_distance=${_po_row[${#_po_b}]}
}

# The documented option nearest to a word, or nothing, is left in _po_nearest.
_po_find_nearest() {
  local _po_candidate _po_distance _po_best=$((${#1} / 3 + 2))
  _po_nearest=""
  while read -r _po_candidate; do
    _po_count_edits "$1" "${_po_candidate}"
    [[ ${_po_candidate} != "$1"* ]] || _po_distance=1
    if ((_po_distance < _po_best)); then
      _po_best=${_po_distance}
      _po_nearest=${_po_candidate}
    fi
  done < <(_po_candidates)
}

_po_candidates() {
  if [[ ${help_message:-} == *--[a-z]* ]]; then
    grep -o -e '--[a-z][a-z0-9_-]*' <<<"${help_message}" | sed -e 's/^--//' -e 's/-/_/g' | sort -u
  else
    compgen -v | grep '^[a-z]' | grep -v '^_po_'
  fi
}

# Put one value into one declared variable.
_po_set() {
  local _po_name=$1 _po_value=$2 _po_kind
  _po_kind=$(declare -p "${_po_name}" 2>/dev/null | cut -d' ' -f2)
  case "${_po_kind}" in
    -*A*) _po_fail "--${_po_name} cannot be set from the command line" ;;
    -*r*) _po_fail "--${_po_name} is fixed and cannot be set" ;;
    -*a*)
      local -n _po_array=${_po_name}
      _po_array+=("${_po_value}")
      return
      ;;
  esac
  if [[ ${!_po_name-} == true || ${!_po_name-} == false ]]; then
    [[ ${_po_value} == true || ${_po_value} == false ]] ||
      _po_fail "--${_po_name} takes true or false; got '${_po_value}'"
  fi
  printf -v "${_po_name}" '%s' "${_po_value}"
}

# End the script unless a variable of that name was declared.
_po_check_name() {
  [[ $1 =~ ^[a-z][a-z0-9_]*$ && $1 != _po_* ]] && _po_is_declared "$1" && return
  _po_find_nearest "$1"
  [[ -z ${_po_nearest} ]] || _po_fail "unknown option --$1; did you mean --${_po_nearest}?"
  _po_fail "unknown option --$1; --help lists all"
}

_po_read_config() {
  local _po_line _po_key _po_count=0
  [[ -f $1 ]] || _po_fail "--config: no file $1"
  while IFS= read -r _po_line || [[ -n ${_po_line} ]]; do
    _po_count=$((_po_count + 1))
    [[ -n ${_po_line//[[:space:]]/} && ${_po_line} != \#* ]] || continue
    [[ ${_po_line} =~ ^([a-zA-Z][a-zA-Z0-9_-]*)=(.*)$ ]] || _po_fail "$1:${_po_count}: expected name=value; got '${_po_line}'"
    _po_key=${BASH_REMATCH[1]//-/_}
    _po_line=${BASH_REMATCH[2]}
    [[ ${_po_line} =~ ^\"(.*)\"$ || ${_po_line} =~ ^\'(.*)\'$ ]] && _po_line=${BASH_REMATCH[1]}
    _po_check_name "${_po_key}"
    _po_set "${_po_key}" "${_po_line}"
  done <"$1"
}

if ! _po_is_declared config; then
  for ((_po_index = 1; _po_index <= $#; _po_index++)); do
    case "${!_po_index}" in
      --) break ;;
      --config=*) _po_read_config "${!_po_index#--config=}" ;;
      --config)
        _po_index=$((_po_index + 1))
        [[ ${_po_index} -le $# ]] || _po_fail "--config needs a value"
        _po_read_config "${!_po_index}"
        ;;
    esac
  done
fi

while [[ $# -gt 0 ]]; do
  case "$1" in
    --)
      shift
      break
      ;;
    --help | -h)
      printf '%s\n' "${help_message:-no help for ${0##*/}}"
      exit 0
      ;;
    --?*) ;;
    *) break ;;
  esac
  _po_option=${1%%=*}
  _po_option=${_po_option#--}
  _po_option=${_po_option//-/_}
  if [[ ${_po_option} == config ]] && ! _po_is_declared config; then
    [[ $1 == *=* ]] || shift
    shift
    continue
  fi
  _po_check_name "${_po_option}"
  if [[ $1 == *=* ]]; then
    _po_set "${_po_option}" "${1#*=}"
    shift
  elif [[ (${!_po_option-} == true || ${!_po_option-} == false) && ($# -lt 2 || ${2-} == --*) ]]; then
    _po_set "${_po_option}" true
    shift
  elif [[ $# -lt 2 ]]; then
    _po_fail "--${_po_option} needs a value"
  elif [[ $2 == --* && ! $2 =~ ^--[^=]*[[:space:]] ]]; then # several words are no option: --train_args '--seed 1'
    _po_fail "--${_po_option} needs a value; write '--${_po_option}=$2' if '$2' is the value"
  else
    _po_set "${_po_option}" "$2"
    shift 2
  fi
done
unset _po_option _po_index _po_nearest

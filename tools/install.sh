#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Build the Python environment. Safe to call again: a second call sees that nothing changed and ends at once.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
venv=${ESPNET_AV_VENV:-${root}/tools/venv}
python=
extras=avsr,avss,codec,rl,scoring,tts,tts-hq,report,dev
conda=false
uv=false
cpu=false
index_url=${ESPNET_AV_TORCH_INDEX:-}
force=false
dry_run=false
help_message="Usage: bash tools/install.sh [options]

Builds the environment of espnet_av: ESPnet, torch and all that the recipes and tests need (about 5 GB, some minutes).

  --venv DIR         where the virtual environment goes, or lies [${venv}]
                     (ESPNET_AV_VENV is the same; several checkouts may share one)
  --python PROGRAM   Python 3.10 to 3.12 to build it with [the first one found]
  --extras LIST      extras of setup.py, with commas [${extras}]
  --conda            install into the active conda environment instead
  --uv               let uv make the environment and install into it
  --cpu              a torch without CUDA (about 1.5 GB in all); needs --index-url
  --index-url URL    with --cpu: a package index that holds CPU-only torch wheels (or ESPNET_AV_TORCH_INDEX)
  --force            install again although nothing changed, and go on where a check of the machine fails
  --dry_run          say what would be done
  --help

The log of pip is tools/install.log. Exit codes: 0 done, 2 wrong usage, 4 the environment cannot be built."
# shellcheck source=utils/parse_options.sh
. "${root}/utils/parse_options.sh"

log=${root}/tools/install.log
constraints=${root}/tools/constraints.txt

say() { printf 'install: %s\n' "$*"; }
usage() { printf 'install: error: %s\n' "$1" >&2; exit 2; }
die() {
  printf 'install: error: %s\n' "$1" >&2
  [[ $# -lt 2 ]] || printf '  fix: %s\n' "$2" >&2
  exit 4
}

check_usage() {
  [[ $# -eq 0 ]] || usage "unexpected argument '$1'; --help lists the options"
  [[ ${conda} == false || ${uv} == false ]] || usage "--conda and --uv exclude each other"
  [[ ${extras} =~ ^[a-z][a-z,-]*$ ]] || usage "--extras takes names with commas; got '${extras}'"
  if [[ ${cpu} == true && -z ${index_url} ]]; then
    usage "--cpu needs --index-url URL of a package index that holds CPU-only wheels of torch and torchaudio"
  fi
  if [[ ${cpu} == false && -n ${index_url} && -z ${ESPNET_AV_TORCH_INDEX:-} ]]; then
    usage "--index-url is only used together with --cpu"
  fi
}

find_prefix() {
  if [[ ${conda} == false ]]; then
    prefix=${venv%/}
    [[ ${prefix} == /* ]] || prefix=${PWD}/${prefix#./}
    return
  fi
  [[ -n ${CONDA_PREFIX:-} ]] || die "--conda, but no conda environment is active" \
    "conda create -n espnet_av python=3.11 && conda activate espnet_av"
  if [[ ${CONDA_DEFAULT_ENV:-} == base && ${force} == false ]]; then
    die "--conda would install into the base environment" \
      "conda create -n espnet_av python=3.11 && conda activate espnet_av (or --force)"
  fi
  prefix=${CONDA_PREFIX}
}

# What the environment depends on, as one digest.
digest() {
  "${prefix}/bin/python" -I - "${root}/setup.py" "${constraints}" <<'PYTHON'
import hashlib, pathlib, sys
parts = [sys.version.split()[0]] + [pathlib.Path(name).read_text() for name in sys.argv[1:]]
print(hashlib.sha256("\0".join(parts).encode()).hexdigest())
PYTHON
}

stamped() { sed -n "s/^$1 //p" "${stamp}" 2>/dev/null || true; }

is_up_to_date() {
  local extra have wanted
  [[ ${force} == false && -f ${stamp} && -x ${prefix}/bin/python ]] || return 1
  [[ ${cpu} == false || $(stamped cpu) == true ]] || return 1
  # The environment imports espnet_av from the checkout that built it; where that is gone, this one takes over.
  [[ -f $(stamped checkout)/setup.py ]] || return 1
  have=,$(stamped extras),
  for extra in ${extras//,/ }; do
    [[ ${have} == *,"${extra}",* || ${have} == *,all,* ]] || return 1
  done
  wanted=$(digest 2>/dev/null) && [[ $(stamped digest) == "${wanted}" ]]
}

say_up_to_date() {
  local owner
  owner=$(stamped checkout)
  if [[ ${owner} == "${root}" ]]; then
    say "${prefix} is up to date"
  else
    say "${prefix} is up to date (built by ${owner}, shared)"
  fi
}

find_python() {
  local candidate
  local -a candidates=(python3 python3.11 python3.12 python3.10 python)
  [[ -z ${python} ]] || candidates=("${python}")
  for candidate in "${candidates[@]}"; do
    if "${candidate}" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      python=$(command -v "${candidate}")
      return
    fi
  done
  die "no Python 3.10, 3.11 or 3.12 found (looked for: ${candidates[*]}; have: $(python3 --version 2>&1 || true))" \
    "install one and name it: bash tools/install.sh --python /path/to/python3.11"
}

check_machine() {
  "${python}" "${root}/espnet_av/bin/doctor.py" --before_install --problems_only --path "${prefix}" && return
  [[ ${force} == true ]] || die "the machine is not ready, see above" "mend it, or go on with --force"
}

make_venv() {
  if "${prefix}/bin/python" -c 'import sys' 2>/dev/null; then
    say "using the environment ${prefix}"
    return
  fi
  if [[ -e ${prefix} && ! -f ${prefix}/pyvenv.cfg && -n $(ls -A "${prefix}") ]]; then
    die "${prefix} exists and is no virtual environment" "name another place with --venv"
  fi
  say "making ${prefix} with ${python} ($("${python}" --version))"
  if [[ ${uv} == true ]]; then
    uv venv --clear --python "${python}" "${prefix}" >>"${log}" 2>&1 || fail_install "uv cannot make the environment"
  else
    "${python}" -m venv --clear "${prefix}" >>"${log}" 2>&1 || fail_install "Python cannot make the environment"
  fi
}

# Show the few lines of pip (or uv) that say how far it is; everything stands in the log.
show_progress() {
  awk '
    /^WARNING: Location .* is ignored/ { next }
    /^ *Downloading .*\(([0-9][0-9][0-9.]* M|[0-9.]+ G)B\)/ { sub(/^ */, ""); sub(/.*\//, "Downloading "); print "  " $0; fflush(); next }
    /^ *Building (wheel|editable) for [A-Za-z0-9_-]+ .*started/ { sub(/ \(.*/, "") }
    /^ *Building (wheel|editable) for [A-Za-z0-9_-]+$/ { sub(/^ */, ""); print "  " $0; fflush(); next }
    /^Installing collected packages/ { print "  Installing " gsub(/,/, ",") + 1 " packages"; fflush(); next }
    /^(Resolved|Prepared|Installed) [0-9]+ package/ { print "  " $0; fflush(); next }
    /^(ERROR|error)/ { print "  " $0; fflush() }
  '
}

run_pip() {
  local -a command=("${prefix}/bin/python" -m pip install --no-input --progress-bar off)
  [[ ${uv} == false ]] || command=(uv pip install --python "${prefix}/bin/python")
  printf '\n# %s %s %s\n' "$(date '+%F %T')" "${command[*]}" "$*" >>"${log}"
  "${command[@]}" "$@" 2>&1 | tee -a "${log}" | show_progress
}

pin_pip() {
  local version
  [[ ${uv} == false ]] || return 0
  version=$("${prefix}/bin/python" -c 'import pip; print(pip.__version__)' 2>/dev/null) ||
    die "no pip in ${prefix}" "${prefix}/bin/python -m ensurepip, or use --uv"
  if [[ $(printf '%s\n' "${version}" 26.3 | sort -V | head -n 1) == 26.3 ]]; then
    say "pip ${version} refuses a package that ESPnet needs; taking an older one"
    run_pip 'pip<26.3' || fail_install "pip below 26.3 cannot be installed"
  fi
}

has_cpu_torch() { "${prefix}/bin/python" -c 'import sys, torch; sys.exit(torch.version.cuda is not None)' 2>/dev/null; }

install_packages() {
  if [[ ${cpu} == true ]] && ! has_cpu_torch; then
    say "installing torch without CUDA"
    run_pip -c "${constraints}" --force-reinstall --no-deps --index-url "${index_url}" torch torchaudio ||
      fail_install "torch for the CPU cannot be installed from ${index_url}"
  fi
  say "installing espnet_av[${extras}] (log: ${log})"
  run_pip -c "${constraints}" -e "${root}[${extras}]" || fail_install "the packages cannot be installed"
}

# Print the end of the log, the likely cause where the log names one, and stop.
fail_install() {
  local fix="look at ${log}, mend the cause, and run the same command again; what is there is kept"
  grep -v 'WARNING: Location .* is ignored' "${log}" | tail -n 15 | sed 's/^/  | /' >&2
  case "$(tail -n 80 "${log}")" in
    *"No space left"*) fix="make room at ${prefix} (the environment needs about 7 GB), or name another place with --venv" ;;
    *"direct URL"*) fix="'${prefix}/bin/python' -m pip install 'pip<26.3', then again" ;;
    *"ensurepip"*) fix="apt-get install python3-venv, or use --uv or --conda" ;;
    *"Python.h"* | *"gcc"*"failed"* | *"x86_64-linux-gnu"*) fix="apt-get install gcc g++ python3-dev, then again" ;;
    *"No matching distribution"* | *"ResolutionImpossible"* | *"No solution found"*)
      fix="the index has no fitting package: check pip's index settings and the Python version ($("${prefix}/bin/python" --version 2>&1))"
      ;;
    *"NewConnectionError"* | *"timed out"* | *"Temporary failure"* | *"ProxyError"* | *"SSLError"* | *"error sending request"*)
      fix="the package index cannot be reached: check the network, proxy and pip's index settings, then again"
      ;;
  esac
  die "$1" "${fix}"
}

check_result() {
  if [[ ${cpu} == true ]] && ! has_cpu_torch; then
    die "the index gave a torch with CUDA" "name an index of CPU-only wheels with --index-url"
  fi
  "${prefix}/bin/python" "${root}/espnet_av/bin/doctor.py" --problems_only ||
    die "the environment was built, but a check fails (above)" "follow the fix lines, or bash tools/install.sh --force"
}

write_stamp() {
  local temporary
  has_cpu_torch && cpu=true || cpu=false
  temporary=$(mktemp "${stamp}.XXXXXX")
  {
    printf 'digest %s\ncheckout %s\n' "$(digest)" "${root}"
    printf 'extras %s\ncpu %s\n' "${extras}" "${cpu}"
  } >"${temporary}"
  chmod 644 "${temporary}"
  mv -f "${temporary}" "${stamp}"
}

take_lock() {
  command -v flock >/dev/null || return 0
  mkdir -p "$(dirname "${prefix}")"
  exec 9>"${prefix}.lock"
  flock -n 9 && return
  say "another installation into ${prefix} is running; waiting for it"
  flock 9
}

main() {
  check_usage "$@"
  find_prefix
  stamp=${prefix}/.espnet_av_stamp
  if is_up_to_date; then
    say_up_to_date
    return
  fi
  if [[ ${uv} == true ]] && ! command -v uv >/dev/null; then
    die "uv is not found" "install uv, or leave --uv out"
  fi
  if [[ ${dry_run} == true ]]; then
    say "would install espnet_av[${extras}] with $([[ ${uv} == true ]] && echo uv || echo pip) into ${prefix}"
    return
  fi
  take_lock
  if is_up_to_date; then
    say_up_to_date
    return
  fi
  extras=$(printf '%s,%s' "$(stamped extras)" "${extras}" | tr ',' '\n' | sed '/^$/d' | sort -u | paste -s -d ,)
  unset PYTHONPATH
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONNOUSERSITE=1
  : >"${log}"
  if [[ -x ${prefix}/bin/python ]]; then python=${python:-${prefix}/bin/python}; fi
  find_python
  check_machine
  [[ ${conda} == true ]] || make_venv
  pin_pip
  install_packages
  check_result
  write_stamp
  say "done in ${SECONDS} s: ${prefix}"
}

main "$@"

# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Sourced: puts the environment of this checkout on PATH. The first of these that exists is taken:
#   ESPNET_AV_VENV (a venv or conda environment), ESPNET_AV_PYTHON (its python), tools/venv, the active conda
#   environment, the active venv. Without any the script ends with exit code 4 and says what to run.

_path_root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
_path_bin=""
if [[ -n ${ESPNET_AV_VENV:-} ]]; then
  _path_bin=${ESPNET_AV_VENV}/bin
  if [[ ! -x ${_path_bin}/python ]]; then
    printf 'path.sh: error: ESPNET_AV_VENV=%s has no bin/python\n  fix: unset ESPNET_AV_VENV, or run: bash tools/install.sh\n' \
      "${ESPNET_AV_VENV}" >&2
    exit 4
  fi
elif [[ ${ESPNET_AV_PYTHON:-} == */* && -x ${ESPNET_AV_PYTHON} ]]; then
  _path_bin=$(dirname -- "${ESPNET_AV_PYTHON}")
elif [[ -x ${_path_root}/tools/venv/bin/python ]]; then
  _path_bin=${_path_root}/tools/venv/bin
else
  for _path_prefix in "${CONDA_PREFIX:-}" "${VIRTUAL_ENV:-}"; do
    if [[ -n ${_path_prefix} ]] && compgen -G "${_path_prefix}/lib/python3*/site-packages/torch" >/dev/null; then
      _path_bin=${_path_prefix}/bin
      break
    fi
  done
  unset _path_prefix
fi
if [[ -z ${_path_bin} || ! -x ${_path_bin}/python ]]; then
  printf '%s\n' "path.sh: error: no Python environment for this checkout: looked at ESPNET_AV_VENV (not set)," \
    "  ${_path_root}/tools/venv, and the active conda or virtual environment (no torch there)" \
    "  fix: bash ${_path_root}/tools/install.sh" >&2
  exit 4
fi
_path_bin=$(cd -- "${_path_bin}" && pwd)
case ":${PATH}:" in
  ":${_path_bin}:"*) ;;
  *) export PATH="${_path_bin}:${PATH}" ;;
esac
export ESPNET_AV_PYTHON="${_path_bin}/python"
case ":${PYTHONPATH:-}:" in # the checkout's own code counts, whatever is installed
  ":${_path_root}:"*) ;;
  *) export PYTHONPATH="${_path_root}${PYTHONPATH:+:${PYTHONPATH}}" ;;
esac
export PYTHONIOENCODING="UTF-8" LC_ALL="${LC_ALL:-C.UTF-8}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" # many jobs side by side; training asks for more by itself
unset _path_root _path_bin

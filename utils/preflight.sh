#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# What a long run needs, checked in half a second: environment, versions, GPUs, free disk, open files, shared memory.
#   bash utils/preflight.sh [NUM_GPUS] [FREE_GB]
# Prints one line per finding. Ends with exit code 4 and the fix when something is missing. A recipe calls it once,
# before the first stage that has work to do. `python espnet_av/bin/doctor.py` looks deeper.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
num_gpus=${1:-0}
free_gb=${2:-${ESPNET_AV_MIN_DISK_GB:-1}}

fail() {
  printf 'preflight: error: %s\n  fix: %s\n' "$1" "$2" >&2
  exit 4
}

# shellcheck source=path.sh
. "${root}/utils/path.sh"

versions=$("${ESPNET_AV_PYTHON}" - <<'PYTHON'
import importlib.metadata as metadata
import platform

found = ["python " + platform.python_version()]
for name in ("torch", "torchaudio", "espnet", "numpy", "av"):
    try:
        found.append(f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        found.append(f"{name} missing")
print(", ".join(found))
PYTHON
) || fail "${ESPNET_AV_PYTHON} does not run" "bash ${root}/tools/install.sh"
printf 'versions: %s\n' "${versions}"
[[ ${versions} != *missing* ]] || fail "packages are missing in $(dirname "$(dirname "${ESPNET_AV_PYTHON}")"): ${versions}" \
  "bash ${root}/tools/install.sh"

gpus=0
if command -v nvidia-smi >/dev/null; then
  gpus=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU' || true)
fi
printf 'GPUs: %s\n' "${gpus}"
((num_gpus <= gpus)) || fail "--ngpu ${num_gpus} was asked for and this machine shows ${gpus} GPU(s)" "--ngpu ${gpus}"

free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
printf 'free disk: %s GB\n' "$((free_kb / 1048576))"
((free_kb >= free_gb * 1048576)) || fail "less than ${free_gb} GB free in ${PWD}" \
  "make room there, or pass --dumpdir and --expdir on another disk (ESPNET_AV_MIN_DISK_GB=0 skips this check)"

if [[ -d /dev/shm ]]; then
  shared_kb=$(df -Pk /dev/shm | awk 'NR == 2 {print $4}')
  ((shared_kb >= 131072)) || printf 'warning: %s MB in /dev/shm; loader workers may fail; fix: --set num_workers=0\n' \
    "$((shared_kb / 1024))"
fi
files=$(ulimit -n)
[[ ${files} == unlimited ]] || ((files >= 1024)) || printf 'warning: %s open files allowed; fix: ulimit -n 4096\n' "${files}"

#!/usr/bin/env bash
exec "$(dirname "${BASH_SOURCE[0]}")/slurm" "$@" # the name that ESPnet recipes know

#!/usr/bin/env bash
exec "$(dirname "${BASH_SOURCE[0]}")/run" "$@" # the name that ESPnet recipes know

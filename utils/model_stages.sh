# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# What the drivers of all tasks share about a finished model: report, pack, upload, and the last lines of a run. Sourced
# by egs/TEMPLATE/<task>/<task>.sh after common.sh.
# shellcheck disable=SC2154 # variables of the driver

# Check --hub_repo; call it after recipe_check.
hub_check() {
  [[ -n ${hub_repo} ]] || return 0
  [[ ${skip_upload} == true || ${model_licence} != *"not redistributable"* ]] ||
    die 2 "--hub_repo: the model may not be passed on (--model_licence '${model_licence}')"
  [[ ${skip_upload} == false ]] || warn "--hub_repo has no effect without --skip_upload false"
}

report() {
  run_job 1 -- python -m espnet_av.bin.report --exp_dir "${exp}" --dump_dir "${dumpdir}" --output "${exp}/report.html"
}

# pack_model [OPTION...]: make the folder that loads anywhere
pack_model() {
  run_job 1 -- python -m espnet_av.bin.pack --exp_dir "${exp}" --output_dir "${exp}/pack" --licence "${model_licence}" "$@"
}

upload() {
  run_job 1 -- python -m espnet_av.bin.upload "${exp}/pack" "${hub_repo}"
}

# Declare stage 9a where the user named a place for the model.
upload_stage() {
  [[ -z ${hub_repo} ]] || stage 9a upload upload group: upload in: "${exp}/pack" options: hub_repo
}

# Show the first table of the results, and where they and the report lie.
show_results() {
  [[ ${list} == false && ${dry_run} == false && -f ${exp}/RESULTS.md ]] || return 0
  printf '\n'
  awk '/^\|/ {print; found = 1; next} found {exit}' "${exp}/RESULTS.md"
  printf '\nresults: %s\n' "$(show_path "${exp}/RESULTS.md")"
  [[ ! -f ${exp}/report.html ]] || printf 'report:  %s\n' "$(show_path "${exp}/report.html")"
}

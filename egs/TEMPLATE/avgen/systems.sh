# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# What recipes that generate talking faces compare in stages 6 to 8: the generator by what it is told, by partner and by
# solver steps, and other experiments. Sourced by avgen.sh.
# shellcheck disable=SC2034,SC2154 # variables of the driver

declare -A system_model=() system_args=()
systems=()

# add_system NAME MODEL [OPTION OF avgen_infer]...
add_system() {
  [[ -z ${system_model[$1]:-} ]] || die 2 "--compare: '$1' is the name of another system"
  systems+=("$1")
  system_model[$1]=$2
  system_args[$1]="${*:3}"
}

model_in=("${model}") # what stage 6 reads of models
[[ -n ${download_model} ]] || model_in=("${exp}/config.yaml" "${exp}/checkpoint.pth")
for what in ${inputs}; do
  for who in ${partners}; do
    name=${kind}
    [[ ${what} == audio ]] || name+=_${what}
    [[ ${who} == own ]] || name+=_partner_${who}
    add_system "${name}" "${model}" --task "${what}" --partner "${who}"
  done
done
for number in ${steps}; do
  add_system "${kind}_steps${number}" "${model}" --nfe "${number}"
done
for pair in ${compare}; do
  [[ ${pair#*=} != "${exp}" ]] || die 2 "--compare: ${exp} is this experiment"
  add_system "${pair%%=*}" "${pair#*=}"
  [[ ! -f ${pair#*=}/checkpoint.pth ]] || model_in+=("${pair#*=}/checkpoint.pth")
done

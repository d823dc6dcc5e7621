#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The stages of every audio-visual speech separation recipe. egs/<dataset>/avss/run.sh calls this file in its folder:
# first what the recipe is (see recipe_begin in utils/common.sh), then its defaults, then the user's options.
# Configurations are looked for in the recipe's conf/ first, then in egs/TEMPLATE/avss/conf/.
# shellcheck source-path=SCRIPTDIR
set -euo pipefail
# shellcheck source=../../../utils/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../../utils/common.sh"
# shellcheck source=../../../utils/training.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../../utils/training.sh"
# shellcheck source=../../../utils/model_stages.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/../../../utils/model_stages.sh"
recipe_begin "$@"
shift "${recipe_shift}"

# ---------------------------------------------------------------------------------------------------------- options
# shellcheck source=options.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/options.sh"
# shellcheck source=../../../utils/parse_options.sh
. "${ESPNET_AV_ROOT}/utils/parse_options.sh"
[[ $# -eq 0 ]] || die 2 "unexpected argument '$1'; options are --name value, see --help"
check_options

# ------------------------------------------------------------------------------------------------- names and folders
read -r -a test_names <<<"${test_sets}"
read -r -a modes <<<"${lips_modes}"
read -r -a kinds <<<"${pair_kinds}"
if [[ ${debug} == true ]]; then
  train_mixtures=$(min 12 "${train_mixtures}") valid_mixtures=$(min 4 "${valid_mixtures}")
  test_mixtures=$(min 4 "${test_mixtures}")
  lip_frontend=${lip_frontend:-random}
fi
lip_reader_exp=${lip_reader}/exp/train_word
trains_reader=false
if [[ ${needs_lips} == true && -z ${lip_frontend} && -n ${lip_reader} ]]; then
  lip_frontend=avsr:${lip_reader_exp}
  [[ -f ${lip_reader_exp}/.stages/5.train.done ]] || trains_reader=true
fi
prefix=""
[[ ${lip_frontend} != avsr:* ]] || prefix=avsr:
front_end_path=${lip_frontend#avsr:}
recipe_user_path front_end_path
lip_frontend=${prefix}${front_end_path}
front_end=() # what stage 4 reads of it
if [[ -n ${prefix} ]]; then
  front_end=("${front_end_path}/config.yaml")
elif [[ -n ${lip_frontend} && ! ${lip_frontend} =~ ^random(:[0-9]+)?$ ]]; then
  front_end=("${front_end_path}")
fi
names=("${train_set}" "${valid_set}" "${test_names[@]}")
raw=("${names[@]/#/${datadir}/}")
formatted=("${names[@]/#/${dumpdir}/formatted/}")
filtered=("${names[@]/#/${dumpdir}/filtered/}")
place="filtered/" # data folders of training and tests, below the dump folder
[[ ${needs_lips} == false ]] || place=""
tests=("${test_names[@]/#/${dumpdir}/${place}}")
[[ -n ${tag} ]] || tag=$(training_tag "${config}")
exp=${expdir}/${tag}
[[ ${follow} == false ]] || recipe_follow "${exp}/logs"

# ------------------------------------------------------------------------------------------------------------ stages
check_prepare() {
  recipe_data_args
}

prepare() {
  local name count=24
  run_job 1 -- env ESPNET_AV_NJ="${nj}" ESPNET_AV_DEBUG="${debug}" \
    bash local/data.sh --output_dir "${datadir}" --seed "${seed}" "${data_args[@]}"
  [[ ${debug} == true ]] || return 0
  for name in "${names[@]}"; do # keep a few of each set
    if [[ ${dry_run} == false && $(wc -l <"${datadir}/${name}/utt2spk") -gt ${count} ]]; then
      rm -rf "${datadir:?}/.${name}.few"
      "${ESPNET_AV_ROOT}/utils/subset_data_dir" "${datadir}/${name}" "${count}" "${datadir}/.${name}.few"
      rm -rf "${datadir:?}/${name}"
      mv "${datadir}/.${name}.few" "${datadir}/${name}"
    fi
    count=8
  done
}

format() {
  local name count
  for name in "${names[@]}"; do
    if [[ ${source} == mixtures ]]; then
      run_job "${name}" --num_threads "${nj}" -- python -m espnet_av.bin.format_mixtures \
        --data_dir "${datadir}/${name}" --output_dir "${dumpdir}/formatted/${name}" --audio_dir "${dumpdir}/audio" \
        --mouth_dir "${dumpdir}/mouth" --max_dropped_share "${max_dropped_share}" --nj "${nj}"
      continue
    fi
    count=${test_mixtures}
    [[ ${name} != "${valid_set}" ]] || count=${valid_mixtures}
    [[ ${name} != "${train_set}" ]] || count=${train_mixtures}
    run_job "${name}" --num_threads "${nj}" -- python -m espnet_av.bin.format_av --data_dir "${datadir}/${name}" \
      --output_dir "${dumpdir}/clips/${name}" --roi_dir "${dumpdir}/mouth" --audio_dir "${dumpdir}/audio" \
      --roi "${roi}" --max_dropped_share "${max_dropped_share}" --nj "${nj}"
    run_job "${name}_mix" -- python -m espnet_av.corpora.avss_mixtures --data_dir "${dumpdir}/clips/${name}" \
      --output_dir "${dumpdir}/formatted/${name}" --media_dir "${dumpdir}/mixtures/${name}" \
      --mouth_dir "${dumpdir}/mouth_cut" --num_mixtures "${count}" --mix_sec "${mix_sec}" --kinds "${kinds[@]}" \
      --max_dropped_share "${max_dropped_share}" --seed "${seed}"
  done
}

filter() {
  local name shortest
  local -a keep
  run_doctor --train_sets "${train_set}" --drop_sets "${train_set}" "${valid_set}" -- "${formatted[@]}"
  for name in "${names[@]}"; do
    shortest=${min_sec}
    [[ ${name} != "${train_set}" ]] || shortest=${min_train_sec:-${min_sec}}
    keep=(--keep_silent) # scoring counts mixtures with a silent talker; training cannot use them
    [[ ${name} != "${train_set}" && ${name} != "${valid_set}" ]] || keep=()
    run_job "${name}" --num_threads "${nj}" -- python -m espnet_av.bin.filter_mixtures \
      --data_dir "${dumpdir}/formatted/${name}" --output_dir "${dumpdir}/filtered/${name}" --min_sec "${shortest}" \
      --max_sec "${max_sec}" "${keep[@]}" --max_dropped_share "${max_dropped_share}" --nj "${nj}" "${doctor_args[@]}"
  done
  run_job "JOB=$(comma_separated "${names[@]}")" --max_jobs_run "${nj}" -- \
    "${ESPNET_AV_ROOT}/utils/validate_data_dir" --no-spk-sort --no-text "${dumpdir}/filtered/JOB"
}

check_lip_reader() {
  recipe_data_args
}

lip_reader() { # the mouths of this corpus are read best by a network that learned to read them
  run_job 1 --num_threads "${nj}" -- bash "${lip_reader}/run.sh" --stop_stage 5 --nj "${nj}" --ngpu "${ngpu}" \
    --seed "${seed}" "${data_args[@]}"
}

check_lips() {
  [[ -n ${lip_frontend} || ${dry_run} == true ]] || die 3 "RTFS-Net looks at lips, and nothing tells how to embed them"$'\n'"  --lip_frontend FILE      checkpoint of a lip-reading network (README.md tells which), or"$'\n'"  --lip_frontend avsr:DIR  the lips of a recogniser trained by egs/*/avsr, or"$'\n'"  --config conf/train_convtasnet.yaml  a network that needs no lips"
}

lips() {
  local name device=cpu
  local -a more
  ((ngpu == 0)) || device=cuda
  for name in "${names[@]}"; do
    more=(--variants 1)
    [[ ${name} != "${train_set}" ]] || more=(--variants "${lip_variants}")
    [[ -z ${lip_activation} ]] || more+=(--lip_activation "${lip_activation}")
    run_job "${name}" --num_threads "${nj}" -- python -m espnet_av.bin.embed_lips \
      --data_dir "${dumpdir}/filtered/${name}" --output_dir "${dumpdir}/${name}" --lip_frontend "${lip_frontend}" \
      --cache_dir "${dumpdir}/lips" --max_dropped_share "${max_dropped_share}" --seed "${seed}" --device "${device}" \
      --nj "$( ((ngpu > 0)) && echo 1 || echo "${nj}")" "${more[@]}"
  done
}

shapes() {
  run_job "JOB=${train_set},${valid_set}" -- python -m espnet_av.bin.shapes --data_dir "${dumpdir}/${place}JOB" \
    --output_dir "${exp}/stats/JOB"
}

train() {
  local name
  local -a data=()
  training_data train "${place}${train_set}" "${exp}/stats/${train_set}/video_shape"
  training_data valid "${place}${valid_set}" "${exp}/stats/${valid_set}/video_shape"
  for name in noise:noise impulse_response:microphones; do # stage 1 may have put them somewhere else than in data/
    [[ ${datadir} == data ]] || ! grep -q "scp: data/${name#*:}.scp" "${config}" ||
      data+=(--set "preprocessor_conf.${name%:*}.scp=${datadir}/${name#*:}.scp")
  done
  run_training espnet_av.bin.avss_train "${data[@]}"
}

infer() { # each job shows the network the lips of one mode
  local folder=${exp}/.decode
  local -a job=() mode=()
  ((ngpu == 0)) || job+=(--gpu 1)
  [[ ${needs_lips} == false ]] || mode=(--lips_mode JOB)
  run_job "JOB=$(comma_separated "${modes[@]}")" --max_jobs_run "$((ngpu > 0 ? ngpu : nj))" "${job[@]}" -- \
    python -m espnet_av.bin.avss_infer --train_dir "${exp}" --config "${infer_config}" --data_dirs "${tests[@]}" \
    "${mode[@]}" --output_dir "${folder}/JOB"
  [[ ${dry_run} == false ]] || return 0
  rm -rf "${exp:?}/decode"
  mv "${folder}" "${exp}/decode"
}

score() {
  run_job 1 --num_threads "${nj}" -- python -m espnet_av.bin.avss_score --exp_dir "${exp}" \
    --decode_dir "${exp}/decode" --data_dirs "${tests[@]}" --config "${score_config}" --nj "${nj}"
}

pack() {
  local -a more=()
  [[ ${needs_lips} == false || -z ${prefix} ]] || more=(--lip_frontend "${lip_frontend}") # one of ours goes along
  pack_model --dump_dir "${dumpdir}" "${more[@]}"
}

read -r -a train_options < <(training_options)
mix_options=(roi mix_sec train_mixtures valid_mixtures test_mixtures pair_kinds)
[[ ${source} == clips ]] || mix_options=()
trained_on=("${dumpdir}/${place}${train_set}" "${dumpdir}/${place}${valid_set}")
stages_begin "${exp}"
stage_marks "${datadir}/.stages"
stage 1 prepare prepare group: data_prep in: local/data.sh out: "${raw[@]}" options: seed debug "${recipe_options[@]}"
stage_marks "${dumpdir}/.stages"
stage 2 format format group: data_prep in: "${raw[@]}" out: "${formatted[@]}" \
  options: seed max_dropped_share "${mix_options[@]}"
stage 3 filter filter group: data_prep in: "${formatted[@]}" out: "${filtered[@]}" \
  options: min_sec min_train_sec max_sec max_dropped_share
[[ ${trains_reader} == false ]] || stage 3a lip_reader lip_reader group: data_prep in: "${lip_reader}/run.sh" \
  out: "${lip_reader_exp}/config.yaml" options: "${recipe_options[@]}"
[[ ${needs_lips} == false ]] || stage 4 lips lips group: data_prep in: "${filtered[@]}" "${front_end[@]}" \
  out: "${names[@]/#/${dumpdir}/}" options: seed lip_frontend lip_activation lip_variants max_dropped_share
stage_marks "${exp}/.stages"
stage 4a shapes shapes group: data_prep in: "${trained_on[@]}" out: "${exp}/stats/${train_set}" "${exp}/stats/${valid_set}"
stage 5 train train group: train in: "${config}" "${exp}/stats/${train_set}" "${exp}/stats/${valid_set}" \
  "${trained_on[@]}" out: "${exp}/config.yaml" "${exp}/checkpoint.pth" options: seed set "${train_options[@]}"
stage 6 infer infer group: eval in: "${exp}/checkpoint.pth" "${infer_config}" "${tests[@]}" out: "${exp}/decode/*/*/s1" \
  options: seed lips_modes
stage 7 score score group: eval in: "${exp}/decode/*/*/s1" "${score_config}" "${tests[@]}" \
  out: "${exp}/results.json" "${exp}/RESULTS.md"
published=() # figures of others, which the report shows beside the results
[[ ! -f conf/published.yaml ]] || published=(conf/published.yaml)
stage 8 report report group: eval in: "${exp}/results.json" "${exp}/history.jsonl" "${published[@]}" out: "${exp}/report.html"
stage 9 pack pack group: pack in: "${exp}/config.yaml" "${exp}/checkpoint.pth" out: "${exp}/pack" options: model_licence
upload_stage
stages_end
show_results

#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The stages of every active separation recipe. egs/<dataset>/activesep/run.sh calls this file in its folder: first what
# the recipe is (see recipe_begin in utils/common.sh), then its defaults, then the user's options.
# Configurations are looked for in the recipe's conf/ first, then in egs/TEMPLATE/activesep/conf/.
#
# local/data.sh makes, below --output_dir: world/{metadata,...}/<dataset>/<scene>, audio_data/{min20s_clips,1s_chunks}/
# {train,valUnheard,testUnheard}_preprocessed, classes.json, data.json, scenes/<set> (names, one a line), and where there
# are published episodes and points: given/<set>.json, given/{active,passive}_datasets.
# A set whose name has "unheard" in it plays the clips of valUnheard or testUnheard, others those of training.
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
read -r -a data_words <<<"${local_data_opts}"
read -r -a passive_words <<<"${passive_args}"
read -r -a train_words <<<"${train_args}"
read -r -a eval_words <<<"${eval_args}"
read -r -a seeds <<<"${policy_seeds}"
read -r -a rewards <<<"${baselines#none}"
read -r -a mover_names <<<"${movers#none}"
names=("${train_set}" "${valid_set}" "${test_names[@]}")
clip_split() { # clip_split SET: the clips that its episodes play
  case "$1" in
    valid*unheard* | val*unheard*) printf valUnheard ;;
    *unheard*) printf testUnheard ;;
    *) printf train ;;
  esac
}
long_clips() { printf '%s/%s_clips/min20s_clips' "${dumpdir}" "$(clip_split "$1")"; }
plans=${datadir}/world
world=${dumpdir}/world
[[ ${pack_scenes} == true ]] || world=${plans}
clip_splits=(train valUnheard)
for name in "${test_names[@]}"; do
  [[ " ${clip_splits[*]} " == *" $(clip_split "${name}") "* ]] || clip_splits+=("$(clip_split "${name}")")
done
classes=${dumpdir}/classes.json
in_world=(--world_root "${world}" --world_dataset "${dataset}" --class_table "${classes}")
lists=("${names[@]/#/${datadir}/scenes/}")
kept=("${names[@]/#/${dumpdir}/scenes/}")
clips=("${clip_splits[@]/#/${dumpdir}/}")
clips=("${clips[@]/%/_clips}")
episodes=("${names[@]/#/${dumpdir}/episodes/v1/}")
points=("${dumpdir}/points/v1/train" "${dumpdir}/points/v1/val")
passive_tag=$(basename "${passive_config%.*}")
[[ -z ${passive_args} ]] || passive_tag+=_$(tr -c 'A-Za-z0-9_.\n' - <<<"${passive_args}")
((seed == 0)) || passive_tag+=_seed${seed}
passive_exp=${expdir}/${passive_tag}
[[ -z ${separators} ]] || passive_exp=${separators}
if [[ -z ${tag} ]]; then
  own=$(batch_size="" gradient_accumulation_steps="" learning_rate="" warmup_steps="" model_name_or_path="" \
    training_tag "${config}")
  tag=${own}${separators:+_$(basename "${separators%.*}" | tr -c 'A-Za-z0-9_.\n' -)}
  [[ -z ${download_model} ]] || tag=$(basename "${download_model%.*}" | tr -c 'A-Za-z0-9_.\n' -)
fi
exp=${expdir}/${tag}
[[ -z ${download_model} ]] || skip_train=true
policies=("${seeds[@]/#/near_target_seed}")
for name in "${rewards[@]}"; do policies+=("${seeds[@]/#/${name}_seed}"); done
systems=(near_target "${rewards[@]}" "${mover_names[@]}")
[[ -z ${download_model} ]] || systems=(near_target "${mover_names[@]}")
[[ ${follow} == false ]] || recipe_follow "${exp}/logs"

# ------------------------------------------------------------------------------------------------------------ stages
check_prepare() {
  recipe_data_args
}

prepare() {
  run_job 1 -- env ESPNET_AV_NJ="${nj}" ESPNET_AV_DEBUG="${debug}" ESPNET_AV_SETS="${names[*]}" \
    ESPNET_AV_DATASET="${dataset}" \
    bash local/data.sh --output_dir "${datadir}" --seed "${seed}" "${data_args[@]}" "${data_words[@]}"
}

format() {
  local -a scenes=()
  if [[ ${pack_scenes} == false ]]; then
    say "scenes are read as they are (--pack_scenes false)"
    [[ ${dry_run} == true ]] || { mkdir -p "${dumpdir}" && printf '%s\n' "${plans}" >"${packed[0]}"; }
    return
  fi
  mapfile -t scenes < <(cat "${lists[@]}" 2>/dev/null | sort -u)
  [[ ${dry_run} == false || ${#scenes[@]} -gt 0 ]] || scenes=(SCENE)
  run_job "JOB=$(comma_separated "${scenes[@]}")" --max_jobs_run "${nj}" -- \
    python -m espnet_av.bin.activesep_data pack --world_root "${plans}" --dataset "${dataset}" --names JOB \
    --output_dir "${world}"
}

filter() {
  run_job 1 -- python -m espnet_av.bin.activesep_data filter --world_root "${world}" --dataset "${dataset}" \
    --data_dir "${datadir}" --output_dir "${dumpdir}" --sets "${names[@]}" --clip_splits "${clip_splits[@]}" \
    --check "${check}" --max_dropped_share "${max_dropped_share}"
  run_doctor -- "${clips[@]/%//min20s_clips}"
}

episodes() {
  local name count
  local -a drawing=(--world_root "${world}" --dataset "${dataset}" --num_distractors "${num_distractors}"
    --min_distance "${min_distance}" --seed "${seed}")
  [[ ! -d ${datadir}/given ]] || drawing+=(--given "${datadir}/given")
  for name in "${names[@]}"; do
    count=${test_episodes}
    [[ ${name} != "${train_set}" ]] || count=${train_episodes}
    [[ ${name} != "${valid_set}" ]] || count=${valid_episodes}
    run_job "${name}" -- python -m espnet_av.bin.activesep_data episodes --set "${name}" \
      --scenes "${dumpdir}/scenes/${name}" --clips "$(long_clips "${name}")" --class_table "${classes}" \
      --output_dir "${dumpdir}/episodes" --count "${count}" --start "${episode_start}" --min_start "${min_start}" \
      --max_start "${max_start}" --max_dropped_share "${max_dropped_share}" "${drawing[@]}"
  done
  run_job train_points -- python -m espnet_av.bin.activesep_data points --split train \
    --scenes "${dumpdir}/scenes/${train_set}" --output_dir "${dumpdir}/points" --count "${train_points}" "${drawing[@]}"
  run_job valid_points -- python -m espnet_av.bin.activesep_data points --split val \
    --scenes "${dumpdir}/scenes/${valid_set}" --output_dir "${dumpdir}/points" --count "${valid_points}" "${drawing[@]}"
}

train_separators() {
  local -a set=() unheard=()
  [[ ! -d ${dumpdir}/valUnheard_clips ]] || unheard=(--unheard_clips "${dumpdir}/valUnheard_clips/1s_chunks")
  exp=${passive_exp} config=${passive_config} run_training espnet_av.bin.activesep_passive_train "${in_world[@]}" \
    --points_dir "${dumpdir}/points" --train_points train --valid_points val \
    --train_clips "${dumpdir}/train_clips/1s_chunks" "${unheard[@]}" "${passive_words[@]}"
}

# shellcheck source=policy.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/policy.sh"

search() {
  local -a which=(--policies "${policies[@]}" --first "${search_first}" --interval "${search_interval}")
  [[ -z ${download_model} ]] || which=(--given_model "${download_model}")
  run_job 1 --num_threads "${nj}" "${play_job[@]}" -- python -m espnet_av.bin.activesep_search --exp_dir "${exp}" "${which[@]}" \
    "${play_args[@]}" --split "${valid_set}" --clips "$(long_clips "${valid_set}")" "${eval_words[@]}"
}

infer() {
  local name agents
  local -a played=()
  for name in "${test_names[@]}"; do played+=("${name}=$(long_clips "${name}")"); done
  for name in policies movers; do
    agents=0
    [[ ${name} == policies ]] || agents=${max_mover_agents}
    local -a chosen=("${mover_names[@]}")
    [[ ${name} == movers ]] || chosen=("${systems[@]:0:${#systems[@]}-${#mover_names[@]}}")
    ((${#chosen[@]})) || continue
    run_job "JOB=$(comma_separated "${chosen[@]}")" --max_jobs_run "${nj}" "${play_job[@]}" -- env OMP_NUM_THREADS=1 \
      python -m espnet_av.bin.activesep_infer --exp_dir "${exp}" --system JOB --sets "${played[@]}" \
      --max_agents "${agents}" "${play_args[@]}" --export_sounds "${num_examples}" "${eval_words[@]}"
  done
}

score() {
  run_job 1 -- python -m espnet_av.bin.activesep_score --exp_dir "${exp}" --sets "${test_names[@]}" \
    --data_dirs "${test_names[@]/#/${dumpdir}/episodes/v1/}" --systems "${systems[@]}"
}

pack() {
  pack_model --dump_dir "${dumpdir}"
}

read -r -a train_options < <(training_options)
recipe_source_tables "metadata/*/*/points.txt" "active_datasets/v1/*/*.json.gz"
packed=("${dumpdir}/not_packed")
[[ ${pack_scenes} == false ]] || packed=("${world}/packed/${dataset}/*/scene.json")
trained=()
for name in "${policies[@]}"; do trained+=("${exp}/policy/${name}/model.safetensors"); done
trained_main=("${trained[@]:0:${#seeds[@]}}")
searched=("${trained[@]}")
[[ -z ${download_model} ]] || searched=()
played=()
for name in "${test_names[@]}"; do
  for system in "${systems[@]}"; do played+=("${exp}/test/${name}/${system}/seed*/eval_metrics.json"); done
done
stages_begin "${exp}"
stage_marks "${datadir}/.stages"
stage 1 prepare prepare group: data_prep in: local/data.sh "${source_tables[@]}" \
  out: "${plans}" "${datadir}/classes.json" "${lists[@]}" \
  options: seed debug dataset train_set valid_set test_sets local_data_opts "${recipe_options[@]}"
stage_marks "${dumpdir}/.stages"
stage 2 format format group: data_prep in: "${plans}" "${lists[@]}" out: "${packed[@]}" options: pack_scenes
stage 3 filter filter group: data_prep in: "${packed[@]}" "${lists[@]}" "${datadir}/classes.json" \
  out: "${kept[@]}" "${clips[@]}" "${classes}" options: check max_dropped_share
stage 4 episodes episodes group: data_prep in: "${kept[@]}" "${classes}" out: "${episodes[@]}" "${points[@]}" \
  options: seed train_points valid_points train_episodes valid_episodes test_episodes episode_start min_start max_start \
  min_distance num_distractors
if [[ -z ${download_model} && -z ${separators} ]]; then
  stage_marks "${passive_exp}/.stages"
  stage 5 train train_separators group: train in: "${passive_config}" "${points[@]}" \
    out: "${passive_exp}/config.yaml" "${passive_exp}/checkpoint.pth" options: seed passive_args "${train_options[@]}"
fi
stage_marks "${exp}/.stages"
if [[ -z ${download_model} ]]; then
  ready=("${passive_exp}/checkpoint.pth")
  [[ -z ${separators} ]] || ready=("${separators}")
  stage 5a policy train_policy group: train in: "${config}" "${ready[@]}" "${dumpdir}/episodes/v1/${train_set}" \
    out: "${trained_main[@]}" options: policy_seeds set train_args
  ((${#rewards[@]} == 0)) || stage 5b baselines train_baselines group: train in: "${config}" "${ready[@]}" \
    "${dumpdir}/episodes/v1/${train_set}" out: "${trained[@]:${#seeds[@]}}" options: policy_seeds baselines set train_args
fi
stage 5c search search group: eval in: "${searched[@]}" "${infer_config}" "${dumpdir}/episodes/v1/${valid_set}" \
  out: "${exp}/best.json" "${exp}/model.safetensors" "${exp}/config.yaml" \
  options: policy_seeds baselines search_first search_interval eval_args download_model
stage 6 infer infer group: eval in: "${exp}/best.json" "${infer_config}" "${test_names[@]/#/${dumpdir}/episodes/v1/}" \
  out: "${played[@]}" options: movers baselines max_mover_agents num_examples eval_args
stage 7 score score group: eval in: "${played[@]}" out: "${exp}/results.json" "${exp}/RESULTS.md" options: movers baselines
stage 8 report report group: eval in: "${exp}/results.json" "${exp}/best.json" out: "${exp}/report.html"
stage 9 pack pack group: pack in: "${exp}/config.yaml" "${exp}/model.safetensors" out: "${exp}/pack" options: model_licence
upload_stage
stages_end
show_results

# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Stages 5a and 5b of active separation recipes: policies, one for each reward and seed, and how the later stages let
# them play; sourced by activesep.sh.
# shellcheck disable=SC2034,SC2154 # variables of the driver

# train_policies REWARD: one training for each seed; with one process each they run side by side
train_policies() {
  local wanted=$((ngpu > nproc ? ngpu : nproc)) threads=1 side_by_side=1 pair
  local -a launch=(python -m espnet_av.bin.activesep_train) job=() nodes=() more=()
  if ((num_nodes > 1)); then
    launch=("${ESPNET_AV_ROOT}/utils/torchrun" --num_nodes "${num_nodes}" "${wanted}" "${launch[@]}")
    nodes=(--num_nodes "${num_nodes}")
  elif ((wanted > 1)); then
    launch=("${ESPNET_AV_ROOT}/utils/torchrun" "${wanted}" "${launch[@]}")
  elif ((ngpu == 0)); then
    side_by_side=${nj}
  fi
  if ((ngpu > 0)); then
    job=(--gpu "${ngpu}") more=(--device cuda)
  else
    more=(--device cpu)
    threads=$((nj / (wanted * (side_by_side < ${#seeds[@]} ? side_by_side : ${#seeds[@]}))))
    ((threads > 0)) || threads=1
  fi
  for pair in "${set[@]}"; do more+=("--${pair%%=*}" "${pair#*=}"); done
  [[ ${debug} == false ]] || more+=(--num_updates 2 --imitation_updates 1 --num_envs 2 --num_mini_batch 1 --checkpoint_interval 1)
  [[ $1 == near_target ]] || more+=(--imitation_updates 0) # a baseline of another reward never sees the way
  if [[ ${STAGE_REDO} == true && ${resume_from_checkpoint} == false && ${dry_run} == false ]]; then
    for pair in "${seeds[@]}"; do exp=${exp}/policy/$1_seed${pair} set_aside; done
  fi
  # shellcheck disable=SC2016 # expanded in each job, whose name is seed<number>
  local own_seed='exec "${@:2}" --seed "${1#seed}"'
  run_job "JOB=$(comma_separated "${seeds[@]/#/seed}")" --num_threads "${threads}" --max_jobs_run "${side_by_side}" \
    "${job[@]}" "${nodes[@]}" -- bash -c "${own_seed}" seed JOB env OMP_NUM_THREADS="${threads}" "${launch[@]}" --config "${config}" \
    --output_dir "${exp}/policy/$1_JOB" --reward "$1" --separators "${passive_exp}" "${in_world[@]}" --episodes "${dumpdir}/episodes" \
    --split "${train_set}" --clips "$(long_clips "${train_set}")" "${more[@]}" "${train_words[@]}"
}

train_policy() {
  train_policies near_target
}

train_baselines() {
  local reward
  for reward in "${rewards[@]}"; do train_policies "${reward}"; done
}

play_args=(--config "${infer_config}" "${in_world[@]}" --episodes "${dumpdir}/episodes" --device cpu)
play_job=()
if ((ngpu > 0)); then
  play_args[-1]=cuda
  play_job=(--gpu 1)
fi

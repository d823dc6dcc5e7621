# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Options of active separation recipes, their defaults, help and checks; sourced by activesep.sh after recipe_begin.
# shellcheck disable=SC2034,SC2154 # variables of the driver
recipe_defaults
training_defaults
config=conf/train_policy.yaml
infer_config=conf/eval.yaml
passive_config=conf/train_passive.yaml
valid_set=valid_unheard test_sets="test_heard test_unheard"
dataset=mp3d             # folder between metadata/ and the scenes
pack_scenes=true
check=full
max_dropped_share=0.02
train_points=30000 valid_points=1000
train_episodes=0 valid_episodes=100 test_episodes=1000
episode_start=near
min_distance=3 min_start=2 max_start=8 num_distractors=1
separators=""
download_model=""
policy_seeds=""
baselines=none
movers="stand rotate random doa proximity approach"
max_mover_agents=0
search_first=0 search_interval=1
num_examples=2
passive_args="" train_args="" eval_args=""
model_licence=Apache-2.0
hub_repo=""
local_data_opts=""
help_message="Usage: bash ${recipe_called} [options]

An agent that moves to hear better: a world, separators, a policy trained by PPO, tests beside baselines, report.

${recipe_help}Of this task:
  --dataset NAME           folder between metadata/ and the scenes (default: ${dataset})
  --pack_scenes true|false  keep scenes in packed form, which is read much faster (default: ${pack_scenes})
  --check full|quick       look at every impulse response and image in stage 3, or open the scenes (default: ${check})
  --max_dropped_share X    more unusable scenes, clips or episodes than this are an error (default: ${max_dropped_share})
  --train_points N         passive data points of each scene; of given ones at most, 0: all (default: ${train_points})
  --valid_points N         the same for validation (default: ${valid_points})
  --train_episodes N       episodes; of given ones at most, 0: all (default: ${train_episodes})
  --valid_episodes N       of the validation set (default: ${valid_episodes})
  --test_episodes N        of each test set (default: ${test_episodes})
  --episode_start near|far  drawn episodes start at the target, as published ones do, or some way from it (default: ${episode_start})
  --min_start N, --max_start N  of far: steps from start to target (default: ${min_start} to ${max_start})
  --min_distance N         of drawn episodes and points: least steps from target to distractor (default: ${min_distance})
  --num_distractors N      of drawn episodes and points (default: ${num_distractors})
  --passive_config FILE    training of the separators (default: ${passive_config})
  --separators MODEL       take these instead: a passive training, an agent, or a published checkpoint
  --download_model MODEL   test this agent, a folder or a published checkpoint, without training
  --policy_seeds 'N N'     train a policy with each of these seeds (default: that of --seed)
  --baselines 'NAME NAME'  policies of other rewards to train as well: novelty, navigation, improvement (that of
                           Move2Hear), all, or none (default: ${baselines})
  --movers 'NAME NAME'     fixed ways to move to compare with, or none (default: ${movers})
  --max_mover_agents N     these play with the networks of the first so many seeds; 0: of all (default: ${max_mover_agents})
  --search_first N         leave out checkpoints with smaller numbers (default: ${search_first})
  --search_interval N      take every so-manyth (default: ${search_interval})
  --num_examples N         episodes of each test whose sound is kept (default: ${num_examples})
  --passive_args, --train_args, --eval_args 'WORDS'  appended to the commands of stages 5, 5a and 5b, 5c and 6
  --model_licence NAME     licence of the packed weights; 'not redistributable' for your own use (default: ${model_licence})
  --hub_repo ORG/NAME      where --skip_upload false puts the model (default: none)
  --local_data_opts 'WORDS'  further options of local/data.sh
--config is the training of the policy, and --set KEY=VALUE changes one of its keys.
$(training_help)
These are about the separators, but for --model_name_or_path, which takes the place of --passive_config's first weights.

$(recipe_common_help)"

# Complete and check the options.
check_options() {
  local name
  for name in config infer_config passive_config; do find_config "${name}"; done
  training_check
  recipe_check
  for name in config infer_config passive_config; do
    [[ -f ${!name} ]] || die 2 "--${name}: no file ${!name}"
  done
  [[ ${episode_start} =~ ^(near|far)$ ]] || die 2 "--episode_start is near or far; got '${episode_start}'"
  [[ ${check} =~ ^(full|quick)$ ]] || die 2 "--check is full or quick; got '${check}'"
  [[ ${pack_scenes} =~ ^(true|false)$ ]] || die 2 "--pack_scenes is true or false; got '${pack_scenes}'"
  [[ ${dataset} =~ ^[A-Za-z0-9_.-]+$ ]] || die 2 "--dataset is the name of a folder; got '${dataset}'"
  [[ ${max_dropped_share} =~ ^[0-9]+(\.[0-9]*)?$|^\.[0-9]+$ ]] ||
    die 2 "--max_dropped_share takes a number; got '${max_dropped_share}'"
  for name in train_points valid_points train_episodes valid_episodes test_episodes min_start max_start min_distance \
    num_distractors max_mover_agents search_first num_examples; do
    [[ ${!name} =~ ^[0-9]+$ ]] || die 2 "--${name} takes a whole number; got '${!name}'"
  done
  [[ ${search_interval} =~ ^[1-9][0-9]*$ ]] || die 2 "--search_interval takes a whole number above 0; got '${search_interval}'"
  [[ -n ${policy_seeds// /} ]] || policy_seeds=${seed}
  for name in ${policy_seeds}; do
    [[ ${name} =~ ^[0-9]+$ ]] || die 2 "--policy_seeds takes whole numbers; got '${name}'"
  done
  [[ ${baselines} != all ]] || baselines="novelty navigation improvement"
  for name in ${baselines}; do
    [[ ${name} =~ ^(novelty|navigation|improvement|none)$ ]] ||
      die 2 "--baselines are novelty, navigation, improvement, all, or none; got '${name}'"
  done
  for name in ${movers}; do
    [[ ${name} =~ ^(stand|rotate|random|doa|proximity|approach|none)$ ]] ||
      die 2 "--movers are stand, rotate, random, doa, proximity, approach, or none; got '${name}'"
  done
  for name in separators download_model; do
    recipe_user_path "${name}"
    [[ -z ${!name} || -e ${!name} ]] || die 3 "--${name}: no file or folder ${!name}"
  done
  hub_check
  [[ ${debug} == false ]] || small_world
}

# What --debug makes of the sizes.
small_world() {
  train_points=8 valid_points=4 train_episodes=4 valid_episodes=2 test_episodes=2 min_distance=2 min_start=1
  policy_seeds=${policy_seeds%% *} max_mover_agents=1 num_examples=1 search_first=0 search_interval=1
  recipe_user_gave movers || movers="stand random"
}

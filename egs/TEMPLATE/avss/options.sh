# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Options of speech separation recipes, their defaults, help and checks; sourced by avss.sh after recipe_begin.
# shellcheck disable=SC2034,SC2154 # variables of the driver
recipe_defaults
training_defaults
config=conf/train_rtfsnet.yaml
infer_config="" score_config="" # those of the model
source=clips            # what stage 1 gives: clips, from which mixtures are made, or mixtures
roi=face                # how mouths are found: face, landmarks, center
train_mixtures=3000     # made of clips
valid_mixtures=60
test_mixtures=120       # of each test set
mix_sec=2               # longest part of a clip
pair_kinds="same_speaker same_gender other"
min_sec=0.12            # shortest mixture: what the window of RTFS-Net needs
min_train_sec=""        # shortest mixture of the training set, where it is another
max_sec=60              # longest mixture
max_dropped_share=0.2
lip_frontend=""         # where lip embeddings come from
lip_activation=""       # of a published front end
lip_variants=1          # crops and flips of each training clip
lip_reader=""           # recipe that trains a front end, where none is given
lips_modes=""           # whose lips the network is shown at inference
model_licence=Apache-2.0 # of the packed weights
hub_repo=""             # organisation/name on the Hugging Face Hub
help_message="Usage: bash ${recipe_called} [options]

Audio-visual speech separation of two talkers: data, lip embeddings, training, scores, report.

${recipe_help}Of this task:
  --source WHAT            stage 1 gives clips, of which mixtures are made, or mixtures (default: ${source})
  --roi HOW                of clips: how mouths are found: face, landmarks or center (default: ${roi})
  --train_mixtures N       mixtures to make for training (default: ${train_mixtures})
  --valid_mixtures N       mixtures to make for validation (default: ${valid_mixtures})
  --test_mixtures N        mixtures to make for each test set (default: ${test_mixtures})
  --mix_sec S              longest part of a clip that is mixed, from its start; 0: all (default: ${mix_sec})
  --pair_kinds 'KIND...'   who is mixed with whom: same_speaker, same_gender, other (default: ${pair_kinds})
  --min_sec S              shortest mixture kept (default: ${min_sec})
  --min_train_sec S        shortest mixture of the training set (default: ${min_train_sec:-as of the other sets})
  --max_sec S              longest mixture kept (default: ${max_sec})
  --max_dropped_share X    more dropped than this fails stages 2 to 4 (default: ${max_dropped_share})
  --lip_frontend SOURCE    checkpoint of a lip-reading network, avsr:DIR for the lips of a recogniser trained here, or
                           random to try a recipe out${lip_reader:+ (default: a recogniser trained by ${lip_reader})}
  --lip_activation NAME    prelu or swish, of a checkpoint that does not tell (default: as it tells)
  --lip_variants N         crops and flips stored of each training clip (default: ${lip_variants})
  --lip_reader DIR         speech recognition recipe that trains a front end where none is given (default: ${lip_reader:-none})
  --lips_modes 'MODE...'   whose lips the network is shown at inference: own, swapped, other, none
                           (default: all; with a network that needs no lips: audio)
  --score_config FILE      scoring configuration (default: conf/calc_metrics_<model>.yaml)
  --model_licence NAME     licence of the packed weights; 'not redistributable' for your own use (default: ${model_licence})
  --hub_repo ORG/NAME      where --skip_upload false puts the model (default: none)
$(training_help)

$(recipe_common_help)"

# Complete and check the options; sets model, needs_lips and lips_modes.
check_options() {
  local name
  find_config config
  model=$(sed -n 's/^model: *\([A-Za-z0-9_]*\).*/\1/p' "${config}" 2>/dev/null || true)
  model=${model:-rtfsnet}
  needs_lips=true
  [[ ${model} != convtasnet ]] || needs_lips=false
  infer_config=${infer_config:-conf/inf_${model}.yaml}
  score_config=${score_config:-conf/calc_metrics_${model}.yaml}
  find_config infer_config
  find_config score_config
  training_check
  recipe_check
  [[ -f ${score_config} ]] || die 2 "--score_config: no file ${score_config}"
  for name in train_mixtures valid_mixtures test_mixtures lip_variants; do
    [[ ${!name} =~ ^[1-9][0-9]*$ ]] || die 2 "--${name} takes a whole number above 0; got '${!name}'"
  done
  [[ ${source} =~ ^(clips|mixtures)$ ]] || die 2 "--source is clips or mixtures; got '${source}'"
  [[ ${roi} =~ ^(face|landmarks|center)$ ]] || die 2 "--roi is face, landmarks or center; got '${roi}'"
  for name in ${pair_kinds}; do
    [[ ${name} =~ ^(same_speaker|same_gender|other)$ ]] ||
      die 2 "--pair_kinds are same_speaker, same_gender, other; got '${name}'"
  done
  if [[ ${needs_lips} == false ]]; then
    lips_modes=audio
  elif [[ -z ${lips_modes} ]]; then
    lips_modes="own swapped other none"
    [[ ${debug} == false ]] || lips_modes="own swapped none" # a few mixtures may all share a clip
  fi
  for name in ${lips_modes}; do
    [[ ${name} =~ ^(own|swapped|other|none|audio)$ ]] || die 2 "--lips_modes are own, swapped, other, none; got '${name}'"
  done
  hub_check
}

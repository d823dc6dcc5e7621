# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Options of codec recipes, their defaults, help and checks; sourced by codec.sh after recipe_begin.
# shellcheck disable=SC2034,SC2154 # variables of the driver
recipe_defaults
training_defaults
infer_config=conf/decode.yaml
scoring_config=conf/score.yaml
track=""                 # 1: gives back what it hears; 2: enhances it
fs=24000
audio_format=wav
min_wav_duration=2.9
max_wav_duration=240
max_dropped_share=0.02
target_bandwidths="1 6"
inference_model=""
inference_tag=""
scoring_tag=score
scoring_args=""
codec_exp=""
download_model=""
opus_kbps=""
asr=""
model_licence=Apache-2.0
hub_repo=""
local_data_opts=""
# other names of the LRAC challenge recipe
train_config="" inference_config="" train_args="" inference_args="" inference_nj="" hf_repo="" python=""
gpu_inference=false feats_type=raw audio_fold_length="" codec_stats_dir="" num_splits=1
help_message="Usage: bash ${recipe_called} [options]

A speech codec for several bit rates: data, training, decoding at each rate, scores, report.

${recipe_help}Of this task:
  --track 1|2              1: give back what is heard; 2: enhance it (default: as the configuration says)
  --fs HZ                  sample rate of data and model (default: ${fs})
  --audio_format NAME      of converted files: wav or flac (default: ${audio_format})
  --min_wav_duration S     training utterances must be longer (default: ${min_wav_duration})
  --max_wav_duration S     and shorter than this (default: ${max_wav_duration})
  --max_dropped_share X    more unusable files than this fail stage 2 (default: ${max_dropped_share})
  --target_bandwidths 'R R'  bit rates to decode and score at, in kbps (default: ${target_bandwidths})
  --inference_model NAME   weights to decode with, below the experiment (default: those of the best epoch)
  --inference_tag NAME     name of the decoding folders (default: <decoding configuration>_<weights>)
  --inference_nj N         decoding jobs at the same time (default: --nj)
  --gpu_inference          decode on a GPU (default: ${gpu_inference})
  --download_model MODEL   evaluate this model, a folder, file or name on the Hugging Face Hub, without training
  --scoring_config FILE    scoring configuration (default: ${scoring_config})
  --scoring_args 'WORDS'   further options of the scoring command
  --scoring_tag NAME       names the folders of scores (default: ${scoring_tag})
  --opus_kbps 'R R'        bit rates of Opus beside the results, or none (default: as the scoring configuration says)
  --asr MODEL              recogniser whose word errors are counted on decoded speech (default: none, and said so)
  --codec_exp DIR          experiment folder, whatever --tag says
  --model_licence NAME     licence of the packed weights; 'not redistributable' for your own use (default: ${model_licence})
  --hub_repo ORG/NAME      where --skip_upload false puts the model (default: none)
  --local_data_opts 'WORDS'  further options of local/data.sh
The names of the LRAC challenge recipe work too: --train_config FILE (--config), --inference_config FILE (--infer_config),
--train_args and --inference_args 'WORDS' (appended to the commands), --hf_repo (--hub_repo), --python PROGRAM. Without
effect here: --feats_type, --audio_fold_length, --codec_stats_dir, --num_splits.
$(training_help)

$(recipe_common_help)"

# other_name NEW OLD: --NEW is another name of --OLD
other_name() {
  [[ -n ${!1} ]] || return 0
  [[ ${!2} == "${!1}" ]] || ! recipe_user_gave "$2" ||
    die 2 "--$1 is another name of --$2; got '${!1}' and '${!2}'"
  printf -v "$2" '%s' "${!1}"
}

# configured KEY: print the value of a key of the training configuration, as --set changes it
configured() {
  local value pair
  value=$(sed -n "s/^$1: *\([A-Za-z0-9_.-]*\).*/\1/p" "${config}" 2>/dev/null || true)
  for pair in "${set[@]}"; do [[ ${pair} != "$1="* ]] || value=${pair#*=}; done
  printf '%s' "${value:-false}"
}

# Complete and check the options; sets track, mixes (whether the training puts noise and rooms on speech).
check_options() {
  local name default
  other_name train_config config
  other_name inference_config infer_config
  other_name hf_repo hub_repo
  [[ -z ${python} ]] || export ESPNET_AV_PYTHON=${python}
  for name in feats_type:raw audio_fold_length: codec_stats_dir: num_splits:1; do
    default=${name#*:} name=${name%%:*}
    [[ ${!name} == "${default}" ]] || warn "--${name} has no effect here"
  done
  for name in config infer_config scoring_config; do find_config "${name}"; done
  training_check
  recipe_check
  [[ -f ${scoring_config} ]] || die 2 "--scoring_config: no file ${scoring_config}"
  [[ -f ${infer_config} ]] || die 2 "--infer_config: no file ${infer_config}"
  mixes=$(configured apply_enhancement)
  if [[ -z ${track} ]]; then
    track=1 # of a training with noise too, where noise belongs to what has to come back
    [[ ${mixes} != true || $(configured mixing_target) == mixture ]] || track=2
  fi
  [[ ${track} =~ ^[12]$ ]] || die 2 "--track is 1 or 2; got '${track}'"
  [[ ${audio_format} =~ ^(wav|flac)$ ]] || die 2 "--audio_format is wav or flac; got '${audio_format}'"
  for name in fs inference_nj; do
    [[ ${!name} =~ ^([1-9][0-9]*)?$ ]] || die 2 "--${name} takes a whole number above 0; got '${!name}'"
  done
  for name in min_wav_duration max_wav_duration max_dropped_share; do
    [[ ${!name} =~ ^[0-9]+(\.[0-9]*)?$|^\.[0-9]+$ ]] || die 2 "--${name} takes a number; got '${!name}'"
  done
  [[ -n ${target_bandwidths// /} ]] || die 2 "--target_bandwidths takes at least one bit rate in kbps"
  for name in ${target_bandwidths}; do
    [[ ${name} =~ ^[0-9]+(\.[0-9]+)?$ ]] || die 2 "--target_bandwidths takes bit rates in kbps; got '${name}'"
  done
  [[ ${opus_kbps} =~ ^(none|[0-9. ]*)$ ]] || die 2 "--opus_kbps takes bit rates in kbps, or none; got '${opus_kbps}'"
  for name in inference_tag scoring_tag; do
    [[ ${!name} =~ ^[A-Za-z0-9_.+=@-]*$ ]] || die 2 "--${name} becomes a folder name; got '${!name}'"
  done
  hub_check
}

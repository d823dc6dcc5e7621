# shellcheck shell=bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# Options of recipes that generate talking faces, their defaults, help and checks; sourced by avgen.sh after
# recipe_begin.
# shellcheck disable=SC2034,SC2154 # variables of the driver
recipe_defaults
training_defaults
score_config=conf/score.yaml
min_sec=1 max_sec=0
max_missing_share=0.5
max_dropped_share=0.1
token_model=own token_set="" vad=none
head_vae=own text_model=own vocoder=own
token_config=conf/train_tokens.yaml
head_vae_config=conf/train_head_vae.yaml
text_config=conf/train_text.yaml
vocoder_config=conf/train_vocoder.yaml
participant=false
face_statistics=per_value
face_basis=""
download_model=""
inputs=audio
steps=""
partners=own
compare=""
num_samples=1
num_videos=4
renderer=auto mesh="" codec=""
asr=""
token_args="" head_vae_args="" text_args="" vocoder_args="" train_args="" infer_args="" score_args=""
model_licence=Apache-2.0
hub_repo=""
local_data_opts=""
help_message="Usage: bash ${recipe_called} [options]

Speech and a moving face, generated together: data, tokens, head VAE, text model, vocoder, generator, scores, report.

${recipe_help}Of this task:
  --token_model SOURCE     what makes tokens of sound: own (a small recogniser, trained on the texts of the corpus),
                           wav2vec2 (the file that torchaudio has fetched), a file or folder of one, an experiment, or
                           given (the corpus brings tokens along) (default: ${token_model})
  --token_set NAME         a further set of data, sounds with texts and without faces, that the own token model learns
                           from beside the training set (default: ${token_set:-none})
  --vad none|energy        tokens of silent frames become one vector (default: ${vad})
  --head_vae SOURCE        own (trained here), or a published file or a folder (default: ${head_vae})
  --text_model SOURCE      text to tokens: own, none, or a published file or a folder (default: ${text_model})
  --vocoder SOURCE         own, griffinlim, or a folder of HiFi-GAN, BigVGAN or a training (default: ${vocoder})
  --token_config, --head_vae_config, --text_config, --vocoder_config FILE  trainings of own models
  --participant            a generator that looks at the other person of the conversation (default: ${participant})
  --face_statistics HOW    deviation of face codes: per_value, flat, or none (as published) (default: ${face_statistics})
  --face_basis FILE        .npz that tells what face codes mean (default: found in and above the data)
  --min_sec S, --max_sec S  lengths of recordings that are kept; 0: no limit (default: ${min_sec}, ${max_sec})
  --max_missing_share X    share of its frames that a recording's face may be lost in (default: ${max_missing_share})
  --max_dropped_share X    more recordings dropped than this fail stages 2 to 4 (default: ${max_dropped_share})
  --download_model MODEL   generate with this model, a folder or a published checkpoint, without training
  --inputs 'WHAT...'       what the generator is told in stage 6: audio (tokens of the recordings), text (default: ${inputs})
  --steps 'N N'            also with so many solver steps, for curves (default: as the decoding configuration says)
  --partners 'WHO...'      of a generator with --participant: own, none, other (default: ${partners})
  --compare 'NAME=DIR...'  other experiments to generate with and to compare with, e.g. cascade=exp/train_model-cascade
  --num_samples N          samples of each recording (default: ${num_samples})
  --num_videos N           recordings of each set that are drawn, beside those of the report; 0: none (default: ${num_videos})
  --renderer NAME          of videos: none, plots, sketch, mesh, codec, or auto: sketch where it is known what face codes mean,
                           else plots (default: ${renderer})
  --mesh FILE              .obj or .npz that --renderer mesh moves (default: the head of this package)
  --codec MODULE:CALLABLE  your decoder, for --renderer codec (default: that of ESPNET_AV_CODEC_RENDERER)
  --score_config FILE      scoring configuration (default: ${score_config})
  --asr MODEL              recogniser of the word error rate: a folder of avsr, ctc:MODEL, or none (default: the one that
                           makes the tokens)
  --token_args, --head_vae_args, --text_args, --vocoder_args, --train_args, --infer_args, --score_args 'WORDS'
                           appended to the commands of stages 4, 4c, 4d, 4e, 5, 6 and 7
  --model_licence NAME     licence of the packed weights; 'not redistributable' for your own use (default: ${model_licence})
  --hub_repo ORG/NAME      where --skip_upload false puts the model (default: none)
  --local_data_opts 'WORDS'  further options of local/data.sh
--set KEY=VALUE changes the training of the generator: model=cascade, model_conf.audio_weight=3, ...
$(training_help)
These are about the generator.

$(recipe_common_help)"

# Complete and check the options; sets kind (joint or cascade), what results call the generator.
check_options() {
  local name
  for name in config infer_config score_config token_config head_vae_config text_config vocoder_config; do
    find_config "${name}"
  done
  training_check
  recipe_check
  for name in config infer_config score_config; do
    [[ -f ${!name} ]] || die 2 "--${name}: no file ${!name}"
  done
  for name in token:token_model head_vae:head_vae text:text_model vocoder:vocoder; do
    local file=${name%%:*}_config source=${name#*:}
    [[ ${!source} != own || -f ${!file} ]] || die 2 "--${file}: no file ${!file}"
  done
  [[ ${vad} =~ ^(none|energy)$ ]] || die 2 "--vad is none or energy; got '${vad}'"
  [[ ${face_statistics} =~ ^(per_value|flat|none)$ ]] ||
    die 2 "--face_statistics is per_value, flat or none; got '${face_statistics}'"
  check_renderer
  for name in min_sec max_sec max_missing_share max_dropped_share; do
    [[ ${!name} =~ ^[0-9]+(\.[0-9]*)?$|^\.[0-9]+$ ]] || die 2 "--${name} takes a number; got '${!name}'"
  done
  [[ ${num_videos} =~ ^[0-9]+$ ]] || die 2 "--num_videos takes a whole number; got '${num_videos}'"
  [[ ${num_samples} =~ ^[1-9][0-9]*$ ]] || die 2 "--num_samples takes a whole number above 0; got '${num_samples}'"
  for name in ${steps}; do
    [[ ${name} =~ ^[1-9][0-9]*$ ]] || die 2 "--steps takes whole numbers above 0; got '${name}'"
  done
  [[ -n ${inputs// /} ]] || die 2 "--inputs takes audio, text, or both"
  for name in ${inputs}; do
    [[ ${name} =~ ^(audio|text)$ ]] || die 2 "--inputs are audio and text; got '${name}'"
  done
  [[ " ${inputs} " != *" text "* || ${text_model} != none ]] || die 2 "--inputs text needs a --text_model; got 'none'"
  for name in ${partners}; do
    [[ ${name} =~ ^(own|none|other)$ ]] || die 2 "--partners are own, none and other; got '${name}'"
  done
  [[ ${participant} == true || ${partners} == own ]] || die 2 "--partners needs --participant; got '${partners}'"
  for name in ${compare}; do
    [[ ${name} =~ ^[A-Za-z][A-Za-z0-9_-]*=.+$ ]] || die 2 "--compare takes NAME=FOLDER; got '${name}'"
    [[ -d ${name#*=} || ${dry_run} == true || ${list} == true ]] || die 3 "--compare: no folder ${name#*=}; train it first"
  done
  for name in face_basis mesh token_model head_vae text_model vocoder download_model; do check_source "${name}"; done
  [[ ${participant} == false ]] || set+=(model_conf.participant_cond=true)
  kind=joint
  [[ $(configured model) != cascade ]] || kind=cascade
  hub_check
}

# what draws the videos is known, and has what it needs
check_renderer() {
  [[ ${renderer} =~ ^(auto|none|plots|sketch|mesh|codec)$ ]] ||
    die 2 "--renderer is auto, none, plots, sketch, mesh or codec; got '${renderer}'"
  [[ -z ${mesh} || ${renderer} == mesh ]] || die 2 "--mesh needs --renderer mesh; got '${renderer}'"
  [[ -z ${codec} || ${renderer} == codec ]] || die 2 "--codec needs --renderer codec; got '${renderer}'"
  [[ -z ${codec} || ${codec} =~ ^[^:]+:[^:]+$ ]] || die 2 "--codec takes MODULE:CALLABLE; got '${codec}'"
  [[ ${renderer} != codec || -n ${codec}${ESPNET_AV_CODEC_RENDERER:-} ]] ||
    die 2 "--renderer codec needs a decoder of yours, none comes with this package: --codec MODULE:CALLABLE"
}

# check_source NAME: the value of --NAME is a word that it knows, or a path
check_source() {
  case "$1:${!1}" in
    *: | token_model:own | token_model:given | token_model:wav2vec2 | head_vae:own | text_model:own | text_model:none | \
      vocoder:own | vocoder:griffinlim) return 0 ;;
  esac
  recipe_user_path "$1"
  [[ -e ${!1} || ${dry_run} == true ]] || die 3 "--$1: no file or folder ${!1}"
}

# configured KEY: print the value of a key of the training configuration, as --set changes it
configured() {
  local value pair
  value=$(sed -n "s/^$1: *\([A-Za-z0-9_.-]*\).*/\1/p" "${config}" 2>/dev/null || true)
  for pair in "${set[@]}"; do [[ ${pair} != "$1="* ]] || value=${pair#*=}; done
  printf '%s' "${value}"
}

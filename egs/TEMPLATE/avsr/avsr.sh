#!/usr/bin/env bash
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
#
# The stages of every audio-visual speech recognition recipe. egs/<dataset>/avsr/run.sh calls this file in its folder:
# first what the recipe is (see recipe_begin in utils/common.sh), then its defaults, then the user's options.
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
recipe_defaults
roi=face            # how mouths are found: face, landmarks, center, none
roi_format=npy      # how crops are stored: npy, npz, mp4
min_sec=0.4         # shortest utterance
max_sec=15          # longest utterance
max_drift_frames=2  # largest difference of sound and video
max_dropped_share=0.2
token_type=char     # char, word, bpe
vocab_size=500      # of bpe
modalities="av audio video"
video_only_sets=""  # sets decoded from video alone; noise does not change it, so the clean ones
model_licence=Apache-2.0 # of the packed weights
hub_repo=""         # organisation/name on the Hugging Face Hub
training_defaults
help_message="Usage: bash ${recipe_called} [options]

Audio-visual speech recognition from talking faces: data, training, scores, report.

${recipe_help}Of this task:
  --roi HOW                how mouths are found: face, landmarks, center or none (default: ${roi})
  --roi_format TYPE        how crops are stored: npy, npz or mp4 (default: ${roi_format})
  --min_sec S              shortest utterance kept (default: ${min_sec})
  --max_sec S              longest utterance kept (default: ${max_sec})
  --max_drift_frames N     largest difference of sound and video (default: ${max_drift_frames})
  --max_dropped_share X    more dropped than this fails stages 2 and 3 (default: ${max_dropped_share})
  --token_type TYPE        char, word or bpe (default: ${token_type})
  --vocab_size N           number of bpe tokens (default: ${vocab_size})
  --modalities 'NAME...'   what to decode from: av, audio, video (default: ${modalities})
  --video_only_sets 'NAME...'  sets decoded from video alone (default: the test sets without noise)
  --model_licence NAME     licence of the packed weights; 'not redistributable' for your own use (default: ${model_licence})
  --hub_repo ORG/NAME      where --skip_upload false puts the model (default: none)
$(training_help)

$(recipe_common_help)"
# shellcheck source=../../../utils/parse_options.sh
. "${ESPNET_AV_ROOT}/utils/parse_options.sh"
[[ $# -eq 0 ]] || die 2 "unexpected argument '$1'; options are --name value, see --help"
training_check
recipe_check
[[ ${token_type} =~ ^(char|word|bpe)$ ]] || die 2 "--token_type is char, word or bpe; got '${token_type}'"
for name in ${modalities}; do
  [[ ${name} =~ ^(av|audio|video)$ ]] || die 2 "--modalities are av, audio, video; got '${name}'"
done

hub_check

# ------------------------------------------------------------------------------------------------- names and folders
read -r -a test_names <<<"${test_sets}"
[[ ${debug} == false ]] || test_names=("${test_names[@]:0:2}")
if [[ -z ${video_only_sets} ]]; then
  for name in "${test_names[@]}"; do [[ ${name} == *_snr_* ]] || video_only_sets+=" ${name}"; done
fi
names=("${train_set}" "${valid_set}" "${test_names[@]}")
raw=("${names[@]/#/${datadir}/}")
formatted=("${names[@]/#/${dumpdir}/formatted/}")
filtered=("${names[@]/#/${dumpdir}/}")
tests=("${test_names[@]/#/${dumpdir}/}")
token_name=${token_type}
[[ ${token_type} != bpe ]] || token_name=${token_type}${vocab_size}
token_dir=${datadir}/tokens/${token_name}
[[ -n ${tag} ]] || tag=$(training_tag "${config}" "${token_name}")
exp=${expdir}/${tag}
[[ ${follow} == false ]] || recipe_follow "${exp}/logs"

# ------------------------------------------------------------------------------------------------------------ stages
check_prepare() {
  recipe_data_args
}

prepare() {
  local name count=16
  run_job 1 -- env ESPNET_AV_NJ="${nj}" ESPNET_AV_DEBUG="${debug}" \
    bash local/data.sh --output_dir "${datadir}" --seed "${seed}" "${data_args[@]}"
  [[ ${debug} == true ]] || return 0
  for name in "${names[@]}"; do # keep a few clips of each set
    if [[ ${dry_run} == false && $(wc -l <"${datadir}/${name}/utt2spk") -gt ${count} ]]; then
      rm -rf "${datadir:?}/.${name}.few"
      "${ESPNET_AV_ROOT}/utils/subset_data_dir" "${datadir}/${name}" "${count}" "${datadir}/.${name}.few"
      rm -rf "${datadir:?}/${name}"
      mv "${datadir}/.${name}.few" "${datadir}/${name}"
    fi
    count=4
  done
}

format() { # clean sets come first; noisy copies of a set then find the crops of its videos in the shared folder
  local name
  for name in "${names[@]}"; do
    run_job "${name}" --num_threads "${nj}" -- python -m espnet_av.bin.format_av --data_dir "${datadir}/${name}" \
      --output_dir "${dumpdir}/formatted/${name}" --roi_dir "${dumpdir}/mouth" --roi "${roi}" \
      --roi_format "${roi_format}" --max_dropped_share "${max_dropped_share}" --nj "${nj}"
  done
}

filter() {
  local name
  local -a looked=()
  for name in "${names[@]}"; do [[ ${name} == *_snr_* ]] || looked+=("${dumpdir}/formatted/${name}"); done
  run_doctor --train_sets "${train_set}" --drop_sets "${train_set}" "${valid_set}" --token_type "${token_type}" \
    --max_drift_frames "${max_drift_frames}" -- "${looked[@]}"
  run_job "JOB=$(comma_separated "${names[@]}")" --max_jobs_run "${nj}" -- python -m espnet_av.bin.filter_data \
    --data_dir "${dumpdir}/formatted/JOB" --output_dir "${dumpdir}/JOB" --min_sec "${min_sec}" --max_sec "${max_sec}" \
    --max_drift_frames "${max_drift_frames}" --max_dropped_share "${max_dropped_share}" "${doctor_args[@]}"
  run_job "JOB=$(comma_separated "${names[@]}")" --max_jobs_run "${nj}" -- \
    "${ESPNET_AV_ROOT}/utils/validate_data_dir" --no-spk-sort "${dumpdir}/JOB"
}

tokens() {
  run_job tokens -- python -m espnet_av.bin.tokens --text "${dumpdir}/${train_set}/text" --token_type "${token_type}" \
    --vocab_size "${vocab_size}" --output_dir "${token_dir}"
  run_job "JOB=${train_set},${valid_set}" -- python -m espnet_av.bin.shapes --data_dir "${dumpdir}/JOB" \
    --tokens_dir "${token_dir}" --output_dir "${exp}/stats/JOB"
}

train() {
  local -a data=()
  training_data train "${train_set}" "${exp}/stats/${train_set}/video_shape"
  training_data valid "${valid_set}" "${exp}/stats/${valid_set}/video_shape"
  [[ ${token_type} != bpe ]] || data+=(--bpemodel "${token_dir}/bpe.model")
  ((${#train_stream[@]} == 0)) || data+=(--train_stream "${train_stream[0]}")
  run_training espnet_av.bin.avsr_train --token_list "${token_dir}/tokens.txt" --token_type "${token_type}" "${data[@]}"
}

infer() { # each job decodes some of the sets: the clean ones from all modalities, the noisy ones not from video alone
  local index number num_jobs name folder=${exp}/.decode
  local -a job=() every=() with_sound=()
  num_jobs=$(min "${#test_names[@]}" "$((ngpu > 0 ? ngpu : nj))")
  ((ngpu == 0)) || job+=(--gpu 1)
  for name in ${modalities}; do
    every+=("${name}")
    [[ ${name} == video ]] || with_sound+=("${name}")
  done
  [[ ${dry_run} == true ]] || { rm -rf "${folder}" && mkdir -p "${folder}/jobs"; }
  for ((number = 1; number <= num_jobs; number++)); do
    local -a clean=() noisy=()
    for ((index = number - 1; index < ${#tests[@]}; index += num_jobs)); do
      case " ${video_only_sets} " in
        *" ${test_names[index]} "*) clean+=("${tests[index]}") ;;
        *) noisy+=("${tests[index]}") ;;
      esac
    done
    if [[ ${dry_run} == true ]]; then
      infer_commands | sed 's/^/  $ /'
    else
      { printf 'set -e\n' && infer_commands; } >"${folder}/jobs/${number}.sh"
    fi
  done
  [[ ${dry_run} == false ]] || return 0
  run_job "JOB=1:${num_jobs}" --max_jobs_run "${num_jobs}" "${job[@]}" -- bash "${folder}/jobs/JOB.sh"
  rm -rf "${exp:?}/decode" "${folder}/jobs"
  mv "${folder}" "${exp}/decode"
}

infer_commands() {
  local -a command=(python -m espnet_av.bin.avsr_infer --train_dir "${exp}" --output_dir "${exp}/.decode"
    --config "${infer_config}" --seed "${seed}")
  ((${#clean[@]} == 0)) || print_args "${command[@]}" --data_dirs "${clean[@]}" --modalities "${every[@]}"
  ((${#noisy[@]} == 0 || ${#with_sound[@]} == 0)) ||
    print_args "${command[@]}" --data_dirs "${noisy[@]}" --modalities "${with_sound[@]}"
}

score() {
  run_job 1 -- python -m espnet_av.bin.avsr_score --exp_dir "${exp}" --decode_dir "${exp}/decode" --dump_dir "${dumpdir}"
}

check_sessions() {
  recipe_data_args
}

sessions() { # of recipes that have local/sessions.sh
  local -a job=()
  ((ngpu == 0)) || job+=(--gpu 1)
  run_job 1 "${job[@]}" -- env ESPNET_AV_DEBUG="${debug}" bash local/sessions.sh --model "${exp}" \
    --output_dir "${exp}/sessions" --infer_config "${infer_config}" "${data_args[@]}"
}

pack() {
  # shellcheck disable=SC2119 # it takes none here
  pack_model
}

read -r -a train_options < <(training_options)
stages_begin "${exp}"
stage_marks "${datadir}/.stages"
stage 1 prepare prepare group: data_prep in: local/data.sh out: "${raw[@]}" options: seed debug "${recipe_options[@]}"
stage_marks "${dumpdir}/.stages"
stage 2 format format group: data_prep in: "${raw[@]}" out: "${formatted[@]}" options: roi roi_format max_dropped_share
stage 3 filter filter group: data_prep in: "${formatted[@]}" out: "${filtered[@]}" \
  options: min_sec max_sec max_drift_frames max_dropped_share
stage_marks "${exp}/.stages"
stage 4 tokens tokens group: data_prep in: "${dumpdir}/${train_set}" "${dumpdir}/${valid_set}" \
  out: "${token_dir}" "${exp}/stats/${train_set}" "${exp}/stats/${valid_set}" options: token_type vocab_size
train_stream=() # the shards that stage 1 listed, if training reads them itself
[[ ! -f ${datadir}/train_stream.yaml ]] || train_stream=("${datadir}/train_stream.yaml")
stage 5 train train group: train in: "${config}" "${token_dir}" "${exp}/stats/${train_set}" "${exp}/stats/${valid_set}" \
  "${dumpdir}/${train_set}" "${dumpdir}/${valid_set}" "${train_stream[@]}" out: "${exp}/config.yaml" "${exp}/checkpoint.pth" \
  options: seed set "${train_options[@]}"
stage 6 infer infer group: eval in: "${exp}/checkpoint.pth" "${infer_config}" "${tests[@]}" \
  out: "${exp}/decode/*/*/text" options: seed modalities video_only_sets
stage 7 score score group: eval in: "${exp}/decode/*/*/text" "${tests[@]/%//text}" \
  out: "${exp}/results.json" "${exp}/RESULTS.md"
[[ ! -f local/sessions.sh ]] || stage 7a sessions sessions group: eval in: "${exp}/checkpoint.pth" "${infer_config}" \
  local/sessions.sh out: "${exp}/sessions/*/results.json" options: "${recipe_options[@]}"
published=() # figures of others, which the report shows beside the results
[[ ! -f conf/published.yaml ]] || published=(conf/published.yaml)
stage 8 report report group: eval in: "${exp}/results.json" "${exp}/history.jsonl" "${published[@]}" out: "${exp}/report.html"
stage 9 pack pack group: pack in: "${exp}/config.yaml" "${exp}/checkpoint.pth" "${token_dir}" out: "${exp}/pack" \
  options: model_licence
upload_stage
stages_end
show_results

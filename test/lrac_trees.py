# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny trees in the layouts of the LRAC data toolkit."""

import numpy as np
import soundfile

RATE = 24000
TABLES = ("wav.scp", "spk1.scp", "utt2spk", "spk2utt", "spk2gender", "text", "utt2fs", "utt2category")


def noise(seed, seconds):
    rng = np.random.default_rng(seed)
    envelope = 0.05 + 0.1 * np.abs(np.sin(2 * np.pi * 3 * np.arange(round(seconds * RATE)) / RATE))
    return (envelope * rng.standard_normal(len(envelope))).astype(np.float32)


def lines(table):
    return "".join(f"{key} {table[key]}\n" for key in sorted(table))


def write_wav(path, seed, seconds, subtype="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.clip(noise(seed, seconds), -0.99, 0.99), RATE, subtype=subtype)
    return path


def write_speech(folder, audio, speakers, seconds=3.2, subtype="PCM_16", first_seed=0, root=None):
    """Write the eight tables of a set, two utterances a speaker; paths are relative to ``root`` where that is given."""
    wavs, speaker_of = {}, {}
    for number, speaker in enumerate(speakers):
        for k in range(2):
            utt = f"{speaker}-utt{k}"
            path = write_wav(audio / f"{utt}.wav", first_seed + 2 * number + k, seconds, subtype)
            wavs[utt], speaker_of[utt] = (path if root is None else path.relative_to(root)), speaker
    folder.mkdir(parents=True)
    utts = {spk: " ".join(sorted(u for u, s in speaker_of.items() if s == spk)) for spk in speakers}
    genders = {spk: "mfo"[index % 3] for index, spk in enumerate(speakers)}
    content = {
        "wav.scp": wavs,
        "spk1.scp": wavs,
        "utt2spk": speaker_of,
        "spk2utt": utts,
        "spk2gender": genders,
        "text": dict.fromkeys(wavs, "<not-available>"),
        "utt2fs": dict.fromkeys(wavs, RATE),
        "utt2category": dict.fromkeys(wavs, "1ch_24000Hz"),
    }
    for name, table in content.items():
        (folder / name).write_text(lines(table))


def write_test(folder, audio, same, subtype="PCM_16"):
    folder.mkdir(parents=True)
    ids = ["T1_file001", "T1_file002"]
    inputs = {utt: write_wav(audio / f"{utt}.wav", 50 + k, 1.0, subtype) for k, utt in enumerate(ids)}
    references = inputs if same else {utt: write_wav(audio / "ref" / f"{utt}.wav", 60, 1.0, subtype) for utt in ids}
    (folder / "wav.scp").write_text(lines(inputs))
    (folder / "reference.scp").write_text(lines(references))


def write_lists(root, audio, columns):
    for kind in ("noise", "rirs"):
        sounds = {f"{kind}{k}": write_wav(audio / f"{kind}{k}.wav", 70 + k, 0.5) for k in range(3)}
        if kind == "rirs":
            for path in sounds.values():
                wave = np.zeros(2400)
                wave[[10, 600, 1800]] = 0.9, 0.3, 0.1
                soundfile.write(path, wave, RATE)
        middle = f"{RATE} " if columns == 3 else ""
        (root / f"{kind}.scp").write_text("".join(f"{key} {middle}{path}\n" for key, path in sounds.items()))
        key = f"{kind}2"
        (root / f"{kind}_val.scp").write_text(f"{key} {middle}{sounds[key]}\n")


def make_2025(root, track=1):
    """Write what ``prepare_espnet_data.sh`` leaves below ``data``."""
    audio = root.parent / f"{root.name}_audio"
    write_speech(root / "speech", audio / "train", ["libritts_19", "vctk_p225", "ears_p001"])
    write_speech(root / "speech_validation", audio / "valid", ["globe_S_1", "vctk_p300"], first_seed=20)
    for condition in ("clean", "noisy", "reverb"):
        folder = root / f"open_testset_track{track}_{condition}"
        write_test(folder, audio / folder.name, condition == "clean")
    write_lists(root, audio, 3)
    return root


def make_2026(root, track=1):
    """Write a release folder: float files, tables below ``kaldi`` with paths relative to the release."""
    audio, kaldi = root / "audio", root / "kaldi"
    write_speech(kaldi / "train", audio / "train", ["cv_1", "cv_2"], subtype="FLOAT", root=root)
    write_speech(kaldi / "train_validation", audio / "valid", ["cv_8"], subtype="FLOAT", first_seed=20, root=root)
    (kaldi / "train" / "spk2gender").unlink()
    for condition in ("clean", "noisy", "reverb"):
        folder = kaldi / f"open_testset_track{track}_{condition}"
        write_test(folder, audio / folder.name, False, "FLOAT")
    write_lists(kaldi, audio, 2)
    return root

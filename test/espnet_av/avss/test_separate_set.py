# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Separation of data folders: files, lips of different kinds, going on after a stop, bad mixtures."""

import json

import numpy as np
import pytest
import soundfile
import torch
from torch import nn

from espnet_av.avss.inference import Separator
from espnet_av.avss.lip_modes import LipTables, stretch
from espnet_av.avss.lips import LipDescription
from espnet_av.avss.separate_set import InferOptions, SetSeparator, write_voice
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

SECOND = 16000
LENGTHS = {"a_b": SECOND, "c_d": 5 * SECOND, "e_f": SECOND, "b_g": SECOND + 320}


class Extractor(nn.Module):
    """Answers with the mixture times the first lip feature, or times 9 without lips."""

    video_dim = 2

    def __init__(self):
        super().__init__()
        self.rows = 0

    def forward(self, mix, lips=None, mix_lengths=None, *, has_lips=None):
        self.rows += len(mix)
        gain = torch.full((len(mix),), 9.0) if lips is None else lips[:, :, 0].mean(1)
        return (mix * gain[:, None]).unsqueeze(1)


class Splitter(nn.Module):
    """Answers with twice and half the mixture."""

    def forward(self, mix):
        return torch.stack([2 * mix, 0.5 * mix], dim=1)


@pytest.fixture
def data(tmp_path):
    """A set whose mixture number i has lips of value i (s1) and i + 0.5 (s2)."""
    folder = DataDir(tmp_path / "dump" / "test")
    tables = {name: {} for name in ("mix.scp", "lips_s1.scp", "lips_s2.scp")}
    media = tmp_path / "media"
    media.mkdir()
    for number, (uid, length) in enumerate(LENGTHS.items()):
        wave = np.random.default_rng(number).uniform(-0.3, 0.3, length)
        soundfile.write(media / f"{uid}.wav", wave, SECOND, subtype="FLOAT")
        tables["mix.scp"][uid] = media / f"{uid}.wav"
        for speaker in (0, 1):
            path = media / f"{uid}_s{speaker + 1}.npy"
            np.save(path, np.full((-(-length // 640), 2), number + speaker / 2, np.float16))
            tables[f"lips_s{speaker + 1}.scp"][uid] = path
    for name, table in tables.items():
        folder.write(name, table)
    folder.write("utt2num_samples", LENGTHS)
    folder.write("utt2clips", {uid: uid.replace("_", " ") for uid in LENGTHS})
    return folder


def run(data, output, network=None, **options):
    options = InferOptions(**options)
    separator = Separator(network or Extractor(), windows=options.windows(), batch_size=options.batch_size)
    return SetSeparator(separator, options, "the command").separate(data.path, output)


def read(output, name, uid):
    return soundfile.read(output / name / f"{uid}.wav", dtype="float32")[0]


def gains(data, output):
    """Return what each voice is of its mixture."""
    found = {}
    for uid, path in data.read("mix.scp").items():
        mix = soundfile.read(path, dtype="float32")[0]
        found[uid] = [float(np.median(read(output, name, uid) / mix)) for name in ("s1", "s2")]
    return found


def test_voices_and_facts(data, tmp_path):
    facts = run(data, tmp_path / "out", batch_size=2)
    assert gains(data, tmp_path / "out") == {
        uid: pytest.approx([number, number + 0.5], rel=1e-4, abs=1e-6) for number, uid in enumerate(LENGTHS)
    }
    assert facts == json.loads((tmp_path / "out" / "infer.json").read_text())
    assert facts["num_utterances"] == 4
    assert facts["audio_sec"] == 8.02
    assert (facts["num_seams"], facts["lips_mode"], facts["command"]) == (1, "own", "the command")
    assert facts["rtf"] > 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "utterances.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == sorted(LENGTHS)
    assert {row["id"]: row["num_windows"] for row in rows} == {**dict.fromkeys(LENGTHS, 1), "c_d": 2}


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("swapped", {"a_b": [0.5, 0], "c_d": [1.5, 1], "e_f": [2.5, 2], "b_g": [3.5, 3]}),
        # the next one in order (a_b, b_g, c_d, e_f) that shares no clip
        ("other", {"a_b": [1, 1.5], "c_d": [2, 2.5], "e_f": [0, 0.5], "b_g": [1, 1.5]}),
        ("none", dict.fromkeys(LENGTHS, [9, 9])),
    ],
)
def test_wrong_lips(data, tmp_path, mode, expected):
    facts = run(data, tmp_path / "out", lips_mode=mode)
    assert facts["lips_mode"] == mode
    found = gains(data, tmp_path / "out")
    assert found == {uid: pytest.approx(pair, rel=1e-4, abs=1e-6) for uid, pair in expected.items()}


def test_networks_without_lips_need_none(data, tmp_path):
    for name in ("lips_s1.scp", "lips_s2.scp"):
        (data / name).unlink()
    facts = run(data, tmp_path / "out", Splitter())
    assert "lips_mode" not in facts
    assert set(map(tuple, np.round(list(gains(data, tmp_path / "out").values()), 3))) == {(2.0, 0.5)}
    with pytest.raises(MissingDataError, match="stage 4"):
        run(data, tmp_path / "av")


def test_a_stopped_run_goes_on(data, tmp_path):
    network, output = Extractor(), tmp_path / "out"
    run(data, output, network)
    first, before = network.rows, gains(data, output)
    (output / "s2" / "a_b.wav").unlink()
    rows = (output / "utterances.jsonl").read_text().splitlines()
    (output / "utterances.jsonl").write_text("\n".join(rows[:3]) + '\n{"id": "e_')  # killed while writing
    (output / "infer.json").unlink()
    facts = run(data, output, network)
    assert network.rows - first == 4  # a_b and e_f
    assert facts["num_utterances"] == 4
    assert gains(data, output) == before
    run(data, output, network)
    assert network.rows - first == 4
    run(data, output, network, window_sec=3.0)  # other options: all anew
    assert network.rows - first > 8
    count = network.rows
    np.save(tmp_path / "media" / "again.npy", np.ones((25, 2), np.float16))
    data.write("lips_s1.scp", {**data.read("lips_s1.scp"), "a_b": tmp_path / "media" / "again.npy"})
    run(data, output, network, window_sec=3.0)
    assert network.rows > count
    assert gains(data, output)["a_b"][0] == pytest.approx(1)


def test_only_some(data, tmp_path):
    separator = SetSeparator(Separator(Extractor()), InferOptions())
    separator.separate(data.path, tmp_path / "out", ["e_f", "a_b"])
    assert sorted(path.stem for path in (tmp_path / "out" / "s1").iterdir()) == ["a_b", "e_f"]
    with pytest.raises(DataError, match="x_y"):
        separator.separate(data.path, tmp_path / "out", ["x_y"])


def test_bad_mixtures_are_counted(data, tmp_path):
    np.save(tmp_path / "media" / "e_f_s1.npy", np.ones((10, 2), np.float16))  # too short for the sound
    with pytest.raises(DataError, match=r"1 of 4|25\.0 %"):
        run(data, tmp_path / "out", batch_size=8)
    assert not (tmp_path / "out" / "infer.json").exists()
    facts = run(data, tmp_path / "out", batch_size=8, max_bad_share=0.3)
    assert facts["num_utterances"] == 3
    bad = json.loads((tmp_path / "out" / "bad.json").read_text())
    assert "10 frames" in bad["reasons"]["unusable"]["utterances"]["e_f"]


def test_another_front_end_is_refused(data, tmp_path):
    separator = Separator(Extractor())
    separator.lips = LipDescription("mine", "1" * 64, 2)
    LipTables(data, separator)  # nothing known of the data: a warning
    data.write_meta({"lips": LipDescription("yours", "2" * 64, 2).to_dict()})
    with pytest.raises(DataError, match="yours"):
        LipTables(data, separator)
    separator.lips = LipDescription("mine", "2" * 64, 2)
    LipTables(data, separator)


def test_all_mixtures_of_the_same_clips(data):
    data.write("utt2clips", dict.fromkeys(LENGTHS, "a b"))
    with pytest.raises(DataError, match="share a clip"):
        LipTables(data, Separator(Extractor()), "other")


def test_lips_go_on_backwards_and_forwards():
    lips = np.arange(4)[:, None]
    assert stretch(lips, 9)[:, 0].tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert stretch(lips, 2)[:, 0].tolist() == [0, 1]
    assert stretch(lips[:1], 3)[:, 0].tolist() == [0, 0, 0]


def test_files_of_voices(tmp_path):
    voice = np.array([0.1, -1.5, 0.25], np.float32)
    for name in ("one.wav", "two.wav"):
        write_voice(tmp_path / name, voice)
    assert (soundfile.read(tmp_path / "one.wav", dtype="float32")[0] == voice).all()
    assert soundfile.info(tmp_path / "one.wav").samplerate == 16000
    assert (tmp_path / "one.wav").read_bytes() == (tmp_path / "two.wav").read_bytes()
    write_voice(tmp_path / "pcm.wav", voice, "pcm16")
    assert soundfile.read(tmp_path / "pcm.wav")[0] == pytest.approx([0.1, -1, 0.25], abs=1e-4)


@pytest.mark.parametrize(
    "options", [{"wav_format": "mp3"}, {"lips_mode": "mine"}, {"max_bad_share": 2.0}, {"batch_size": 0}]
)
def test_unknown_options(data, tmp_path, options):
    with pytest.raises(UsageError):
        run(data, tmp_path / "out", **options)

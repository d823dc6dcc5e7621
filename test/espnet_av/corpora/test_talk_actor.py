# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A generated actor: the layout is that of recorded ones, and the face does what the voice says."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from espnet_av.avgen.face.controls import CONTROLS, head_to_pose
from espnet_av.avgen.sample_scores import score_item
from espnet_av.avgen.score_files import find_basis, read_truths
from espnet_av.corpora import fifty_hours, talk_actor
from espnet_av.data.data_dir import read_scp, read_text
from espnet_av.utils.errors import MissingDataError, UsageError

pytest.importorskip("espeakng_loader")


def make(folder, seed=0):
    """Generate in a fresh process: samples depend on what a process spoke before."""
    code = (
        "from pathlib import Path; from espnet_av.corpora.talk_actor import generate; import sys;"
        f"generate(Path(sys.argv[1]), (3, 1, 1), {seed}, 4)"
    )
    subprocess.run([sys.executable, "-c", code, str(folder)], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def actor(tmp_path_factory):
    return make(tmp_path_factory.mktemp("talk") / "actor")


@pytest.fixture(scope="module")
def recordings(actor):
    return fifty_hours.find_segments(actor)


def test_streams_have_the_form_of_the_layout(actor, recordings):
    assert len(recordings) == 5
    assert set(read_truths(actor)) == {each.uid for each in recordings}
    for each in recordings:
        frames = len(np.load(each.face))
        sound = soundfile.info(each.wav)
        assert (sound.frames, sound.channels, sound.samplerate) == (1600 * frames, 2, 48000)
        shapes = [np.load(path).shape for path in (each.face, each.head, each.other_expression, each.other_head)]
        assert shapes == [(frames, 256), (frames, 3, 4), (frames, 55), (frames, 3)]
        assert each.text
    sizes = [sum(fifty_hours.in_subset(each.uid, name) for each in recordings) for name in ("train", "valid", "test")]
    assert sizes == [3, 2, 1]


def test_the_mouth_is_open_where_the_actor_speaks(actor, recordings):
    basis = find_basis(actor)
    for each in recordings:
        opening = basis.controls(np.load(each.face))[:, 0]
        wave = soundfile.read(each.wav)[0]
        loud = np.sqrt((wave.reshape(len(opening), 1600, 2) ** 2).mean(axis=1))
        own, other = np.corrcoef(opening, loud[:, 0])[0, 1], np.corrcoef(opening, loud[:, 1])[0, 1]
        assert own > 0.4
        assert other < 0.2


def test_who_listens_is_40_db_below_the_own_speech(actor, recordings):
    truths = read_truths(actor)
    for each in recordings:
        scores = score_item((truths[each.uid], None), basis=find_basis(actor), threshold=0.15)
        level, count = scores.ratios["listening_level_db"]
        assert count == 1
        assert level < -41


def test_brows_and_head_answer_the_partner_late(actor, recordings):
    basis = find_basis(actor)
    for each in recordings:
        facts = json.loads((actor / "phones" / f"{each.uid}.json").read_text())
        brow = basis.controls(np.load(each.face))[:, CONTROLS.index("brow")]
        for _, begin, end in facts["partner_words"]:
            answer = (begin + end) / 2 + talk_actor.REPLY_SEC
            assert brow[min(int(answer * 30), len(brow) - 1)] > 0.8
        assert facts["phones"][0][1] == 0
        assert abs(facts["phones"][-1][2] - len(brow) / 30) < 0.01
        assert np.abs(head_to_pose(np.load(each.head))).max() < 2


def test_the_same_seed_gives_the_same_files(actor, recordings, tmp_path):
    again = make(tmp_path / "again")
    for each in recordings:
        for path in (each.wav, each.face, each.head):
            relative = path.removeprefix(str(actor)).lstrip("/")
            assert (again / relative).read_bytes() == (actor / relative).read_bytes()
    for path in (actor / "sentences" / "wav").iterdir():
        assert (again / "sentences" / "wav" / path.name).read_bytes() == path.read_bytes()
    before = (again / talk_actor.RECORD).stat().st_mtime_ns
    assert talk_actor.generate(again, (3, 1, 1), 0, 4) is False
    assert (again / talk_actor.RECORD).stat().st_mtime_ns == before


def test_further_sentences_have_the_voice_and_other_words(actor, recordings, tmp_path):
    assert talk_actor.write_sentences(actor, tmp_path / "sentences", "free") == 4
    texts = read_text(tmp_path / "sentences" / "text")
    assert len(set(texts.values())) == 4
    assert not set(texts.values()) & {each.text for each in recordings}
    own = [silence_free_rms(soundfile.read(each.wav)[0][:, 0]) for each in recordings]
    for path in read_scp(tmp_path / "sentences" / "wav.scp").values():
        wave, rate = soundfile.read(path)
        assert (wave.ndim, rate) == (1, 16000)
        assert 0.7 * min(own) < silence_free_rms(wave) < 1.4 * max(own)
    (actor / "sentences" / "text").rename(tmp_path / "text")
    try:
        with pytest.raises(MissingDataError, match="num_sentences"):
            talk_actor.write_sentences(actor, tmp_path / "none")
    finally:
        (tmp_path / "text").rename(actor / "sentences" / "text")


def silence_free_rms(wave):
    return np.sqrt(np.mean(wave[np.abs(wave) > 0.05 * np.abs(wave).max()] ** 2))


def test_data_folders_and_windows(actor, recordings, tmp_path):
    from espnet_av.avgen.clock import token_frames
    from espnet_av.avgen.dataset import open_windows

    counts = fifty_hours.write_sets(actor, tmp_path)
    assert counts == {"train": 3, "valid": 1, "test": 1}
    assert not (tmp_path / "train" / "tokens.scp").exists()
    folder = actor / fifty_hours.TOKEN_DIRS[1]
    folder.mkdir()
    for each in recordings:
        frames = token_frames(soundfile.info(each.wav).frames // 3)
        np.save(folder / f"{each.uid}.npy", np.zeros((2, frames, 29), dtype=np.float32))
    fifty_hours.write_sets(actor, tmp_path)
    for source in (tmp_path / "train", actor):
        windows = open_windows(source, train=True, participant=True)
        _, item = windows[(1, windows.keys[0])]
        assert len(item["mel"]) == len(item["face"]) == windows.lengths[windows.keys[0]]
        assert item["other_expression"].shape[1] == 55


def test_wrong_sizes_are_refused(tmp_path):
    with pytest.raises(UsageError, match="huge"):
        talk_actor.main(["--output_dir", str(tmp_path), "--size", "huge"])
    with pytest.raises(UsageError, match="seed"):
        talk_actor.main(["--output_dir", str(tmp_path), "--seed", "-1"])
    with pytest.raises(UsageError, match="num_sentences"):
        talk_actor.main(["--output_dir", str(tmp_path), "--num_sentences", "-1"])

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The whole generator at toy size: the same corpus with one worker and with two, killed in between or not."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("espeakng_loader")

from espnet_av.avgen.face.identity import Identity
from espnet_av.avgen.face.renderer import FaceRenderer, MotionTracks
from espnet_av.corpora import mini_av, mixtures
from espnet_av.corpora.mini_av_speaker import frames_md5
from espnet_av.corpora.sentences import CorpusSize
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir, read_scp
from espnet_av.data.video_io import probe, read_video
from espnet_av.utils.errors import EnvironmentProblem, EspnetAVError, UsageError

SIZE = CorpusSize(2, 1, train=2, valid=1, test=1, test_unseen=1, silent=1)
SCRIPT = (
    "import sys; from pathlib import Path; from espnet_av.corpora import mini_av; "
    "from espnet_av.corpora.sentences import CorpusSize; "
    "mini_av.signal.signal(mini_av.signal.SIGTERM, lambda *_: sys.exit(143)); "
    f"mini_av.generate(Path('data'), Path('data/corpus'), {SIZE!r}, 0, int(sys.argv[1]))"
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """One corpus made by one worker, with relative paths, as a recipe does; tests run inside its folder."""
    root = tmp_path_factory.mktemp("recipe")
    before = Path.cwd()
    os.chdir(root)
    assert mini_av.generate(Path("data"), Path("data/corpus"), SIZE, 0, 1)
    yield root
    os.chdir(before)


def _digests(root):
    record = json.loads((root / "data/corpus/mini_av.json").read_text())
    return {utt: (facts["pcm_md5"], facts["frames_md5"]) for utt, facts in record["utterances"].items()}


def _start(root, nj, repo_root):
    env = {**os.environ, "PYTHONPATH": str(repo_root)}
    return subprocess.Popen([sys.executable, "-c", SCRIPT, str(nj)], cwd=root, env=env, stderr=subprocess.DEVNULL)


def _wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def test_killed_and_resumed_with_two_workers_gives_the_same_corpus(corpus, tmp_path, repo_root):
    first = _start(tmp_path, 2, repo_root)
    media = tmp_path / "data/corpus"
    _wait_for(lambda: list(media.glob("s*/speaker.json")))
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = {path: path.stat().st_mtime_ns for path in media.glob("s*/speaker.json")}
    assert 0 < len(done) < 3 and not (media / "mini_av.json").exists()
    _wait_for(lambda: not list(media.glob(".s*.partial")))  # orphaned workers end by themselves
    second = _start(tmp_path, 2, repo_root)
    assert second.wait() == 0
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in done.items())
    assert _digests(tmp_path) == _digests(corpus)
    for clip in ("s01/s01-train-001.mp4", "s03/s03-test_unseen-001.mp4"):
        mine, other = (read_video(root / "data/corpus" / clip).frames for root in (tmp_path, corpus))
        assert np.array_equal(mine, other)
    assert not [path for path in media.iterdir() if path.name.startswith(".")]


def test_sigterm_ends_the_workers(tmp_path, repo_root):
    process = _start(tmp_path, 1, repo_root)
    media = tmp_path / "data/corpus"
    _wait_for(lambda: list(media.glob(".s*.partial/*.mp4")))
    process.terminate()
    assert process.wait(timeout=20) == 143
    assert not list(media.glob(".s*"))


def test_second_run_does_nothing(corpus):
    stamp = (corpus / "data/corpus/mini_av.json").stat().st_mtime_ns
    assert not mini_av.generate(Path("data"), Path("data/corpus"), SIZE, 0, 1)
    assert (corpus / "data/corpus/mini_av.json").stat().st_mtime_ns == stamp


def test_a_deleted_data_dir_comes_back_and_clips_are_kept(corpus):
    clip = corpus / "data/corpus/s01/s01-train-001.mp4"
    stamp, listed = clip.stat().st_mtime_ns, (corpus / "data/train/wav.scp").read_text()
    shutil.rmtree(corpus / "data/train")
    assert mini_av.generate(Path("data"), Path("data/corpus"), SIZE, 0, 1)
    assert (corpus / "data/train/wav.scp").read_text() == listed and clip.stat().st_mtime_ns == stamp


def test_missing_synthesiser_and_failing_speaker_are_reported(tmp_path, monkeypatch):
    arguments = (tmp_path / "data", tmp_path / "corpus", SIZE, 0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(mini_av.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(EnvironmentProblem, match=r"espnet_av\[tts\]"):
            mini_av.generate(*arguments)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / ".s01.partial").write_text("a file where a folder should be")
    with pytest.raises(EspnetAVError, match="speaker s01 failed"):
        mini_av.generate(*arguments)


def test_data_dirs_hold_what_they_promise(corpus):
    counts = {"train": 4, "valid": 2, "test_seen": 2, "test_unseen": 1, "silent": 3}
    for name, count in counts.items():
        data = DataDir(Path("data") / name)
        assert len(data.keys) == count and data.keys == sorted(data.keys)
        assert [(s.file, s.name, s.type) for s in data.streams] == [
            ("wav.scp", "speech", "sound"), ("video.scp", "video", "video"), ("text", "text", "text"),
        ]  # fmt: skip
        assert data.meta["sample_rate"] == 16000 and data.meta["fps"] == 25
        waves, clips, samples, frames = (
            data.read("wav.scp"),
            data.read("video.scp"),
            data.num_samples(),
            data.num_frames(),
        )
        for utt in data.keys:
            info, (wave, rate) = probe(clips[utt]), read_audio(waves[utt])
            assert rate == 16000 and len(wave) == samples[utt] == 640 * frames[utt] == 640 * info.num_frames
            assert (info.fps, info.width, info.height, info.has_audio) == (25.0, 224, 224, True)
            assert 2.0 <= len(wave) / rate <= 4.0
            quiet = np.sqrt(np.mean(wave[:3200] ** 2))
            assert quiet < 2e-3  # at least 0.2 s of silence in front
        assert set(data.read("text").values()) == {"<unk>"} or name != "silent"


def test_controls_beside_the_media(corpus):
    folder = Path("data/corpus/s01")
    record = json.loads((folder / "s01-train-001.json").read_text())
    assert " ".join(word for word, _, _ in record["words"]) == record["text"]
    starts = [start for _, start, _ in record["phones"]]
    assert starts == sorted(starts) and record["phones"][-1][2] == pytest.approx(record["num_frames"] / 25)
    tracks = MotionTracks(**np.load(folder / "s01-train-001.npz"))
    assert tracks.articulation.shape == (record["num_frames"], 7) and tracks.pose.shape == (record["num_frames"], 6)
    face = json.loads((folder / "speaker.json").read_text())["face"]
    frames = FaceRenderer(Identity(**face)).render(tracks, record["render_seed"])
    assert frames_md5(frames) == record["frames_md5"]  # the motion is all that is needed to film the clip again
    wave, _ = read_audio(folder / "s01-train-001.flac")
    pcm = np.rint(wave * 32768).astype(np.int16)
    assert hashlib.md5(pcm.tobytes()).hexdigest() == record["pcm_md5"]


def test_interferer_sets_share_video_and_text_and_have_their_snr(corpus):
    clean = DataDir(Path("data/test_seen"))
    for snr in mixtures.TEST_SNRS_DB:
        for number in (1, 2):
            name = mixtures.set_name("test_seen", snr, number)
            data = DataDir(Path("data") / name)
            assert data.read("video.scp") == clean.read("video.scp") and data.read("text") == clean.read("text")
            lines = (Path("data/corpus/interferers") / name / "mixtures.jsonl").read_text().splitlines()
            for record in map(json.loads, lines):
                mixture, _ = read_audio(data.read("wav.scp")[record["utt_id"]])
                target = read_audio(clean.read("wav.scp")[record["utt_id"]])[0] * record["scale"]
                realised = 10 * np.log10(np.sum(target**2) / np.sum((mixture - target) ** 2))
                assert realised == pytest.approx(snr, abs=0.1)
                assert len({utt[:3] for utt in (record["utt_id"], *record["interferers"])}) == number + 1


def test_noise_rooms_and_lists(corpus):
    assert len(read_scp("data/noise.scp")) == 6 and len(read_scp("data/rirs.scp")) >= 8
    for path in (*read_scp("data/noise.scp").values(), *read_scp("data/rirs.scp").values()):
        assert np.abs(read_audio(path)[0]).max() > 0.1
    assert set(read_scp("data/interferers.scp")) == set(DataDir(Path("data/train")).keys)
    for line in Path("data/mixtures/train.list").read_text().splitlines():
        first, second, snr = line.split()
        assert first[:3] != second[:3] and -5 <= float(snr) <= 5


def test_options(tmp_path):
    assert mini_av.corpus_size("default", None).num_train_speakers == 12
    size = mini_av.corpus_size("30", 7)
    assert (size.train, size.num_train_speakers, size.num_unseen_speakers) == (30, 6, 1)
    for wrong in (("huge", None), ("0", None), ("tiny", 2)):
        with pytest.raises(UsageError):
            mini_av.corpus_size(*wrong)
    with pytest.raises(UsageError, match="--nj"):
        mini_av.main(["--output_dir", str(tmp_path), "--nj", "0"])

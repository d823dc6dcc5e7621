# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generation of whole test sets: files that scoring reads, resume, bad recordings, partners, options."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
import yaml
from avgen_score_sets import make_data

from espnet_av.avgen import generate_set
from espnet_av.avgen.choices import build_model
from espnet_av.avgen.clock import mel_frames, motion_frames
from espnet_av.avgen.inference import AVGenerator
from espnet_av.avgen.sampler import SolverRules
from espnet_av.avgen.score_files import find_samples, load_sample
from espnet_av.avgen.text_to_tokens import TextToTokens
from espnet_av.bin import avgen_infer
from espnet_av.data.data_dir import DataDir, write_scp
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import MissingDataError, UsageError

FRAMES = mel_frames(96000, 48000)  # of two seconds, as the recordings last
CONF = {
    "face_dim": 12,
    "transformer_conf": {"d_model": 32, "hidden_dim": 32, "num_heads": 2, "window_per_layer": [[4, 2], [3, 1]]},
}


def save_model(folder, **conf):
    torch.manual_seed(0)
    network = build_model("avflow", {**CONF, **conf})
    for name, parameter in network.named_parameters():
        if not name.startswith("head_vae."):
            torch.nn.init.normal_(parameter, std=0.1)
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "avflow", "model_conf": {**CONF, **conf}}))
    torch.save({f"avgen.{name}": value for name, value in network.state_dict().items()}, folder / "valid.loss.best.pth")
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = save_model(tmp_path_factory.mktemp("infer") / "exp")
    (folder / "text_to_tokens").mkdir()
    config = {"model": "text_to_tokens", "model_conf": {"preset": "tiny"}}
    (folder / "text_to_tokens" / "config.yaml").write_text(yaml.safe_dump(config))
    torch.save(TextToTokens(preset="tiny").state_dict(), folder / "text_to_tokens" / "model.best.pth")
    return folder


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "test"
    make_data(folder, count=3)
    rng = np.random.default_rng(0)
    tables = {name: {} for name in ("tokens", "other_expression", "other_head")}
    for number in range(3):
        shapes = {"tokens": (2, 99, 29), "other_expression": (60, 55), "other_head": (60, 3)}
        for name, shape in shapes.items():
            path = tables[name][f"u{number}"] = folder / f"u{number}.{name}.npy"
            np.save(path, rng.standard_normal(shape).astype(np.float32))
    for name, table in tables.items():
        write_scp(folder / f"{name}.scp", table)
    return folder


def run(model, data, out, *options):
    start = ["--model", model, "--data_dir", data, "--output_dir", out, "--device", "cpu", "--vocoder", "none"]
    avgen_infer.main([str(word) for word in (*start, "--nfe", 2, *options)])
    return json.loads((out / "infer.json").read_text())


def test_samples_are_those_of_the_generator_and_found_by_scoring(model, data, tmp_path):
    out = tmp_path / "decode" / "joint_steps2" / "test"
    facts = run(model, data, out, "--num_samples", 2, "--seed", 5, "--vocoder", "griffinlim", "--batch_size", 3)
    found = find_samples(tmp_path / "decode")[0]
    assert (found.system, found.set_name) == ("joint_steps2", "test")
    assert {uid: len(paths) for uid, paths in found.samples().items()} == {"u0": 2, "u1": 2, "u2": 2}
    assert (facts["steps"], facts["nfe"], facts["num_utterances"], facts["input"]) == (2, 2, 3, "audio")
    assert facts["audio_sec"] == pytest.approx(6 * FRAMES * 256 / 22050, abs=0.01)
    assert facts["rtf"] > 0 and facts["vocoder_rtf"] > 0 and facts["checkpoint"] == "valid.loss.best.pth"
    generator = AVGenerator.from_pretrained(model, vocoder="none")
    from espnet_av.avgen.clock import resample_linear

    tokens = resample_linear(np.load(data / "u1.tokens.npy")[0], FRAMES)
    wanted = generator(tokens=tokens, tokens_rate="mel", num_samples=2, seed=5, solver=SolverRules(2))
    for number in range(2):
        sample = load_sample(out / "u1" / str(number))
        np.testing.assert_allclose(sample.face, wanted[number].face, atol=1e-5)
        assert len(sample.wav) == 256 * FRAMES and len(sample.face) == motion_frames(FRAMES)


def test_a_stopped_run_goes_on_and_another_model_begins_anew(model, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    real, calls = generate_set.SetGenerator._run, []

    def stop_at_the_second(self, told, fps):
        calls.append(told[0].uid)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(self, told, fps)

    monkeypatch.setattr(generate_set.SetGenerator, "_run", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        run(model, data, out)
    assert not (out / "infer.json").exists() and (out / "u0" / "0" / "motion.npz").is_file()
    old = (out / "u0" / "0" / "motion.npz").stat().st_mtime_ns
    calls += ["stopped"]
    assert run(model, data, out)["num_utterances"] == 3
    assert calls == ["u0", "u1", "stopped", "u1", "u2"]
    assert (out / "u0" / "0" / "motion.npz").stat().st_mtime_ns == old
    assert run(model, data, out)["num_utterances"] == 3 and len(calls) == 5
    before = load_sample(out / "u0" / "0").face
    run(model, data, out, "--seed", 1)
    assert len(calls) == 8 and np.abs(load_sample(out / "u0" / "0").face - before).max() > 1e-3


def test_bad_recordings_are_counted_and_named(model, data, tmp_path):
    np.save(data / "u1.tokens.npy", np.zeros((2, 30, 29), np.float32))  # as if at 15 frames a second
    out = tmp_path / "out"
    with pytest.raises(TooManyDropped, match=r"u1: .*tokens of another rate.*30 frames for 2\.00 s"):
        run(model, data, out)
    assert run(model, data, out, "--max_bad_share", 0.5)["num_bad"] == 1
    assert "u1" in json.loads((out / "bad.json").read_text())["reasons"]["unusable"]["utterances"]
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == ["u0", "u2"]


def test_text_is_spoken_and_what_cannot_be_is_named(model, data, tmp_path):
    facts = run(model, data, tmp_path / "out", "--task", "text", "--max_utts", 2, "--system", "text")
    assert (facts["num_utterances"], facts["input"], facts["system"]) == (2, "text", "text")
    assert len(load_sample(tmp_path / "out" / "u0" / "0").mel) > 5
    write_scp(data / "text", {"u0": "ROOM 7", "u1": "HELLO", "u2": "BYE"})
    with pytest.raises(TooManyDropped, match="cannot be spoken.*'7'"):
        run(model, data, tmp_path / "out", "--task", "text")


def test_steps_chunks_and_files_of_options(model, data, tmp_path):
    config = tmp_path / "infer.yaml"
    config.write_text("nfe: 4\nsolver: heun\nrenderer: plots\nmax_utts: 1\nchunk_frames: 120\nchunk_history: 14\n")
    start = ["--model", model, "--data_dir", data, "--output_dir", tmp_path / "out", "--device", "cpu"]
    options = ["--infer_config", config, "--vocoder", "none", "--chunk_future", 24]
    avgen_infer.main([str(word) for word in (*start, *options)])
    facts = json.loads((tmp_path / "out" / "infer.json").read_text())
    assert (facts["steps"], facts["nfe"], facts["solver"]) == (4, 8, "heun") and facts["first_chunk_sec"] > 0
    assert (tmp_path / "out" / "u0" / "0" / "video.mp4").is_file()
    whole = run(model, data, tmp_path / "whole", "--nfe", 4, "--solver", "heun", "--max_utts", 1)
    assert "first_chunk_sec" not in whole
    faces = [load_sample(tmp_path / name / "u0" / "0").face for name in ("out", "whole")]
    np.testing.assert_allclose(*faces, atol=2e-4)
    config.write_text("solvr: heun\n")
    with pytest.raises(UsageError, match="write solver"):
        avgen_infer.main([str(word) for word in (*start, "--infer_config", config)])


def test_the_partner_counts(data, tmp_path):
    model = save_model(tmp_path / "exp", participant_cond=True)
    faces = {}
    for kind in ("own", "none", "other"):
        run(model, data, tmp_path / kind, "--partner", kind)
        faces[kind] = load_sample(tmp_path / kind / "u0" / "0").face
    assert np.abs(faces["own"] - faces["none"]).max() > 1e-3
    assert np.abs(faces["own"] - faces["other"]).max() > 1e-3
    (data / "other_head.scp").unlink()
    with pytest.raises(TooManyDropped, match="has no partner.*other_head.*--partner none"):
        run(model, data, tmp_path / "again")


def test_a_partner_who_ends_early_is_refused_or_told(data, tmp_path, caplog):
    model = save_model(tmp_path / "exp", participant_cond=True)
    tokens = np.random.default_rng(0).standard_normal((2, 149, 29)).astype(np.float32)
    np.save(data / "u1.tokens.npy", tokens)
    soundfile.write(tmp_path / "long.wav", np.zeros((3 * 16000, 2)), 16000)
    write_scp(data / "wav.scp", {**DataDir(data).read("wav.scp"), "u1": tmp_path / "long.wav"})
    for name, width in (("expression", 55), ("head", 3)):
        np.save(data / f"u1.other_{name}.npy", np.zeros((90, width), np.float32))
    assert run(model, data, tmp_path / "other", "--partner", "other")["num_utterances"] == 3
    assert "'u2': the partner ends after 2.00 s and keeps still for the rest, 1.00 s" in caplog.text
    np.save(data / "u0.other_head.npy", np.zeros((15, 3), np.float32))
    with pytest.raises(TooManyDropped, match=r"u0: .*shorter than the actor.*other_head\.npy.*0\.50 s.*2\.00 s or"):
        run(model, data, tmp_path / "own")
    assert run(model, data, tmp_path / "own", "--max_bad_share", 0.5)["num_bad"] == 1
    assert run(model, data, tmp_path / "short", "--max_seconds", 0.5)["num_bad"] == 0


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        (("--partner", "other"), UsageError, "knows no partner"),
        (("--nfe", 0), UsageError, "steps"),
        (("--chunk_frames", 10), UsageError, "no room"),
        (("--max_seconds", "nan"), UsageError, "max_seconds is out of range"),
        (("--token_model", "absent"), MissingDataError, "absent"),
        (("--renderer", "codec"), Exception, "no photo-real decoder"),
    ],
)
def test_what_cannot_be_done_is_said(model, data, tmp_path, options, kind, hint):
    with pytest.raises(kind, match=hint):
        run(model, data, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_set_without_tokens_or_sound_is_refused(model, data, tmp_path):
    (data / "tokens.scp").unlink()
    with pytest.raises(MissingDataError, match=r"no tokens\.scp"):
        run(model, data, tmp_path / "out", "--task", "tokens")
    with pytest.raises(TooManyDropped, match="token model"):
        run(model, data, tmp_path / "out")


def times(out):
    return {path.parents[1].name: path.stat().st_mtime_ns for path in out.glob("*/0/motion.npz")}


def test_files_that_change_in_place_are_noticed(model, data, tmp_path):
    out = tmp_path / "out"
    model = shutil.copytree(model, tmp_path / "model")
    run(model, data, out)
    before = times(out)
    np.save(data / "u1.tokens.npy", np.ones((2, 99, 29), np.float32))
    run(model, data, out)
    changed = times(out)
    assert {uid for uid in before if changed[uid] != before[uid]} == {"u1"}
    weights = model / "text_to_tokens" / "model.best.pth"
    torch.manual_seed(1)
    torch.save(TextToTokens(preset="tiny").state_dict(), weights)
    assert "text_to_tokens_sha256" in run(model, data, out)
    anew = times(out)
    assert all(anew[uid] != changed[uid] for uid in before)
    weights.rename(model / "text_to_tokens" / "other.best.pth")  # the same weights
    run(model, data, out)
    assert times(out) == anew

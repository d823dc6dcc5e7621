# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``espnet-av generate``: a video, sound or a folder out of text, sound or tokens."""

import json
import shutil

import numpy as np
import pytest
import soundfile
import torch
import yaml

from espnet_av.avgen.choices import build_model
from espnet_av.avgen.ctc_tokens import CTCTokens
from espnet_av.avgen.hifigan import HiFiGAN
from espnet_av.avgen.inference import AVGenerator
from espnet_av.avgen.score_files import load_sample
from espnet_av.avgen.tokens import TokenExtractor
from espnet_av.bin import avgen_generate, avgen_pack, avgen_text_to_tokens, avgen_tokens
from espnet_av.bin.cli import main
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

CONF = {
    "face_dim": 12,
    "transformer_conf": {"d_model": 32, "hidden_dim": 32, "num_heads": 2, "window_per_layer": [[4, 2], [3, 1]]},
}
HIFIGAN = {
    "upsample_rates": [16, 16],
    "upsample_kernel_sizes": [32, 32],
    "upsample_initial_channel": 16,
    "resblock": "2",
    "resblock_kernel_sizes": [3],
    "resblock_dilation_sizes": [[1, 3]],
}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    torch.manual_seed(0)
    network = build_model("avflow", CONF)
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "avflow", "model_conf": CONF}))
    torch.save({f"avgen.{name}": value for name, value in network.state_dict().items()}, folder / "valid.loss.best.pth")
    text = {"model": "text_to_tokens", "model_conf": {"preset": "tiny"}}
    from espnet_av.avgen.text_to_tokens import TextToTokens

    (folder / "text_to_tokens").mkdir()
    (folder / "text_to_tokens" / "config.yaml").write_text(yaml.safe_dump(text))
    torch.save(TextToTokens(preset="tiny").state_dict(), folder / "text_to_tokens" / "model.best.pth")
    np.save(folder / "tokens.npy", np.random.default_rng(0).standard_normal((1, 25, 29)).astype(np.float32))
    return folder


def run(model, out, *options):
    start = ["generate", "--model", str(model), "--out", str(out), "--device", "cpu", "--nfe", "2"]
    return main([*start, *map(str, options)])


def test_text_becomes_a_video(model, tmp_path, capsys):
    run(model, tmp_path / "hello.mp4", "--text", "HELLO", "--vocoder", "griffinlim")
    assert capsys.readouterr().out == f"{tmp_path}/hello.mp4\n"
    assert [path.name for path in tmp_path.iterdir()] == ["hello.mp4"]
    import av

    with av.open(str(tmp_path / "hello.mp4")) as clip:
        lengths = {
            kind: float(stream[0].duration * stream[0].time_base)
            for kind, stream in (("video", clip.streams.video), ("audio", clip.streams.audio))
        }
    assert abs(lengths["video"] - lengths["audio"]) < 0.05


def test_samples_in_a_folder_are_those_of_the_seed(model, tmp_path):
    tokens = model / "tokens.npy"
    options = ("--tokens", tokens, "--vocoder", "none", "--renderer", "none", "--num_samples", 2, "--seed", 5)
    run(model, tmp_path / "out", *options)
    found = [load_sample(tmp_path / "out" / str(number)) for number in range(2)]
    from espnet_av.avgen.sampler import SolverRules

    generator = AVGenerator.from_pretrained(model, vocoder="none")
    wanted = generator(tokens=tokens, num_samples=2, seed=5, solver=SolverRules(2))
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(one.face, other.face)
        assert one.wav is None


def test_several_sounds_get_numbers(model, tmp_path):
    options = ("--tokens", model / "tokens.npy", "--tokens_rate", "mel", "--num_samples", 2, "--max_seconds", 0.2)
    run(model, tmp_path / "a.wav", *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "a_1.wav"]
    assert soundfile.info(tmp_path / "a.wav").frames == 256 * 17


def test_tokens_of_a_text_last_as_long_as_the_text(model, tmp_path):
    common = ("--vocoder", "none", "--renderer", "none")
    run(model, tmp_path / "text", "--text", "HELLO", *common)
    for number, rates in enumerate(((), ("--rate", "mel"))):
        written = ["-i", "HELLO", "-c", model / "text_to_tokens", "-o", tmp_path / f"{number}.npy", *rates]
        avgen_text_to_tokens.main([*map(str, written), "--device", "cpu"])
        read = ("--tokens_rate", "mel") if rates else ()
        run(model, tmp_path / str(number), "--tokens", tmp_path / f"{number}.npy", *read, *common)
    lengths = [len(load_sample(tmp_path / name / "0").mel) for name in ("text", "0", "1")]
    assert lengths[2] == lengths[0] and abs(lengths[1] - lengths[0]) <= 2


def test_a_grid_is_one_video(model, tmp_path):
    options = ("--tokens", model / "tokens.npy", "--num_samples", 2, "--grid", "--vocoder", "none")
    run(model, tmp_path / "grid.mp4", *options)
    import av

    with av.open(str(tmp_path / "grid.mp4")) as clip:
        assert clip.streams.video[0].width == 1280 and not clip.streams.audio
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        ((), UsageError, "nothing to say"),
        (("--text", "A", "--renderer", "none"), UsageError, "needs pictures"),
        (("--text", "A", "--renderer", "sketch"), UsageError, "face_basis"),
        (("--text", "A", "--face_basis", "absent.npz"), MissingDataError, "face basis"),
        (("--audio", "absent.wav"), MissingDataError, "absent.wav"),
        (("--tokens", "absent.npy"), MissingDataError, "absent.npy"),
        (("--text", "A", "--nfe", "0"), UsageError, "steps"),
        (("--text", "A", "--fps", "0"), UsageError, "fps above 0"),
        (("--text", "A", "--max_seconds", "nan"), UsageError, "max_seconds"),
        (("--text", "A", "--temperature", "nan"), UsageError, "temperature"),
        (("--text", "A", "--vocoder", "absent"), MissingDataError, "vocoder"),
        (("--text", "A", "--weights", "text_to_tokens/model.best.pth"), CheckpointError, "text_to_tokens"),
        (("--text", "A", "--partner_audio", "a.wav"), UsageError, "no partner"),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_is_written(model, tmp_path, options, kind, hint):
    with pytest.raises(kind, match=hint):
        run(model, tmp_path / "x.mp4", *options)
    assert not list(tmp_path.iterdir())


def test_what_has_no_effect_is_told_by_name(model, tmp_path, caplog):
    tokens = ("--tokens", model / "tokens.npy", "--max_seconds", 0.2)
    vain = ("--speed", 2, "--token_model", model / "text_to_tokens", "--pad_partner", "--grid_sound", 1)
    pictures = ("--renderer", "none", "--mesh", "a.obj", "--codec", "a:b", "--head_vae", "vae.pt")
    run(model, tmp_path / "a.wav", *tokens, *vain, *pictures)
    told = {
        record.getMessage().split(" is ignored")[0] for record in caplog.records if "ignored" in record.getMessage()
    }
    names = {str(word) for word in (*vain, *pictures) if str(word).startswith("--")}
    assert told == names - {"--head_vae"} | {"head_vae"}
    caplog.clear()
    run(model, tmp_path / "b.wav", *tokens)
    assert not [record for record in caplog.records if "ignored" in record.getMessage()]


@pytest.mark.parametrize(
    ("name", "options", "hint"),
    [
        ("x.wav", ("--grid",), "a grid is a video"),
        ("x", ("--grid", "--renderer", "none"), "a grid is a video"),
        ("x", ("--partner_audio", "a.wav", "--partner_tokens", "a.npy"), "given twice"),
        ("x", ("--cfg", "-3", "--vocoder", "none"), "cfg is out of range; got -3"),
    ],
)
def test_options_that_exclude_each_other(model, tmp_path, name, options, hint):
    with pytest.raises(UsageError, match=hint):
        run(model, tmp_path / name, "--tokens", model / "tokens.npy", *options)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def experiment(model, tmp_path_factory):
    """The same generator as an experiment with its parts in other places, and a basis of its codes."""
    place = tmp_path_factory.mktemp("experiment")
    folder = place / "exp"
    folder.mkdir()
    config = {
        "model": "avflow",
        "model_conf": CONF,
        "head_vae": None,
        "best_model_criterion": [["valid", "loss", "min"]],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    shutil.copy(model / "valid.loss.best.pth", folder)
    rows = np.linalg.qr(np.random.default_rng(0).standard_normal((12, 3)))[0].T
    np.savez(place / "face_basis.npz", Q=rows.astype(np.float32), names=np.array(["opening", "width", "blink"]))
    vocoder = {"model": "hifigan", "model_conf": HIFIGAN, "mel_conf": {"num_mels": 80}}
    (place / "vocoder").mkdir()
    (place / "vocoder" / "config.yaml").write_text(yaml.safe_dump(vocoder))
    weights = HiFiGAN(**HIFIGAN, weight_norm=False).state_dict()
    torch.save(
        {f"vocoder.generator.{name}": value for name, value in weights.items()}, place / "vocoder" / "v.best.pth"
    )
    return place


def test_a_pack_speaks_text_anywhere(model, experiment, tmp_path, capsys):
    """Vocoder, model of texts and meaning of the codes go along."""
    parts = ("--vocoder", experiment / "vocoder", "--text_to_tokens", model / "text_to_tokens")
    basis = ("--face_basis", experiment / "face_basis.npz")
    made = ("--exp_dir", experiment / "exp", "--output_dir", tmp_path / "pack", "--dump_dir", tmp_path)
    licence = ("--licence", "not redistributable")
    avgen_pack.main([str(word) for word in (*made, *parts, *basis, *licence)])
    shutil.move(tmp_path / "pack", tmp_path / "elsewhere")
    capsys.readouterr()
    run(tmp_path / "elsewhere", tmp_path / "x.mp4", "--text", "HELLO THERE", "--renderer", "mesh")
    assert capsys.readouterr().out == f"{tmp_path}/x.mp4\n"
    import av

    with av.open(str(tmp_path / "x.mp4")) as clip:
        assert clip.streams.video[0].width == 288 and clip.streams.audio
    generator = AVGenerator.from_pretrained(tmp_path / "elsewhere")
    assert type(generator.vocoder.network).__name__ == "HiFiGAN"


@pytest.fixture(scope="module")
def token_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recogniser") / "tokens"
    folder.mkdir()
    conf = {"num_mels": 16, "dim": 12, "kernel": 5, "dilations": [1, 2]}
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "ctc_tokens", "model_conf": conf}))
    torch.manual_seed(0)
    torch.save(CTCTokens(**conf).state_dict(), folder / "valid.loss.best.pth")
    return folder


@pytest.mark.parametrize("packs_model", [True, False])
def test_a_pack_puts_silence_in_as_its_training_did(experiment, token_model, tmp_path, caplog, packs_model):
    (tmp_path / "dump").mkdir()
    silence, vector = tmp_path / "dump" / "silence.npy", np.linspace(-1, 1, 29).astype(np.float32)
    np.save(silence, vector)
    (tmp_path / "dump" / "tokens.json").write_text(json.dumps({"model": "own", "vad": "energy"}))
    made = ("--exp_dir", experiment / "exp", "--dump_dir", tmp_path, "--licence", "not redistributable")
    parts = ("--silence", silence, *(("--token_model", token_model) if packs_model else ()))
    avgen_pack.main([str(word) for word in (*made, *parts, "--output_dir", tmp_path / "pack")])
    wave = 0.1 * np.random.default_rng(0).standard_normal((1, 16000)).astype(np.float32)
    wave[:, 6000:] = 0
    more = {"vocoder": "none", "tokens": None if packs_model else token_model}
    plain = TokenExtractor.from_pretrained(token_model).extract(wave)
    gated = TokenExtractor.from_pretrained(token_model, vad="energy", silence=silence).extract(wave)
    assert (gated == vector).all(-1).mean() > 0.5
    if packs_model:
        (tmp_path / "sounds").mkdir()
        soundfile.write(tmp_path / "sounds" / "a.wav", wave.T, 16000, subtype="FLOAT")
        avgen_tokens.main(["-i", str(tmp_path / "sounds"), "--model", str(tmp_path / "pack" / "tokens")])
        assert "packed with expects --vad energy" in caplog.text
    loaded = AVGenerator.from_pretrained(tmp_path / "pack", **more)
    np.testing.assert_array_equal(loaded.extractor.extract(wave), gated)
    assert loaded.describe()["vad"] == "energy"
    copied = loaded.save_pretrained(tmp_path / "copy")
    options = {"vocoder": "none", "tokens": token_model, "vad": "energy", "silence": silence}
    other = AVGenerator.from_pretrained(experiment / "exp", **options)
    for pack in (copied, other.save_pretrained(tmp_path / "saved", licence="not redistributable")):
        found = AVGenerator.from_pretrained(pack, **more).extractor
        np.testing.assert_array_equal(found.extract(wave), gated)
    against = AVGenerator.from_pretrained(tmp_path / "pack", vad="none", **more)
    np.testing.assert_array_equal(against.extractor.extract(wave), plain)
    meta = json.loads((tmp_path / "pack" / "meta.json").read_text())
    (tmp_path / "pack" / "meta.json").write_text(json.dumps({**meta, "vad": {**meta["vad"], "drop_db": 3.0}}))
    assert AVGenerator.from_pretrained(tmp_path / "pack", **more).extractor.vad_rules["drop_db"] == 3
    (tmp_path / "pack" / "meta.json").write_text(json.dumps({**meta, "vad": "loud"}))
    with pytest.raises(DataError, match=r"meta\.json has no usable vad.*loud"):
        AVGenerator.from_pretrained(tmp_path / "pack", **more)
    (tmp_path / "pack" / "meta.json").write_text(json.dumps({key: meta[key] for key in meta if key != "vad"}))
    older = AVGenerator.from_pretrained(tmp_path / "pack", **more)
    np.testing.assert_array_equal(older.extractor.extract(wave), plain)


@pytest.mark.parametrize(
    ("mel_conf", "hint"),
    [
        ({"num_mels": 80, "fmax": 11025.0}, "fmax.*11025"),
        ({"num_mels": 80, "sample_rate": 24000}, "sample_rate.*24000"),
    ],
)
def test_a_vocoder_of_another_mel_is_refused(model, experiment, tmp_path, mel_conf, hint):
    vocoder = shutil.copytree(experiment / "vocoder", tmp_path / "vocoder")
    config = {"model": "hifigan", "model_conf": HIFIGAN, "mel_conf": mel_conf}
    (vocoder / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(CheckpointError, match=hint):
        run(model, tmp_path / "x.mp4", "--text", "HELLO", "--vocoder", vocoder)
    assert not (tmp_path / "x.mp4").exists()


@pytest.mark.parametrize(
    ("options", "kind", "hint"),
    [
        (("--text", ""), UsageError, "nothing to say.*word at least"),
        (("--text", " ... "), UsageError, "nothing to say.*word at least"),
        (("--text", "ROOM 101"), UsageError, "cannot be spoken.*'01'.*letters A-Z.*spell out"),
        (("--text", "CAFÉ Ω"), UsageError, "cannot be spoken.*Ω"),
        (("--tokens", "wide.npy"), DataError, "wide.npy has another form.*32.*29 values.*again"),
        (("--tokens", "turned.npy"), DataError, "turned.npy has another form.*29 values"),
        (("--tokens", "many.npy"), DataError, "many.npy: too many channels.*3.*1 or 2"),
    ],
)
def test_bad_input_is_named_with_what_would_be_right(model, tmp_path, monkeypatch, options, kind, hint):
    monkeypatch.chdir(tmp_path)
    for name, shape in (("wide", (1, 40, 32)), ("turned", (29, 40)), ("many", (3, 40, 29))):
        np.save(f"{name}.npy", np.zeros(shape, np.float32))
    with pytest.raises(kind, match=hint):
        run(model, "x.mp4", *options)
    assert not (tmp_path / "x.mp4").exists()


def test_a_kind_of_file_that_is_not_written_is_refused(model, tmp_path):
    with pytest.raises(UsageError, match=r"t\.avi.*NAME\.mp4, NAME\.wav, a folder"):
        run(model, tmp_path / "t.avi", "--text", "HELLO")
    assert not list(tmp_path.iterdir())
    (tmp_path / "take.one").mkdir()
    for name in ("take.one", "cfg_0.5"):
        run(model, tmp_path / name, "--text", "HELLO", "--renderer", "none")
        assert (tmp_path / name / "0" / "motion.npz").is_file()


def test_help_needs_no_torch():
    assert "--partner_audio" in avgen_generate.get_parser().format_help()

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file

import espnet_av
from espnet_av.avsr.convert import to_published
from espnet_av.avsr.inference import AVSR, find_weights, load_audio, load_mouth_video
from espnet_av.avsr.tokenizer import CharTokenizer, SentencePieceTokenizer
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError

TOKENIZER = CharTokenizer(list("ABCDEF"))


@pytest.fixture
def packed(make_model, tmp_path) -> Path:
    """A packed model."""
    folder = tmp_path / "pack"
    folder.mkdir()
    model = make_model(vocab_size=TOKENIZER.vocab_size)
    config = {
        "token_list": TOKENIZER.tokens,
        "token_type": "char",
        "bpemodel": None,
        "model_conf": {
            "encoder_conf": {**make_model.encoder, "resnet_planes": list(make_model.encoder["resnet_planes"])},
            "decoder_conf": make_model.decoder,
        },
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    save_file(to_published(model.state_dict()), folder / "model.safetensors")
    return folder


@pytest.fixture
def clip() -> tuple[np.ndarray, np.ndarray]:
    """Sound and mouth crops of 10 frames."""
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(6400)).astype(np.float32), rng.integers(0, 256, (10, 96, 96), dtype=np.uint8)


def test_from_pack_to_text(packed, clip):
    recogniser = espnet_av.AVSR.from_pretrained(packed)
    result = recogniser(*clip)
    assert result.text == result.texts[0] == str(result)
    assert result.score == max(result.scores)
    assert set(result.text) <= set("ABCDEF")
    assert recogniser(*clip, beam_size=1).nbest[0].ids != []


@pytest.mark.parametrize("modality", ["av", "audio", "video"])
def test_a_batch_gives_what_single_clips_give(packed, clip, modality):
    recogniser = AVSR.from_pretrained(packed, beam_size=2)
    audio, video = clip
    clips = [(audio, video), (audio[: 640 * 4], video[:4]), (audio[640:], video[1:])]
    audios, videos = zip(*clips, strict=True)
    together = recogniser.decode_batch(
        audios if modality != "video" else None, videos if modality != "audio" else None, modality
    )
    for (one_audio, one_video), batched in zip(clips, together, strict=True):
        alone = recogniser(
            one_audio if modality != "video" else None, one_video if modality != "audio" else None, modality
        )
        possible = sum(score > -1e8 for score in alone.scores)  # others are ties among what CTC cannot realise
        assert possible
        assert alone.texts[:possible] == batched.texts[:possible]
        assert alone.scores[:possible] == pytest.approx(batched.scores[:possible], abs=1e-3)


def test_kinds_of_input_agree(packed, clip, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    recogniser = AVSR.from_pretrained(packed)
    audio, video = clip
    expected = recogniser(audio, video)
    soundfile.write(tmp_path / "clip.wav", audio, 16000, subtype="FLOAT")
    np.save(tmp_path / "mouth.npy", video)
    rgb = np.repeat(video[..., None], 3, axis=3)
    for pair in (
        (tmp_path / "clip.wav", str(tmp_path / "mouth.npy")),
        (torch.from_numpy(audio), torch.from_numpy(video)),
        (audio.astype(np.float64), rgb),
    ):
        assert recogniser(*pair).scores == pytest.approx(expected.scores, abs=1e-4)
    integers = np.round(audio * 32768).astype(np.int16)
    assert recogniser(integers, video).score == pytest.approx(expected.score, abs=0.05)


def test_wrong_input_is_refused(packed, clip, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    recogniser = AVSR.from_pretrained(packed)
    audio, video = clip
    soundfile.write(tmp_path / "clip.wav", audio, 8000)
    cases = [
        (lambda: recogniser(tmp_path / "clip.wav", video), DataError, "8000.*16000"),
        (lambda: recogniser(audio, video, sample_rate=44100), DataError, "44100.*16000"),
        (lambda: recogniser(audio, video, fps=30), DataError, "30.*25"),
        (lambda: recogniser(audio[None], video), DataError, "one channel"),
        (lambda: recogniser(audio[:0], video), DataError, "with samples"),
        (lambda: recogniser(audio * np.nan, video), DataError, "not finite"),
        (lambda: recogniser(audio.astype(np.int32), video), DataError, "int32"),
        (lambda: recogniser(audio, video[:, :80]), DataError, "too small"),
        (lambda: recogniser(audio, video / 255), DataError, "uint8"),
        (lambda: recogniser(audio, video[0]), DataError, "uint8"),
        (lambda: recogniser(tmp_path / "none.wav", video), MissingDataError, "none.wav"),
        (lambda: recogniser(audio, tmp_path / "none.npy"), DataError, "none.npy"),
        (lambda: recogniser(audio), UsageError, "video stream is missing"),
        (lambda: recogniser(None, video), UsageError, "audio stream is missing"),
        (lambda: recogniser(audio, video, "lips"), UsageError, "av, audio, video"),
        (lambda: recogniser.decode_batch([audio, audio], [video]), UsageError, "unequal"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_wrong_folders_are_refused(packed, tmp_path):
    with pytest.raises(MissingDataError, match="no model here"):
        AVSR.from_pretrained(tmp_path)
    config = yaml.safe_load((packed / "config.yaml").read_text())
    config["model_conf"]["encoder_conf"]["num_layers"] = 3
    (packed / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(
        CheckpointError, match=rf"{packed}/model\.\w+ is of another model than {packed}/config.yaml: .*missing"
    ):
        AVSR.from_pretrained(packed)
    (packed / "config.yaml").write_text("- 1")
    with pytest.raises(DataError, match="no configuration"):
        AVSR.from_pretrained(packed)


def test_tokenizer_must_fit(make_model):
    with pytest.raises(UsageError, match="differ in size"):
        AVSR(make_model(vocab_size=5), TOKENIZER)


def test_pieces_are_found_beside_the_configuration(packed, make_model, clip):
    tokenizer = SentencePieceTokenizer.train(["A CAB ADDED", "A BAD BEAD"], packed / "bpe.model", vocab_size=12)
    model = make_model(vocab_size=tokenizer.vocab_size)
    config = yaml.safe_load((packed / "config.yaml").read_text())
    config |= {"token_list": tokenizer.tokens, "token_type": "bpe", "bpemodel": "elsewhere/bpe.model"}
    (packed / "config.yaml").write_text(yaml.safe_dump(config))
    save_file(to_published(model.state_dict()), packed / "model.safetensors")
    assert AVSR.from_pretrained(packed)(*clip).texts


def test_order_of_weights(tmp_path):
    with pytest.raises(MissingDataError, match="no weights"):
        find_weights(tmp_path)
    criteria = [["valid", "wer_ctc", "min"]]
    for name in ("valid.acc.best.pth", "valid.wer_ctc.best.pth", "valid.acc.ave.pth", "valid.wer_ctc.ave.pth"):
        (tmp_path / name).touch()
    assert find_weights(tmp_path, criteria=criteria).name == "valid.wer_ctc.ave.pth"
    assert find_weights(tmp_path, "valid.acc.best.pth").name == "valid.acc.best.pth"
    (tmp_path / "valid.wer_ctc.ave.pth").unlink()
    (tmp_path / "valid.acc.ave.pth").unlink()
    assert find_weights(tmp_path, criteria=criteria).name == "valid.wer_ctc.best.pth"
    (tmp_path / "model.safetensors").touch()
    assert find_weights(tmp_path).name == "model.safetensors"
    with pytest.raises(MissingDataError, match=r"5epoch\.pth"):
        find_weights(tmp_path, "5epoch.pth")


def test_loaders_keep_what_fits(clip):
    audio, video = clip
    np.testing.assert_array_equal(load_audio(audio), audio)
    np.testing.assert_array_equal(load_mouth_video(video), video)

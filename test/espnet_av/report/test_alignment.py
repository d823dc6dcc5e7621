# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where a recogniser looks: attention is that of the decoder, times are those of the frames, pictures are drawn."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from espnet_av.avsr.convert import to_published
from espnet_av.avsr.decoder import TransformerDecoder
from espnet_av.avsr.inference import AVSR
from espnet_av.report import alignment as module
from espnet_av.report.alignment import Span, align_experiment, cross_attention, greedy_runs, read_word_times
from espnet_av.report.alignment_figure import alignment_picture, label_levels
from espnet_av.report.page import ReportOptions, build_report
from espnet_av.report.sections import build_network
from espnet_av.utils.errors import DataError, MissingDataError


@pytest.fixture
def trained(experiment, monkeypatch):
    """The experiment with weights; mouth crops of any size will do for its network."""
    torch.manual_seed(0)
    experiment.write_config(model_conf={**experiment.config()["model_conf"], "video_size": 32})
    save_file(to_published(build_network(experiment.config()).state_dict()), experiment.exp_dir / "model.safetensors")
    monkeypatch.setattr("espnet_av.avsr.inference.CROP_SIZE", 32)
    return experiment


@pytest.fixture
def found(trained):
    return align_experiment(trained.exp_dir, trained.dump_dir)


def test_attention_is_that_of_the_decoder(monkeypatch):
    torch.manual_seed(0)
    decoder = TransformerDecoder(11, dim=16, num_layers=2, num_heads=2, ffn_dim=16).eval()
    memory, ids = torch.randn(1, 9, 16), [10, 3, 4]
    weights = torch.from_numpy(cross_attention(decoder, memory, ids))
    assert weights.shape == (2, 2, 3, 9)
    assert torch.allclose(weights.sum(dim=-1), torch.ones(2, 2, 3))
    used = []

    def attend(query, keys, values, attn_mask=None, dropout_p=0.0):
        out = real(query, keys, values, attn_mask=attn_mask, dropout_p=dropout_p)
        if keys.shape[2] == 9:
            used.append((out, values))
        return out

    real = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", attend)
    decoder(memory, None, torch.tensor([ids]), torch.tensor([3]))
    for layer, (out, values) in enumerate(used):
        assert torch.allclose(weights[layer] @ values[0], out[0], atol=1e-6)
    assert len(used) == 2
    assert not any(layer.src_attn._forward_pre_hooks for layer in decoder.decoders)


def test_sharpest_layer_is_the_one_with_peaks():
    flat, sharp = np.full((2, 3, 8), 1 / 8), np.zeros((2, 3, 8))
    sharp[:, :, 5] = 1
    number, weights = module.sharpest_layer(np.stack([flat, sharp, flat]))
    assert number == 2 and weights.shape == (3, 8) and weights[0, 5] == 1


def test_greedy_runs_split_at_blanks_and_changes():
    assert greedy_runs(np.array([4, 4, 0, 4, 2, 2]), 0) == [(4, 0, 2), (4, 3, 4), (2, 4, 6)]
    assert greedy_runs(np.zeros(3, int), 0) == greedy_runs(np.zeros(0, int), 0) == []


def test_alignment_is_that_of_the_decoding(trained, found):
    recogniser = AVSR.from_pretrained(trained.exp_dir)
    assert found.hypothesis == recogniser(found.clip.wave, found.clip.frames).text
    assert (found.uid, found.set_name, found.modality, found.frame_sec) == ("s1-b", "test", "av", 1 / 25)
    assert found.tokens[-1] == "end" and found.attention.shape == (len(found.tokens), 10)
    assert np.allclose(found.attention.sum(axis=1), 1, atol=1e-5)
    total = found.blank + sum(found.posteriors.values(), np.zeros(10))
    assert found.blank.shape == (10,) and (total <= 1 + 1e-5).all()
    assert set(found.tokens[:-1]) <= set(found.posteriors)
    assert {run.text for run in found.greedy} <= set(found.posteriors)
    assert all(0 <= run.start_sec < run.end_sec <= 0.4 + 1e-9 for run in found.greedy)


def test_search_options_and_weights_are_those_of_the_results(trained, monkeypatch):
    path = trained.exp_dir / "decode" / "av" / "test" / "infer.json"
    path.write_text('{"beam_size": 2, "ctc_weight": 0.4, "checkpoint": "other.safetensors"}')
    (trained.exp_dir / "model.safetensors").rename(trained.exp_dir / "other.safetensors")
    seen = {}
    real = AVSR.from_pretrained.__func__
    monkeypatch.setattr(AVSR, "from_pretrained", classmethod(lambda cls, *a, **k: seen.update(k) or real(cls, *a, **k)))
    align_experiment(trained.exp_dir, trained.dump_dir)
    assert seen == {"weights": "other.safetensors", "beam_size": 2, "ctc_weight": 0.4}


def test_set_and_utterance_can_be_chosen(trained):
    noisy = "test_snr_n5_interferer_1"
    found = align_experiment(trained.exp_dir, trained.dump_dir, set_name=noisy, uid="s1-a")
    assert (found.set_name, found.uid, found.reference) == (noisy, "s1-a", "BIN BLUE AT A ONE")
    with pytest.raises(MissingDataError, match=r"not scored; got 'nowhere'; allowed: test, "):
        align_experiment(trained.exp_dir, trained.dump_dir, set_name="nowhere")
    with pytest.raises(MissingDataError, match="not scored; got 'nobody'"):
        align_experiment(trained.exp_dir, trained.dump_dir, uid="nobody")


def test_a_missing_stream_is_named(trained):
    (trained.dump_dir / "media" / "s1-b.flac").unlink()
    with pytest.raises(DataError, match=r"lacks a stream; got \['speech'\]"):
        align_experiment(trained.exp_dir, trained.dump_dir)


def test_word_times_come_from_the_ctm(tmp_path):
    path = tmp_path / "words.ctm"
    path.write_text("a 1 0.5 0.25 BIN\nb 1 0 1 NO\na 1 0.75 0.5 BLUE 0.9\n")
    assert read_word_times(path, "a") == (Span("BIN", 0.5, 0.75), Span("BLUE", 0.75, 1.25))
    assert read_word_times(path, "c") == read_word_times(tmp_path / "absent", "a") == ()
    path.write_text("a 1 soon 0.25 BIN\n")
    assert read_word_times(path, "a") == ()


@pytest.mark.parametrize("modality", ["av", "audio", "video"])
def test_picture_has_the_panels_of_its_modality(found, modality):
    image = _open(alignment_picture(replace(found, modality=modality)))
    panels = {"av": 4, "audio": 3, "video": 3}[modality]
    assert image.width == 1260 and image.height > 120 * panels
    assert image.height < _open(alignment_picture(found)).height or modality == "av"


def test_picture_of_a_silent_face_and_of_many_tokens(found):
    empty = replace(found, hypothesis="", tokens=("end",), attention=found.attention[:1], greedy=(), posteriors={})
    assert _open(alignment_picture(empty)).width == 1260
    many = replace(found, tokens=("x",) * 90, attention=np.resize(found.attention, (90, 10)), hypothesis="x " * 300)
    assert _open(alignment_picture(many)).height < 1500


def test_labels_stand_clear_of_each_other():
    runs = [Span("BIN", 0.9, 1.0), Span("GREEN", 0.95, 1.05), Span("RED", 1.0, 1.05), Span("BLUE", 1.0, 1.1)]
    assert label_levels(runs, 3.0) == [0, 1, 2, 2]
    assert label_levels([Span("A", 0, 0.1), Span("B", 2, 2.1)], 3.0) == [0, 0]


def test_page_shows_the_picture(trained, tmp_path):
    options = ReportOptions(num_worst=0, num_noisy=0, images_dir=tmp_path)
    text = build_report(trained.exp_dir, trained.dump_dir, options)
    assert "decoder attention over time for one utterance" in text and "whose weights have the highest peaks" in text
    assert (tmp_path / "alignment.png").read_bytes() == alignment_picture(
        align_experiment(trained.exp_dir, trained.dump_dir)
    )
    (trained.exp_dir / "model.safetensors").write_bytes(b"broken")
    assert "No picture: " in build_report(trained.exp_dir, trained.dump_dir, options)


def _open(content):
    from PIL import Image

    return Image.open(io.BytesIO(content))

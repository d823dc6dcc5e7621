# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Page, figures, pack and card of a codec experiment."""

import re

import pytest
from codec_decoded import make_decoded

from espnet_av.report import codec_plots, codec_results
from espnet_av.report.page import ReportOptions, build_report
from espnet_av.report.results import read_results


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    found = make_decoded(tmp_path_factory.mktemp("codec"))
    found.score()
    return found


@pytest.fixture(scope="module")
def page(made):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("espnet_av.report.sections.default_settings", lambda names: {"seed": 0, "max_epoch": 40})
        options = ReportOptions(images_dir=made.root / "images", num_typical=1, num_worst=1)
        return build_report(made.exp_dir, made.dump_dir, options)


def test_page_has_all_parts(page, made):
    assert "Quality over bit rate" in page and "Use of the codebooks" in page
    assert page.count("<audio") == 2 * 4  # two recordings: input, 1 and 6 kbit/s, Opus
    assert page.count('alt="spectrograms of') == 2
    for title in ("input", "1 kbit/s", "6 kbit/s", "Opus 6 kbit/s"):
        assert f'<div class="name">{title}<br>' in page or f'<div class="name">{title}</div>' in page, title
    assert "696" in page and "30" in page  # MFLOPS and ms of track 1
    assert "441,826" in page
    assert "no recogniser; fix: --asr MODEL" in page
    assert "mouth" not in page.lower()
    assert "CC-BY-4.0" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]*"', page)
    names = {path.name for path in (made.root / "images").iterdir()}
    assert names == {"quality_over_bit_rate.svg", "codebooks.svg", "spectrograms.png"}


def test_page_without_results(made, tmp_path):
    (tmp_path / "config.yaml").write_text("model: lrac\nmodel_conf: {preset: track2}\ndiscriminator_conf: {}\n")
    page = build_report(tmp_path, made.dump_dir, ReportOptions())
    assert "stage 7 (score) has not run" in page
    assert "1,604,962" in page and "2594" in page


def test_curves(made):
    rows = read_results(made.exp_dir)["rows"]
    assert codec_plots.rate_curves(rows, ("si_sdr", "stft_distance")).startswith(b"<?xml")
    assert codec_plots.rate_curves(rows, ("pesq_wb",)) is None
    assert codec_plots.rate_curves([], ("si_sdr",)) is None
    assert codec_plots.usage_bars([row for row in rows if row["system"] == "input"]) is None


def test_panels_name_the_bit_rates():
    history = [{"valid": {"mel_loss_12kbps": 1, "mel_loss_1kbps": 2, "mel_loss_6kbps": 3}}]
    panel = next(names for title, _, names in codec_plots.training_panels(history) if title == "Mel loss")
    assert panel == ("mel_loss", "mel_loss_1kbps", "mel_loss_6kbps", "mel_loss_12kbps")


def test_tables():
    rows = [
        {"set": "test", "system": "Opus", "bitrate_kbps": 6.0, "measured_kbps": 6.01, "pesq_wb": 1.654, "wer": 0.25},
        {"set": "test", "system": "codec", "bitrate_kbps": 6.0, "pesq_wb": 2.5, "ci": {"pesq_wb": [2.25, 2.75]}},
        {"set": "test", "system": "codec", "bitrate_kbps": 1.0, "pesq_wb": None, "mcd": 3.21, "metrics": ["mcd"]},
        {"set": "test", "system": "input", "bitrate_kbps": None, "pesq_wb": 4.64},
    ]
    header, body = codec_results.main_table(rows, interval=True)
    assert header == ["set", "system", "kbit/s", "recordings", "PESQ wb", "WER (%)", "mcd"]
    assert [line[1:3] + line[4:] for line in body] == [
        ["input, not coded", "–", "4.64", "–", "–"],
        ["this codec", "1.0", "–", "–", "3.21"],
        ["this codec", "6.0", "2.50 [2.25, 2.75]", "–", "–"],
        ["Opus", "6.0", "1.65", "25.0", "–"],
    ]


def test_differences_have_a_sign():
    part = {"mean": 0.5, "ci_low": -0.1, "ci_high": 1.0}
    first, second = {"system": "codec", "bitrate_kbps": 6.0}, {"system": "start", "bitrate_kbps": 6.0}
    item = {"set": "test", "first": first, "second": second, "differences": {"pesq_wb": part}}
    _, body = codec_results.comparison_table({"comparisons": [item]})
    assert body == [["test", "this codec 6 kbit/s minus start 6 kbit/s", "+0.50 [-0.10, +1.00]"]]


def test_particulars():
    row = {"set": "test", "system": "input", "n_undefined": {"snr": 3, "stoi": 1}, "n_silent": 2}
    (line,) = codec_results.particulars([row])
    assert "2 references are silent" in line and "STOI is not defined for 1" in line and "SNR" not in line


def test_pack(made, tmp_path):
    import torch

    from espnet_av.codec.inference import Codec
    from espnet_av.report.packing import pack_experiment, verify_pack
    from espnet_av.report.sections import build_network

    torch.manual_seed(0)
    network = build_network({"model": "lrac", "model_conf": {"preset": "track1"}, "discriminator_conf": {}})
    state = {f"codec.generator.{name}": value for name, value in network.state_dict().items()}
    torch.save(state, made.exp_dir / "valid.mel_loss.best.pth")
    folder = pack_experiment(made.exp_dir, tmp_path / "pack", made.dump_dir)
    meta = verify_pack(folder)
    assert meta["task"] == "codec" and meta["class"] == "espnet_av.codec.inference:Codec"
    card = (folder / "README.md").read_text()
    assert "codec.encode(wave, bitrate_kbps=6)" in card and "| test | this codec" in card
    assert "695.58 MFLOPS" in card
    codec = Codec.from_pretrained(folder)
    wave = 0.1 * torch.randn(1, 1, 2400)
    with torch.no_grad():
        expected = network.eval().encoder(wave)
        assert torch.allclose(codec.generator.encoder(wave), expected, atol=1e-6)

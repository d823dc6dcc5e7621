# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a separator costs: counts that can be worked out by hand, and that measuring measures."""

import pytest
import torch
from torch import nn

from espnet_av.avss.complexity import (
    CostReport,
    cost_report,
    count_cost,
    file_size,
    make_inputs,
    report_rows,
    run_measurement,
)
from espnet_av.avss.convtasnet import ConvTasNet
from espnet_av.avss.sru import SRU
from espnet_av.utils.errors import UsageError

SMALL = {"filters": 16, "kernel": 16, "bottleneck": 8, "hidden": 12, "layers": 2, "stacks": 1}


class Recurrent(nn.Module):
    """One recurrent network behind a mixture."""

    def __init__(self, rnn):
        super().__init__()
        self.rnn = rnn

    def forward(self, x):
        return self.rnn(x)[0]


def test_products_of_convolutions():
    network = ConvTasNet(**SMALL)
    num_samples = 1600
    frames = network.num_frames(num_samples)
    block = 8 * 12 + 12 * 3 + 2 * 12 * 8
    per_frame = 16 * 16 + 16 * 8 + 2 * block + 8 * 32 + 2 * 16 * 16  # encoder, bottleneck, blocks, masks, two voices
    total, recurrence = count_cost(network, torch.zeros(1, num_samples))
    assert total * 1e9 == pytest.approx(frames * per_frame, rel=0.01)
    assert recurrence == 0


def test_recurrences_count():
    steps, sequences, size, hidden, layers = 10, 3, 20, 4, 2
    total, cells = count_cost(Recurrent(SRU(size, hidden, layers)), torch.zeros(steps, sequences, size))
    products = steps * sequences * (size * 8 * 4 + 8 * 8 * 3)  # the first layer projects its input, the second does not
    assert cells * 1e9 == pytest.approx(steps * sequences * 8 * layers * 6)
    assert (total - cells) * 1e9 == pytest.approx(products)


@pytest.mark.parametrize("kind, gates", [(nn.LSTM, 4), (nn.GRU, 3), (nn.RNN, 1)])
def test_recurrences_of_torch_count(kind, gates):
    rnn = kind(20, 4, num_layers=2, bidirectional=True)
    total, cells = count_cost(Recurrent(rnn), torch.zeros(10, 3, 20))
    assert (total - cells) * 1e9 == pytest.approx(10 * 3 * 2 * gates * 4 * ((20 + 4) + (8 + 4)))


def test_inputs_fit_the_network():
    assert [value.shape for value in make_inputs(ConvTasNet(**SMALL), 0.5)] == [(1, 8000)]
    from espnet_av.avss.rtfsnet import RTFSNet

    with torch.device("meta"):
        network = RTFSNet(video_dim=256)
    assert [value.shape for value in make_inputs(network, 0.52, batch_size=2)] == [(2, 8320), (2, 13, 256)]


def test_file_size(tmp_path):
    from safetensors.torch import save_file

    network = ConvTasNet(**SMALL)
    save_file(dict(network.state_dict()), tmp_path / "w.safetensors")
    assert file_size(network) == (tmp_path / "w.safetensors").stat().st_size


@pytest.mark.parametrize("step", ["inference", "training"])
def test_measuring(step):
    settings = {"model": "convtasnet", "conf": SMALL, "device": "cpu", "num_threads": 1, "runs": 1, "step": step}
    measured = run_measurement(input_sec=200.0, **settings)
    assert measured.seconds > 0
    activations = 200 * 16000 / 8 * 16 * 4 / 2**20  # one of many tensors of the size of the representation
    assert measured.peak_mb > activations


def test_report():
    report = cost_report("convtasnet", SMALL, input_sec=0.5, runs=0)
    assert (report.inference, report.training, report.rtf) == (None, None, None)
    network = ConvTasNet(**SMALL)
    assert report.num_parameters == sum(report.parts.values()) == sum(p.numel() for p in network.parameters())
    text = "\n".join(f"{name}: {value}" for name, value in report_rows(report))
    assert f"{report.num_parameters:,}" in text and "filters 16" in text and "inference" not in text
    assert set(report.to_dict()) >= {"gmacs", "file_mb", "rtf", "recurrence_gmacs", "parts"}
    assert isinstance(report, CostReport)


def test_a_process_of_its_own():
    report = cost_report("convtasnet", SMALL, input_sec=0.5, runs=1, train=False)
    assert report.inference.seconds > 0 and report.training is None
    assert report.rtf == pytest.approx(report.inference.seconds / 0.5)
    assert "real-time factor" in dict(report_rows(report))["inference"]


def test_bad_input():
    with pytest.raises(UsageError, match="length"):
        cost_report("convtasnet", SMALL, input_sec=0)
    with pytest.raises(UsageError, match="convtasnett"):
        cost_report("convtasnett", {}, runs=0)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
import torch

from espnet_av.avsr.features import LogFbankStack, mel_filterbank, padded_num_samples
from espnet_av.utils.errors import UsageError


def reference_logfbank(wave: np.ndarray) -> np.ndarray:
    """The definition, frame by frame."""
    emphasised = np.append(wave[:1], wave[1:] - 0.97 * wave[:-1])
    count = 1 if len(wave) <= 400 else 1 + int(np.ceil((len(wave) - 400) / 160))
    emphasised = np.pad(emphasised, (0, (count - 1) * 160 + 400 - len(wave)))
    rows = []
    for index in range(count):
        power = np.abs(np.fft.rfft(emphasised[160 * index : 160 * index + 400], 512)) ** 2 / 512
        energy = mel_filterbank() @ power
        rows.append(np.log(np.where(energy == 0, np.finfo(float).eps, energy)))
    return np.array(rows)


@pytest.mark.parametrize("num_samples", [1, 399, 400, 401, 560, 561, 6400, 7003])
def test_logfbank_follows_the_definition(num_samples):
    wave = np.random.default_rng(num_samples).uniform(-1, 1, num_samples)
    wave[: num_samples // 3] = 0
    frames, counts = LogFbankStack().logfbank(torch.from_numpy(wave)[None], torch.tensor([num_samples]))
    expected = reference_logfbank(wave)
    assert int(counts) == len(expected)
    np.testing.assert_allclose(frames[0].numpy(), expected, atol=1e-4)


def test_filters_are_triangles_of_height_one_or_less():
    bank = mel_filterbank()
    assert bank.shape == (26, 257)
    assert (bank.max(axis=1) == 1).all()
    assert (bank[:, 1:].sum(axis=1) > 0).all()


@pytest.mark.parametrize("num_frames", [1, 2, 25])
def test_one_row_per_video_frame_and_an_empty_last_quarter(num_frames):
    features = LogFbankStack()
    wave = torch.rand(1, 640 * num_frames) - 0.5
    rows, counts = features(wave)
    assert rows.shape == (1, features.output_size, num_frames)
    assert int(counts) == num_frames
    stacked, _ = features.stack_frames(*features.logfbank(wave, torch.tensor([640 * num_frames])))
    assert (stacked[0, -1, -26:] == 0).all()
    assert rows[0].mean(dim=0).abs().max() < 1e-5


def test_padding_of_a_batch_changes_nothing():
    features = LogFbankStack()
    lengths = [640 * 5, 1234, 399, 640 * 9]
    batch = torch.rand(4, max(lengths)) - 0.5  # noise beyond the lengths
    rows, counts = features(batch, torch.tensor(lengths))
    for index, length in enumerate(lengths):
        alone, count = features(batch[index : index + 1, :length])
        assert int(count) == int(counts[index])
        assert torch.equal(rows[index, :, :count], alone[0])
        assert (rows[index, :, count:] == 0).all()


def test_scale_of_the_waveform_matters_only_where_rows_are_padded():
    features = LogFbankStack()
    wave = torch.rand(1, 6400) - 0.5
    quiet, loud = features(wave)[0], features(32768 * wave)[0]
    torch.testing.assert_close(quiet[:, :, :-1], loud[:, :, :-1], atol=1e-4, rtol=0)
    assert (quiet[:, :, -1] - loud[:, :, -1]).abs().max() > 0.1


def test_no_state_and_padding_rule():
    assert not LogFbankStack().state_dict()
    assert padded_num_samples(640) == 1280
    assert padded_num_samples(641) == 1280


@pytest.mark.parametrize("shape", [(100,), (1, 0), (1, 2, 100)])
def test_wrong_shapes_are_refused(shape):
    with pytest.raises(UsageError, match="batch of mono"):
        LogFbankStack()(torch.zeros(shape))

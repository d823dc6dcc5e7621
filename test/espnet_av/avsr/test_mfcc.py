# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Cepstra against python_speech_features 0.6 (values computed with the package once, 16 kHz, defaults)."""

import numpy as np
import pytest
import torch

from espnet_av.avsr.mfcc import MFCC, cepstral_matrix
from espnet_av.utils.errors import UsageError

# fmt: off
ROWS = {
    0: [17.5878, 40.114, -26.7884, -23.5298, -1.4708, 20.0418, 5.0764, -9.6375, -9.0225, 1.5681, 0.1644, -8.8363,
        -13.8519],
    3: [18.0537, -4.2741, -18.3328, 10.6032, 34.1819, -6.1864, -18.5881, 15.7624, 16.5707, -14.9392, -12.2531, 6.069,
        -0.3618],
    4: [-36.0437] + [0.0] * 12,
    7: [20.6482, -25.3554, 24.6778, 20.3214, -21.1003, 53.2124, -31.7294, 26.8579, -5.7597, -10.636, 3.7359, -15.6695,
        -7.3457],
}
SHORT = [14.6307, 26.1502, 17.3862, 11.4383, 5.7813, 1.0698, -1.5158, -3.9291, -4.8105, -5.8544, -5.4657, -5.1706,
         -4.674]
# fmt: on


def signal() -> torch.Tensor:
    """Two tones at int16 scale with digital silence inside, (1500,)."""
    n = np.arange(1500)
    wave = np.round(3000 * np.sin(0.05 * n) + 2000 * np.sin(0.0007 * n * n))
    wave[600:1100] = 0
    return torch.from_numpy(wave)


def test_values_of_the_package():
    rows, counts = MFCC()(signal()[None])
    assert rows.shape == (1, 8, 13)
    assert rows.dtype == torch.float32
    assert counts.tolist() == [8]
    for index, expected in ROWS.items():
        torch.testing.assert_close(rows[0, index], torch.tensor(expected), atol=2e-4, rtol=0)


def test_a_clip_shorter_than_a_frame():
    rows, counts = MFCC()(signal()[None, :100])
    assert counts.tolist() == [1]
    torch.testing.assert_close(rows[0, 0], torch.tensor(SHORT), atol=2e-4, rtol=0)


def test_items_of_a_batch_are_independent():
    wave, lengths = torch.stack([signal(), signal().flip(0)]), torch.tensor([1500, 700])
    rows, counts = MFCC()(wave, lengths)
    for index, length in enumerate(lengths.tolist()):
        alone, count = MFCC()(wave[index : index + 1, :length])
        assert count.item() == counts[index]
        torch.testing.assert_close(rows[index, : count.item()], alone[0], atol=1e-5, rtol=0)
        assert not rows[index, count.item() :].any()


def test_the_scale_moves_only_the_energy():
    loud, soft = MFCC()(signal()[None])[0], MFCC()(signal()[None] / 32768)[0]
    talk = [0, 1, 2, 7]
    torch.testing.assert_close(loud[0, talk, 1:], soft[0, talk, 1:], atol=1e-3, rtol=0)
    torch.testing.assert_close(loud[0, talk, 0] - soft[0, talk, 0], torch.full((4,), 2 * np.log(32768.0)).float())


def test_the_cosine_transform():
    plain = cepstral_matrix(26, 26, 0)
    np.testing.assert_allclose(plain @ plain.T, np.eye(26), atol=1e-12)
    np.testing.assert_allclose(cepstral_matrix()[11] / plain[11], 12.0, atol=1e-9)


def test_wrong_input():
    with pytest.raises(UsageError, match="batch of mono"):
        MFCC()(signal())
    with pytest.raises(UsageError, match="coefficients"):
        MFCC(27)

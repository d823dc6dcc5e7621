# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Triangular filters of a mel scale."""

from espnet_av.layers.mel_filters import mel_filters


def test_filters_have_unit_area_and_rise_with_the_frequency():
    rate, n_fft, bands = 24000, 1024, 40
    filters = mel_filters(rate, n_fft, bands)
    assert filters.shape == (n_fft // 2 + 1, bands)
    areas = filters.sum(0) * rate / n_fft
    assert areas[10:].sub(1).abs().max() < 0.1
    assert filters.argmax(0).diff().min() > 0


def test_filters_stay_within_their_limits():
    rate, n_fft = 24000, 1024
    heard = mel_filters(rate, n_fft, 40, fmin=1000.0, fmax=4000.0).sum(1).nonzero() * rate / n_fft
    assert 1000 < heard.min() < heard.max() < 4000

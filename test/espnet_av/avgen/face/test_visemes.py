# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The mouth follows the phones."""

import numpy as np
import pytest

from espnet_av.avgen.face import visemes as V


def _track(labels, seconds=0.09, fps=25):
    bounds = np.cumsum([0, 0.3, *[seconds] * len(labels), 0.3])
    phones = [("sil", 0.0, 0.3), *((name, bounds[k + 1], bounds[k + 2]) for k, name in enumerate(labels))]
    phones.append(("sil", bounds[-2], bounds[-1]))
    return V.articulation_track(V.viseme_spans(phones), int(bounds[-1] * fps), fps), phones


@pytest.mark.parametrize("seconds", [0.04, 0.07, 0.12])
@pytest.mark.parametrize("phone", ["p", "b", "m"])
def test_lips_close_at_bilabials_between_open_vowels(phone, seconds):
    track, phones = _track(["A:", phone, "A:", phone, "a"], seconds)
    for name, start, end in phones:
        if name == phone:
            frame = int((start + end) / 2 * 25)
            assert track[frame - 1 : frame + 2, V.OPENING].min() < 0.02
            assert track[frame - 1 : frame + 2, V.PRESS].max() > 0.9
    assert track[:, V.OPENING].max() > 0.4


def test_lower_lip_touches_the_teeth_at_f():
    track, _ = _track(["A:", "f", "A:"])
    assert track[:, V.LOWER_TUCK].max() > 0.9
    without, _ = _track(["A:", "k", "A:"])
    assert without[:, V.LOWER_TUCK].max() < 0.05


def test_mouth_rests_in_silence_and_moves_before_the_sound():
    track, _ = _track(["A:", "A:"], 0.2)
    assert track[:4, V.OPENING].max() < 0.05 and track[-3:, V.OPENING].max() < 0.08
    assert track[7, V.OPENING] > track[4, V.OPENING]


def test_rounding_and_spreading():
    assert _track(["u:", "u:"])[0][:, V.WIDTH].min() < -0.7
    assert _track(["i:", "i:"])[0][:, V.WIDTH].max() > 0.7
    glide, _ = _track(["aU"], 0.3)
    assert glide[9, V.WIDTH] > glide[13, V.WIDTH]  # a, then u


def test_values_stay_within_the_targets():
    rng = np.random.default_rng(0)
    names = sorted(V.PHONE_TO_VISEME)
    track, _ = _track([names[k] for k in rng.integers(0, len(names), 40)], 0.05)
    targets = np.array(list(V.VISEMES.values()))
    assert np.isfinite(track).all() and track.dtype == np.float32
    assert (track >= targets.min(0) - 1e-5).all() and (track <= targets.max(0) + 1e-5).all()


def test_unknown_phone_is_refused():
    with pytest.raises(KeyError):
        V.phone_visemes("xx")

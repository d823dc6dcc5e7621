# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published sizes of the codec as keywords of :class:`~espnet_av.codec.generator.CodecGenerator`, and challenge limits.

In YAML: ``model: lrac`` with ``model_conf: {preset: track2}``, or with the keywords themselves.
"""

import copy
from dataclasses import dataclass
from typing import Any

from espnet_av.registry import unknown_choice
from espnet_av.utils.errors import UsageError


def _unit(kernel: int, last: int, dilation: int, causal: tuple[bool, bool] = (True, True)) -> dict[str, list]:
    """Return a residual unit; only the first of its convolutions is dilated."""
    return {"kernel_sizes": [kernel, last], "dilations": [dilation, 1], "causal": list(causal)}


def _block(kernel: int, last: int, dilations: tuple[int, ...]) -> list[dict[str, list]]:
    return [_unit(kernel, last, dilation) for dilation in dilations]


_FIRST_AHEAD = (False, True)
_SECOND_AHEAD = (True, False)

TRACK1: dict[str, Any] = {
    "sample_rate": 24000,
    "latent_dim": 160,
    "bitrates": [1.0, 6.0],
    "encoder_conf": {
        "kernel_size": 7,
        "channels": [8, 16, 32, 64],
        "strides": [3, 4, 4, 5],
        "units": [
            _block(5, 1, (3, 9, 27)),
            _block(5, 1, (3, 9, 27)),
            [_unit(5, 1, 3, _FIRST_AHEAD), _unit(5, 1, 7, _FIRST_AHEAD), _unit(5, 1, 27)],
            [_unit(5, 1, 3), _unit(7, 3, 9), _unit(7, 3, 27)],
        ],
    },
    "decoder_conf": {
        "kernel_size": 21,
        "channels": [64, 32, 16, 8],
        "strides": [5, 4, 3, 4],
        "units": [
            [_unit(3, 1, 5, _FIRST_AHEAD), _unit(5, 1, 5), _unit(5, 3, 25)],
            _block(5, 1, (4, 5, 25)),
            _block(5, 1, (3, 5, 25)),
            _block(5, 1, (4, 5, 25)),
        ],
    },
    "quantizer_conf": {"num_quantizers": 6, "codebook_size": 1024, "codebook_dim": 12},
}

TRACK2: dict[str, Any] = {
    "sample_rate": 24000,
    "latent_dim": 320,
    "bitrates": [1.0, 6.0],
    "encoder_conf": {
        "kernel_size": 7,
        "channels": [8, 16, 32, 64, 128],
        "strides": [2, 2, 3, 4, 5],
        "units": [
            _block(7, 3, (3, 9, 27, 81)),
            [*_block(7, 3, (3, 9, 27)), _unit(5, 3, 81)],
            _block(7, 3, (3, 9, 27)),
            [_unit(7, 3, 3, _FIRST_AHEAD), _unit(7, 3, 9, _FIRST_AHEAD), _unit(7, 3, 27)],
            [_unit(7, 3, 3, _SECOND_AHEAD), _unit(7, 3, 9), _unit(7, 3, 27)],
        ],
    },
    "decoder_conf": {
        "kernel_size": 21,
        "channels": [96, 48, 24, 12, 8],
        "strides": [5, 4, 3, 2, 2],
        "units": [
            [_unit(3, 1, 5, _FIRST_AHEAD), _unit(3, 1, 5, _FIRST_AHEAD), _unit(5, 1, 25)],
            [_unit(3, 1, 4), _unit(5, 1, 5), _unit(5, 1, 25)],
            _block(5, 1, (3, 5, 25)),
            [_unit(3, 1, 2), _unit(5, 1, 5), _unit(5, 1, 25)],
            _block(5, 1, (2, 5, 25)),
        ],
    },
    "quantizer_conf": {"num_quantizers": 6, "codebook_size": 1024, "codebook_dim": 24},
}

#: A codec of a few thousand parameters with everything in it that the published ones have; for tests.
TINY: dict[str, Any] = {
    "sample_rate": 24000,
    "latent_dim": 12,
    "bitrates": [1.0, 6.0],
    "encoder_conf": {
        "kernel_size": 7,
        "channels": [4, 6, 8, 8],
        "strides": [3, 4, 4, 5],
        "units": [[_unit(3, 1, 3)], [_unit(3, 1, 3)], [_unit(5, 1, 10, _FIRST_AHEAD)], [_unit(5, 3, 3)]],
    },
    "decoder_conf": {
        "kernel_size": 7,
        "channels": [8, 8, 6, 4],
        "strides": [5, 4, 3, 4],
        "units": [[_unit(3, 1, 5, _FIRST_AHEAD)], [_unit(3, 1, 4)], [_unit(3, 1, 3)], [_unit(5, 1, 4)]],
    },
    "quantizer_conf": {"num_quantizers": 6, "codebook_size": 1024, "codebook_dim": 4, "kmeans_iters": 5},
}

PRESETS: dict[str, dict[str, Any]] = {"track1": TRACK1, "track2": TRACK2, "tiny": TINY}


def preset_conf(name: str) -> dict[str, Any]:
    """Return a copy of the keywords behind a name.

    Raises:
        UsageError: The name is unknown.
    """
    if name not in PRESETS:
        raise UsageError(unknown_choice("preset of the codec", name, list(PRESETS)))
    return copy.deepcopy(PRESETS[name])


@dataclass(frozen=True)
class TrackLimits:
    """What a track of the challenge allows.

    Attributes:
        latency_ms: Buffering and looks ahead together.
        total_mflops: Sender and receiver together, a multiply-accumulate counted twice, at the highest bit rate.
        receive_mflops: Receiver alone.
        bitrates_kbps: The two bit rates, both served by one system.
        sample_rate: In Hz.
    """

    latency_ms: float
    total_mflops: float
    receive_mflops: float
    bitrates_kbps: tuple[float, float] = (1.0, 6.0)
    sample_rate: int = 24000


#: Limits of the 2025 challenge by track.
TRACK_LIMITS: dict[str, TrackLimits] = {
    "track1": TrackLimits(latency_ms=30.0, total_mflops=700.0, receive_mflops=300.0),
    "track2": TrackLimits(latency_ms=50.0, total_mflops=2600.0, receive_mflops=600.0),
}


def track_limits(track: str) -> TrackLimits:
    """Return what a track of the challenge allows.

    Raises:
        UsageError: There is no such track.
    """
    if track not in TRACK_LIMITS:
        raise UsageError(unknown_choice("track of the challenge", track, list(TRACK_LIMITS)))
    return TRACK_LIMITS[track]

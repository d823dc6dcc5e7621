# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What one second of a source sounds like at both ears.

``same`` keeps the middle of the convolution, as the reference does: sound comes early by half of the response,
and nothing rings over from the second before. ``causal`` keeps the true delay and the ringing of earlier sound.
"""

import functools

import numpy as np
import scipy.fft

from espnet_av.activesep.scene import SceneStore
from espnet_av.activesep.sounds import take_chunk

CONVOLUTIONS = ("same", "causal")


@functools.lru_cache(maxsize=256)
def transform_size(num_samples: int, taps: int, convolution: str, whole: bool = False) -> tuple[int, int]:
    """Return the length of the transform, and the first sample of its result that is wanted.

    Only the wanted samples need to be free of wrap-around, so the transform is shorter than the full convolution;
    ``whole`` makes it as long.
    """
    if convolution == "same":
        first = (taps - 1) // 2
        needed = num_samples + taps - 1 if whole else max(num_samples + taps - 1 - first, taps)
    else:
        first = taps - 1
        needed = num_samples + taps - 1
    return scipy.fft.next_fast_len(needed, real=True), first


def hear(
    store: SceneStore,
    azimuth: int,
    receiver: int,
    source: int,
    clip: np.ndarray,
    start: int,
    num_samples: int,
    *,
    convolution: str = "same",
    wrap_int16: bool = False,
) -> np.ndarray:
    """Return one source at both ears.

    Args:
        store: The scene.
        azimuth: Where the listener looks; ``receiver`` where it stands; ``source`` where the sound is.
        receiver: Node.
        source: Node.
        clip: int16 ``(N,)``, played in a circle.
        start: First sample of this second.
        num_samples: Length of this second.
        convolution: ``same`` or ``causal``.
        wrap_int16: Let loud samples wrap around, and compute as the reference does to the last bit: responses are
            transformed in single, all else is done in double precision.

    Returns:
        int16 ``(2, num_samples)``.
    """
    taps = len(store.rir(azimuth, receiver, source))
    size, first = transform_size(num_samples, taps, convolution, wrap_int16)
    if convolution == "same":
        chunk = take_chunk(clip, start, num_samples)
    else:
        chunk = take_chunk(clip, start - (taps - 1), num_samples + taps - 1)
    spectrum = store.rir_spectrum(azimuth, receiver, source, size)
    sound = scipy.fft.rfft(chunk.astype(np.float64 if wrap_int16 else np.float32), size)
    wave = scipy.fft.irfft(sound * spectrum, size)[:, first : first + num_samples]
    np.rint(wave, out=wave)
    if wrap_int16:
        return wave.astype(np.int64).astype(np.int16)
    np.clip(wave, -32768, 32767, out=wave)
    return wave.astype(np.int16)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Opus as an anchor for the neural codec: the same recordings through libopus at several bit rates.

Constant bit rate, 20 ms packets, tuned for speech. The bit rate that is reported is that of the packets that were
written, without any container. The decoder leaves out the encoder's look-ahead, so that the result lies on the input.
Opus has 26.5 ms of algorithmic delay in this mode and starts at about 6 kbit/s; what it gives below is not speech.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.data.audio_io import resample_audio
from espnet_av.utils.errors import EnvironmentProblem, describe, usage_error

PACKET_SEC = 0.02
DECODER_RATE_HZ = 48000
SAMPLE_RATES_HZ = (8000, 12000, 16000, 24000, 48000)
DEFAULT_KBPS = (6.0, 8.0, 12.0, 24.0)
MIN_KBPS, MAX_KBPS = 6.0, 510.0
TAIL_PACKETS = 2  # of zeros: what the look-ahead still holds comes out
SYSTEM = "Opus"


@dataclass(frozen=True)
class OpusResult:
    """A decoded signal and what it took.

    Attributes:
        wave: ``(N,)`` float32, as long as the input and aligned with it.
        num_bytes: Of the packets that cover the input.
        seconds: That these packets last.
    """

    wave: np.ndarray
    num_bytes: int
    seconds: float

    @property
    def kbps(self) -> float:
        """Measured bit rate in kbit/s."""
        return 8 * self.num_bytes / self.seconds / 1000


def opus_round_trip(wave: np.ndarray, sample_rate: int, kbps: float, *, application: str = "voip") -> OpusResult:
    """Encode and decode a signal.

    Args:
        wave: ``(N,)`` in [-1, 1].
        sample_rate: Hz, one of those that Opus knows.
        kbps: Wanted bit rate in kbit/s.
        application: ``voip`` (speech), ``audio`` or ``lowdelay``.

    Raises:
        UsageError: A rate that Opus does not know, or an empty signal.
        EnvironmentProblem: PyAV has no libopus.
    """
    if sample_rate not in SAMPLE_RATES_HZ:
        usage_error("Opus at this sample rate", got=sample_rate, allowed=SAMPLE_RATES_HZ)
    if not MIN_KBPS <= kbps <= MAX_KBPS:
        usage_error("Opus at this bit rate (kbit/s)", got=kbps, allowed=f"{MIN_KBPS:g} to {MAX_KBPS:g}")
    if wave.ndim != 1 or len(wave) == 0:
        usage_error("Opus needs a signal", got=wave.shape, allowed="(N,) with N > 0")
    encoder = _make_encoder(sample_rate, kbps, application)
    packets = _encode(encoder, wave, sample_rate)
    size = round(PACKET_SEC * sample_rate)
    covering = packets[: -(-len(wave) // size)]
    decoded = _decode(packets, encoder.extradata, sample_rate)[: len(wave)]
    decoded = np.pad(decoded, (0, len(wave) - len(decoded)))
    return OpusResult(decoded, sum(map(len, covering)), len(covering) * PACKET_SEC)


def has_opus() -> bool:
    """Tell whether PyAV was built with libopus."""
    import av

    return "libopus" in av.codecs_available


def opus_version() -> str:
    """Return what identifies the encoder: the version of PyAV, which carries the library."""
    import av

    return f"av {av.__version__}"


def write_opus_set(
    items: Sequence[tuple[str, str]], folder: str | Path, sample_rate: int, kbps: float
) -> dict[str, Any]:
    """Put recordings through Opus.

    Args:
        items: Id and file of each recording; files of another rate are resampled.
        folder: Receives ``wav/<id>.wav``.
        sample_rate: Hz.
        kbps: Wanted bit rate in kbit/s.

    Returns:
        ``paths``: id -> file; ``kbps``: measured over all packets.
    """
    from espnet_av.data.audio_io import read_audio, write_audio

    paths, num_bytes, seconds = {}, 0, 0.0
    for uid, path in items:
        wave, _ = read_audio(path, sample_rate, resample=True)
        result = opus_round_trip(wave, sample_rate, kbps)
        target = Path(folder) / "wav" / f"{uid}.wav"
        target.parent.mkdir(parents=True, exist_ok=True)
        write_audio(target, result.wave, sample_rate)
        paths[uid] = str(target)
        num_bytes += result.num_bytes
        seconds += result.seconds
    return {"paths": paths, "kbps": 8 * num_bytes / seconds / 1000 if seconds else 0.0}


def _make_encoder(sample_rate: int, kbps: float, application: str) -> Any:
    import av

    if not has_opus():
        raise EnvironmentProblem(describe("PyAV has no libopus", got=av.__version__, fix="pip install --upgrade av"))
    encoder = av.CodecContext.create("libopus", "w")
    encoder.sample_rate, encoder.layout, encoder.format = sample_rate, "mono", "s16"
    encoder.bit_rate = round(1000 * kbps)
    encoder.options = {"vbr": "off", "application": application, "frame_duration": f"{1000 * PACKET_SEC:g}"}
    encoder.open()
    return encoder


def _encode(encoder: Any, wave: np.ndarray, sample_rate: int) -> list[bytes]:
    import av

    size = encoder.frame_size
    samples = np.clip(np.rint(np.asarray(wave, np.float64) * 32768), -32768, 32767).astype(np.int16)
    samples = np.pad(samples, (0, -len(samples) % size + TAIL_PACKETS * size))
    packets = []
    for start in range(0, len(samples), size):
        frame = av.AudioFrame.from_ndarray(samples[None, start : start + size], format="s16", layout="mono")
        frame.sample_rate, frame.pts = sample_rate, start
        packets += encoder.encode(frame)
    return [bytes(packet) for packet in (*packets, *encoder.encode(None))]


def _decode(packets: Sequence[bytes], header: bytes, sample_rate: int) -> np.ndarray:
    import av

    decoder = av.CodecContext.create("libopus", "r")
    decoder.extradata = header  # tells the decoder how much look-ahead to leave out
    decoder.sample_rate, decoder.layout = DECODER_RATE_HZ, "mono"
    parts = [frame.to_ndarray().reshape(-1) for packet in packets for frame in decoder.decode(av.Packet(packet))]
    samples = np.concatenate(parts).astype(np.float32) / 32768
    return resample_audio(samples, DECODER_RATE_HZ, sample_rate)

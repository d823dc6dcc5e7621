# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Active speaker detection: Light-ASD (Liao et al., "A Light Weight Model for Active Speaker Detection", CVPR 2023).

:class:`LightASD` is the network: a 3-D convolutional encoder of the face, a 2-D one of the sound, their sum, one GRU
forward and one backward in time, and two classes per frame. :class:`ActiveSpeakerDetector` scores whole face tracks:
it cuts them into pieces of several lengths and averages what the pieces say.

    detector = ActiveSpeakerDetector.from_pretrained("finetuning_TalkSet.model")
    scores = detector.score(faces, wave)  # one logit per video frame; above 0 the face speaks

Axes: ``B`` batch, ``T`` video frames (25 Hz), ``4T`` cepstral frames (100 Hz), ``H``/``W`` pixels, ``C`` channels.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avsr.mfcc import MFCC
from espnet_av.data.av_clock import AVClock
from espnet_av.data.face_tracks import FaceTrack
from espnet_av.data.video_io import iter_frames
from espnet_av.train.loading import LoadReport, load_into, load_weights
from espnet_av.utils.errors import DataError, describe, usage_error
from espnet_av.utils.files import atomic_write, sha256_file

FPS = 25
SAMPLE_RATE = 16000
MFCC_PER_FRAME = 4
INT16_SCALE = 32768.0
PIXEL_MEAN, PIXEL_STD = 0.4161, 0.1688
FACE_SIZE, INPUT_SIZE = 224, 112
CHANNELS = (32, 64, 128)
CONTEXT = 6  # frames: three blocks with kernels of up to 5 frames; the sound encoder looks less far
DURATIONS_SEC = (1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6)  # short pieces count more

#: Prefixes of published files -> ours.
PUBLISHED_PREFIXES = {
    "model.visualEncoder.": "visual_encoder.",
    "model.audioEncoder.": "audio_encoder.",
    "model.GRU.gru_forward.": "gru_forward.",
    "model.GRU.gru_backward.": "gru_backward.",
    "lossAV.FC.": "head.",
    "lossV.FC.": "visual_head.",
}


class _SplitConvBlock(nn.Module):
    """Two paths with kernels 3 and 5, each first within a frame (``inner``) and then over time; their sum is mixed.

    ``letter`` names the convolution within a frame as published files do: ``s`` (space) or ``m`` (cepstrum).
    """

    def __init__(self, dims: int, letter: str, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        conv: Callable[..., nn.Module] = nn.Conv3d if dims == 3 else nn.Conv2d
        norm: Callable[..., nn.Module] = nn.BatchNorm3d if dims == 3 else nn.BatchNorm2d
        self.letter = letter
        for size in (3, 5):
            inner: tuple[int, ...] = (1, size, size) if dims == 3 else (size, 1)
            over_time: tuple[int, ...] = (size, 1, 1) if dims == 3 else (1, size)
            strides = tuple(stride if width > 1 else 1 for width in inner)
            first = conv(in_channels, out_channels, inner, stride=strides, padding=_same(inner), bias=False)
            second = conv(out_channels, out_channels, over_time, padding=_same(over_time), bias=False)
            for name, layer in ((letter, first), ("t", second)):
                self.add_module(f"{name}_{size}", layer)
                self.add_module(f"bn_{name}_{size}", norm(out_channels, eps=0.001, momentum=0.01))
        self.last = conv(out_channels, out_channels, 1, bias=False)
        self.bn_last = norm(out_channels, eps=0.001, momentum=0.01)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn_last(self.last(self._path(x, 3) + self._path(x, 5))))

    def _path(self, x: Tensor, size: int) -> Tensor:
        for name in (f"{self.letter}_{size}", f"t_{size}"):
            x = F.relu(self.get_submodule(f"bn_{name}")(self.get_submodule(name)(x)))
        return x


def _same(kernel: Sequence[int]) -> tuple[int, ...]:
    return tuple(width // 2 for width in kernel)


class VisualEncoder(nn.Module):
    """Face crops ``(B, 1, T, H, W)`` -> one row per frame ``(B, T, C)``."""

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        self.block1 = _SplitConvBlock(3, "s", 1, channels[0], stride=2)
        self.block2 = _SplitConvBlock(3, "s", channels[0], channels[1])
        self.block3 = _SplitConvBlock(3, "s", channels[1], channels[2])
        self.pool = nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1))

    def forward(self, faces: Tensor) -> Tensor:
        """Encode normalised crops; the channels' maxima over the picture are the rows."""
        x = self.pool(self.block1(faces))
        x = self.block3(self.pool(self.block2(x)))
        return x.amax(dim=(3, 4)).transpose(1, 2)  # (B, C, T, h, w) -> (B, T, C)


class AudioEncoder(nn.Module):
    """Cepstra ``(B, 1, 13, 4T)`` -> one row per video frame ``(B, T, C)``."""

    def __init__(self, channels: Sequence[int] = CHANNELS) -> None:
        super().__init__()
        self.block1 = _SplitConvBlock(2, "m", 1, channels[0])
        self.block2 = _SplitConvBlock(2, "m", channels[0], channels[1])
        self.block3 = _SplitConvBlock(2, "m", channels[1], channels[2])
        self.pool = nn.MaxPool2d((1, 3), stride=(1, 2), padding=(0, 1))

    def forward(self, cepstra: Tensor) -> Tensor:
        """Encode cepstra; the channels' means over the coefficients are the rows."""
        x = self.pool(self.block1(cepstra))
        x = self.block3(self.pool(self.block2(x)))
        return x.mean(dim=2).transpose(1, 2)  # (B, C, 13, T) -> (B, T, C)


class LightASD(nn.Module):
    """Which frames of a face track speak.

    Args:
        channels: Of the three blocks of both encoders; the last is the width of the rest.
        visual_head: Keep the classifier on the face alone, a training aid that published files may hold.
    """

    def __init__(self, *, channels: Sequence[int] = CHANNELS, visual_head: bool = False) -> None:
        super().__init__()
        width = channels[-1]
        self.visual_encoder = VisualEncoder(channels)
        self.audio_encoder = AudioEncoder(channels)
        self.gru_forward = nn.GRU(width, width, batch_first=True)
        self.gru_backward = nn.GRU(width, width, batch_first=True)
        self.head = nn.Linear(width, 2)
        self.visual_head = nn.Linear(width, 2) if visual_head else None

    def forward(self, faces: Tensor, cepstra: Tensor) -> Tensor:
        """Classify every frame.

        Args:
            faces: ``(B, T, H, W)`` gray levels 0 to 255 (H = W = 112 in the published system).
            cepstra: ``(B, 4T, 13)`` of a waveform at int16 scale.

        Returns:
            Logits ``(B, T, 2)``: silent, speaking. The published score is the second, without softmax.
        """
        return self.head(self.fuse(self.encode_faces(faces), self.encode_audio(cepstra)))

    def encode_faces(self, faces: Tensor) -> Tensor:
        """``(B, T, H, W)`` gray levels 0 to 255 -> ``(B, T, C)``."""
        return self.visual_encoder((faces.float().unsqueeze(1) / 255.0 - PIXEL_MEAN) / PIXEL_STD)

    def encode_audio(self, cepstra: Tensor) -> Tensor:
        """``(B, 4T, 13)`` -> ``(B, T, C)``."""
        return self.audio_encoder(cepstra.transpose(1, 2).unsqueeze(1))

    def fuse(self, face_rows: Tensor, audio_rows: Tensor) -> Tensor:
        """Sum of both streams ``(B, T, C)`` through the forward and then the backward GRU: ``(B, T, C)``."""
        x = F.gelu(self.gru_forward(face_rows + audio_rows)[0])
        x = self.gru_backward(x.flip(1))[0].flip(1)
        return F.gelu(x)


def from_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a ``finetuning_TalkSet.model`` to ours; names that are ours already stay.

    Args:
        state: Published names (``model.visualEncoder.block1.s_3.weight``, ...), also below ``module.``.
    """
    return {_renamed(name.removeprefix("module."), PUBLISHED_PREFIXES): tensor for name, tensor in state.items()}


def to_published(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a :class:`LightASD` to the published names; the way back of :func:`from_published`."""
    prefixes = {ours: published for published, ours in PUBLISHED_PREFIXES.items()}
    return {_renamed(name, prefixes): tensor for name, tensor in state.items()}


def _renamed(name: str, prefixes: Mapping[str, str]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


class ActiveSpeakerDetector:
    """Score face tracks of any length.

    A track is cut into pieces of each duration, every piece is scored on its own, and the scores of the durations are
    averaged. A duration that is listed three times weighs three times.

    Args:
        model: The network.
        device: Where to compute.
        durations_sec: Lengths of the pieces in whole seconds, repeated to weight them.
        batch_frames: Upper bound of the video frames that are computed together, which bounds the memory.
        legacy: Do what the reference script does: every duration counts once, and scores are rounded to 0.1.

    Attributes:
        report: What :meth:`from_pretrained` loaded; else None.
        digest: Tells its scores from those of other weights or settings; empty without a file.

    Raises:
        UsageError: A duration or bound that is not positive.
    """

    def __init__(
        self,
        model: LightASD,
        *,
        device: str | torch.device = "cpu",
        durations_sec: Sequence[int] = DURATIONS_SEC,
        batch_frames: int = 300,
        legacy: bool = False,
    ) -> None:
        if not durations_sec or any(int(value) != value or value < 1 for value in durations_sec):
            usage_error("wrong durations of the pieces", got=list(durations_sec), allowed="whole seconds from 1")
        if batch_frames < 1:
            usage_error("wrong batch_frames", got=batch_frames, allowed="1 or more")
        self.model = model.to(device).eval()
        self.device = torch.device(device)
        self.durations_sec = tuple(sorted(set(durations_sec) if legacy else durations_sec))
        self.batch_frames = batch_frames
        self.legacy = legacy
        self.report: LoadReport | None = None
        self.digest = ""
        self._mfcc = MFCC()

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike, **options: Any) -> "ActiveSpeakerDetector":
        """Load published weights (``finetuning_TalkSet.model``) or our own; the sizes are those of the file.

        Args:
            path: A file of torch (read with ``weights_only``) or ``.safetensors``.
            **options: Keywords of :class:`ActiveSpeakerDetector`.

        Raises:
            CheckpointError: The file is absent, damaged, unsafe or of another network.
        """
        state = from_published(load_weights(path))
        norms = [state.get(f"audio_encoder.block{number}.bn_last.weight") for number in (1, 2, 3)]
        sizes = [len(norm) for norm in norms if norm is not None]
        channels = sizes if len(sizes) == len(norms) else CHANNELS
        model = LightASD(channels=channels, visual_head=any(name.startswith("visual_head.") for name in state))
        report = load_into(model, state, source=str(path))
        detector = cls(model, **options)
        detector.report = report
        detector.digest = f"{sha256_file(path)} {detector.durations_sec} {detector.legacy}"
        return detector

    @torch.inference_mode()
    def score(self, faces: np.ndarray | Tensor, wave: np.ndarray | Tensor) -> np.ndarray:
        """Score one track.

        Args:
            faces: uint8 ``(T, 112, 112)`` gray; see :func:`face_input`.
            wave: ``(N,)`` at 16 kHz, float in [-1, 1] or int16; sample 0 belongs to the start of frame 0. It is
                brought to int16 scale, on which the network was trained. Cut or zero-padded to the video.

        Returns:
            ``(T,)`` float32 logits of the class "speaking".

        Raises:
            DataError: A stream of a wrong shape or type.
        """
        faces = torch.as_tensor(faces)
        if faces.dtype != torch.uint8 or faces.dim() != 3 or len(faces) == 0:
            raise DataError(describe("wrong face crops", (str(faces.dtype), tuple(faces.shape)), "uint8 (T, 112, 112)"))
        return self._score_block(faces, self.cepstra(wave, len(faces)))

    @torch.inference_mode()
    def score_track(self, track: FaceTrack, wave: np.ndarray) -> np.ndarray:
        """Score a track that was written to disk; its crops are read bit by bit, so it may be hours long.

        Args:
            track: With the file of its face crops.
            wave: ``(N,)`` sound of the track, not of the whole recording.

        Returns:
            ``(T,)`` float32, the same as :meth:`score` of all crops at once.

        Raises:
            DataError: The track has no face crops, or they are damaged or of another length.
        """
        if track.video is None:
            raise DataError(describe("the track has no face crops", got=track.name, fix="write the tracks first"))
        cepstra = self.cepstra(wave, track.num_frames)
        size = FPS * math.lcm(*self.durations_sec)  # pieces of all lengths end here
        scores, block, count = [], [], 0
        for frame in iter_frames(track.video, gray=True):
            block.append(face_input(frame))
            count += 1
            if len(block) == size:
                first = count - size
                scores.append(self._score_block(torch.from_numpy(np.stack(block)), cepstra[MFCC_PER_FRAME * first :]))
                block = []
        if block:
            first = count - len(block)
            scores.append(self._score_block(torch.from_numpy(np.stack(block)), cepstra[MFCC_PER_FRAME * first :]))
        if count != track.num_frames:
            raise DataError(describe(f"{track.video}: wrong length", got=f"{count} frames", allowed=track.num_frames))
        return np.concatenate(scores)

    def _score_block(self, faces: Tensor, cepstra: Tensor) -> np.ndarray:
        """Weighted mean over the durations for ``(T, 112, 112)`` faces and at least ``4T`` cepstra: ``(T,)``.

        The encoders look :data:`CONTEXT` frames far, and all pieces begin at whole seconds. So two passes of them give
        what any piece needs: one over pieces of one second for the frames near its ends, one over all for the rest.
        """
        count = len(faces)
        ends, whole = self._encode_pieces(faces, cepstra), self._encode_whole(faces, cepstra)
        total = np.zeros(count)
        for duration in sorted(set(self.durations_sec)):
            size = duration * FPS
            rows = whole.clone()
            for border in range(size, count, size):
                near = slice(max(0, border - CONTEXT), border + CONTEXT)
                rows[:, near] = ends[:, near]
            weight = self.durations_sec.count(duration) / len(self.durations_sec)
            total += weight * self._classify(rows, size)
        return (np.round(total, 1) if self.legacy else total).astype(np.float32)

    def cepstra(self, wave: np.ndarray | Tensor, num_frames: int) -> Tensor:
        """Return ``(4T, 13)`` coefficients of a waveform ``(N,)`` cut or padded to ``num_frames`` video frames."""
        samples = as_int16_scale(wave)
        wanted = num_frames * SAMPLE_RATE // FPS
        samples = F.pad(samples, (0, wanted - len(samples))) if len(samples) < wanted else samples[:wanted]
        rows = self._mfcc(samples[None])[0][0]  # 4T - 1 rows: the last frame of 25 ms would reach beyond the end
        return torch.cat([rows, rows[-1:].expand(MFCC_PER_FRAME * num_frames - len(rows), -1)])

    def _encode_pieces(self, faces: Tensor, cepstra: Tensor) -> Tensor:
        """Encode pieces of one second, each on its own; the last may be shorter. Returns ``(2, T, C)``."""
        whole = len(faces) // FPS
        step = max(1, self.batch_frames // FPS)
        rows = [
            self._encode(faces, cepstra, first * FPS, min(step, whole - first), FPS) for first in range(0, whole, step)
        ]
        if rest := len(faces) - whole * FPS:
            rows.append(self._encode(faces, cepstra, whole * FPS, 1, rest))
        return torch.cat(rows, dim=1)

    def _encode_whole(self, faces: Tensor, cepstra: Tensor) -> Tensor:
        """Encode all frames as one piece, in overlapping parts that fit into memory. Returns ``(2, T, C)``."""
        rows, count = [], len(faces)
        for start in range(0, count, self.batch_frames):
            end = min(count, start + self.batch_frames)
            first, last = max(0, start - CONTEXT), min(count, end + CONTEXT)
            rows.append(self._encode(faces, cepstra, first, 1, last - first)[:, start - first : end - first])
        return torch.cat(rows, dim=1)

    def _encode(self, faces: Tensor, cepstra: Tensor, start: int, count: int, size: int) -> Tensor:
        """Encode ``count`` pieces of ``size`` frames from frame ``start``: faces and sound ``(2, count * size, C)``."""
        end = start + count * size
        video = faces[start:end].reshape(count, size, *faces.shape[1:]).to(self.device)
        rows = cepstra[start * MFCC_PER_FRAME : end * MFCC_PER_FRAME]
        audio = rows.reshape(count, size * MFCC_PER_FRAME, -1).to(self.device)
        encoded = torch.stack([self.model.encode_faces(video), self.model.encode_audio(audio)])
        return encoded.reshape(2, count * size, -1)

    def _classify(self, rows: Tensor, size: int) -> np.ndarray:
        """Score consecutive pieces of ``size`` frames of encoded rows ``(2, T, C)``; returns ``(T,)``."""
        whole = rows.shape[1] // size * size
        parts = [rows[:, :whole].reshape(2, -1, size, rows.shape[2]), rows[:, None, whole:]]
        logits = [
            self.model.head(self.model.fuse(*part))[..., 1].reshape(-1) for part in parts if part.shape[1:3].numel()
        ]
        return torch.cat(logits).double().cpu().numpy()


def as_int16_scale(wave: np.ndarray | Tensor) -> Tensor:
    """Return a waveform ``(N,)`` as float64 at int16 scale: floats in [-1, 1] are multiplied by 32768, int16 stays.

    Raises:
        DataError: Another type or shape, values that are not finite, or floats far outside [-1, 1].
    """
    samples = torch.as_tensor(wave)
    allowed = "(N,) float in [-1, 1] or int16"
    if samples.dim() != 1 or samples.numel() == 0 or not (samples.is_floating_point() or samples.dtype == torch.int16):
        raise DataError(describe("wrong audio", (str(samples.dtype), tuple(samples.shape)), allowed))
    if samples.dtype == torch.int16:
        return samples.double()
    peak = float(samples.abs().max())
    if not peak <= 16.0:  # true for nan as well
        raise DataError(describe("audio is not in [-1, 1]", f"peak {peak:g}", allowed, "divide int16 samples by 32768"))
    return samples.double() * INT16_SCALE


def face_input(crop: np.ndarray) -> np.ndarray:
    """Turn one gray face crop ``(H, W)`` uint8 into the network's input: resize to 224x224, keep the middle 112x112."""
    if crop.shape != (FACE_SIZE, FACE_SIZE):
        crop = cv2.resize(crop, (FACE_SIZE, FACE_SIZE))
    edge = (FACE_SIZE - INPUT_SIZE) // 2
    return crop[edge : edge + INPUT_SIZE, edge : edge + INPUT_SIZE]


class TrackScorer(Protocol):
    """Anything that tells from face and sound when the person of a track speaks."""

    def score_track(self, track: FaceTrack, wave: np.ndarray) -> np.ndarray:
        """Score the track ``(T,)`` with its sound ``(N,)`` at 16 kHz; speech is above 1, silence below 0.8."""
        ...


def score_tracks(tracks: Sequence[FaceTrack], audio: np.ndarray, scorer: TrackScorer) -> list[np.ndarray]:
    """Score all tracks of a recording; where a track has a file for its scores, write it.

    Args:
        tracks: The tracks.
        audio: ``(N,)`` sound of the whole recording at 16 kHz, in [-1, 1] or int16.
        scorer: An :class:`ActiveSpeakerDetector` or a :class:`~espnet_av.avsr.mouth_motion.MouthMotionScorer`.

    Returns:
        Scores ``(T,)`` of each track.
    """
    clock = AVClock(SAMPLE_RATE, FPS)
    results = []
    for track in tracks:
        first, last = clock.frames_to_samples(track.frame_start), clock.frames_to_samples(track.frame_end)
        scores = scorer.score_track(track, clock.fit_audio(audio[first:last], track.num_frames))
        if track.asd is not None:
            write_scores(track.asd, scores, track.frame_start)
        results.append(scores)
    return results


def write_scores(path: str | os.PathLike, scores: np.ndarray, first_frame: int = 0) -> None:
    """Write scores ``(T,)`` as JSON: frame number, counted from the start of the recording -> score."""
    content = {str(first_frame + index): round(float(score), 3) for index, score in enumerate(scores)}
    with atomic_write(Path(path)) as stream:
        json.dump(content, stream)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The separator as one object: a mixture and lips in, voices out.

    separator = Separator.from_pretrained("exp/avss/pack")
    voices = separator("mix.wav", ["lips_s1.npy", "lips_s2.npy"])  # (2, N)

Recordings of any length go through the network in windows (:mod:`espnet_av.avss.windowing`).

Axes: ``K`` targets, ``N`` samples at 16 kHz, ``T`` video frames at 25 fps, ``D`` width of lip embeddings, ``H``/``W``
pixels.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from espnet_av.avss.augment import PEAK, peak_gain
from espnet_av.avss.choices import takes_lips
from espnet_av.avss.lips import LipDescription, check_mouth, draw_variant, fit_lips, load_lips, read_mouth
from espnet_av.avss.model import NETWORK_PREFIX, build_network, network_state
from espnet_av.avss.rtfsnet import EXTRA_KEYS
from espnet_av.avss.windowing import WindowJoiner, WindowPlan, WindowRules, fade_in, plan_windows
from espnet_av.data.audio_input import AudioLike, load_audio
from espnet_av.data.av_clock import AVClock
from espnet_av.hub import Origin, Pretrained, locate_model
from espnet_av.train.conversion import load_strictly
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import build_for, find_weights, resolve_device
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, UsageError, describe, usage_error
from espnet_av.utils.untrusted import load_npy, read_yaml

CLOCK = AVClock()
UNSEEN_CHOICES = ("mute", "no_video")
MUTE_FADE_FRAMES = 5
EMBED_CHUNK, EMBED_CONTEXT = 500, 2  # frames; the first convolution of the front ends spans five
DEFAULT_WINDOWS = WindowRules()

#: ``uint8 (B, T, H, W) -> (B, T, D)``: a frozen lip-reading front end.
Embedder = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lips:
    """The lips of one speaker.

    Attributes:
        embeddings: ``(T, D)`` float.
        seen: ``(T,)`` bool, False in frames where the face is not in view and the embedding is made up; None: all True.
    """

    embeddings: np.ndarray
    seen: np.ndarray | None = None

    @property
    def seen_share(self) -> float:
        """Share of the frames in which the face is in view."""
        return 1.0 if self.seen is None else float(self.seen.mean())


#: Embeddings or mouth crops of one speaker, as array or file; None where they are not known.
LipsLike = Lips | str | os.PathLike | np.ndarray | Tensor | None


@dataclass(frozen=True)
class Separation:
    """What came out of one mixture.

    Attributes:
        voices: ``(K, N)`` float32.
        seams_db: Disagreement of neighbouring windows, ``(K,)`` for each seam; see
            :class:`~espnet_av.avss.windowing.WindowJoiner`.
        num_windows: Windows the mixture was cut into.
    """

    voices: np.ndarray
    seams_db: tuple[np.ndarray, ...] = ()
    num_windows: int = 1


class Separator(Pretrained):
    """Separate the voices of a mixture.

    Args:
        network: Separates ``(B, N)`` into ``(B, K, N)``, or takes lips as well and extracts ``(B, 1, N)``.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a GPU where there is one.
        windows: How long recordings are cut.
        peak: Each window is brought to this largest magnitude, as in training, and its voices back. None: as it is.
        batch_size: Most windows (times targets, with lips) that go through the network together.
        embedder: Front end for lips that are given as mouth crops.
        unseen: Of a speaker whose face is not always in view: ``mute`` gives silence where it is not, ``no_video``
            extracts without lips in windows where it is never.

    Attributes:
        network: The network, in evaluation mode.
        with_lips: Whether the network looks at lips.
        lips: Which front end the network was trained with, where that is known.
        checkpoint: The weights file that :meth:`from_pretrained` read; else None.

    Raises:
        UsageError: A value is out of range, or the device has no such name.
        EnvironmentProblem: There is no such device.
    """

    system_name = "avss"
    weight_prefix = NETWORK_PREFIX

    def __init__(
        self,
        network: torch.nn.Module,
        *,
        device: str | torch.device = "cpu",
        windows: WindowRules = DEFAULT_WINDOWS,
        peak: float | None = PEAK,
        batch_size: int = 1,
        embedder: Embedder | None = None,
        unseen: str = "mute",
    ) -> None:
        if batch_size < 1:
            usage_error("batch_size is too small", got=batch_size, allowed="1 or more")
        if unseen not in UNSEEN_CHOICES:
            usage_error("unseen is unknown", got=unseen, allowed=UNSEEN_CHOICES)
        self.device = resolve_device(device)
        self.network = network.to(self.device).eval()
        self.with_lips = takes_lips(type(network))
        self.windows, self.peak, self.batch_size = windows, peak, batch_size
        self.embedder, self.unseen = embedder, unseen
        self.lips: LipDescription | None = None
        self.checkpoint: Path | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        device: str | torch.device = "cpu",
        *,
        revision: str | None = None,
        weights: str | os.PathLike | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | None = None,
        **options: Any,
    ) -> "Separator":
        """Load a packed model, an experiment folder or a model of the hub.

        Args:
            source: Holds ``config.yaml`` (``model``, ``model_conf``, ``preprocessor_conf``) and weights; or, where no
                such folder is, ``organisation/name[@revision]`` of the Hugging Face hub.
            device: Where to compute.
            revision: Branch, tag or commit of the hub.
            weights: Weights file, a path or a name in the folder. None takes the first of ``model.safetensors``, the
                average of the best epochs and the best epoch.
            cache_dir: Where files of the hub are kept; None: where its own programs keep them.
            token: Access token of the hub; None: that of ``hf auth login`` or ``HF_TOKEN``.
            **options: Keywords of :class:`Separator`; ``peak`` is that of the training unless it is given.

        Raises:
            DataError: A file is missing or damaged.
            CheckpointError: The weights do not fit the configuration.
            EnvironmentProblem: The hub cannot be reached.
        """
        folder = locate_model(source, revision, cache_dir, token)
        config = _read_config(folder)
        checkpoint = find_weights(folder, weights, config.get("best_model_criterion"))
        network = build_for(checkpoint, lambda: build_network(config.get("model"), config.get("model_conf") or {}))
        try:
            load_state(network, load_weights(checkpoint))
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint} is of another model than {folder}/config.yaml: {error}") from error
        options.setdefault("peak", (config.get("preprocessor_conf") or {}).get("peak", PEAK))
        separator = cls(network, device=device, **options)
        separator.checkpoint, separator.origin = checkpoint, Origin(folder, checkpoint)
        if config.get("lips"):
            separator.lips = LipDescription.from_dict(config["lips"], str(folder / "config.yaml"))
        return separator

    def trained_network(self) -> torch.nn.Module:
        """Return the network whose weights are saved."""
        return self.network

    def __call__(
        self,
        mix: AudioLike,
        lips: LipsLike | Sequence[LipsLike] = None,
        *,
        sample_rate: int = CLOCK.sample_rate,
        fps: float | Fraction = CLOCK.fps,
    ) -> np.ndarray:
        """Separate one mixture.

        Args:
            mix: ``(N,)`` samples in [-1, 1] (or int16), or the path of a sound or video file.
            lips: Of one target, or a list with those of several: embeddings ``(T, D)``, mouth crops uint8
                ``(T, H, W)``, a ``.npy``, ``.npz`` or video file with them, a :class:`Lips`, or None where a target's
                lips are not known. An array with one axis more holds several targets. Ignored by networks that
                separate all voices.
            sample_rate: Of an array; anything but 16000 Hz is refused.
            fps: Of lips; anything but 25 is refused.

        Returns:
            ``(K, N)`` float32: a voice for each of the lips (one without any), or all voices of the mixture.

        Raises:
            DataError: Sound or lips have a wrong shape, type, rate or length.
            UsageError: Mouth crops are given without an embedder.
        """
        if sample_rate != CLOCK.sample_rate:
            fix = "resample it first (espnet_av.data.audio_io.resample_audio)"
            raise DataError(describe("wrong sample rate", got=sample_rate, allowed=[CLOCK.sample_rate], fix=fix))
        if fps != CLOCK.fps:
            raise DataError(describe("wrong frame rate of lips", got=fps, allowed=[CLOCK.fps], fix="run stage 2"))
        return self.separate(mix, lips).voices

    def separate(self, mix: AudioLike, lips: LipsLike | Sequence[LipsLike] = None) -> Separation:
        """As :meth:`__call__`, with what is known of the seams between windows."""
        return self.separate_batch([mix], [lips])[0]

    @torch.inference_mode()
    def separate_batch(
        self, mixes: Sequence[AudioLike], lips: Sequence[LipsLike | Sequence[LipsLike]] | None = None
    ) -> list[Separation]:
        """Separate several mixtures; each gives what it gives alone.

        Windows of equal length go through the network together, ``batch_size`` at most; none is padded.

        Args:
            mixes: Mixtures as :meth:`__call__` takes them, of any lengths.
            lips: Lips of each.
        """
        if lips is None:
            lips = [None] * len(mixes)
        if len(mixes) != len(lips):
            usage_error("the batch has unequal numbers of mixtures and lips", got=(len(mixes), len(lips)))
        items = [self._open(mix, each) for mix, each in zip(mixes, lips, strict=True)]
        for batch in _batches((job for item in items for job in item.jobs()), self.batch_size):
            for job, voices in zip(batch, self._run(batch), strict=True):
                job.item.put(job, voices)
        return [self._close(item) for item in items]

    def _open(self, mix: AudioLike, lips: LipsLike | Sequence[LipsLike]) -> "_Item":
        wave = load_audio(mix, CLOCK.sample_rate)
        plan = plan_windows(len(wave), self.windows, CLOCK)
        if not self.with_lips:
            return _Item(wave, None, plan, align=True)
        rows = [self._load_lips(each, len(wave), f"target {i}") for i, each in enumerate(_as_list(lips), 1)]
        return _Item(wave, rows, plan, align=False)

    def _load_lips(self, lips: LipsLike, num_samples: int, name: str) -> Lips | None:
        """Return the lips of one target with exactly the frames of the sound."""
        if lips is None:
            return None
        seen = lips.seen if isinstance(lips, Lips) else None
        embeddings = lips.embeddings if isinstance(lips, Lips) else self._embed(lips, name)
        dim = getattr(self.network, "video_dim", embeddings.shape[-1])
        if embeddings.ndim != 2 or embeddings.shape[1] != dim or embeddings.dtype.kind != "f":
            found = (str(embeddings.dtype), embeddings.shape)
            raise DataError(describe(f"{name}: no lip embeddings of this model", found, f"float (T, {dim})"))
        if not np.isfinite(embeddings).all():
            raise DataError(f"{name}: lip embeddings hold values that are not finite; fix: run stage 4 again")
        embeddings = fit_lips(np.asarray(embeddings, np.float32), num_samples, CLOCK, name)
        if seen is not None:
            seen = fit_lips(np.asarray(seen, bool)[:, None], num_samples, CLOCK, name)[:, 0]
        return Lips(embeddings, seen)

    def _embed(self, lips: str | os.PathLike | np.ndarray | Tensor, name: str) -> np.ndarray:
        """Return the embeddings of one target; of mouth crops through the embedder."""
        if isinstance(lips, (str, os.PathLike)):
            name = os.fspath(lips)
            is_array = Path(name).suffix == ".npy"
            if is_array and load_npy(name, mmap=True).dtype.kind == "f":
                return np.asarray(draw_variant(load_lips(name)))
            lips = read_mouth(name)
        array = lips.detach().cpu().numpy() if isinstance(lips, Tensor) else np.asarray(lips)
        if array.dtype.kind == "f":
            return array
        crops = check_mouth(array, name)
        if self.embedder is None:
            usage_error(
                f"{name}: mouth crops, and no front end to embed them", fix="pass embedder=, or embeddings of stage 4"
            )
        return embed_crops(self.embedder, crops, self.device)

    def _run(self, jobs: Sequence["_Job"]) -> list[np.ndarray]:
        """Return the voices ``(K, n)`` of windows of equal length."""
        gains = [1.0 if self.peak is None else peak_gain(job.wave, self.peak) for job in jobs]
        stacked = np.stack([job.wave * np.float32(gain) for job, gain in zip(jobs, gains, strict=True)])
        mix = torch.from_numpy(stacked).to(self.device)
        if self.with_lips:
            voices = self._extract(mix, [job.lips for job in jobs])
        else:
            voices = self.network(mix)
        waves = voices.float().cpu().numpy()
        return [each / np.float32(gain) for each, gain in zip(waves, gains, strict=True)]

    def _extract(self, mix: Tensor, lips: Sequence[np.ndarray | None]) -> Tensor:
        known = next((each for each in lips if each is not None), None)
        if known is None:
            return self.network(mix, None)
        rows = np.stack([np.zeros_like(known) if each is None else each for each in lips])
        embeddings = torch.from_numpy(rows).to(self.device)
        if all(each is not None for each in lips):
            return self.network(mix, embeddings)
        has_lips = torch.tensor([each is not None for each in lips], device=self.device)
        return self.network(mix, embeddings, has_lips=has_lips)

    def _close(self, item: "_Item") -> Separation:
        voices = np.concatenate(item.finished, axis=1)
        if self.unseen == "mute":
            for voice, lips in zip(voices, item.lips or (), strict=item.lips is not None):
                if lips is not None and lips.seen is not None:
                    voice *= seen_gain(lips.seen, len(voice))
        return Separation(voices, tuple(item.joiner.seams_db), len(item.plan.windows))


@dataclass(frozen=True)
class _Job:
    """One window of one target, or of all targets of a network without lips."""

    item: "_Item"
    window: int
    row: int
    wave: np.ndarray  # (n,)
    lips: np.ndarray | None  # (T, D)


class _Item:
    """A mixture on its way."""

    def __init__(self, wave: np.ndarray, lips: list[Lips | None] | None, plan: WindowPlan, *, align: bool) -> None:
        self.wave, self.lips, self.plan = wave, lips, plan
        self.joiner = WindowJoiner(plan, align=align)
        self.finished: list[np.ndarray] = []
        self._waiting: dict[tuple[int, int], np.ndarray] = {}
        self._next = 0

    def jobs(self) -> Iterator[_Job]:
        """Yield the work, window by window."""
        for index, window in enumerate(self.plan.windows):
            wave = self.wave[window.start : window.end]
            for row, lips in enumerate([None] if self.lips is None else self.lips):
                frames = slice(window.first_frame, window.last_frame)
                if lips is not None and lips.seen is not None and not lips.seen[frames].any():
                    lips = None  # not in view in this window
                yield _Job(self, index, row, wave, None if lips is None else lips.embeddings[frames])

    def put(self, job: _Job, voices: np.ndarray) -> None:
        """Take the result of a job; a window whose targets are all there is joined to those before it."""
        self._waiting[job.window, job.row] = voices
        rows = range(1 if self.lips is None else len(self.lips))
        while all((self._next, row) in self._waiting for row in rows):
            parts = [self._waiting.pop((self._next, row)) for row in rows]
            self.finished.append(self.joiner.add(np.concatenate(parts)))
            self._next += 1


def _batches(jobs: Iterator[_Job], size: int) -> Iterator[list[_Job]]:
    """Collect jobs of equal lengths; those of other lengths wait for theirs."""
    waiting: dict[int, list[_Job]] = {}
    for job in jobs:
        key = len(job.wave)
        waiting.setdefault(key, []).append(job)
        if len(waiting[key]) == size:
            yield waiting.pop(key)
    yield from waiting.values()


def _as_list(lips: LipsLike | Sequence[LipsLike]) -> list[LipsLike]:
    """Return the lips of each target: an array with one axis more than those of one target holds several."""
    if isinstance(lips, (np.ndarray, Tensor)):
        floating = lips.dtype.is_floating_point if isinstance(lips, Tensor) else lips.dtype.kind == "f"
        return list(lips) if lips.ndim == (3 if floating else 4) else [lips]
    if lips is None or isinstance(lips, (str, os.PathLike, Lips)):
        return [lips]
    if not len(lips):
        usage_error("an empty list of lips", fix="pass None for a target whose lips are not known")
    return list(lips)


def seen_gain(seen: np.ndarray, num_samples: int) -> np.ndarray:
    """Return the gain that silences a voice where its face is not in view.

    Args:
        seen: ``(T,)`` bool.
        num_samples: Length of the voice, N.

    Returns:
        ``(N,)`` float32, 0 to 1; it rises and falls over :data:`MUTE_FADE_FRAMES` inside the stretches that are seen.
        Those that touch the start or the end of the recording do not fade there.
    """
    edges = np.flatnonzero(np.diff(np.concatenate([[False], seen, [False]]).astype(np.int8)))
    gain = np.zeros(num_samples, np.float32)
    for first, last in edges.reshape(-1, 2):
        start, end = CLOCK.frames_to_samples(int(first)), min(CLOCK.frames_to_samples(int(last)), num_samples)
        gain[start:end] = 1.0
        length = min(CLOCK.frames_to_samples(MUTE_FADE_FRAMES), (end - start) // 2)
        if first > 0:
            gain[start : start + length] = fade_in(length)
        if last < len(seen):
            gain[end - length : end] = fade_in(length)[::-1]
    return gain


@torch.inference_mode()
def embed_crops(
    embedder: Embedder, crops: np.ndarray, device: str | torch.device = "cpu", chunk: int = EMBED_CHUNK
) -> np.ndarray:
    """Embed a clip of any length piece by piece; the result is that of the whole clip at once.

    Args:
        embedder: The front end; an embedding may depend on :data:`EMBED_CONTEXT` frames to both sides.
        crops: uint8 ``(T, H, W)``.
        device: Where the front end is.
        chunk: Frames computed at a time.

    Returns:
        ``(T, D)`` float32.
    """
    parts = []
    for first in range(0, len(crops), chunk):
        start, end = max(0, first - EMBED_CONTEXT), first + chunk + EMBED_CONTEXT
        piece = torch.from_numpy(np.array(crops[start:end])).unsqueeze(0).to(device)
        parts.append(embedder(piece)[0, first - start : first - start + chunk].float().cpu().numpy())
    return np.concatenate(parts)


def load_state(network: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights strictly: of a training (the names have a prefix), a pack, or published ones in our names.

    Published weights know no absent lips; that embedding may be missing.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape.
    """
    own = network.state_dict()
    known = {key: own[key] for key in EXTRA_KEYS if key in own}
    load_strictly(network, {**known, **network_state(state)})


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.yaml"
    if not path.is_file():
        raise MissingDataError(describe("no model here", got=str(path), fix="run stage 5 (train) or 9 (pack)"))
    try:
        config = read_yaml(path)
    except yaml.YAMLError as error:
        raise DataError(f"{path} is no configuration of a separator ({error})") from error
    if not isinstance(config, dict):
        raise DataError(describe(f"{path} is no configuration of a separator", got=type(config).__name__))
    if "token_list" in config:
        raise UsageError(describe(f"{path} is of a recogniser", fix="use espnet_av.avsr.inference.AVSR"))
    return config

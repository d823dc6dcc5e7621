# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tokens of recordings: the logits of a recogniser of characters, 50 frames a second.

    extractor = TokenExtractor.from_pretrained("wav2vec2")     # or an experiment of avgen_tokens_train
    tokens = extractor.extract(wav16k)                         # (C, N) -> (C, T, 29), T = (N - 400) // 320 + 1

Axes: ``C`` channels, ``N`` samples at 16 kHz, ``T`` token frames, ``K`` the 29 labels.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn

from espnet_av.avgen.clock import TOKEN_HOP, TOKEN_SAMPLE_RATE, TOKEN_WINDOW, token_frames
from espnet_av.avgen.token_labels import NUM_LABELS, labels_to_text
from espnet_av.avgen.vad import MODES, silent_frames
from espnet_av.train.loading import load_into, load_weights
from espnet_av.train.pretrained import find_weights, resolve_device
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe, usage_error
from espnet_av.utils.untrusted import load_npy, read_yaml

MODEL_PREFIX = "tokens."  # what leads the names of a training's weights
CHUNK_SEC = 100.0
CONTEXT_FRAMES = 50  # around a piece, for networks that look at the whole recording
_QUIET = 1e-4  # level of the noise that stands for silence where none was measured


class TokenExtractor:
    """Turn sound into tokens; long recordings piece by piece, without a lost frame.

    Args:
        model: ``(B, N) -> (B, T, K)`` with ``reach``, the frames to each side that a frame depends on, or None: all.
        vad: ``"none"``, or ``"energy"``: silent frames get the vector of silence, so that the voice of the other
            person, faint in a channel, makes no tokens. Training and use need the same setting.
        vad_rules: Keywords of :func:`~espnet_av.avgen.vad.silent_frames`; None: its defaults.
        silence: That vector ``(K,)``; None: the mean of what the model makes of faint noise.
        chunk_sec: Length of a piece in seconds.
        reference_compat: Cut as the published extractor does: pieces without overlap, each of which loses a frame.
        device: Where to compute.

    Raises:
        UsageError: A setting is out of range.
    """

    sample_rate = TOKEN_SAMPLE_RATE

    def __init__(
        self,
        model: nn.Module,
        *,
        vad: str = "none",
        vad_rules: Mapping[str, float] | None = None,
        silence: np.ndarray | None = None,
        chunk_sec: float = CHUNK_SEC,
        reference_compat: bool = False,
        device: str | torch.device = "cpu",
    ) -> None:
        if vad not in MODES:
            usage_error("unknown --vad", vad, MODES)
        self.chunk = int(chunk_sec * TOKEN_SAMPLE_RATE)
        if self.chunk < TOKEN_SAMPLE_RATE:
            usage_error("pieces are too short", f"{chunk_sec} s", "1 s or more")
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval()
        self.vad, self.vad_rules, self.reference_compat = vad, dict(vad_rules or {}), reference_compat
        self._silence: np.ndarray | None = None
        if silence is not None:
            self.set_silence(silence)

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, *, num_heads: int | None = None, **options: Any
    ) -> "TokenExtractor":
        """Load a recogniser.

        Args:
            source: ``"wav2vec2"`` (the file that torchaudio has fetched), a file or folder of wav2vec 2.0, or an
                experiment or pack of ``avgen_tokens_train``.
            num_heads: Of an unusual wav2vec 2.0.
            **options: Those of the class. ``silence`` may be the path of a ``.npy`` file.

        Raises:
            MissingDataError: There is no such model.
            CheckpointError: Its weights cannot be used.
        """
        silence = options.get("silence")
        if isinstance(silence, (str, os.PathLike)):
            options = {**options, "silence": read_silence(silence)}
        path = Path(source).expanduser()
        if (path / "config.yaml").is_file():
            model: nn.Module = _load_trained(path)
        else:
            from espnet_av.avgen.wav2vec2 import load_wav2vec2

            model = load_wav2vec2(source if str(source) == "wav2vec2" else path, num_heads)
        return cls(model, **options)

    @property
    def silence(self) -> np.ndarray:
        """The vector that stands for a silent frame, float32 ``(K,)``."""
        if self._silence is None:
            noise = np.random.default_rng(0).standard_normal((1, 2 * TOKEN_SAMPLE_RATE)).astype(np.float32)
            self._silence = self.logits(_QUIET * noise)[0].mean(axis=0)
        return self._silence

    def set_silence(self, vector: np.ndarray) -> None:
        """Let ``vector (K,)`` stand for silent frames.

        Raises:
            UsageError: It has another shape.
        """
        if np.shape(vector) != (NUM_LABELS,):
            usage_error("the vector of silence has a wrong shape", np.shape(vector), (NUM_LABELS,))
        self._silence = np.asarray(vector, dtype=np.float32)

    def extract(self, wav: np.ndarray | Tensor) -> np.ndarray:
        """Return the tokens of a recording, float32 ``(C, T, K)``.

        Args:
            wav: Sound in [-1, 1] at 16 kHz, ``(C, N)``.

        Raises:
            DataError: Sound of another shape, too short for a frame, or with values that are not finite.
        """
        wav = _checked(wav)
        tokens = self.logits(wav)
        if self.vad == "energy" and not self.reference_compat:
            tokens[silent_frames(wav, **self.vad_rules)] = self.silence
        return tokens

    def transcribe(self, wav: np.ndarray | Tensor) -> list[str]:
        """Return the words of every channel: the best label of each frame, as CTC reads them."""
        return [labels_to_text(channel) for channel in self.logits(_checked(wav)).argmax(-1).tolist()]

    @torch.inference_mode()
    def logits(self, wav: np.ndarray) -> np.ndarray:
        """Return the logits of ``(C, N)`` before any silence is put in, float32 ``(C, T, K)``."""
        sound = torch.from_numpy(np.ascontiguousarray(wav, dtype=np.float32))
        pieces = self._reference_pieces(sound) if self.reference_compat else self._pieces(sound)
        return torch.cat(list(pieces), dim=1).numpy()

    def _run(self, sound: Tensor) -> Tensor:
        return self.model(sound.to(self.device)).float().cpu()

    def _reference_pieces(self, sound: Tensor) -> Iterator[Tensor]:
        for first in range(0, sound.shape[1], self.chunk):
            piece = sound[:, first : first + self.chunk]
            if piece.shape[1] >= TOKEN_WINDOW:
                yield self._run(piece)

    def _pieces(self, sound: Tensor) -> Iterator[Tensor]:
        """Yield the frames of every piece, computed with what lies around it."""
        total, step = token_frames(sound.shape[1]), self.chunk // TOKEN_HOP
        reach: Any = self.model.reach  # a number of frames, or None
        context = CONTEXT_FRAMES if reach is None else reach
        if total <= step:
            yield self._run(sound)
            return
        for first in range(0, total, step):
            last = min(first + step, total)
            begin, end = max(0, first - context), min(total, last + context)
            logits = self._run(sound[:, begin * TOKEN_HOP : (end - 1) * TOKEN_HOP + TOKEN_WINDOW])
            yield logits[:, first - begin : last - begin]

    def measure_silence(self, recordings: Iterable[np.ndarray]) -> np.ndarray:
        """Take the mean logits of the silent frames of recordings as the vector of silence, and return it.

        Args:
            recordings: Sounds ``(C, N)`` at 16 kHz.

        Raises:
            DataError: No recording has a silent frame.
        """
        total, count = np.zeros(NUM_LABELS), 0
        for recording in recordings:
            wav = _checked(recording)
            chosen = self.logits(wav)[silent_frames(wav, **self.vad_rules)]
            total, count = total + chosen.sum(axis=0, dtype=np.float64), count + len(chosen)
        if not count:
            raise DataError("no recording has a silent frame; fix: leave --silence out, or take others")
        self._silence = (total / count).astype(np.float32)
        return self._silence


def read_silence(path: str | os.PathLike) -> np.ndarray:
    """Read the vector of silence from a ``.npy`` file, float32 ``(K,)``.

    Raises:
        MissingDataError: There is no such file.
        DataError: It holds something else.
    """
    if not Path(path).is_file():
        raise MissingDataError(describe("no vector of silence", str(path), fix="run the extraction of tokens first"))
    try:
        vector = load_npy(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is no .npy file ({error})") from error
    if vector.shape != (NUM_LABELS,) or vector.dtype.kind != "f" or not np.isfinite(vector).all():
        raise DataError(describe(f"{path} holds no vector of silence", vector.shape, (NUM_LABELS,)))
    return vector.astype(np.float32)


def _checked(wav: np.ndarray | Tensor) -> np.ndarray:
    wav = np.asarray(wav)
    if wav.ndim != 2 or wav.dtype.kind != "f" or token_frames(wav.shape[-1]) < 1:
        allowed = f"float (channels, {TOKEN_WINDOW} samples or more) at {TOKEN_SAMPLE_RATE} Hz"
        raise DataError(describe("sound has a wrong shape for tokens", (str(wav.dtype), wav.shape), allowed))
    if not np.isfinite(wav).all():
        raise DataError("the sound holds values that are not finite; fix: read the file again")
    return wav


def _load_trained(folder: Path) -> nn.Module:
    from espnet_av.avgen.ctc_tokens import CTCTokens

    try:
        config = read_yaml(folder / "config.yaml")
    except yaml.YAMLError as error:
        raise DataError(f"{folder}/config.yaml is no configuration of a token model ({error})") from error
    if not isinstance(config, dict) or config.get("model") != "ctc_tokens":
        got = config.get("model") if isinstance(config, dict) else type(config).__name__
        raise DataError(describe(f"{folder} holds no token model", got, "ctc_tokens", "give that of stage 4"))
    source = find_weights(folder, None, config.get("best_model_criterion"))
    state = load_weights(source)
    own = {name.removeprefix(MODEL_PREFIX): each for name, each in state.items() if name.startswith(MODEL_PREFIX)}
    try:
        model = CTCTokens(**(config.get("model_conf") or {}))
    except TypeError as error:
        raise UsageError(describe(f"{folder}/config.yaml: model_conf: {error}")) from error
    load_into(model, own or state, strict=True, source=str(source))
    return model

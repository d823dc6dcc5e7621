# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From files to arrays for the two small trainings beside the generator: head VAE and text-to-tokens.

Axes: ``N`` frames of motion, ``T`` frames at the mel rate, ``M`` token frames (50 Hz), ``L`` symbols, ``D`` values.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from espnet_av.avgen.alignment import ctc_durations
from espnet_av.avgen.clock import MEL_RATE, MOTION_RATE, WINDOW_FRAMES, resample_linear
from espnet_av.avgen.pose import HeadStatistics, pose_to_vector
from espnet_av.avgen.text import TextFrontEnd, interleave
from espnet_av.avgen.text_to_tokens import TOKEN_DIM, mel_rate_length
from espnet_av.avgen.token_labels import text_to_labels
from espnet_av.data.data_dir import read_scp
from espnet_av.data.types import load_npy
from espnet_av.utils.errors import DataError, UsageError, describe, usage_error

ALIGNMENTS = ("ctc", "mas")
MOST_FILES = 500  # of a set that statistics are computed from, evenly spread


class HeadPreprocessor:
    """Callable ``(uid, data, rng) -> {"head": (T, D)}`` with poses at the mel rate, in natural units.

    Files hold poses ``(N, 3, 4)``, vectors ``(N, 7)``, or joint angles ``(N, 4)``.

    Args:
        train: Cut a random stretch; validation takes the middle.
        segment_frames: Frames of the stretch at the mel rate; shorter recordings are taken whole.
        fps: Frames of motion a second.
        columns: First column and the one behind the last, of wider files: ``[12, 16]`` are neck and head of
            Audio2Photoreal's body poses.
        reference_compat: Interpolate matrices as the published system does.

    Raises:
        UsageError: A value is out of range.
    """

    def __init__(
        self,
        train: bool,
        *,
        segment_frames: int = WINDOW_FRAMES,
        fps: float = MOTION_RATE,
        columns: Sequence[int] | None = None,
        reference_compat: bool = False,
    ) -> None:
        if segment_frames < 2 or not fps > 0:
            got = (segment_frames, fps)
            usage_error("preprocessor_conf: segment_frames or fps is out of range", got, "2 or more; above 0")
        if columns is not None and not (len(columns) == 2 and 0 <= columns[0] < columns[1]):
            usage_error("preprocessor_conf.columns is no range", columns, "[first, behind the last]")
        self.train, self.segment_frames, self.fps = train, segment_frames, fps
        self.columns, self.reference_compat = columns, reference_compat

    def __repr__(self) -> str:
        return f"{type(self).__name__}(train={self.train}, segment_frames={self.segment_frames}, fps={self.fps})"

    def __call__(self, uid: str, data: Mapping[str, Any], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Return a stretch of one recording.

        Raises:
            DataError: The file holds something else, or too little.
        """
        motion = data["head"]
        if len(motion) < 2:
            raise DataError(describe(f"utterance '{uid}' has too few frames of motion", len(motion), "2 or more"))
        wanted = int(np.ceil(self.segment_frames * self.fps / MEL_RATE)) + 1
        if len(motion) > wanted:
            last = len(motion) - wanted
            start = last // 2
            if self.train:
                start = int((np.random.default_rng() if rng is None else rng).integers(last + 1))
            motion = motion[start : start + wanted]
        return {"head": self.vectors(motion, f"utterance '{uid}'")[: self.segment_frames].numpy()}

    def vectors(self, motion: np.ndarray, what: str = "the file", num_out: int | None = None) -> Tensor:
        """Return poses of one recording as vectors at the mel rate, ``(T, D)``.

        Args:
            motion: As in the file.
            what: Name for messages.
            num_out: Frames to give; None: as many as last as long.

        Raises:
            DataError: These are no poses.
        """
        ratio = MEL_RATE / self.fps if num_out is None else None
        num_out = int(len(motion) * MEL_RATE / self.fps) if num_out is None else num_out
        values = torch.from_numpy(np.array(motion, dtype=np.float32))
        if values.dim() == 3 and tuple(values.shape[1:]) == (3, 4):
            vectors = pose_to_vector(values, num_out, ratio=ratio, reference_compat=self.reference_compat)
        elif values.dim() == 2:
            vectors = resample_linear(values[:, slice(*self.columns)] if self.columns else values, num_out, ratio=ratio)
        else:
            allowed = "(N, 3, 4) rotation | translation, or vectors (N, 7) or (N, 4)"
            raise DataError(describe(f"{what} holds no head poses", values.shape, allowed))
        if not vectors.isfinite().all():
            raise DataError(describe(f"{what} holds values that are no numbers", fix="drop it in stage 3 (filter)"))
        return vectors


class TextTokensPreprocessor:
    """Callable ``(uid, data, rng) -> data`` from a transcript and its tokens to symbols, frames and durations.

    Args:
        symbols: Table of symbols, see :class:`~espnet_av.avgen.text.TextFrontEnd`.
        g2p: See there.
        alignment: ``ctc`` aligns symbols with the tokens here, for ``characters``; ``mas`` leaves it to the model.

    Raises:
        UsageError: A name is unknown, or the alignment does not go with the symbols.
    """

    def __init__(self, symbols: str = "characters", g2p: str | None = None, alignment: str = "ctc") -> None:
        if alignment not in ALIGNMENTS:
            usage_error("unknown alignment", alignment, ALIGNMENTS)
        if alignment == "ctc" and symbols != "characters":
            fix = "set preprocessor_conf.alignment: mas"
            usage_error("only characters are spelled as tokens are", symbols, "characters", fix)
        self.front_end, self.alignment = TextFrontEnd(symbols, g2p), alignment

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.front_end}, alignment={self.alignment!r})"

    def __call__(self, uid: str, data: Mapping[str, Any], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Return ``text`` int64 (L,), ``tokens`` float32 (T, 29), and with CTC ``durations`` int64 (L,).

        Raises:
            DataError: The transcript cannot be spoken, the tokens have another form, or the two do not fit.
        """
        tokens = read_actor_tokens(data["tokens"], f"utterance '{uid}'")
        num_frames = mel_rate_length(len(tokens))
        try:
            cleaned = self.front_end.clean(data["text"])
            ids = interleave([self.front_end.numbers[character] for character in cleaned])
            item = {"text": np.array(ids, dtype=np.int64), "tokens": resample_linear(tokens, num_frames).numpy()}
            if self.alignment == "ctc":
                counts = ctc_durations(tokens, torch.tensor(text_to_labels(cleaned)))
                item["durations"] = scale_durations(counts, num_frames).numpy()
            elif len(ids) > num_frames:
                raise DataError(describe("there are more symbols than frames", len(ids), f"up to {num_frames}"))
        except (DataError, UsageError) as error:
            raise DataError(f"utterance '{uid}': {error}") from error
        return item


def read_actor_tokens(tokens: np.ndarray, what: str = "the file") -> Tensor:
    """Return the tokens of the first speaker, float32 ``(M, 29)``.

    Args:
        tokens: ``(M, 29)``, or ``(speakers, M, 29)``.
        what: Name for messages.

    Raises:
        DataError: They have another form, or are no numbers.
    """
    if tokens.ndim == 3 and len(tokens):
        tokens = tokens[0]
    if tokens.ndim != 2 or tokens.shape[-1] != TOKEN_DIM or len(tokens) == 0:
        allowed = f"(M, {TOKEN_DIM}) or (speakers, M, {TOKEN_DIM})"
        raise DataError(describe(f"{what} holds no tokens", tokens.shape, allowed, "run stage 4 (tokens) again"))
    values = torch.from_numpy(np.array(tokens, dtype=np.float32))
    if not values.isfinite().all():
        raise DataError(describe(f"{what} holds tokens that are no numbers", fix="run stage 4 (tokens) again"))
    return values


def scale_durations(counts: Tensor, num_frames: int) -> Tensor:
    """Bring durations to another rate; ends of symbols are rounded to the nearest frame.

    Args:
        counts: int64 ``(L,)``.
        num_frames: Sum of the result.

    Returns:
        int64 ``(L,)``.
    """
    ends = (counts.cumsum(dim=0).double() * (num_frames / int(counts.sum())) + 0.5).floor().long()
    return torch.diff(ends, prepend=ends.new_zeros(1))


def head_statistics(path: str | os.PathLike, preprocessor: HeadPreprocessor) -> HeadStatistics:
    """Return mean and deviation of the poses of a set.

    Args:
        path: ``key file`` lines of the recordings.
        preprocessor: Reads them.

    Raises:
        DataError: A file holds something else.
    """
    parts, first = [], None
    for uid, file in _spread(read_scp(path)):
        vectors = preprocessor.vectors(load_npy(file), f"utterance '{uid}' ({file})")
        if len(vectors) and vectors.shape[-1] == 7:
            first = vectors[0, :4] if first is None else first
            sign = torch.where((vectors[:, :4] @ first).mean() < 0, -1.0, 1.0)  # of two quaternions, the same for all
            vectors = torch.cat((vectors[:, :4] * sign, vectors[:, 4:]), dim=-1)
        parts.append(vectors)
    return HeadStatistics.from_vectors(torch.cat(parts))


def token_statistics(path: str | os.PathLike) -> tuple[float, float]:
    """Return mean and deviation of all values of the tokens of a set.

    Args:
        path: ``key file`` lines of the recordings.

    Raises:
        DataError: A file holds something else.
    """
    count, total, squares = 0, 0.0, 0.0
    for uid, file in _spread(read_scp(path)):
        values = read_actor_tokens(load_npy(file), f"utterance '{uid}' ({file})").double()
        count, total, squares = count + values.numel(), total + float(values.sum()), squares + float((values**2).sum())
    mean = total / count
    return mean, max(squares / count - mean**2, 1e-12) ** 0.5


def _spread(table: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return at most :data:`MOST_FILES` entries, evenly spread."""
    items = list(table.items())
    return items[:: -(-len(items) // MOST_FILES)] if items else items

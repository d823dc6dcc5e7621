# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Windows of sound, motion and tokens on one clock, cut out of recordings of any length.

Training draws a new start for every window in every pass, so that all frames are equally likely; validation always
looks at the same windows. :func:`open_windows` reads data folders (``wav.scp face.scp head.scp tokens.scp``), folders
in the 50h layout and folders of one person of Audio2Photoreal.

Axes: ``T`` frames at the mel rate, ``D`` values of a frame.
"""

import logging
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_av.avgen.clock import WINDOW_FRAMES
from espnet_av.avgen.layouts import find_layout
from espnet_av.avgen.mel import REFERENCE_GAIN, MelSpectrogram, resample
from espnet_av.avgen.participant import PARTNER, PARTS
from espnet_av.avgen.pose import pose_to_vector
from espnet_av.avgen.recordings import (
    Extent,
    Recording,
    gaps_of,
    measure,
    positions,
    read_at,
    read_repaired,
    read_sound,
    read_voice,
)
from espnet_av.data.data_dir import DataDir
from espnet_av.data.types import load_npy
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error

logger = logging.getLogger(__name__)

CONTEXT = 4  # mel frames that a frame of the mel reaches to each side
MIN_FRAMES = 32
UPRIGHT = (1.0, 0.0, 0.0, 0.0)
SUBSETS = ("all", "train", "valid", "test")
_SEED = 71


class Windows:
    """Map-style set of windows.

    Args:
        recordings: What to cut.
        train: Draw starts at random.
        participant: Give the partner's tokens, expression and head too.
        seed: Of the starts.
        segment_length: Frames of a window; a shorter recording is one window.
        gain: Sound is divided by this first; 1.1 in the published system.
        head_reference: Quaternion ``w x y z``; of the two signs of a window's rotations, that on its side is taken.
        reference_compat: Cut as the published system does: the mel of a window knows nothing of what is around it,
            rotations are interpolated as matrices, signs jump, ``gain`` is 1.1, the frame rate is rounded.
        max_dropped_share: More recordings that cannot be used than this share are an error.

    Raises:
        UsageError: A value is out of range.
        DataError: No recording, or too few of them, can be used.
    """

    def __init__(
        self,
        recordings: Sequence[Recording],
        *,
        train: bool,
        participant: bool = False,
        seed: int = 0,
        segment_length: int = WINDOW_FRAMES,
        gain: float = 1.0,
        head_reference: Sequence[float] = UPRIGHT,
        reference_compat: bool = False,
        max_dropped_share: float = 0.1,
    ) -> None:
        if segment_length < 2 or not gain > 0 or len(head_reference) != 4:
            allowed = "segment_length of 2 or more, gain above 0, head_reference of 4 values"
            usage_error("dataset_conf is out of range", (segment_length, gain, list(head_reference)), allowed)
        self.train, self.participant, self.seed, self.segment_length = train, participant, seed, segment_length
        self.reference_compat = reference_compat
        self.head_reference = torch.tensor([float(value) for value in head_reference])
        self._mel = MelSpectrogram(gain=REFERENCE_GAIN if reference_compat else gain)
        self.recordings: dict[str, tuple[Recording, Extent]] = {}
        self.dropped: dict[str, str] = {}
        for recording in recordings:
            try:
                self.recordings[recording.uid] = (recording, self._check(recording))
            except DataError as error:
                self.dropped[recording.uid] = str(error)
        self._report(len(recordings), max_dropped_share)
        self.masked = any(recording.missing is not None for recording, _ in self.recordings.values())
        self.lengths: dict[str, int] = {}
        for uid, (_, extent) in self.recordings.items():
            for number in range(max(1, extent.frames // segment_length)):
                self.lengths[f"{uid}#{number:04d}"] = min(segment_length, extent.frames)
        self.keys = list(self.lengths)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"Windows({len(self)} of {len(self.recordings)} recordings, segment_length={self.segment_length})"

    def __getitem__(self, key: tuple[int, str]) -> tuple[str, dict[str, np.ndarray]]:
        """Return a window of a pass, ``(id, streams)``; see :meth:`cut`."""
        number, window = key
        uid, index = window.rsplit("#", 1)
        frames, length = self.recordings[uid][1].frames, self.lengths[window]
        last = frames - length
        if self.train:
            rng = np.random.default_rng([self.seed, _SEED, number, zlib.crc32(window.encode())])
            start = int(rng.integers(last + 1))
        else:
            count = max(1, frames // self.segment_length)
            start = last * int(index) // (count - 1) if count > 1 else last // 2
        return window, self.cut(uid, start, length)

    def cut(self, uid: str, start: int, length: int) -> dict[str, np.ndarray]:
        """Return a stretch of one recording, all float32 but ``valid``.

        Args:
            uid: The recording.
            start: First frame at the mel rate.
            length: T.

        Returns:
            ``mel (T, 80)`` natural logarithm, ``face (T, 256)``, ``head (T, 7)`` or ``(T, 4)``, ``tokens (T, 29)``; in
            a set with lost frames ``valid (T,)`` bool; with a partner ``other_tokens (T, 29)``,
            ``other_expression (T, 55)`` and ``other_head (T, 3)``, all in natural units.

        Raises:
            DataError: A file holds something else.
        """
        recording, extent = self.recordings[uid]
        where = positions(start, length, extent.ratio)
        face, valid = self._face(recording, extent, where)
        item = {
            "mel": self._cut_mel(recording, extent, start, length),
            "face": face,
            "head": self._head(recording, where),
        }
        tokens = _channels_of(_load(uid, recording.tokens))
        token_positions = positions(start, length, extent.token_ratio)
        item["tokens"] = read_at(tokens[0], token_positions)
        if self.masked:
            item["valid"] = valid
        if self.participant:
            item["other_tokens"] = read_at(tokens[1], token_positions)
            item["other_expression"] = read_at(_load(uid, recording.other_expression), where)
            item["other_head"] = read_at(_load(uid, recording.other_head), where)
        bad = [name for name, values in item.items() if values.dtype.kind == "f" and not np.isfinite(values).all()]
        if bad:
            raise DataError(describe(f"'{uid}' holds values that are no numbers", bad, fix="drop the recording"))
        return item

    def sound(self, uid: str, start: int, length: int) -> np.ndarray:
        """Return all channels of a stretch at the file's rate, float32 ``(channels, samples)``."""
        recording, extent = self.recordings[uid]
        return read_sound(recording, extent, start, length)

    def _check(self, recording: Recording) -> Extent:
        extent = measure(recording, reference_compat=self.reference_compat)
        least = min(MIN_FRAMES, self.segment_length)
        if extent.frames < least:
            raise DataError(describe(f"'{recording.uid}' is too short", f"{extent.frames} frames", f">= {least}"))
        gaps = gaps_of(recording, extent.motion)
        if gaps is not None and not gaps.valid.any():
            raise DataError(f"the face of '{recording.uid}' was never seen")
        if self.participant:
            _check_partner(recording)
        return extent

    def _report(self, total: int, max_share: float) -> None:
        if not total:
            raise DataError(describe("there are no recordings in this part of the data", fix="check folder and subset"))
        if not self.dropped:
            return
        first = next(iter(self.dropped.values()))
        if not self.recordings or len(self.dropped) > max_share * total:
            what = f"{len(self.dropped)} of {total} recordings cannot be used, the first because: {first}"
            fix = "mend the data, or raise max_dropped_share" if self.recordings else "mend the data"
            raise DataError(describe(what, allowed=f"a share of {max_share:g} (max_dropped_share)", fix=fix))
        logger.warning("%d of %d recordings are left out; the first: %s", len(self.dropped), total, first)

    def _face(self, recording: Recording, extent: Extent, where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        stream = load_npy(recording.face)
        gaps = gaps_of(recording, extent.motion)
        if gaps is None:
            return read_at(stream, where), np.ones(len(where), dtype=bool)
        return read_repaired(stream, where, gaps)

    def _head(self, recording: Recording, where: np.ndarray) -> np.ndarray:
        stream = load_npy(recording.head)
        if stream.ndim == 2:
            return read_at(stream[:, slice(*recording.columns)] if recording.columns else stream, where)
        if self.reference_compat:
            return pose_to_vector(torch.from_numpy(read_at(stream, where)), reference_compat=True).numpy()
        first = int(where[0])
        poses = torch.from_numpy(np.array(stream[first : int(where[-1]) + 2], dtype=np.float64))
        vectors = pose_to_vector(poses)  # quaternions whose signs agree
        if vectors[0, :4] @ self.head_reference.double() < 0:
            vectors[:, :4] *= -1
        values = torch.from_numpy(read_at(vectors.numpy(), where - first))
        values[:, :4] /= values[:, :4].norm(dim=-1, keepdim=True).clamp_min(1e-8)
        return values.numpy()

    def _cut_mel(self, recording: Recording, extent: Extent, start: int, length: int) -> np.ndarray:
        if self.reference_compat:
            wave = torch.from_numpy(read_sound(recording, extent, start, length)[:1])
            sound, before = resample(wave, extent.rate, self._mel.config.sample_rate), 0
            sound = sound[:, : length * self._mel.config.hop_length]
        else:
            voice, before = read_voice(recording, extent, start, length, CONTEXT)
            sound = torch.from_numpy(voice)[None]
        mel = self._mel(sound)[0].T[before : before + length]
        return np.ascontiguousarray(mel.numpy())


def open_windows(
    folder: str | os.PathLike,
    *,
    train: bool,
    participant: bool = False,
    seed: int = 0,
    subset: str | None = None,
    split: str = "a2p",
    token_dir: str | None = None,
    **options: Any,
) -> Windows:
    """Open the windows of a data folder, a folder in the 50h layout or a person's folder of Audio2Photoreal.

    Args:
        folder: The folder.
        train: Whether to draw starts at random.
        participant: Give the partner too; recordings without one cannot be used.
        seed: Of the starts.
        subset: Recordings of a published layout: ``train``, ``valid``, ``test`` or ``all``; None: as ``train`` says.
            A data folder is taken whole.
        split: Rule that divides Audio2Photoreal: ``a2p`` or ``avflow``.
        token_dir: Folder of the tokens below a published layout; None: the first of the usual ones that is there.
        **options: Those of :class:`Windows`.

    Raises:
        UsageError: An option is unknown.
        MissingDataError: The folder has none of the known forms.
        DataError: No recording, or too few of them, can be used.
    """
    subset = subset or ("train" if train else "valid")
    if subset not in SUBSETS:
        usage_error("unknown dataset_conf.subset", subset, SUBSETS)
    recordings, reference = find_recordings(folder, subset=subset, split=split, token_dir=token_dir)
    if reference is not None:
        options.setdefault("head_reference", reference)
    try:
        return Windows(recordings, train=train, participant=participant, seed=seed, **options)
    except TypeError as error:
        raise does_not_fit(error, "dataset_conf", options) from error


def find_recordings(
    folder: str | os.PathLike, *, subset: str = "all", split: str = "a2p", token_dir: str | None = None
) -> tuple[list[Recording], list[float] | None]:
    """Return the recordings of a folder in any of the known forms, and its mean quaternion where it has one.

    Raises:
        MissingDataError: The folder has none of the known forms.
    """
    folder = Path(folder)
    layout = find_layout(folder)
    if layout is not None:
        return layout.find(folder, subset=subset, split=split, token_dir=token_dir)
    return _read_data_dir(DataDir(folder)), None


def _read_data_dir(data: DataDir) -> list[Recording]:
    tables = {}
    for name in ("wav", "face", "head", "tokens"):
        if not data.has(f"{name}.scp"):
            allowed = "a data folder (wav.scp face.scp head.scp tokens.scp), the 50h layout, or Audio2Photoreal"
            raise MissingDataError(describe(f"{data.path} has no {name}.scp", allowed=allowed, fix="run stages 1 to 4"))
        tables[name] = data.read(f"{name}.scp")
    if data.has("segments"):
        raise DataError(describe(f"{data.path} has segments", fix="cut the recordings first; windows take whole files"))
    for name in ("missing", "other_expression", "other_head"):
        tables[name] = data.read(f"{name}.scp") if data.has(f"{name}.scp") else {}
    texts = data.read("text", allow_empty=True) if data.has("text") else {}
    fps = float(data.meta.get("motion_fps") or Recording.fps)
    found = []
    for uid, wav in tables["wav"].items():
        face, head = tables["face"].get(uid), tables["head"].get(uid)
        if face is None or head is None:
            raise DataError(describe(f"{data.path}: '{uid}' has no face or no head", fix="run stage 2 again"))
        found.append(
            Recording(
                *(uid, wav, face, head),
                tokens=tables["tokens"].get(uid),
                missing=tables["missing"].get(uid),
                other_expression=tables["other_expression"].get(uid),
                other_head=tables["other_head"].get(uid),
                text=texts.get(uid),
                fps=fps,
            )
        )
    return found


def _check_partner(recording: Recording) -> None:
    """Refuse a recording whose partner's face or voice is not known, with the names of the files."""
    fix = "add the partner's files, or train without participant_cond"
    streams = {name: getattr(recording, name) for name in ("other_expression", "other_head")}
    missing = [name for name, path in streams.items() if path is None]
    if missing:
        places = f"{PARTNER}/{recording.uid}--{{{','.join(PARTS)}}}.npy, or other_expression.scp and other_head.scp"
        got = f"no {', no '.join(missing)}"
        raise MissingDataError(describe(f"'{recording.uid}' has no face of its partner", got, places, fix))
    shape = _load(recording.uid, recording.tokens).shape
    if len(shape) != 3 or shape[0] < 2:
        what = f"the tokens of '{recording.uid}' have no channel of its partner ({recording.tokens})"
        raise MissingDataError(describe(what, shape, "(2, M, 29)", fix))


def _load(uid: str, path: str | None) -> np.ndarray:
    if path is None:
        raise MissingDataError(describe(f"'{uid}' has no tokens, or no partner", fix="run stages 2 to 4"))
    return load_npy(path)


def _channels_of(tokens: np.ndarray) -> np.ndarray:
    return tokens if tokens.ndim == 3 else tokens[None]

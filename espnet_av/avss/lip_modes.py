# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Whose lips a network is shown when a test set is separated: the right ones, or wrong ones to see that it looks.

Axes: ``T`` video frames, ``D`` width of lip embeddings.
"""

import logging
import os
from collections.abc import Sequence

import numpy as np

from espnet_av.avss.inference import LipsLike, Separator
from espnet_av.avss.lips import draw_variant, load_lips, read_description, require_same_front_end
from espnet_av.data.data_dir import DataDir, read_ints
from espnet_av.data.mixture_dir import SAMPLES_PER_FRAME, SPEAKERS
from espnet_av.utils.errors import DataError, MissingDataError, describe

logger = logging.getLogger(__name__)
LIPS_MODES = ("own", "swapped", "other", "none")


class LipTables:
    """The lips of the mixtures of a data folder.

    Args:
        data: The folder, with ``lips_s1.scp`` and ``lips_s2.scp``; where the separator has an embedder, mouth crops
            (``mouth_s1.scp``, ``mouth_s2.scp``) do in all modes but ``other``.
        separator: A separator that looks at lips.
        mode: ``own``, ``swapped``, ``other`` or ``none``; see :class:`~espnet_av.avss.separate_set.InferOptions`.

    Raises:
        MissingDataError: The folder has no lips.
        DataError: They are of another front end than the model's, or there is no other mixture.
    """

    def __init__(self, data: DataDir, separator: Separator, mode: str = "own") -> None:
        self.mode = mode
        self.data = data
        if mode == "none":
            return
        crops_do = separator.embedder is not None and mode != "other"
        prefix = "mouth" if crops_do and not data.has("lips_s1.scp") else "lips"
        missing = [name for name in (f"{prefix}_{speaker}.scp" for speaker in SPEAKERS) if not data.has(name)]
        if missing:
            fix = "run stage 4 (embed_lips), or pass --lip_frontend where there are mouth crops"
            raise MissingDataError(describe(f"{data.path} has no lips, and the model looks at them", missing, fix=fix))
        self.tables = [data.read(f"{prefix}_{speaker}.scp") for speaker in SPEAKERS]
        if prefix == "lips":
            _check_front_end(data, separator)
        self._lengths: dict[str, int] = {}
        if mode == "other":
            self._others = self._find_others()
            if data.has("utt2num_samples"):
                self._lengths = read_ints(data / "utt2num_samples")

    def find(self, uid: str) -> Sequence[LipsLike]:
        """Return the lips for each output of a mixture: files, embeddings, or one None for mode ``none``.

        Raises:
            DataError: The folder lists none for this mixture.
        """
        if self.mode == "none":
            return [None]
        if self.mode == "own":
            return self._paths(uid)
        if self.mode == "swapped":
            return self._paths(uid)[::-1]
        frames = max(1, -(-self._num_samples(uid) // SAMPLES_PER_FRAME))
        return [stretch(draw_variant(load_lips(path)), frames) for path in self._paths(self._others[uid])]

    def _num_samples(self, uid: str) -> int:
        if uid in self._lengths:
            return self._lengths[uid]
        from espnet_av.data.audio_io import probe_audio

        return probe_audio(self.data.read("mix.scp")[uid])[0]

    def _paths(self, uid: str) -> list[str]:
        missing = [name for name, table in zip(SPEAKERS, self.tables, strict=True) if uid not in table]
        if missing:
            raise DataError(describe(f"mixture '{uid}' has no lips", missing, fix="run stage 4 (embed_lips) again"))
        return [table[uid] for table in self.tables]

    def _find_others(self) -> dict[str, str]:
        """Return for each mixture the next one, cyclically, that has no clip in common with it."""
        uids = sorted(set.intersection(*(set(table) for table in self.tables)))
        listed = self.data.read("utt2clips") if self.data.has("utt2clips") else {}
        clips = {uid: {*(table[uid] for table in self.tables), *listed.get(uid, "").split()} for uid in uids}
        others = {}
        for index, uid in enumerate(uids):
            later = uids[index + 1 :] + uids[:index]
            found = next((other for other in later if not clips[uid] & clips[other]), None)
            if found is None:
                fix = "use a larger set, or another lips_mode"
                raise DataError(describe(f"lips_mode other: all mixtures share a clip with '{uid}'", fix=fix))
            others[uid] = found
        return others


def _check_front_end(data: DataDir, separator: Separator) -> None:
    if separator.lips is None:
        logger.warning("it is not known which lip front end the model was trained with, so it cannot be checked")
        return
    try:
        found = read_description(data.path)
    except MissingDataError as error:
        logger.warning("the front end of the lips cannot be checked: %s", error)
        return
    require_same_front_end(separator.lips, found, os.fspath(data.path))


def stretch(lips: np.ndarray, num_frames: int) -> np.ndarray:
    """Cut lips ``(T, D)`` to a length, or let them go on backwards and forwards: ``(num_frames, D)``."""
    if len(lips) == 1:
        return np.repeat(np.asarray(lips), num_frames, axis=0)
    period = 2 * (len(lips) - 1)
    index = np.arange(num_frames) % period
    return np.asarray(lips)[np.minimum(index, period - index)]

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a generator is told of the recordings of a test set: tokens of their sound or text, and the partner.

Of a data folder: ``tokens.scp`` and ``wav.scp`` for the tasks ``audio`` and ``tokens``, ``text`` for ``text``, and for
conversations ``other_expression.scp`` and ``other_head.scp``. The published layouts are read as they are.

Axes: ``T`` frames at the mel rate, ``M`` token frames, ``F`` frames of motion.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from espnet_av.avgen.clock import MEL_RATE, MOTION_RATE, mel_frames, resample_linear
from espnet_av.avgen.generator_parts import read_array
from espnet_av.avgen.layouts import find_layout
from espnet_av.avgen.participant import PARTNER_DRIFT_SEC
from espnet_av.avgen.presets import PARTNER_DIMS
from espnet_av.avgen.recordings import Recording
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import sha256_file

if TYPE_CHECKING:
    from espnet_av.avgen.generate_set import GenerateOptions
    from espnet_av.avgen.inference import AVGenerator

logger = logging.getLogger(__name__)
TASKS = ("audio", "tokens", "text")
PARTNERS = ("own", "none", "other")
_TABLES = {
    "wav": "wav.scp",
    "tokens": "tokens.scp",
    "text": "text",
    "other_expression": "other_expression.scp",
    "other_head": "other_head.scp",
}


@dataclass(frozen=True)
class Told:
    """What the generator is told of one recording.

    Attributes:
        uid: Its id.
        tokens: ``(T, 29)``.
        partner: The partner's streams, ``(T, ...)``; None: there is none.
        seconds: That it took to make the tokens.
    """

    uid: str
    tokens: Tensor
    partner: dict[str, Tensor] | None
    seconds: float = 0.0


class SetInput:
    """Reads the recordings of a folder.

    Args:
        folder: A data folder, or a folder in a published layout.
        generator: Its models make tokens of text and sound.
        options: Task, partner, speed, seed and longest duration.

    Attributes:
        keys: Ids of the recordings.
        fps: Rate of their motion.

    Raises:
        MissingDataError: A table that the task needs is not there.
        UsageError: The partner is asked for of a model that knows none.
    """

    def __init__(self, folder: str | os.PathLike, generator: "AVGenerator", options: "GenerateOptions") -> None:
        self.folder, self.generator, self.options = Path(folder), generator, options
        self.name = self.folder.name
        self.recordings = _read_recordings(self.folder, options.task)
        self.keys = list(self.recordings)
        self.fps = next(iter(self.recordings.values())).fps if self.recordings else MOTION_RATE
        self._with_partner = generator.in_conversation and options.partner != "none"
        if options.partner == "other" and not generator.in_conversation:
            usage_error("this model knows no partner", "partner: other", fix="take a model with participant_cond: true")
        self._lengths: dict[str, int] = {}
        self._digests: dict[str, str] = {}

    def digest(self) -> str:
        """Return a digest of the tables of the folder."""
        listed = {uid: vars(recording) for uid, recording in self.recordings.items()}
        return hashlib.sha256(json.dumps(listed, sort_keys=True, default=str).encode()).hexdigest()

    def content(self, uid: str) -> str:
        """Return a digest of what lies in the files that :meth:`read` reads."""
        recording = self.recordings[uid]
        files: list[str | None] = [] if self.options.task == "text" else [recording.tokens or recording.wav]
        if self._with_partner:
            other = self.recordings[self._partner_uid(uid)]
            files += [other.tokens or other.wav, other.other_expression, other.other_head]
        found = [self.length(uid), *map(self._digest_of, files)]
        return hashlib.sha256(json.dumps(found).encode()).hexdigest()

    def _digest_of(self, file: str | None) -> str:
        name = str(file)
        if name not in self._digests:
            self._digests[name] = sha256_file(name) if file is not None and Path(name).is_file() else ""
        return self._digests[name]

    def length(self, uid: str) -> int:
        """Return about how long a recording is: frames, or letters where there is only text."""
        if uid not in self._lengths:
            recording = self.recordings[uid]
            try:
                known = len(recording.text or "") if self.options.task == "text" else self._frames(recording)
            except DataError:  # reading it will tell
                known = 0
            self._lengths[uid] = known
        return self._lengths[uid]

    def by_length(self, uids: Iterable[str]) -> list[str]:
        """Put recordings of equal length next to each other."""
        if self.options.batch_size == 1:
            return list(uids)
        return sorted(uids, key=lambda uid: (self.length(uid), uid))

    def read(self, uid: str) -> Told:
        """Return what the generator is told.

        Raises:
            DataError: A file is missing or cannot be used.
            UsageError: The text cannot be spoken.
        """
        recording = self.recordings[uid]
        start = time.perf_counter()
        if self.options.task == "text":
            if recording.text is None:
                raise MissingDataError(describe(f"'{uid}' has no text", fix=f"add it to {self.folder / 'text'}"))
            tokens = self.generator.read_text(recording.text, seed=self.options.seed, speed=self.options.speed)[0]
        else:
            tokens = self._channels(recording)[0]
        seconds = time.perf_counter() - start
        if self.options.max_seconds:
            tokens = tokens[: max(1, round(self.options.max_seconds * MEL_RATE))]
        partner = self._partner(uid, len(tokens)) if self._with_partner else None
        return Told(uid, tokens, partner, seconds)

    def _channels(self, recording: Recording) -> Tensor:
        """Return the tokens of everybody who is heard, ``(C, T, 29)``."""
        if recording.tokens is None:
            if self.options.task == "tokens" or recording.wav is None:
                fix = "run stage 4 (tokens), or take --task audio"
                raise MissingDataError(describe(f"'{recording.uid}' has no tokens in {self.folder}", fix=fix))
            return self.generator.read_sound(recording.wav)
        tokens = torch.from_numpy(read_array(recording.tokens, (2, 3), self.generator.model.token_dim))
        tokens = tokens if tokens.dim() == 3 else tokens.unsqueeze(0)
        frames = self._frames(recording)
        expected = tokens.shape[1] * 320 / 16000 * MEL_RATE
        if abs(frames - expected) > 5 + 0.01 * expected:
            got = f"{tokens.shape[1]} frames for {frames / MEL_RATE:.2f} s of sound"
            fix = "extract the tokens again (stage 4): they must come from this sound, at 50 frames a second"
            raise DataError(describe(f"{recording.tokens}: tokens of another rate", got, "50 frames a second", fix))
        return resample_linear(tokens, frames, 1)

    def _frames(self, recording: Recording) -> int:
        """Return the mel frames of a recording: those of its sound, or of its tokens where there is no sound."""
        if recording.wav is None:
            from espnet_av.avgen.text_to_tokens import mel_rate_length

            shape = read_array(recording.tokens, (2, 3), self.generator.model.token_dim).shape
            return mel_rate_length(shape[-2])
        import soundfile

        try:
            sound = soundfile.info(recording.wav)
        except (soundfile.SoundFileError, OSError, RuntimeError) as error:
            raise DataError(f"{recording.wav}: cannot be read as sound ({error}); fix: drop the recording") from error
        return max(1, mel_frames(sound.frames, sound.samplerate))

    def _partner_uid(self, uid: str) -> str:
        """Return the recording whose partner is heard."""
        if self.options.partner != "other":
            return uid
        return self.keys[(self.keys.index(uid) + 1) % len(self.keys)]

    def _partner(self, uid: str, num_frames: int) -> dict[str, Tensor]:
        """Return the partner's streams, cut to the actor's frames, or held where that is of another length.

        Raises:
            DataError: Files are missing, or end before the sound of their own recording.
        """
        uid = self._partner_uid(uid)
        recording = self.recordings[uid]
        missing = [name for name in ("other_expression", "other_head") if getattr(recording, name) is None]
        if missing:
            fix = "add the partner's files, or pass --partner none"
            raise MissingDataError(describe(f"'{uid}' of {self.folder} has no partner", f"no {missing}", fix=fix))
        channels = self._channels(recording)
        if len(channels) < 2:
            allowed = "2 channels: actor and partner"
            fix = "extract the tokens of both channels, or pass --partner none"
            raise DataError(describe(f"'{uid}': there are no tokens of the partner", len(channels), allowed, fix))
        needed = min(num_frames, channels.shape[1])
        streams = {"other_tokens": channels[1]}
        for name in ("other_expression", "other_head"):
            width = PARTNER_DIMS[name.removeprefix("other_")]
            array = torch.from_numpy(read_array(getattr(recording, name), (2,), width))
            streams[name] = resample_linear(array, max(1, round(len(array) / recording.fps * MEL_RATE)), 0)
            if needed - len(streams[name]) > PARTNER_DRIFT_SEC * MEL_RATE:
                what = f"'{uid}': the partner is shorter than the actor: {getattr(recording, name)}"
                got, allowed = f"{len(streams[name]) / MEL_RATE:.2f} s", f"{needed / MEL_RATE:.2f} s or more"
                fix = "extract the partner's face again, or pass --partner none"
                raise DataError(describe(what, got, allowed, fix))
        if num_frames - needed > PARTNER_DRIFT_SEC * MEL_RATE:
            what = "'%s': the partner ends after %.2f s and keeps still for the rest, %.2f s"
            logger.warning(what, uid, needed / MEL_RATE, (num_frames - needed) / MEL_RATE)
        return {name: _fit(stream, num_frames) for name, stream in streams.items()}


def _fit(stream: Tensor, num_frames: int) -> Tensor:
    """Cut ``(T, D)``, or hold its last frame."""
    if len(stream) >= num_frames:
        return stream[:num_frames]
    return torch.cat((stream, stream[-1:].expand(num_frames - len(stream), -1)))


def _read_recordings(folder: Path, task: str) -> dict[str, Recording]:
    if not folder.is_dir():
        raise MissingDataError(describe("no data folder", str(folder), fix="run stages 1 to 4 first"))
    layout = find_layout(folder)
    if layout is not None:
        return {each.uid: each for each in layout.find(folder, subset="test")[0]}
    data = DataDir(folder)
    tables: dict[str, dict[str, str]] = {
        name: data.read(file, allow_empty=name == "text") if data.has(file) else {} for name, file in _TABLES.items()
    }
    needed = {"text": ("text",), "tokens": ("tokens",), "audio": ("tokens", "wav")}[task]
    main = next((tables[name] for name in needed if tables[name]), None)
    if main is None:
        files = " or ".join(_TABLES[name] for name in needed)
        raise MissingDataError(describe(f"{folder} has no {files}, which --task {task} reads", fix="run stages 1 to 4"))
    fps = float(data.meta.get("motion_fps") or MOTION_RATE)
    found = {}
    for uid in main:
        values: dict[str, Any] = {name: table.get(uid) for name, table in tables.items()}
        found[uid] = replace(Recording(uid, values.pop("wav"), "", "", fps=fps), **values)
    return found

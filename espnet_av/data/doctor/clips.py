# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the doctor looks at: the clips of a data folder of any task, or of a folder of plain sound or video files."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_av.data.data_dir import DataDir
from espnet_av.data.validate import VIDEO_SUFFIXES
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe

SOUND_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3", ".sph", ".m4a")
SPEAKERS = ("s1", "s2")  # of a folder of mixtures


@dataclass(frozen=True)
class Clip:
    """One thing to look at.

    Attributes:
        set_name: The set it belongs to.
        utt: Id of the utterance.
        part: ``s1`` or ``s2`` for a talker of a mixture, ``mix`` for the mixture itself, else empty.
        sound: Sound file, or the clip whose sound track is meant; None for pictures alone.
        crops: File of mouth crops; None without.
        video: Clip with pictures; None without.
        text: Transcript; None where the set has none.
        speaker: Speaker; the id itself where none is known.
        span_sec: Start and end of the sound in its file; None: all of it.
        num_samples: Length as the tables say, at ``sample_rate``; None where they do not.
        num_frames: Number of video frames as the tables say.
        sample_rate: Rate that ``num_samples`` counts at.
    """

    set_name: str
    utt: str
    part: str = ""
    sound: str | None = None
    crops: str | None = None
    video: str | None = None
    text: str | None = None
    speaker: str = ""
    span_sec: tuple[float, float] | None = None
    num_samples: int | None = None
    num_frames: int | None = None
    sample_rate: int = 16000

    @property
    def name(self) -> str:
        """The id, with the part of a mixture behind it."""
        return f"{self.utt}:{self.part}" if self.part else self.utt


def name_sets(folders: list[str | os.PathLike]) -> dict[str, Path]:
    """Name every folder: by its last part, or by as many parts as it takes to tell the folders apart.

    >>> [name for name in name_sets(["dump/train", "dump/test"])]
    ['train', 'test']
    >>> [name for name in name_sets(["a_clips/long", "b_clips/long"])]
    ['a_clips/long', 'b_clips/long']

    Raises:
        UsageError: A folder is named twice, or none is.
        MissingDataError: A folder does not exist.
    """
    paths = [Path(os.path.abspath(folder)) for folder in folders]
    if not paths or len(set(paths)) < len(paths):
        raise UsageError(describe("name every data folder once", got=[str(path) for path in folders]))
    for path in paths:
        if not path.is_dir():
            raise MissingDataError(describe(f"no folder {path}", fix="run the stage that makes it"))
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, paths, strict=True))


def read_clips(folder: str | os.PathLike, set_name: str) -> list[Clip]:
    """List the clips of a folder, sorted by id.

    Understood are folders of mixtures (``mix.scp``), data folders (``wav.scp``, ``mouth.scp``, ``video.scp``, with
    ``segments``), and, without any of them, a tree of sound or video files.

    Raises:
        MissingDataError: Nothing of that is there.
        DataError: A table is malformed.
    """
    data = DataDir(folder)
    if data.has("mix.scp"):
        return _mixtures(data, set_name)
    tables = {name: data.read(name) for name in ("wav.scp", "mouth.scp", "video.scp") if data.has(name)}
    return _utterances(data, set_name, tables) if tables else _files(data.path, set_name)


def _lengths(data: DataDir) -> tuple[Mapping[str, int], Mapping[str, int]]:
    samples = data.num_samples() if data.has("utt2num_samples") else {}
    return samples, data.num_frames() if data.has("utt2num_frames") else {}


def _rate(data: DataDir) -> int:
    rate = data.meta.get("sample_rate", 16000)
    if not isinstance(rate, int) or rate <= 0:
        raise DataError(describe(f"{data / 'data.json'}: sample_rate must be a number above 0", rate))
    return rate


def _utterances(data: DataDir, set_name: str, tables: dict[str, dict[str, str]]) -> list[Clip]:
    texts = data.read("text", allow_empty=True) if data.has("text") else {}
    speakers = data.read("utt2spk") if data.has("utt2spk") else {}
    samples, frames = _lengths(data)
    sounds, videos = tables.get("wav.scp", {}), tables.get("video.scp", {})
    spans: dict[str, tuple[float, float]] = {}
    if data.has("segments"):
        for utt, line in data.read("segments").items():
            recording, start, end = _segment(data, utt, line)
            spans[utt] = (start, end)
            sounds = {**sounds, utt: sounds.get(recording, videos.get(recording, ""))}
        sounds, videos = {utt: sounds[utt] for utt in spans}, {}
    clips = []
    for utt in sorted({*sounds, *tables.get("mouth.scp", {}), *videos}, key=str.encode):
        video = videos.get(utt)
        crops = tables.get("mouth.scp", {}).get(utt)
        clips.append(
            Clip(
                set_name,
                utt,
                sound=sounds.get(utt) or video,
                crops=crops,
                video=None if crops else video,
                text=texts.get(utt) if texts else None,
                speaker=speakers.get(utt, utt),
                span_sec=spans.get(utt),
                num_samples=samples.get(utt),
                num_frames=frames.get(utt),
                sample_rate=_rate(data),
            )
        )
    return clips


def _segment(data: DataDir, utt: str, line: str) -> tuple[str, float, float]:
    fields = line.split()
    try:
        return fields[0], float(fields[1]), float(fields[2])
    except (IndexError, ValueError) as error:
        allowed = "<id> <recording> <start> <end>"
        raise DataError(describe(f"{data / 'segments'}: malformed line '{utt} {line}'", allowed=allowed)) from error


def _mixtures(data: DataDir, set_name: str) -> list[Clip]:
    samples, frames = _lengths(data)
    tables = {name: data.read(f"{name}.scp") for name in ("mix", *SPEAKERS) if data.has(f"{name}.scp")}
    mouths = {part: data.read(f"mouth_{part}.scp") for part in SPEAKERS if data.has(f"mouth_{part}.scp")}
    clips = []
    for utt in sorted(tables["mix"], key=str.encode):
        for part, table in tables.items():
            clips.append(
                Clip(
                    set_name,
                    utt,
                    part,
                    sound=table.get(utt, ""),
                    crops=mouths.get(part, {}).get(utt),
                    speaker=f"{utt}:{part}",
                    num_samples=samples.get(utt),
                    num_frames=frames.get(utt) if part in mouths else None,
                    sample_rate=_rate(data),
                )
            )
    return clips


def _files(folder: Path, set_name: str) -> list[Clip]:
    clips = []
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (*SOUND_SUFFIXES, *VIDEO_SUFFIXES))
    for path, name in zip(paths, _names(folder, paths), strict=True):
        place = str(path)
        video = place if path.suffix.lower() in VIDEO_SUFFIXES else None
        speaker = name.rpartition("/")[0] or set_name
        clips.append(Clip(set_name, name, sound=place, video=video, speaker=speaker))
    if not clips:
        allowed = "wav.scp, mouth.scp, video.scp, mix.scp, or sound and video files"
        raise MissingDataError(
            describe("nothing to look at", str(folder), allowed, "run stage 1 or 2, or name another")
        )
    return clips


def _names(folder: Path, paths: list[Path]) -> list[str]:
    """Name files by their path without suffix; where that names two of them, with it, and then by a number."""
    whole = [path.relative_to(folder).as_posix().replace(" ", "_") for path in paths]
    short = [name[: len(name) - len(path.suffix)] for name, path in zip(whole, paths, strict=True)]
    count = Counter(short)
    used: set[str] = set()
    for number, name in enumerate(short):
        name = short[number] = name if count[name] == 1 else whole[number]
        while short[number] in used:
            short[number] = f"{name}-{len(used)}"
        used.add(short[number])
    return short

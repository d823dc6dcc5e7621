# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Session folders in the layout of MCoRec (CHiME-9): several people at a table, some conversations at a time.

    session_132/metadata.json                     person -> central -> uem {start, end}, crops [{video, lip, asd, ...}]
    session_132/speakers/spk_0/central_crops/     track_00.mp4, .json, _bbox.json, _asd.json, _lip.av.mp4
    session_132/labels/                           speaker_to_cluster.json, spk_0.vtt, ...

A track is a stretch of time in which a face is seen; a person has any number of them. What is missing or damaged is not
fatal: the track is left out and noted with its reason in :attr:`Session.problems`. Without ``metadata.json`` the tracks
are those found in ``speakers/``.
"""

import glob
import json
import logging
import math
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_av.avsr.segmentation import FPS, find_gaps
from espnet_av.avsr.vtt import Caption, read_vtt
from espnet_av.utils.errors import DataError, MissingDataError, describe

logger = logging.getLogger(__name__)

SUFFIXES = {"video": ".mp4", "lip": "_lip.av.mp4", "asd": "_asd.json", "bbox": "_bbox.json", "crop_metadata": ".json"}
Interval = tuple[float, float]


@dataclass(frozen=True)
class Problem:
    """Something that was left out or is odd.

    Attributes:
        where: ``session/person/track``, or a part of it.
        reason: Short name for counting, e.g. ``no_lip`` or ``asd_gap``.
        detail: A sentence with the file.
        skipped: Whether something was left out.
    """

    where: str
    reason: str
    detail: str
    skipped: bool = True


@dataclass(frozen=True)
class Track:
    """A stretch of time with one face.

    Attributes:
        name: ``track_00``.
        first_frame: First frame, counted from the start of the session.
        num_frames: Frames, as far as the description tells; None otherwise.
        start_sec: Time of the first frame.
        video: Face crops; None where there is no file, as for the following.
        lip: Mouth crops with sound.
        asd: Active speaker scores.
    """

    name: str
    first_frame: int
    num_frames: int | None
    start_sec: float
    video: Path | None = None
    lip: Path | None = None
    asd: Path | None = None


@dataclass(frozen=True)
class Speaker:
    """A person of a session: name, the time that is scored (seconds; None: all of it) and tracks in order of time."""

    name: str
    uem: Interval | None
    tracks: tuple[Track, ...]


@dataclass
class Session:
    """A session folder.

    Attributes:
        path: The folder.
        speakers: Name -> person, sorted.
        problems: What is missing or odd, found so far.
    """

    path: Path
    speakers: dict[str, Speaker]
    problems: list[Problem] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.path.name

    @property
    def has_labels(self) -> bool:
        """Whether anyone has captions."""
        return any((self.path / "labels" / f"{name}.vtt").is_file() for name in self.speakers)

    def captions(self, speaker: str) -> list[Caption] | None:
        """Return the captions of a person; None and a note in ``problems`` where they are missing or unreadable."""
        path = self.path / "labels" / f"{speaker}.vtt"
        try:
            return read_vtt(path)
        except DataError as error:
            reason = "no_captions" if isinstance(error, MissingDataError) else "bad_captions"
            self.note(speaker, reason, str(error))
        return None

    def clusters(self) -> dict[str, int] | None:
        """Return the conversation of each person; None where it is not labelled.

        Raises:
            DataError: The file is no object of whole numbers.
        """
        path = self.path / "labels" / "speaker_to_cluster.json"
        if not path.is_file():
            return None
        return read_clusters(path)

    def note(self, where: str, reason: str, detail: str, *, skipped: bool = True) -> None:
        """Add a problem and log it; ``where`` is a person or ``person/track``."""
        problem = Problem(f"{self.name}/{where}" if where else self.name, reason, detail, skipped)
        if problem not in self.problems:
            self.problems.append(problem)
            logger.warning("%s: %s (%s)", problem.where, problem.reason, problem.detail)


def find_sessions(patterns: Iterable[str]) -> list[Path]:
    """Return the session folders that match; a quoted ``*`` works as in the shell.

    Args:
        patterns: Folders or patterns.

    Raises:
        MissingDataError: A pattern matches no session folder.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        folders = [Path(name) for name in sorted(glob.glob(os.path.expanduser(pattern))) if is_session(Path(name))]
        if not folders:
            allowed = "folders with metadata.json or speakers/"
            raise MissingDataError(describe("no session folder here", got=pattern, allowed=allowed))
        found.update(dict.fromkeys(folders))
    return list(found)


def is_session(path: Path) -> bool:
    """Tell whether a folder looks like a session."""
    return (path / "metadata.json").is_file() or (path / "speakers").is_dir()


def read_session(path: str | os.PathLike) -> Session:
    """Read a session folder; media files are only looked up, not opened.

    Raises:
        MissingDataError: The folder is no session.
        DataError: ``metadata.json`` is damaged, or there is nobody in the session.
    """
    path = Path(os.path.abspath(path))
    if not is_session(path):
        raise MissingDataError(describe("no session folder", got=str(path), allowed="metadata.json or speakers/"))
    session = Session(path, {})
    metadata = path / "metadata.json"
    listed = _listed_people(metadata) if metadata.is_file() else _found_people(path)
    if not listed:
        raise DataError(describe("nobody is in this session", got=str(metadata if metadata.is_file() else path)))
    for name in sorted(listed):
        uem, crops = listed[name]
        tracks = [_read_track(session, name, crop) for crop in crops]
        kept = sorted((track for track in tracks if track), key=lambda track: (track.first_frame, track.name))
        if not kept:
            session.note(name, "no_tracks", f"no usable track of {name} in {path}")
        session.speakers[name] = Speaker(name, uem, tuple(kept))
    return session


def read_scores(path: str | os.PathLike) -> dict[int, float]:
    """Read active speaker scores: JSON of frame number -> score. Scores that are no numbers count as missing.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is no such object.
    """
    content = _read_object(Path(path))
    try:
        scores = {int(frame): float(score) for frame, score in content.items() if score is not None}
    except (TypeError, ValueError) as error:
        raise DataError(
            describe(f"{path}: no active speaker scores", got=str(error), allowed="frame -> score")
        ) from error
    return {frame: score for frame, score in sorted(scores.items()) if math.isfinite(score)}


def read_track_scores(session: Session, speaker: str, track: Track, num_frames: int | None = None) -> dict[int, float]:
    """Read the scores of a track and note what is odd about them.

    Args:
        session: Receives the notes.
        speaker: Name of the person.
        track: The track.
        num_frames: Frames of its video; None takes those of the description.

    Returns:
        Frame of the session -> score, only frames of the track.

    Raises:
        DataError: There is no file, it is damaged, or it has no score for any frame of the track.
    """
    if track.asd is None:
        raise MissingDataError(describe("no active speaker scores", got=f"{session.name}/{speaker}/{track.name}"))
    scores = read_scores(track.asd)
    length = num_frames or track.num_frames
    if length is None:
        return scores
    end = track.first_frame + length
    kept = {frame: score for frame, score in scores.items() if track.first_frame <= frame < end}
    where = f"{speaker}/{track.name}"
    if not kept:
        allowed = f"frames {track.first_frame} to {end - 1}, counted from the start of the session"
        raise DataError(describe(f"{track.asd}: no scores for this track", got=list(scores)[:3], allowed=allowed))
    if outside := [frame for frame in scores if frame not in kept and frame != end]:
        detail = f"{track.asd}: {len(outside)} scores outside frames {track.first_frame} to {end - 1} are not used"
        session.note(where, "asd_outside", detail, skipped=False)
    if gaps := find_gaps(kept, track.first_frame, end):
        missing = sum(last - first for first, last in gaps)
        shown = ", ".join(f"{first}-{last - 1}" for first, last in gaps[:3])
        detail = f"{track.asd}: {missing} of {length} frames have no score ({shown}{', ...' * (len(gaps) > 3)})"
        session.note(where, "asd_gap", f"{detail}; nothing is decoded there", skipped=False)
    return kept


def read_clusters(path: str | os.PathLike) -> dict[str, int]:
    """Read ``speaker_to_cluster.json``.

    Raises:
        DataError: It is no object of whole numbers.
    """
    content = _read_object(Path(path))
    if not all(isinstance(value, (int, str)) and not isinstance(value, bool) for value in content.values()):
        raise DataError(describe(f"{path}: no conversations", got=str(content)[:80], allowed='{"spk_0": 0, ...}'))
    return content


def count_problems(problems: Iterable[Problem]) -> dict[str, int]:
    """Return how often each reason occurs, sorted by name."""
    counts: dict[str, int] = {}
    for problem in problems:
        counts[problem.reason] = counts.get(problem.reason, 0) + 1
    return dict(sorted(counts.items()))


def _read_object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise MissingDataError(describe("a file of the session is missing", got=str(path)))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path}: no JSON ({error}); fix: fetch it again") from error
    if not isinstance(content, dict):
        raise DataError(describe(f"{path}: must hold an object", got=type(content).__name__))
    return content


def _listed_people(metadata: Path) -> dict[str, tuple[Interval | None, list[dict[str, str]]]]:
    people = {}
    for name, entry in _read_object(metadata).items():
        if not re.fullmatch(r"[\w.-]+", name):
            raise DataError(describe(f"{metadata}: no name for a person", got=name, allowed="letters, digits, _ . -"))
        try:
            central = entry["central"]
            uem = central.get("uem")
            limits = None if uem is None else (float(uem["start"]), float(uem["end"]))
            crops = [dict(crop) for crop in central.get("crops") or []]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            allowed = "central: {uem: {start, end}, crops: [...]}"
            raise DataError(describe(f"{metadata}: '{name}' is malformed ({error!r})", allowed=allowed)) from error
        people[name] = (limits, crops)
    return people


def _found_people(path: Path) -> dict[str, tuple[Interval | None, list[dict[str, str]]]]:
    people: dict[str, tuple[Interval | None, list[dict[str, str]]]] = {}
    for folder in sorted((path / "speakers").iterdir()):
        if not folder.is_dir():
            continue
        files = [str(item.relative_to(path)) for item in sorted((folder / "central_crops").glob("track_*"))]
        stems = sorted({match.group() for name in files if (match := re.match(r".*/track_\d+", name))})
        crops = [{kind: stem + suffix for kind, suffix in SUFFIXES.items() if stem + suffix in files} for stem in stems]
        people[folder.name] = (None, crops)
    return people


def _read_track(session: Session, speaker: str, crop: dict[str, str]) -> Track | None:
    """Return a track whose mouth crops and description exist; otherwise None and a note."""
    named = next((str(crop[kind]) for kind in ("lip", "crop_metadata", "video") if crop.get(kind)), "")
    match = re.match(r"[A-Za-z0-9]+(?:_\d+)?", Path(named).name)
    name = match.group() if match else "track"
    where = f"{speaker}/{name}"
    files = {kind: session.path / str(crop[kind]) for kind in SUFFIXES if crop.get(kind)}
    if "lip" not in files or not files["lip"].is_file():
        session.note(where, "no_lip", f"no mouth crops {files.get('lip', '(not listed)')}")
        return None
    if "crop_metadata" not in files:
        session.note(where, "no_times", "crop_metadata is not listed, so the time of the track is unknown")
        return None
    try:
        description = _read_object(files["crop_metadata"])
        first = int(description["frame_start"])
        end = description.get("frame_end")
        start_sec = float(description.get("start_time", first / FPS))
    except (DataError, KeyError, TypeError, ValueError) as error:
        session.note(where, "no_times", f"{files['crop_metadata']}: {error}")
        return None
    there = {kind: files[kind] if kind in files and files[kind].is_file() else None for kind in ("video", "lip", "asd")}
    return Track(name, first, None if end is None else int(end) - first, start_sec, **there)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The face tracks of a video, found once: what was made from the same video with the same settings is used again."""

import dataclasses
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_av.data.face_tracks import FaceFinder, FaceTrack, FaceTracker, TrackRules
from espnet_av.data.track_files import read_tracks, track_faces
from espnet_av.utils.experiment import write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrackOptions:
    """How faces are tracked.

    Attributes:
        rules: See :class:`~espnet_av.data.face_tracks.TrackRules`.
        max_absence_sec: See :func:`~espnet_av.data.face_tracks.group_tracks`.
    """

    rules: TrackRules = TrackRules()
    max_absence_sec: float = 10.0


def find_tracks(
    video: str | os.PathLike,
    folder: str | os.PathLike,
    options: TrackOptions,
    *,
    finder: FaceFinder | None = None,
    force: bool = False,
) -> list[FaceTrack]:
    """Return the face tracks of a video with their files, in the layout of :mod:`espnet_av.data.track_files`.

    Args:
        video: The file.
        folder: Folder to make, or to use again.
        options: Of tracking.
        finder: See :class:`~espnet_av.data.face_tracks.FaceTracker`.
        force: Make everything anew.

    Raises:
        DataError: The video is damaged or shows no face.
    """
    video, folder = Path(video), Path(folder)
    made = {"video": file_identity(video), "options": dataclasses.asdict(options)}
    if not force and read_json_or_none(folder / "tracks_from.json") == made:
        tracks = read_tracks(folder)
        logger.info("%d face tracks were there already", len(tracks))
        return tracks
    tracker = FaceTracker(finder, rules=options.rules)
    tracks = track_faces(video, folder, tracker=tracker, max_absence_sec=options.max_absence_sec)
    write_json(folder / "tracks_from.json", made, sort_keys=True)
    logger.info("%d face tracks, %d dropped", len(tracks), tracker.num_dropped)
    return tracks


def file_identity(path: Path) -> dict[str, Any]:
    """Return name, size and time of change of a file: equal ones are taken for the same file."""
    stat = path.stat()
    return {"name": path.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def read_json_or_none(path: Path) -> Any:
    """Return what a JSON file holds, or None where there is none or it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

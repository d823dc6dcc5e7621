# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From any video of talking faces to a session that can be transcribed: find the faces, score who speaks.

    session = prepare_video("party.mp4", "out/tracks", TrackOptions(), MouthMotionScorer())
    SessionTranscriber(recogniser).transcribe(session, "out")

What was made from the same video with the same settings is used again: tracks and scores each on their own.
"""

import dataclasses
import logging
import os
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avsr.asd import ActiveSpeakerDetector, TrackScorer, score_tracks, write_scores
from espnet_av.avsr.mouth_motion import MouthMotionScorer
from espnet_av.avsr.session_files import Session, Speaker, Track, is_session, read_session
from espnet_av.data.face_tracks import FaceFinder, FaceTrack
from espnet_av.data.video_io import probe, read_audio_track
from espnet_av.data.video_tracks import TrackOptions, file_identity, find_tracks, read_json_or_none
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import write_json

logger = logging.getLogger(__name__)

SCORERS = ("light_asd", "mouth_motion")


def build_scorer(
    name: str | None = None, weights: str | os.PathLike | None = None, *, device: str = "cpu", legacy: bool = False
) -> TrackScorer:
    """Return the scorer of a name.

    Args:
        name: ``light_asd``, ``mouth_motion``, or None: the first where there are weights, else the second.
        weights: File of Light-ASD.
        device: Where Light-ASD computes.
        legacy: See :class:`~espnet_av.avsr.asd.ActiveSpeakerDetector`.

    Raises:
        UsageError: The name is unknown, or weights are missing or not wanted.
        CheckpointError: The weights cannot be used.
    """
    name = name or ("mouth_motion" if weights is None else "light_asd")
    if name not in SCORERS:
        usage_error("unknown way to find active speakers", got=name, allowed=SCORERS)
    if (name == "light_asd") != (weights is not None):
        fix = "pass both --asd light_asd and --asd_weights FILE, or none of them"
        usage_error(f"--asd {name} and --asd_weights do not go together", got=weights, fix=fix)
    if weights is not None:
        return ActiveSpeakerDetector.from_pretrained(weights, device=device, legacy=legacy)
    logger.warning("no Light-ASD weights: speech is found by a heuristic on lip motion and sound level")
    return MouthMotionScorer()


def is_session_folder(path: str | os.PathLike) -> bool:
    """Tell a session folder from a video.

    Raises:
        MissingDataError: There is neither.
    """
    path = Path(path)
    if path.is_file():
        return False
    if path.is_dir() and is_session(path):
        return True
    allowed = "a video, or a folder with metadata.json or speakers/"
    raise MissingDataError(describe("nothing to transcribe", got=str(path), allowed=allowed))


def prepare_video(
    video: str | os.PathLike,
    folder: str | os.PathLike,
    options: TrackOptions,
    scorer: TrackScorer | None,
    *,
    finder: FaceFinder | None = None,
    force: bool = False,
) -> Session:
    """Track the faces of a video, score them, and read the result as a session.

    Args:
        video: The file.
        folder: Session folder to make, or to use again.
        options: Of tracking.
        scorer: Scores the tracks; None leaves them without scores.
        finder: See :class:`~espnet_av.data.face_tracks.FaceTracker`.
        force: Make everything anew.

    Raises:
        DataError: The video is damaged, shows no face, or has no sound to score.
    """
    video, folder = Path(video), Path(folder)
    if scorer is not None and not probe(video).has_audio:
        fix = "pass --segmentation fixed_chunk --modality video"
        raise DataError(describe(f"{video}: has no sound, so who speaks cannot be found", fix=fix))
    tracks = find_tracks(video, folder, options, finder=finder, force=force)
    key = {"scorer": type(scorer).__name__, "key": scorer_key(scorer)}
    if scorer is not None and read_json_or_none(folder / "scores_from.json") != key:
        score_tracks(tracks, read_audio_track(video), scorer)
        write_json(folder / "scores_from.json", key, sort_keys=True)
    return read_session(folder)


def add_scores(
    session: Session, folder: str | os.PathLike, detector: ActiveSpeakerDetector, *, anew: bool = False
) -> Session:
    """Score the tracks of a session that have no scores, from their face crops. The session folder stays as it is.

    Args:
        session: The session; what cannot be scored is noted there.
        folder: Receives ``<person>_<track>_asd.json``.
        detector: The network.
        anew: Score tracks that have scores as well.

    Returns:
        The session with the new files in place.
    """
    speakers = {}
    for name, speaker in session.speakers.items():
        tracks = tuple(_scored(session, speaker, track, Path(folder), detector, anew) for track in speaker.tracks)
        speakers[name] = dataclasses.replace(speaker, tracks=tracks)
    return Session(session.path, speakers, session.problems)


def _scored(
    session: Session, speaker: Speaker, track: Track, folder: Path, detector: ActiveSpeakerDetector, anew: bool
) -> Track:
    where = f"{speaker.name}/{track.name}"
    if track.asd is not None and not anew:
        return track
    if track.video is None:
        session.note(where, "no_faces", f"no face crops of {where}, so it cannot be scored", skipped=False)
        return track
    path = folder / f"{speaker.name}_{track.name}_asd.json"
    key = {"video": file_identity(track.video), "detector": detector.digest}
    made = path.with_name(path.name + ".from")
    if not path.is_file() or read_json_or_none(made) != key:
        try:
            count = probe(track.video).num_frames
            crops = FaceTrack(
                track.first_frame,
                np.zeros((count, 4), np.float32),
                np.zeros((count, 68, 2), np.float32),
                np.ones(count, bool),
                video=track.video,
            )
            sound = track.video if track.lip is None or probe(track.video).has_audio else track.lip
            scores = detector.score_track(crops, read_audio_track(sound))
        except DataError as error:
            session.note(where, "not_scored", str(error), skipped=False)
            return track
        write_scores(path, scores, track.first_frame)
        write_json(made, key, sort_keys=True)
    return dataclasses.replace(track, asd=path)


def scorer_key(scorer: TrackScorer | None) -> Any:
    """Return what tells a scorer's results from those of another: the digest of the weights or the settings."""
    if isinstance(scorer, ActiveSpeakerDetector):
        return scorer.digest
    return {} if scorer is None else {name: value for name, value in vars(scorer).items() if not name.startswith("_")}

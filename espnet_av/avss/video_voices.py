# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From a video of talking faces to one voice per face.

    separator = Separator.from_pretrained("exp/avss/pack", embedder=LipEmbedder.from_pretrained("lips.safetensors"))
    for voice in separate_video("talk.mp4", "out", separator):
        print(voice.person, voice.wav)

Axes: ``T`` video frames of the recording at 25 fps, ``D`` width of lip embeddings, ``N`` samples at 16 kHz.
"""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from espnet_av.avss.inference import CLOCK, Lips, Separation, Separator, embed_crops
from espnet_av.avss.lips import check_mouth
from espnet_av.avss.separate_set import write_voice
from espnet_av.avss.windowing import summarise_seams
from espnet_av.data.face_tracks import FaceFinder, FaceTrack
from espnet_av.data.video_io import probe, read_audio_track, read_video
from espnet_av.data.video_tracks import TrackOptions, find_tracks
from espnet_av.utils.errors import DataError, describe, usage_error
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
DEFAULT_TRACKING = TrackOptions()


@dataclass(frozen=True)
class FaceVoice:
    """What was made of one person.

    Attributes:
        person: ``spk_0``, by first appearance, then from left to right.
        wav: The voice, as long as the recording.
        picture: The face, PNG.
        seen_share: Share of the recording in which the face is in view.
        tracks: First frame and frame after the last one of each stretch with the face.
    """

    person: str
    wav: Path
    picture: Path
    seen_share: float
    tracks: list[tuple[int, int]]


def separate_video(
    video: str | os.PathLike,
    output_dir: str | os.PathLike,
    separator: Separator,
    *,
    tracking: TrackOptions = DEFAULT_TRACKING,
    finder: FaceFinder | None = None,
    max_faces: int | None = None,
    wav_format: str = "pcm16",
    force: bool = False,
) -> list[FaceVoice]:
    """Find the faces of a video and extract the voice of each.

    Writes ``<person>.wav``, ``<person>.png``, ``separation.json`` and the face tracks (``tracks/<video>``), which a
    second run with the same settings uses again.

    Args:
        video: Any video with sound; another frame or sample rate is converted.
        output_dir: Folder for the results.
        separator: A separator that looks at lips, with an embedder.
        tracking: How faces are found.
        finder: Finds faces; None takes that of :class:`~espnet_av.data.face_tracks.FaceTracker`.
        max_faces: Take only so many, those that are in view longest.
        wav_format: See :func:`~espnet_av.avss.separate_set.write_voice`.
        force: Find the faces anew.

    Raises:
        UsageError: The separator does not look at lips, or has no embedder.
        DataError: The video is damaged, or has no face or no sound.
    """
    video, output_dir = Path(video), Path(output_dir)
    if not separator.with_lips:
        fix = "use a model such as rtfsnet, or espnet-av infer avss to separate sound alone"
        usage_error("the model does not look at lips, so no voice belongs to a face", fix=fix)
    _embedder(separator)  # is told before the faces are looked for
    if not probe(video).has_audio:
        raise DataError(describe(f"{video}: has no sound to separate", fix="use a video with sound"))
    tracks = find_tracks(video, output_dir / "tracks" / video.stem, tracking, finder=finder, force=force)
    people = _people(tracks, max_faces)
    wave = read_audio_track(video, CLOCK.sample_rate)
    num_frames = -(-len(wave) // CLOCK.samples_per_frame)
    lips = [gather_lips(own, num_frames, separator) for own in people.values()]
    result = separator.separate(wave, lips)
    voices = []
    for (person, own), voice, look in zip(people.items(), result.voices, lips, strict=True):
        wav, picture = output_dir / f"{person}.wav", output_dir / f"{person}.png"
        over = int((np.abs(voice) > 1).sum())
        if over and wav_format == "pcm16":
            logger.warning("%s: %d samples are clipped; --wav_format float keeps them", wav, over)
        write_voice(wav, voice, wav_format)
        _write_picture(picture, own)
        spans = [(track.frame_start, track.frame_end) for track in own]
        voices.append(FaceVoice(person, wav, picture, round(look.seen_share, 4), spans))
    _write_facts(output_dir / "separation.json", video, wave, separator, voices, result)
    return voices


def _people(tracks: Iterable[FaceTrack], max_faces: int | None) -> dict[str, list[FaceTrack]]:
    by_name = sorted(tracks, key=lambda track: (track.person, track.frame_start))
    people = {name: list(own) for name, own in itertools.groupby(by_name, key=lambda track: track.person)}
    longest = sorted(people, key=lambda name: -sum(track.num_frames for track in people[name]))[:max_faces]
    if len(people) > len(longest):
        logger.info("%d of %d faces are taken", len(longest), len(people))
    return {name: own for name, own in people.items() if name in longest}


def gather_lips(tracks: Sequence[FaceTrack], num_frames: int, separator: Separator) -> Lips:
    """Return the lips of one person over a whole recording.

    Args:
        tracks: Those of the person, with mouth crops on disk.
        num_frames: Of the recording.
        separator: Its embedder is used.

    Returns:
        ``(T, D)``; frames without the face hold the lips of the nearest frame with it and are marked as not seen.

    Raises:
        UsageError: The separator has no embedder.
        DataError: No track lies in the recording, or one has no mouth crops.
    """
    embedder = _embedder(separator)
    embeddings, seen = None, np.zeros(num_frames, bool)
    for track in tracks:
        path = _file(track, track.lip)
        crops = check_mouth(read_video(path, gray=True).frames, str(path))
        found = embed_crops(embedder, crops, separator.device)
        if embeddings is None:
            embeddings = np.zeros((num_frames, found.shape[1]), np.float32)
        end = min(track.frame_start + len(found), num_frames)
        if end > track.frame_start:
            embeddings[track.frame_start : end] = found[: end - track.frame_start]
            seen[track.frame_start : end] = True
    if embeddings is None or not seen.any():
        raise DataError(describe("the face is in view only after the sound has ended", got=[t.name for t in tracks]))
    return Lips(embeddings[nearest_true(seen)], seen)


def _embedder(separator: Separator) -> Callable[[Tensor], Tensor]:
    if separator.embedder is None:
        usage_error("the model needs a lip-reading front end", fix="pass --lip_frontend")
    return separator.embedder


def _file(track: FaceTrack, path: Path | None) -> Path:
    if path is None:
        raise DataError(describe("the crops of a track are not on disk", got=track.name, fix="write the tracks first"))
    return path


def nearest_true(mask: np.ndarray) -> np.ndarray:
    """Return for each position of a mask ``(T,)`` the nearest one that is True (the earlier of two)."""
    known = np.flatnonzero(mask)
    positions = np.arange(len(mask))
    right = np.clip(np.searchsorted(known, positions), 0, len(known) - 1)
    left = np.maximum(right - 1, 0)
    nearer_left = np.abs(known[left] - positions) <= np.abs(known[right] - positions)
    return known[np.where(nearer_left, left, right)]


def _write_picture(path: Path, tracks: Sequence[FaceTrack]) -> None:
    """Write the middle frame of the longest track."""
    track = max(tracks, key=lambda item: item.num_frames)
    middle = track.num_frames / 2 / track.fps
    frame = read_video(_file(track, track.video), start_sec=middle, end_sec=middle + 1.5 / track.fps).frames[0]
    with atomic_write(path, "wb") as stream:
        stream.write(cv2.imencode(".png", np.ascontiguousarray(frame[..., ::-1]))[1].tobytes())


def _write_facts(
    path: Path,
    video: Path,
    wave: np.ndarray,
    separator: Separator,
    voices: Sequence[FaceVoice],
    result: Separation,
) -> None:
    facts: dict[str, Any] = {
        "video": video.name,
        "audio_sec": round(len(wave) / CLOCK.sample_rate, 3),
        "num_windows": result.num_windows,
        **summarise_seams(result.seams_db),
        "unseen": separator.unseen,
        "checkpoint": None if separator.checkpoint is None else separator.checkpoint.name,
        "faces": {
            voice.person: {
                "wav": voice.wav.name,
                "picture": voice.picture.name,
                "seen_share": voice.seen_share,
                "frames": [list(span) for span in voice.tracks],
            }
            for voice in voices
        },
    }
    write_json(path, facts, sort_keys=True)

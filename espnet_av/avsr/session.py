# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Transcripts of sessions: every track of every person is cut into chunks, decoded and written as captions.

    transcriber = SessionTranscriber(AVSR.from_pretrained("exp/avsr/pack"))
    result = transcriber.transcribe(read_session("dev/session_132"), "dev/session_132/output")

The output folder holds ``<person>.vtt``, ``speaker_to_cluster.json`` and ``session.json``, and in ``chunks/`` what was
decoded, person by person. A person who is there already, from the same files with the same settings, is not decoded
again, so a run that was stopped goes on where it was. Axes: ``T`` frames, ``H`` x ``W`` pixels, ``N`` samples.
"""

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.avsr.clustering import DEFAULT_THRESHOLD, Interval, cluster_speakers
from espnet_av.avsr.segmentation import FPS, fixed_chunks, merge_scores, segment_by_asd
from espnet_av.avsr.session_files import (
    Problem,
    Session,
    Speaker,
    Track,
    count_problems,
    read_scores,
    read_track_scores,
)
from espnet_av.avsr.session_scoring import spoken
from espnet_av.avsr.vtt import Caption, write_vtt
from espnet_av.data.av_clock import AVClock
from espnet_av.data.video_io import iter_frames, probe, read_audio_track
from espnet_av.utils.errors import DataError, describe, usage_error
from espnet_av.utils.experiment import write_json

if TYPE_CHECKING:
    from espnet_av.avsr.inference import AVSR, Hypotheses

logger = logging.getLogger(__name__)

SEGMENTATIONS = ("asd_chunk", "fixed_chunk", "gold_chunk")
FORMAT = 1  # raise it when the same settings give other transcripts
Span = tuple[int, int]


@dataclass(frozen=True)
class DecodedChunk:
    """What was recognised in one chunk; times in seconds from the start of the session."""

    track: str
    start: float
    end: float
    text: str
    score: float


@dataclass(frozen=True)
class SpeakerResult:
    """Chunks of one person in the order of time, and what was left out of the person's tracks."""

    chunks: tuple[DecodedChunk, ...]
    problems: tuple[Problem, ...]

    @property
    def captions(self) -> list[Caption]:
        """The chunks in which something was said."""
        return [Caption(item.start, item.end, spoken(item.text)) for item in self.chunks if spoken(item.text)]


@dataclass(frozen=True)
class SessionResult:
    """Result of one session.

    Attributes:
        name: Of the session.
        speakers: Person -> result.
        clusters: Person -> conversation.
        problems: Everything that was left out or is odd.
        num_decoded: People who were decoded now; the others were there already.
    """

    name: str
    speakers: dict[str, SpeakerResult]
    clusters: dict[str, int]
    problems: tuple[Problem, ...]
    num_decoded: int

    @property
    def captions(self) -> dict[str, list[Caption]]:
        """Person -> recognised captions."""
        return {name: result.captions for name, result in self.speakers.items()}


class SessionTranscriber:
    """Transcribes sessions with one recogniser.

    Args:
        recogniser: The model.
        segmentation: ``asd_chunk`` cuts by active speaker scores, ``fixed_chunk`` into pieces of about the same length,
            ``gold_chunk`` at the captions of the labels.
        max_length: Longest chunk in seconds, but for ``gold_chunk``.
        modality: ``av``, ``audio`` or ``video``.
        batch_size: Most chunks decoded together.
        batch_frames: Most padded frames decoded together.
        cluster_threshold: See :func:`~espnet_av.avsr.clustering.cluster`.
        legacy: Segment as AVSRCocktail does it, slips included.
        asd_options: Keywords of :func:`~espnet_av.avsr.segmentation.segment_by_asd`: ``onset``, ``offset``,
            ``min_duration_on``, ``min_duration_off``, ``min_chunk``.

    Raises:
        UsageError: An option is unknown or out of range.
    """

    def __init__(
        self,
        recogniser: "AVSR",
        *,
        segmentation: str = "asd_chunk",
        max_length: float = 15.0,
        modality: str = "av",
        batch_size: int = 8,
        batch_frames: int = 3000,
        cluster_threshold: float = DEFAULT_THRESHOLD,
        legacy: bool = False,
        asd_options: Mapping[str, float] | None = None,
    ) -> None:
        if segmentation not in SEGMENTATIONS:
            usage_error("unknown segmentation", got=segmentation, allowed=SEGMENTATIONS)
        if modality not in ("av", "audio", "video"):
            usage_error("unknown modality", got=modality, allowed=("av", "audio", "video"))
        if not (max_length * FPS >= 1 and batch_size >= 1):
            usage_error("chunks and batches must not be empty", got=(max_length, batch_size), allowed="above 0")
        self.recogniser = recogniser
        self.segmentation = segmentation
        self.max_length = float(max_length)
        self.modality = modality
        self.batch_size = batch_size
        self.batch_frames = batch_frames
        self.cluster_threshold = cluster_threshold
        self.legacy = legacy
        self.asd_options = dict(asd_options or {})
        self._clock = AVClock()
        segment_by_asd({}, legacy=legacy, **self.asd_options)  # a wrong option is told before hours of decoding

    def transcribe(self, session: Session, output_dir: str | os.PathLike, *, force: bool = False) -> SessionResult:
        """Transcribe everyone in a session and group them into conversations.

        Args:
            session: From :func:`~espnet_av.avsr.session_files.read_session`.
            output_dir: Folder to write into.
            force: Decode everyone anew.

        Returns:
            Captions, conversations and problems. Tracks that cannot be used are problems, not errors.
        """
        output = Path(output_dir)
        results: dict[str, SpeakerResult] = {}
        num_decoded = 0
        for name, speaker in session.speakers.items():
            digest = self._digest(session, speaker)
            known = None if force else _read_state(output, name, digest)
            if known is None:
                known = self.transcribe_speaker(session, speaker)
                write_vtt(output / f"{name}.vtt", known.captions)
                _write_state(output, name, digest, known)
                num_decoded += 1
            results[name] = known
        speech = {
            name: self.speech_times(session, speaker, results[name]) for name, speaker in session.speakers.items()
        }
        clusters = cluster_speakers(speech, self.cluster_threshold)
        noted = {*session.problems, *(problem for found in results.values() for problem in found.problems)}
        problems = tuple(sorted(noted, key=lambda problem: (problem.where, problem.reason, problem.detail)))
        result = SessionResult(session.name, results, clusters, problems, num_decoded)
        write_json(output / "speaker_to_cluster.json", clusters, sort_keys=True)
        write_json(output / "session.json", self._facts(session, result), sort_keys=True)
        return result

    def transcribe_speaker(self, session: Session, speaker: Speaker) -> SpeakerResult:
        """Decode all tracks of one person; nothing is written."""
        before = len(session.problems)
        chunks: list[DecodedChunk] = []
        for track in speaker.tracks:
            try:
                chunks.extend(self._decode_track(session, speaker, track))
            except DataError as error:
                session.note(f"{speaker.name}/{track.name}", "unreadable", str(error))
        ordered = sorted(chunks, key=lambda chunk: (chunk.start, chunk.end, chunk.track))
        return SpeakerResult(tuple(ordered), tuple(session.problems[before:]))

    def speech_times(self, session: Session, speaker: Speaker, result: SpeakerResult) -> list[Interval]:
        """Return when a person speaks, in seconds from the start of the scored time.

        By the scores of all tracks together, cut with the default rules; by the recognised captions where no track has
        scores. What lies outside the scored time is left out.
        """
        found = []
        for track in speaker.tracks:
            try:
                found.extend([] if track.asd is None else [read_scores(track.asd)])
            except DataError as error:
                session.note(f"{speaker.name}/{track.name}", "bad_asd", str(error), skipped=False)
        times = [
            segment.times(legacy=self.legacy) for segment in segment_by_asd(merge_scores(found), legacy=self.legacy)
        ]
        if not found:
            times = [(item.start, item.end) for item in result.captions]
        if speaker.uem is None:
            return times
        first, last = speaker.uem
        return [(start - first, end - first) for start, end in times if end > first and start < last]

    def chunk_track(self, session: Session, speaker: Speaker, track: Track, num_frames: int) -> list[Span]:
        """Return the chunks of a track of ``num_frames`` frames: half-open frames, counted from its first one.

        Raises:
            DataError: The scores of the track are damaged.
        """
        where = f"{speaker.name}/{track.name}"
        if self.segmentation == "fixed_chunk":
            times = fixed_chunks(num_frames / FPS, self.max_length)
        elif self.segmentation == "gold_chunk":
            captions = session.captions(speaker.name) or []
            self._note_unseen(session, speaker, captions)
            times = [(item.start - track.start_sec, item.end - track.start_sec) for item in captions]
        elif track.asd is None:
            session.note(where, "no_asd", f"no active speaker scores beside {track.lip}; fixed_chunk needs none")
            return []
        else:
            scores = read_track_scores(session, speaker.name, track, num_frames)
            options: dict[str, Any] = {**self.asd_options, "max_duration": self.max_length, "legacy": self.legacy}
            segments = segment_by_asd(scores, **options)
            first = min(scores) if self.legacy else track.first_frame
            times = [segment.times(first, legacy=self.legacy) for segment in segments]
        spans = ((max(0, _nearest(start)), min(num_frames, _nearest(end))) for start, end in times)
        return [(start, end) for start, end in spans if end > start]

    def _note_unseen(self, session: Session, speaker: Speaker, captions: Sequence[Caption]) -> None:
        ends = [(t.start_sec, t.start_sec + t.num_frames / FPS) for t in speaker.tracks if t.num_frames is not None]
        unseen = [c for c in captions if not any(c.end > start and c.start < end for start, end in ends)]
        if unseen and len(ends) == len(speaker.tracks):
            detail = f"{len(unseen)} captions while no face is tracked, the first at {unseen[0].start:.2f} s"
            session.note(speaker.name, "caption_without_face", detail)

    def _decode_track(self, session: Session, speaker: Speaker, track: Track) -> list[DecodedChunk]:
        if track.lip is None:
            raise DataError(describe("the track has no mouth crops", got=track.name))
        info = probe(track.lip)
        if abs(info.fps - FPS) > 0.05:
            raise DataError(describe(f"{track.lip}: wrong frame rate", got=round(info.fps, 3), allowed=[FPS]))
        spans = self.chunk_track(session, speaker, track, info.num_frames)
        if not spans:
            return []
        wave = None if self.modality == "video" else read_audio_track(track.lip)
        decoded = []
        for batch in self._batches(cut_frames(track.lip, spans)):
            for (start, end), best in zip([span for span, _ in batch], self._decode(wave, batch), strict=True):
                times = (track.start_sec + start / FPS, track.start_sec + end / FPS)
                decoded.append(DecodedChunk(track.name, *times, best.text, best.score))
        return decoded

    def _decode(self, wave: np.ndarray | None, batch: Sequence[tuple[Span, np.ndarray]]) -> "list[Hypotheses]":
        waves = None if wave is None else [self._cut_wave(wave, span) for span, _ in batch]
        videos = None if self.modality == "audio" else [frames for _, frames in batch]
        return self.recogniser.decode_batch(waves, videos, self.modality)

    def _cut_wave(self, wave: np.ndarray, span: Span) -> np.ndarray:
        """Return the samples ``(N',)`` of a span of frames; zeros where the sound has ended."""
        first, last = map(self._clock.frames_to_samples, span)
        return self._clock.fit_audio(wave[first:last], span[1] - span[0])

    def _batches(self, clips: Iterator[tuple[Span, np.ndarray]]) -> Iterator[list[tuple[Span, np.ndarray]]]:
        """Yield batches of about equally long clips, out of a few batches' worth that are held at a time."""
        held: list[tuple[Span, np.ndarray]] = []
        for clip in clips:
            held.append(clip)
            if len(held) >= 4 * self.batch_size:
                yield from self._split(held)
                held = []
        yield from self._split(held)

    def _split(self, clips: list[tuple[Span, np.ndarray]]) -> Iterator[list[tuple[Span, np.ndarray]]]:
        batch: list[tuple[Span, np.ndarray]] = []
        for clip in sorted(clips, key=lambda item: len(item[1])):
            full = len(batch) >= self.batch_size or (len(batch) + 1) * len(clip[1]) > self.batch_frames
            if batch and full:
                yield batch
                batch = []
            batch.append(clip)
        if batch:
            yield batch

    def _settings(self) -> dict[str, Any]:
        checkpoint = getattr(self.recogniser, "checkpoint", None)
        return {
            "format": FORMAT,
            "segmentation": self.segmentation,
            "max_length": self.max_length,
            "modality": self.modality,
            "legacy": self.legacy,
            "asd_options": dict(sorted(self.asd_options.items())),
            "beam_size": getattr(self.recogniser, "beam_size", None),
            "ctc_weight": getattr(self.recogniser, "ctc_weight", None),
            "search_options": getattr(self.recogniser, "search_options", None),
            "checkpoint": None if checkpoint is None else _identity(checkpoint),
        }

    def _digest(self, session: Session, speaker: Speaker) -> str:
        """Digest of the settings and of all files of a person, by size and time of change."""
        files = [file for track in speaker.tracks for file in (track.lip, track.asd) if file is not None]
        if self.segmentation == "gold_chunk":
            files.append(session.path / "labels" / f"{speaker.name}.vtt")
        times = [(track.name, track.first_frame, track.start_sec) for track in speaker.tracks]
        content = {"settings": self._settings(), "tracks": times, "files": [_identity(file) for file in files]}
        return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()

    def _facts(self, session: Session, result: SessionResult) -> dict[str, Any]:
        return {
            "session": session.name,
            "settings": self._settings(),
            "cluster_threshold": self.cluster_threshold,
            "speakers": {
                name: {
                    "num_tracks": len(session.speakers[name].tracks),
                    "num_chunks": len(item.chunks),
                    "chunk_sec": round(sum(chunk.end - chunk.start for chunk in item.chunks), 3),
                    "num_captions": len(item.captions),
                    "cluster": result.clusters[name],
                }
                for name, item in result.speakers.items()
            },
            "problem_counts": count_problems(result.problems),
            "problems": [dataclasses.asdict(problem) for problem in result.problems],
        }


def cut_frames(path: str | os.PathLike, spans: Sequence[Span]) -> Iterator[tuple[Span, np.ndarray]]:
    """Cut several stretches out of a video that need not fit into memory; each frame is decoded once.

    Args:
        path: The clip.
        spans: Half-open frames; they may overlap.

    Yields:
        The span and its frames, gray uint8 ``(T, H, W)``, in the order of the ends.

    Raises:
        DataError: The video is damaged, or shorter than a span.
    """
    waiting = sorted(spans)
    open_spans: list[tuple[Span, list[np.ndarray]]] = []
    index = -1
    for index, frame in enumerate(iter_frames(path, gray=True)):
        while waiting and waiting[0][0] <= index:
            open_spans.append((waiting.pop(0), []))
        for _, frames in open_spans:
            frames.append(frame)
        done = [item for item in open_spans if item[0][1] == index + 1]
        open_spans = [item for item in open_spans if item[0][1] > index + 1]
        for span, frames in done:
            yield span, np.stack(frames)
        if not waiting and not open_spans:
            return
    raise DataError(describe(f"{path}: ends early", got=f"{index + 1} frames", allowed=f"{max(s[1] for s in spans)}"))


def _nearest(seconds: float) -> int:
    return int(seconds * FPS + 0.5 + 1e-6)  # halves up, whatever the last bit says


def _identity(path: str | os.PathLike) -> dict[str, Any]:
    """Name, size and time of change of a file; the name alone where it is missing."""
    path = Path(path)
    if not path.is_file():
        return {"name": path.name}
    stat = path.stat()
    return {"name": path.name, "size": stat.st_size, "mtime_ns": stat.st_mtime_ns}


def _state_path(output: Path, speaker: str) -> Path:
    return output / "chunks" / f"{speaker}.json"


def _write_state(output: Path, speaker: str, digest: str, result: SpeakerResult) -> None:
    content = {
        "digest": digest,
        "chunks": [dataclasses.asdict(chunk) for chunk in result.chunks],
        "problems": [dataclasses.asdict(problem) for problem in result.problems],
    }
    write_json(_state_path(output, speaker), content, sort_keys=True)


def _read_state(output: Path, speaker: str, digest: str) -> SpeakerResult | None:
    """Return what an earlier run decoded with the same digest; None where there is nothing like it."""
    path = _state_path(output, speaker)
    if not path.is_file() or not (output / f"{speaker}.vtt").is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["digest"] != digest:
            return None
        chunks = tuple(DecodedChunk(**chunk) for chunk in content["chunks"])
        return SpeakerResult(chunks, tuple(Problem(**problem) for problem in content["problems"]))
    except (ValueError, KeyError, TypeError):
        logger.warning("%s is damaged; %s is decoded again", path, speaker)
        return None

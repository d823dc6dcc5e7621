# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Check a data folder: its tables, and every sound file and clip they name. All problems are returned, none is raised.

Headers are read, nothing is decoded unless asked for, so a check costs about a millisecond per file.
"""

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_av.data.audio_io import probe_audio, read_audio
from espnet_av.data.av_clock import AVClock
from espnet_av.data.data_dir import DataDir, Stream, iter_lines, read_ints, spk2utt
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.progress import progress

#: Reason code -> what it means.
CODES = {
    "missing_table": "a file of the folder that is needed is absent",
    "malformed": "a line of a table cannot be read",
    "duplicate_id": "an utterance id occurs twice in a table",
    "unsorted": "a table is not sorted in byte order (edited by hand?)",
    "key_mismatch": "the tables do not hold the same utterances",
    "no_face": "an utterance has no face crop (entry of mouth.scp)",
    "speaker_mismatch": "spk2utt is not the inverse of utt2spk",
    "empty_text": "a transcript without a word",
    "missing_file": "a sound file or clip does not exist",
    "unreadable": "a sound file or clip is damaged, truncated or of an unknown format",
    "no_audio": "a clip without a sound track",
    "wrong_rate": "another sample rate than the folder's",
    "wrong_fps": "another frame rate than the folder's",
    "drift": "audio and video differ too much in length",
    "wrong_length": "utt2num_frames or utt2num_samples does not fit the file",
}
VIDEO_SUFFIXES = (".mp4", ".mkv", ".mov", ".avi", ".mpg", ".mpeg", ".webm")
USUAL_STREAMS = (
    Stream("wav.scp", "speech", "sound"),
    Stream("video.scp", "face", "video"),
    Stream("mouth.scp", "video", "video_npy"),
    Stream("text", "text", "text"),
)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        utt: Utterance id; empty for a problem of a whole table.
        code: Key of :data:`CODES`.
        message: What is wrong, the value, and the fix.
    """

    utt: str
    code: str
    message: str


def validate_data_dir(
    path: str | os.PathLike,
    *,
    clock: AVClock | None = None,
    max_drift_frames: float = 2.0,
    media: bool = True,
    decode: bool = False,
    utts: Iterable[str] | None = None,
) -> list[Problem]:
    """Check a data folder.

    Args:
        path: The folder.
        clock: Rates that the files must have; None takes those of ``data.json``, or 16 kHz and 25 fps.
        max_drift_frames: Largest difference of length between sound and video, in frames.
        media: Look into the sound files and clips; off: the tables only.
        decode: Decode them wholly, which also finds damage in the middle.
        utts: Look into the media of these utterances only.

    Returns:
        The problems, those of tables first; an empty list for a good folder.

    Raises:
        MissingDataError: If there is no such folder.
    """
    folder = DataDir(path)
    if not folder.path.is_dir():
        raise MissingDataError(describe(f"no data folder {path}", fix="run stage 1 (prepare)"))
    problems: list[Problem] = []
    streams = _streams(folder, problems)
    tables = {stream.file: _check_table(folder / stream.file, stream.type, problems) for stream in streams}
    for name in ("utt2spk", "utt2num_frames", "utt2num_samples"):
        if folder.has(name):
            tables[name] = _check_table(folder / name, "", problems)
    _check_keys(folder, streams, tables, problems)
    _check_speakers(folder, tables, problems)
    if media:
        checker = _MediaChecker(folder, clock or _clock_of(folder, problems), max_drift_frames, decode)
        keys = list(tables[streams[0].file]) if streams else []
        wanted = set(keys if utts is None else utts)
        for utt in progress([key for key in keys if key in wanted], title=f"check {path}"):
            problems += checker.check(utt, streams, tables)
    return problems


def summarise(problems: Sequence[Problem]) -> dict[str, int]:
    """Count problems by code, most frequent first."""
    return dict(Counter(problem.code for problem in problems).most_common())


def require_valid(problems: Sequence[Problem], path: str | os.PathLike, num_shown: int = 5) -> None:
    """Raise when there are problems.

    Raises:
        DataError: With the counts by reason and the first problems.
    """
    if not problems:
        return
    counts = ", ".join(f"{code} {count}" for code, count in summarise(problems).items())
    shown = "\n".join(f"  {problem.message}" for problem in problems[:num_shown])
    raise DataError(f"{path}: {len(problems)} problems ({counts}); the first:\n{shown}")


def _clock_of(folder: DataDir, problems: list[Problem]) -> AVClock:
    try:
        meta = folder.meta
    except DataError as error:
        problems.append(Problem("", "malformed", str(error)))
        meta = {}
    return AVClock(int(meta.get("sample_rate", 16000)), meta.get("fps", 25))


def _streams(folder: DataDir, problems: list[Problem]) -> list[Stream]:
    """Return the declared streams that have a file, or the usual ones that are there."""
    if not folder.has("streams"):
        found = [stream for stream in USUAL_STREAMS if folder.has(stream.file)]
        if not found:
            problems.append(Problem("", "missing_table", f"{folder.path}: no wav.scp, video.scp, mouth.scp or text"))
        return found
    try:
        declared = folder.streams
    except DataError as error:
        problems.append(Problem("", "malformed", str(error)))
        return []
    for stream in declared:
        if not folder.has(stream.file):
            message = f"{folder / stream.file}: declared in streams, but absent; fix: run the stage that writes it"
            problems.append(Problem("", "missing_table", message))
    return [stream for stream in declared if folder.has(stream.file)]


def _check_table(path: Path, type_name: str, problems: list[Problem]) -> dict[str, str]:
    """Read a table line by line; what is wrong goes to ``problems``, the rest is returned."""
    table: dict[str, str] = {}
    previous = b""
    sorted_so_far = True
    try:
        for number, key, value in iter_lines(path):
            if key in table:
                message = f"{path}:{number}: duplicate id '{key}'; fix: remove or rename one of them"
                problems.append(Problem(key, "duplicate_id", message))
                continue
            if sorted_so_far and key.encode() < previous:
                message = f"{path}:{number}: '{key}' is not in byte order; fix: utils/fix_data_dir {path.parent}"
                problems.append(Problem("", "unsorted", message))
                sorted_so_far = False
            previous = key.encode()
            table[key] = value
            if not value:
                code = "empty_text" if type_name == "text" else "malformed"
                problems.append(Problem(key, code, f"{path}:{number}: '{key}' has no {type_name or 'value'}"))
    except DataError as error:
        problems.append(Problem("", "malformed", str(error)))
    return table


def _check_keys(
    folder: DataDir, streams: Sequence[Stream], tables: Mapping[str, Mapping[str, str]], problems: list[Problem]
) -> None:
    """Compare the ids of every table with all ids."""
    files = {stream.file for stream in streams} | {name for name in tables if name.startswith("utt2")}
    everything = sorted(set().union(*(tables[file] for file in files))) if files else []
    for file in sorted(files):
        for utt in everything:
            if utt not in tables[file]:
                code = "no_face" if file == "mouth.scp" else "key_mismatch"
                message = f"{folder / file}: no entry for '{utt}'; fix: utils/fix_data_dir {folder.path}"
                problems.append(Problem(utt, code, message))


def _check_speakers(folder: DataDir, tables: Mapping[str, Mapping[str, str]], problems: list[Problem]) -> None:
    if "utt2spk" not in tables or not folder.has("spk2utt"):
        return
    expected = spk2utt(tables["utt2spk"])
    table = _check_table(folder / "spk2utt", "", problems)
    found = {key: " ".join(sorted(value.split())) for key, value in table.items()}
    if found != expected:
        message = f"{folder / 'spk2utt'}: not the inverse of utt2spk; fix: utils/fix_data_dir {folder.path}"
        problems.append(Problem("", "speaker_mismatch", message))


class _MediaChecker:
    """Looks into the files of one utterance after the other."""

    def __init__(self, folder: DataDir, clock: AVClock, max_drift_frames: float, decode: bool) -> None:
        self.clock, self.max_drift_frames, self.decode = clock, max_drift_frames, decode
        self.stated: dict[str, dict[str, int]] = {}
        for name in ("utt2num_frames", "utt2num_samples"):
            try:
                self.stated[name] = read_ints(folder / name) if folder.has(name) else {}
            except DataError:  # reported with the table
                self.stated[name] = {}

    def check(self, utt: str, streams: Sequence[Stream], tables: Mapping[str, Mapping[str, str]]) -> list[Problem]:
        """Return the problems of one utterance."""
        problems: list[Problem] = []
        num_samples: dict[str, int] = {}
        num_frames: dict[str, int] = {}
        for stream in streams:
            value = tables[stream.file].get(utt)
            if not value or not (stream.type == "sound" or stream.type.startswith("video")):
                continue
            try:
                if stream.type in ("sound", "video_sound"):
                    num_samples[stream.file] = self._audio(utt, value, problems)
                else:
                    num_frames[stream.file] = self._video(utt, value, stream.type, problems)
            except MissingDataError as error:
                problems.append(Problem(utt, "missing_file", f"'{utt}': {error}"))
            except DataError as error:
                problems.append(Problem(utt, "unreadable", f"'{utt}': {error}"))
        self._lengths(utt, num_samples, num_frames, problems)
        return problems

    def _audio(self, utt: str, path: str, problems: list[Problem]) -> int:
        """Return the number of samples; 0 where it is not known."""
        if path.lower().endswith(VIDEO_SUFFIXES):
            return self._track(utt, path, problems)
        num_samples, rate = probe_audio(path)
        if num_samples == 0:
            raise DataError(f"{path}: holds no samples; fix: drop the utterance")
        if rate != self.clock.sample_rate:
            problems.append(
                Problem(
                    utt,
                    "wrong_rate",
                    f"'{utt}': {describe(f'{path}: wrong sample rate', rate, [self.clock.sample_rate], 'run stage 2')}",
                )
            )
            return round(num_samples * self.clock.sample_rate / rate)
        if self.decode:
            return len(read_audio(path)[0])
        return num_samples

    def _track(self, utt: str, path: str, problems: list[Problem]) -> int:
        from espnet_av.data.video_io import probe, read_audio_track

        if not probe(path).has_audio:
            problems.append(Problem(utt, "no_audio", f"'{utt}': {path}: has no audio; fix: drop the utterance"))
            return 0
        return len(read_audio_track(path, self.clock.sample_rate)) if self.decode else 0

    def _video(self, utt: str, path: str, type_name: str, problems: list[Problem]) -> int:
        """Return the number of frames at the folder's rate."""
        if type_name in ("video_npy", "video_npz"):
            from espnet_av.data.types import LOADERS

            return len(LOADERS[type_name](path, self.clock))
        from espnet_av.data.video_io import FPS_TOLERANCE, iter_frames, probe

        info = probe(path)
        fps = float(self.clock.fps)
        count = sum(1 for _ in iter_frames(path)) if self.decode else info.num_frames
        if abs(info.fps - fps) > FPS_TOLERANCE * fps:
            message = describe(f"{path}: wrong frame rate", round(info.fps, 3), [fps], "run stage 2 (format)")
            problems.append(Problem(utt, "wrong_fps", f"'{utt}': {message}"))
            return round(count * fps / info.fps)
        return count

    def _lengths(
        self, utt: str, num_samples: Mapping[str, int], num_frames: Mapping[str, int], problems: list[Problem]
    ) -> None:
        """Compare sound with video, and both with what utt2num_* say."""
        for audio, samples in num_samples.items():
            for video, frames in num_frames.items():
                drift = self.clock.drift_frames(samples, frames) if samples else 0.0
                if abs(drift) > self.max_drift_frames:
                    message = describe(
                        f"'{utt}': {audio} and {video} differ in length",
                        got=f"{drift:+.2f} frames",
                        allowed=f"{self.max_drift_frames} frames",
                        fix="drop the utterance in stage 3 (filter)",
                    )
                    problems.append(Problem(utt, "drift", message))
        for name, file, found in (
            ("utt2num_samples", "wav.scp", num_samples),
            ("utt2num_frames", "mouth.scp", num_frames),
        ):
            stated = self.stated[name].get(utt)
            if stated is not None and found.get(file) and stated != found[file]:
                message = describe(f"'{utt}': {name} does not fit {file}", stated, [found[file]], "run stage 2 again")
                problems.append(Problem(utt, "wrong_length", message))

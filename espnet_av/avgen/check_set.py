# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stages 2 and 3 of generation: data folders of recordings whose files are what they must be, and worth learning from.

Stage 2 opens every file and drops what cannot be read or does not fit together. Stage 3 drops what is no example of an
actor who talks: too short, silent, or with a face that was lost or stood still. Every drop has a reason.

Axes: ``N`` frames of motion, ``M`` token frames, ``D`` values of a frame.
"""

import contextlib
import functools
import os
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from espnet_av.avgen.clock import MOTION_RATE, TOKEN_SAMPLE_RATE, token_frames
from espnet_av.avgen.presets import PARTNER_DIMS
from espnet_av.avgen.recordings import MOST_DRIFT_SEC, token_drift
from espnet_av.avgen.score_files import BASIS
from espnet_av.avgen.token_labels import NUM_LABELS
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.data.format_set import copy_tables
from espnet_av.data.parallel import map_items
from espnet_av.data.types import load_npy
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder, remove_leftovers

#: Tables that every recording needs, and those that only some sets have.
NEEDED, FURTHER = ("wav.scp", "face.scp", "head.scp"), ("tokens.scp", "missing.scp", "text", "phones.scp")
PARTNER = ("other_expression.scp", "other_head.scp")
FRAMES, SECONDS = "utt2num_frames", "utt2dur"
SMALLEST_RATE = 16000  # of sound, Hz
_PIECE = 8192  # frames that are looked at together
_MOST_SKEW = 0.05  # of rotations: largest value of R' R - 1
_NOT_FILES = {"text"}
_STILL = 1e-6  # largest change of a face that does not move


@dataclass(frozen=True)
class Checked:
    """What stage 2 found of a recording.

    Attributes:
        uid: Its id.
        num_frames: N.
        seconds: Of its sound.
        widths: Values of a frame of face and head, which are the same in a whole set.
        reason: Why it is dropped; empty: it is kept.
        detail: What exactly.
    """

    uid: str
    num_frames: int = 0
    seconds: float = 0.0
    widths: tuple[int, int] = (0, 0)
    reason: str = ""
    detail: str = ""


class _Bad(Exception):
    """A recording is dropped: ``(reason, detail)``."""


@dataclass(frozen=True)
class FilterRules:
    """What stage 3 keeps.

    Attributes:
        min_sec: Shortest recording in seconds.
        max_sec: Longest; 0: no limit.
        max_missing_share: Share of the frames that the face may be lost in.
        min_level_db: Level of the loudest 100 ms of the actor, in dB of full scale, below which nobody speaks.
        participant: Drop recordings without a partner.

    Raises:
        UsageError: A value is out of range.
    """

    min_sec: float = 1.0
    max_sec: float = 0.0
    max_missing_share: float = 0.5
    min_level_db: float = -60.0
    participant: bool = False

    def __post_init__(self) -> None:
        if self.min_sec < 0 or (self.max_sec and self.max_sec <= self.min_sec):
            raise UsageError(describe("--min_sec must be below --max_sec", (self.min_sec, self.max_sec)))
        if not 0 <= self.max_missing_share <= 1:
            raise UsageError(describe("--max_missing_share is a share", self.max_missing_share, "0 to 1"))


def check_set(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    *,
    max_dropped_share: float = 0.1,
    max_recordings: int | None = None,
    nj: int = 1,
) -> str:
    """Write a data folder of the recordings whose files are right.

    Reasons: ``incomplete`` (a file is not there), ``unreadable``, ``wrong_rate``, ``wrong_shape``, ``not_finite``,
    ``not_rotations``, ``wrong_length`` (streams that do not last equally long), ``bad_missing`` (a list of lost frames
    that names others), ``other_width`` (face or head of another width than most).

    Args:
        data_dir: Folder of stage 1.
        output_dir: Folder to make, with ``utt2num_frames``, ``utt2dur`` and ``format_report.json``.
        max_dropped_share: Share of dropped recordings above which the stage fails.
        max_recordings: Take only so many, spread over the set.
        nj: Number of processes.

    Returns:
        One line on what was kept and dropped.

    Raises:
        MissingDataError: The folder or a table that every set needs is absent.
        TooManyDropped: Too many are dropped; the reasons lie in ``<output_dir>.format_report.json``.
    """
    data = DataDir(data_dir)
    tables, uids = _read_tables(data, max_recordings)
    fps = float(data.meta.get("motion_fps") or MOTION_RATE)
    items = [(uid, {name: table[uid] for name, table in tables.items() if uid in table}) for uid in uids]
    found = list(map_items(functools.partial(check_recording, fps=fps), items, nj, f"check {data.path.name}"))
    drops = Drops(len(uids))
    widths = [each.widths for each in found if not each.reason]
    usual = max(set(widths), key=widths.count) if widths else (0, 0)
    for each in found:
        if each.reason:
            drops.add(each.uid, each.reason, each.detail)
        elif each.widths != usual:
            drops.add(each.uid, "other_width", f"face and head have {each.widths} values, others {usual}")
    kept = [each for each in found if each.uid not in drops]
    facts = {"motion_fps": fps, "face_and_head_values": list(usual)}
    with copy_set(data, output_dir, drops, facts, max_dropped_share, "format_report.json", among=uids) as new:
        new.write(FRAMES, {each.uid: each.num_frames for each in kept})
        new.write(SECONDS, {each.uid: f"{each.seconds:.3f}" for each in kept})
        new.write_meta({**data.meta, "motion_fps": fps, "fps": fps})
    return drops.one_line()


def filter_set(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    rules: FilterRules = FilterRules(),
    *,
    max_dropped_share: float = 0.1,
    nj: int = 1,
) -> str:
    """Write a data folder of the recordings that are worth learning from.

    Reasons: ``too_short``, ``too_long``, ``no_partner``, ``face_lost``, ``silent``, ``face_still``.

    Args:
        data_dir: Folder of stage 2.
        output_dir: Folder to make, with ``filter_report.json``.
        rules: What is kept.
        max_dropped_share: Share of dropped recordings above which the stage fails.
        nj: Number of processes.

    Returns:
        One line on what was kept and dropped.

    Raises:
        MissingDataError: The folder of stage 2 is absent.
        TooManyDropped: Too many are dropped; the reasons lie in ``<output_dir>.filter_report.json``.
    """
    data = DataDir(data_dir)
    if not data.has(FRAMES):
        raise MissingDataError(describe("no checked data folder", str(data.path), fix="run stage 2 (format) first"))
    tables, uids = _read_tables(data, None)
    seconds, frames = data.read(SECONDS), data.num_frames()
    items = [
        (uid, {name: table[uid] for name, table in tables.items() if uid in table}, float(seconds[uid]), frames[uid])
        for uid in uids
    ]
    drops = Drops(len(uids))
    judged = map_items(functools.partial(judge_recording, rules=rules), items, nj, f"filter {data.path.name}")
    for uid, reason, detail in judged:
        if reason:
            drops.add(uid, reason, detail)
    with copy_set(data, output_dir, drops, {"rules": asdict(rules)}, max_dropped_share, "filter_report.json") as new:
        new.write_meta(data.meta)
    return drops.one_line()


def check_recording(item: tuple[str, Mapping[str, str]], fps: float) -> Checked:
    """Open the files of one recording.

    Args:
        item: Its id, and table -> entry.
        fps: Rate of the motion.
    """
    uid, entries = item
    try:
        _check_present(entries)
        seconds = _check_sound(entries["wav.scp"])
        face, head = _open(entries["face.scp"]), _open(entries["head.scp"])
        _check_face(face)
        _check_head(head)
        _check_lengths(entries, face, head, seconds, fps)
        if "missing.scp" in entries:
            _check_missing(_open(entries["missing.scp"]), len(face))
    except _Bad as bad:
        return Checked(uid, reason=bad.args[0], detail=bad.args[1])
    return Checked(uid, len(face), seconds, (face.shape[1], int(np.prod(head.shape[1:]))))


def judge_recording(item: tuple[str, Mapping[str, str], float, int], rules: FilterRules) -> tuple[str, str, str]:
    """Return id, reason (empty: keep it) and detail of one recording.

    Args:
        item: Its id, table -> entry, seconds and frames.
        rules: What is kept.
    """
    uid, entries, seconds, num_frames = item
    if seconds < rules.min_sec:
        return uid, "too_short", f"{seconds:.2f} s"
    if rules.max_sec and seconds > rules.max_sec:
        return uid, "too_long", f"{seconds:.2f} s"
    if rules.participant and not all(name in entries for name in PARTNER):
        return uid, "no_partner", "no other_expression.scp or other_head.scp"
    lost = np.unique(load_npy(entries["missing.scp"])).size if "missing.scp" in entries else 0
    if lost > rules.max_missing_share * num_frames or lost == num_frames:
        return uid, "face_lost", f"in {lost} of {num_frames} frames"
    level = loudest_level(entries["wav.scp"])
    if level < rules.min_level_db:
        return uid, "silent", f"{level:.1f} dB"
    if largest_change(load_npy(entries["face.scp"])) <= _STILL:
        return uid, "face_still", "all frames are equal"
    return uid, "", ""


def loudest_level(path: str) -> float:
    """Return the level of the loudest 100 ms of the first channel, in dB of full scale."""
    import soundfile

    best = 0.0
    with soundfile.SoundFile(path) as file:
        for block in file.blocks(max(1, file.samplerate // 10), dtype="float32", always_2d=True):
            best = max(best, float(np.mean(np.square(block[:, 0], dtype=np.float64))))
    return float(10 * np.log10(max(best, 1e-12)))


def largest_change(motion: np.ndarray) -> float:
    """Return how far any value of a motion ``(N, D)`` goes from its first frame."""
    first = np.asarray(motion[:1], dtype=np.float64)
    return max(float(np.abs(np.asarray(piece, dtype=np.float64) - first).max()) for piece in _pieces(motion))


def _read_tables(data: DataDir, most: int | None) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return table -> id -> entry, and the ids."""
    for name in NEEDED:
        if not data.has(name):
            fix = "run stage 1 (prepare) again, or look at what local/data.sh makes"
            raise MissingDataError(describe(f"{data.path} has no {name}", allowed=NEEDED, fix=fix))
    names = [name for name in (*NEEDED, *FURTHER, *PARTNER) if data.has(name)]
    tables = {name: data.read(name, allow_empty=name == "text") for name in names}
    uids = sorted(tables["wav.scp"], key=str.encode)
    if most is not None and most < len(uids):
        uids = [uids[index] for index in np.linspace(0, len(uids) - 1, most).round().astype(int)]
    bad = next((uid for uid in uids if "/" in uid or uid.startswith(".")), None)
    if bad is not None:
        raise DataError(describe(f"{data.path}: an id becomes the name of a file", bad, "no /, no leading dot"))
    return tables, uids


@contextlib.contextmanager
def copy_set(
    data: DataDir,
    output_dir: str | os.PathLike,
    drops: Drops,
    facts: Mapping[str, object],
    max_share: float,
    report: str,
    *,
    among: Collection[str] | None = None,
    skip: Collection[str] = (),
) -> Iterator[DataDir]:
    """Give a new data folder with the tables of what was not dropped; it appears when the block ends well.

    Args:
        data: The old folder.
        output_dir: The new one.
        drops: What stays behind.
        facts: What the report says beside the drops.
        max_share: Share of drops above which there is no new folder.
        report: Name of the report in it; where there is no folder, ``<output_dir>.<report>``.
        among: Recordings that were looked at; None: all.
        skip: Tables that are not copied.

    Raises:
        TooManyDropped: Too many are dropped.
    """
    output, content = Path(output_dir), {**facts, **drops.summary()}
    remove_leftovers(output)
    failed = output.with_name(f"{output.name}.{report}")
    if drops.share > max_share or len(drops) >= drops.total:
        output.parent.mkdir(parents=True, exist_ok=True)
        write_json(failed, content, sort_keys=True)
        drops.check(max_share, failed)
    failed.unlink(missing_ok=True)
    keep = {uid for uid in (data.read("wav.scp") if among is None else among) if uid not in drops}
    with atomic_folder(output) as folder:
        new = DataDir(folder)
        copy_tables(data, new, keep, skip={"spk2utt", "streams", BASIS, *skip})
        basis = find_basis_file(data.path)
        if basis is not None:
            shutil.copyfile(basis, folder / BASIS)
        write_json(new / report, content, sort_keys=True)
        yield new


def find_basis_file(folder: str | os.PathLike) -> Path | None:
    """Return ``face_basis.npz`` in a data folder or beside it; None where there is none."""
    folder = Path(folder)
    return next((path for path in (folder / BASIS, folder.parent / BASIS) if path.is_file()), None)


def _check_present(entries: Mapping[str, str]) -> None:
    for name in NEEDED:
        if name not in entries:
            raise _Bad("incomplete", f"it is not in {name}")
    if any(name in entries for name in PARTNER) and not all(name in entries for name in PARTNER):
        raise _Bad("incomplete", f"of {' and '.join(PARTNER)} it has only one")
    for name, path in entries.items():
        if name not in _NOT_FILES and not Path(path).is_file():
            raise _Bad("incomplete", f"no file {path}")


def _check_sound(path: str) -> float:
    import soundfile

    try:
        sound = soundfile.info(path)
    except (soundfile.SoundFileError, OSError, RuntimeError) as error:
        raise _Bad("unreadable", f"{path}: {error}") from error
    if sound.samplerate < SMALLEST_RATE:
        raise _Bad("wrong_rate", f"{path} has {sound.samplerate} Hz, {SMALLEST_RATE} are needed")
    if not sound.frames:
        raise _Bad("wrong_length", f"{path} is empty")
    return sound.frames / sound.samplerate


def _open(path: str) -> np.ndarray:
    try:
        return load_npy(path)
    except DataError as error:
        raise _Bad("unreadable", str(error)) from error


def _check_face(face: np.ndarray) -> None:
    if face.ndim != 2 or face.dtype.kind != "f" or not face.size:
        raise _Bad("wrong_shape", f"face codes are {face.dtype} {face.shape}, not floats (frames, codes)")
    _check_finite(face, "face codes")


def _check_head(head: np.ndarray) -> None:
    fits = head.shape[1:] in ((3, 4), (7,), (4,))
    if not fits or head.dtype.kind != "f":
        allowed = "floats (frames, 3, 4), (frames, 7) or (frames, 4)"
        raise _Bad("wrong_shape", f"head poses are {head.dtype} {head.shape}, not {allowed}")
    _check_finite(head, "head poses")
    if head.ndim == 2:
        return
    for piece in _pieces(head):
        rotation = np.asarray(piece[:, :, :3], dtype=np.float64)
        skew = np.abs(rotation.transpose(0, 2, 1) @ rotation - np.eye(3)).max(axis=(1, 2))
        turned = np.linalg.det(rotation) > 0
        if skew.max() > _MOST_SKEW or not turned.all():
            bad = int(np.argmax((skew > _MOST_SKEW) | ~turned))
            raise _Bad("not_rotations", f"the first three columns of a head pose (frame {bad}) are no rotation")


def _check_lengths(entries: Mapping[str, str], face: np.ndarray, head: np.ndarray, seconds: float, fps: float) -> None:
    if len(head) != len(face):
        raise _Bad("wrong_length", f"{len(face)} frames of the face, {len(head)} of the head")
    if abs(seconds - len(face) / fps) > MOST_DRIFT_SEC:
        raise _Bad("wrong_length", f"sound of {seconds:.2f} s, {len(face)} frames at {fps:g} Hz")
    if "tokens.scp" in entries:
        problem = token_problem(entries["tokens.scp"], seconds)
        if problem is not None:
            raise _Bad(*problem)
    for name, width in zip(PARTNER, (PARTNER_DIMS["expression"], PARTNER_DIMS["head"]), strict=True):
        if name not in entries:
            continue
        values = _open(entries[name])
        if values.ndim != 2 or values.shape[1] != width or values.dtype.kind != "f":
            raise _Bad("wrong_shape", f"{name}: {values.dtype} {values.shape}, not floats (frames, {width})")
        if abs(len(values) - len(face)) > MOST_DRIFT_SEC * fps:
            raise _Bad("wrong_length", f"{name}: {len(values)} frames, the face has {len(face)}")
        _check_finite(values, name)


def token_problem(path: str, seconds: float) -> tuple[str, str] | None:
    """Return why stored tokens cannot be those of a recording, ``(reason, detail)``; None: they can.

    Args:
        path: ``.npy`` of ``(M, 29)`` or ``(channels, M, 29)``.
        seconds: Length of the sound.
    """
    try:
        tokens = _open(path)
    except _Bad as bad:
        return bad.args[0], bad.args[1]
    if tokens.ndim not in (2, 3) or tokens.shape[-1] != NUM_LABELS or tokens.dtype.kind != "f":
        return "wrong_shape", f"tokens are {tokens.dtype} {tokens.shape}, not floats (..., frames, {NUM_LABELS})"
    expected = token_frames(int(seconds * TOKEN_SAMPLE_RATE))
    if abs(tokens.shape[-2] - expected) > token_drift(expected):
        return "wrong_length", f"{tokens.shape[-2]} token frames, about {expected} are expected"
    return None


def _check_missing(missing: np.ndarray, num_frames: int) -> None:
    if missing.size and (missing.dtype.kind not in "iu" or missing.min() < 0 or missing.max() >= num_frames):
        raise _Bad("bad_missing", f"lost frames {missing.dtype}, {missing.min()} to {missing.max()} of {num_frames}")


def _check_finite(values: np.ndarray, what: str) -> None:
    if not all(np.isfinite(piece).all() for piece in _pieces(values)):
        raise _Bad("not_finite", f"{what} hold values that are no numbers")


def _pieces(values: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(values), _PIECE):
        yield values[first : first + _PIECE]


def write_sounds(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    sample_rate: int,
    *,
    with_text: bool = False,
    nj: int = 1,
) -> int:
    """Write the actor alone, mono at one rate: what trainings of token model and vocoder read.

    Args:
        data_dir: A data folder of recordings.
        output_dir: Folder to make: ``wav/``, ``wav.scp``, ``utt2num_samples``; ``text``, ``utt2spk`` if known.
        sample_rate: In Hz.
        with_text: Leave out recordings without a text.
        nj: Number of processes.

    Returns:
        The number of recordings.

    Raises:
        MissingDataError: No recording has a text.
        DataError: A file cannot be read.
    """
    data, output = DataDir(data_dir), Path(output_dir)
    wavs = data.read("wav.scp")
    texts = data.read("text", allow_empty=True) if data.has("text") else {}
    uids = [uid for uid in sorted(wavs) if not with_text or texts.get(uid, "").strip()]
    if not uids:
        fix = "give a --token_model that is trained already: wav2vec2, a folder, or given"
        raise MissingDataError(describe(f"no recording of {data.path} has a text", allowed="a file text", fix=fix))
    remove_leftovers(output)
    with atomic_folder(output) as folder:
        (folder / "wav").mkdir()
        work = functools.partial(_write_sound, folder=folder / "wav", sample_rate=sample_rate)
        counts = list(map_items(work, [(uid, wavs[uid]) for uid in uids], nj, f"sound {data.path.name}"))
        new = DataDir(folder)
        new.write("wav.scp", {uid: output / "wav" / f"{uid}.wav" for uid in uids})
        new.write("utt2num_samples", dict(zip(uids, counts, strict=True)))
        tables = {"text": texts, "utt2spk": data.read("utt2spk") if data.has("utt2spk") else {}}
        for name, table in tables.items():
            if table:
                new.write(name, {uid: table[uid] for uid in uids if uid in table})
        told = {key: value for key, value in data.meta.items() if key in ("licence", "description")}
        new.write_meta({**told, "sample_rate": sample_rate})
    return len(uids)


def _write_sound(item: Sequence[str], folder: Path, sample_rate: int) -> int:
    from espnet_av.avgen.sound_files import read_channels
    from espnet_av.data.audio_io import write_audio

    uid, path = item
    voice = read_channels(path, sample_rate)[0][0]
    write_audio(folder / f"{uid}.wav", voice, sample_rate)
    return len(voice)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What scoring reads: real recordings, generated samples, and what both say about the mouth.

Real recordings are a data folder (``wav.scp``, ``face.scp``, ``head.scp``, perhaps ``text``, ``segments``,
``phones.scp``) or a folder in the 50h layout (``audio/``, ``expression_codes/``, ``headpose/``). The first channel of
the sound is the actor, the second the partner. Generated samples are
``<utterance>/<number>/{audio.wav,motion.npz,mel.npy}``, where ``motion.npz`` holds ``face (F, 256)``,
``head_R (F, 3, 3)`` and ``head_t (F, 3)``, or ``head (F, 4)``, and ``fps``.

``face_basis.npz`` beside the data (or above it) tells what the codes of a drawn face mean: ``controls = code @ Q.T``.
The first control is the opening of the mouth, the second its width.

Axes: ``F`` frames of motion, ``N`` samples, ``K`` controls, ``D`` values of a head pose.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avgen.beats import MOTION_FPS
from espnet_av.data.audio_io import resample_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.untrusted import load_npy, open_npz

FACE_TABLES = ("face.scp", "expression.scp", "expression_codes.scp")
HEAD_TABLES = ("head.scp", "headpose.scp")
BASIS = "face_basis.npz"
BASIS_DEPTH = 4  # folders above the data where it may lie
AUDIO, MOTION, MEL = "audio.wav", "motion.npz", "mel.npy"
ANGLES = slice(12, 16)  # neck and head in a body pose of Audio2Photoreal
BODY_POSE = 104
RATE = 22050


@dataclass(frozen=True)
class FaceBasis:
    """What face codes of a drawn face mean.

    Attributes:
        matrix: ``(K, C)``, orthonormal rows.
        names: Of the controls.
    """

    matrix: np.ndarray
    names: tuple[str, ...]

    def controls(self, codes: np.ndarray) -> np.ndarray:
        """Return the controls ``(F, K)`` of codes ``(F, C)``.

        Raises:
            DataError: The codes are of another width.
        """
        if codes.shape[-1] != self.matrix.shape[1]:
            raise DataError(describe("face codes do not belong to the basis", codes.shape, (-1, self.matrix.shape[1])))
        return np.asarray(codes, dtype=np.float64) @ self.matrix.T

    def column(self, name: str) -> int | None:
        """Return the place of the first control whose name holds ``name``; None where there is none."""
        return next((place for place, own in enumerate(self.names) if name in own), None)


@dataclass(frozen=True)
class Truth:
    """The files of one real recording.

    Attributes:
        uid: Its id.
        wav: Sound file.
        face: File of face codes.
        head: File of head poses; None where there are none.
        text: What is said; None where it is not known.
        span: Begin and end in seconds inside the files; None: all.
        fps: Rate of the motion.
        phones: JSON file with ``phones``: label, begin and end in seconds of each; None where they are not known.
    """

    uid: str
    wav: str
    face: str
    head: str | None = None
    text: str | None = None
    span: tuple[float, float] | None = None
    fps: float = MOTION_FPS
    phones: str | None = None


@dataclass(frozen=True)
class Take:
    """A recording or a sample in memory.

    Attributes:
        wav: The actor's voice at 22.05 kHz, ``(N,)``; None where there is no sound.
        face: Codes, ``(F, C)``.
        head: Quaternion and translation ``(F, 7)``, or angles ``(F, 4)``; None where there are none.
        mel: Generated logarithmic mel bands, ``(T, 80)``; None where there are none.
        partner: The partner's voice at the same rate; None where there is none.
        fps: Rate of the motion.
    """

    wav: np.ndarray | None
    face: np.ndarray
    head: np.ndarray | None
    mel: np.ndarray | None = None
    partner: np.ndarray | None = None
    fps: float = MOTION_FPS


@dataclass(frozen=True)
class SampleFolder:
    """Samples of one test set by one system.

    Attributes:
        system: What made them.
        set_name: The test set.
        folder: Holds ``<utterance>/<number>/``.
        facts: Content of ``infer.json``.
    """

    system: str
    set_name: str
    folder: Path
    facts: Mapping[str, Any] = field(default_factory=dict)

    def samples(self) -> dict[str, list[Path]]:
        """Return utterance -> folders of its samples, in order."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self.folder.glob(f"*/*/{MOTION}"), key=lambda item: (item.parts[-3], _natural(item))):
            found.setdefault(path.parent.parent.name, []).append(path.parent)
        return found


def read_truths(data_dir: str | Path) -> dict[str, Truth]:
    """Return id -> recording of a data folder or of a folder in the 50h layout.

    Raises:
        MissingDataError: It has no sound or no motion.
    """
    data_dir = Path(data_dir)
    if (data_dir / "expression_codes").is_dir():
        return _read_layout(data_dir)
    data = DataDir(data_dir)
    face = _first_table(data, FACE_TABLES)
    if not data.has("wav.scp") or not face:
        what = f"{data_dir} has no wav.scp or no {FACE_TABLES[0]}"
        raise MissingDataError(describe(what, fix="run stages 1 and 2, or name a folder in the 50h layout"))
    wav, head = data.read("wav.scp"), _first_table(data, HEAD_TABLES)
    texts = data.read("text", allow_empty=True) if data.has("text") else {}
    phones = data.read("phones.scp", allow_empty=True) if data.has("phones.scp") else {}
    fps = float(data.meta.get("motion_fps") or MOTION_FPS)
    spans = _read_segments(data)
    found = {}
    for uid in spans or wav:
        source, span = spans.get(uid, (uid, None))
        sound, code, pose = (table.get(uid, table.get(source)) for table in (wav, face, head))
        if sound is None or code is None:
            continue
        found[uid] = Truth(uid, sound, code, pose, texts.get(uid), span, fps, phones.get(uid))
    if not found:
        raise MissingDataError(describe(f"no recording of {data_dir} has sound and motion", fix="run stage 2 again"))
    return found


def _first_table(data: DataDir, names: Sequence[str]) -> dict[str, str]:
    name = next((name for name in names if data.has(name)), None)
    return data.read(name) if name else {}


def _read_segments(data: DataDir) -> dict[str, tuple[str, tuple[float, float]]]:
    if not data.has("segments"):
        return {}
    found = {}
    for uid, line in data.read("segments").items():
        try:
            recording, start, end = line.split()
            found[uid] = (recording, (float(start), float(end)))
        except ValueError as error:
            what = f"{data.path / 'segments'}: a bad line of '{uid}'"
            raise DataError(describe(what, got=line, allowed="<recording> <start> <end>, in seconds")) from error
    return found


def _read_layout(root: Path) -> dict[str, Truth]:
    texts = DataDir(root).read("text", allow_empty=True) if (root / "text").is_file() else {}
    found = {}
    for face in sorted((root / "expression_codes").glob("*.npy")):
        wav, head = root / "audio" / f"{face.stem}.wav", root / "headpose" / f"{face.stem}--headpose.npy"
        if wav.is_file():
            phones = root / "phones" / f"{face.stem}.json"
            files = [str(path) if path.is_file() else None for path in (head, phones)]
            found[face.stem] = Truth(face.stem, str(wav), str(face), files[0], texts.get(face.stem), phones=files[1])
    if not found:
        raise MissingDataError(describe(f"no segment of {root} has sound and motion", fix="check audio/*.wav"))
    return found


def find_basis(data_dir: str | os.PathLike, named: str | os.PathLike | None = None) -> FaceBasis | None:
    """Return the meaning of the face codes: the file that is named, else ``face_basis.npz`` in or above the data.

    Raises:
        MissingDataError: The named file does not exist.
        DataError: The file holds no matrix.
    """
    if named is None:
        data_dir = Path(data_dir).resolve()
        places = [folder / BASIS for folder in (data_dir, *list(data_dir.parents)[:BASIS_DEPTH])]
        named = next((path for path in places if path.is_file()), None)
        if named is None:
            return None
    elif not Path(named).is_file():
        raise MissingDataError(describe("no face basis", got=named, fix="check --face_basis"))
    try:
        with open_npz(named) as archive:
            content = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise DataError(describe(f"{named} cannot be read ({error})", fix="run stage 1 again")) from error
    matrices = [value for value in content.values() if value.ndim == 2 and value.dtype.kind == "f"]
    if not matrices:
        raise DataError(describe(f"{named} holds no matrix", got=sorted(content), allowed="Q (controls, codes)"))
    matrix = content.get("Q", matrices[0]).astype(np.float64)
    texts = [value for value in content.values() if value.ndim == 1 and value.dtype.kind == "U"]
    names = tuple(str(name) for name in texts[0]) if texts else ()
    return FaceBasis(matrix, names if len(names) == len(matrix) else ("opening", "width", *[""] * (len(matrix) - 2)))


def load_truth(truth: Truth) -> Take:
    """Read a real recording.

    Raises:
        DataError: A file is damaged or has another form.
    """
    wave, rate = _read_sound(truth.wav, truth.span)
    face = _load(truth.face, 2, truth.span, truth.fps)
    head = None if truth.head is None else head_vectors(_load(truth.head, None, truth.span, truth.fps), truth.head)
    if not len(face) or not len(wave):
        raise DataError(describe(f"'{truth.uid}' is empty", got=(len(wave), len(face)), fix="run stage 3 again"))
    voices = [resample_audio(channel, rate, RATE) for channel in wave.T[:2]]
    return Take(voices[0], face, head, None, voices[1] if len(voices) > 1 else None, truth.fps)


def load_sample(folder: str | Path) -> Take:
    """Read a generated sample; its sound and its mel may be absent.

    Raises:
        DataError: A file is damaged or has another form.
    """
    from espnet_av.data.audio_io import read_audio

    folder = Path(folder)
    try:
        with open_npz(folder / MOTION) as archive:
            content = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        what = f"{folder / MOTION} cannot be read ({error})"
        raise DataError(describe(what, fix="run stage 6 (infer) again")) from error
    if "face" not in content or content["face"].ndim != 2 or not np.isfinite(content["face"]).all():
        raise DataError(describe(f"{folder / MOTION} holds no face codes", sorted(content), "face (frames, codes)"))
    head = None
    if "head_R" in content and "head_t" in content:
        pose = np.concatenate([content["head_R"], content["head_t"][..., None]], axis=-1)
        head = head_vectors(pose, str(folder / MOTION))
    elif "head" in content:
        head = head_vectors(content["head"], str(folder / MOTION))
    wav = read_audio(folder / AUDIO, RATE, resample=True)[0] if (folder / AUDIO).is_file() else None
    mel = _load(folder / MEL, 2) if (folder / MEL).is_file() else None
    return Take(wav, content["face"], head, mel, None, float(content.get("fps", MOTION_FPS)))


def head_vectors(pose: np.ndarray, source: str) -> np.ndarray:
    """Return head poses as ``(F, 7)`` quaternion and translation without jumps of sign, or angles ``(F, 4)``.

    Raises:
        DataError: They have another form.
    """
    import torch

    from espnet_av.avgen.pose import align_signs, pose_to_vector

    pose = np.asarray(pose, dtype=np.float64)
    if pose.shape[1:] == (3, 4):
        return pose_to_vector(torch.from_numpy(pose)).numpy()
    if pose.ndim == 2 and pose.shape[1] == BODY_POSE:
        pose = pose[:, ANGLES]
    if pose.ndim != 2 or pose.shape[1] not in (4, 7):
        allowed = "(frames, 3, 4), (frames, 7), (frames, 4) or body poses (frames, 104)"
        fix = "make it again; a published generator is converted with --head_vae"
        raise DataError(describe(f"{source} holds no head poses", pose.shape, allowed, fix))
    if pose.shape[1] == 7:
        signs = align_signs(torch.from_numpy(pose[:, :4])).numpy()
        pose = np.concatenate([signs, pose[:, 4:]], axis=1)
    return pose


def find_samples(decode_dir: str | Path) -> list[SampleFolder]:
    """Find samples below a folder: ``<system>/<set>/<utterance>/<number>/`` or ``<set>/<utterance>/<number>/``."""
    from espnet_av.utils.experiment import read_json, set_order

    decode_dir = Path(decode_dir)
    folders = {path.parents[2] for path in decode_dir.glob(f"*/*/*/{MOTION}")}
    folders |= {path.parents[2] for path in decode_dir.glob(f"*/*/*/*/{MOTION}")}
    found = []
    for folder in folders:
        facts = read_json(folder / "infer.json")
        facts = facts if isinstance(facts, Mapping) else {}
        system = "joint" if folder.parent == decode_dir else folder.parent.name
        found.append(SampleFolder(system, folder.name, folder, facts))
    return sorted(found, key=lambda item: (set_order(item.set_name), system_order(item.system)))


def system_order(name: str) -> tuple[Any, ...]:
    """Sort key of a system: the joint one, the others, by name and the numbers in it; real and copies of it last."""
    last = {"resynthesis": 1, "real": 2}.get(name, 0)
    return (last, not name.startswith("joint"), _split_numbers(name))


def _split_numbers(name: str) -> list[tuple[int, float, str]]:
    import re

    parts = re.split(r"(\d+(?:\.\d+)?)", name)
    return [(0, float(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts)]


def _natural(path: Path) -> tuple[int, str]:
    name = path.parent.name
    return (int(name) if name.isdigit() else 10**9, name)


def _read_sound(path: str, span: tuple[float, float] | None) -> tuple[np.ndarray, int]:
    """Read sound ``(N, channels)``, or the part of it between two times."""
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            first, last = (round(second * rate) for second in span) if span else (0, file.frames)
            file.seek(min(first, file.frames))
            return file.read(max(0, last - first), dtype="float32", always_2d=True), rate
    except (RuntimeError, OSError) as error:
        raise DataError(describe(f"{path} cannot be read ({error})", fix="run stage 1 again")) from error


def _load(
    path: str | os.PathLike,
    dimensions: int | None = None,
    span: tuple[float, float] | None = None,
    fps: float = MOTION_FPS,
) -> np.ndarray:
    """Read an array, or the frames of it between two times."""
    try:
        array = load_npy(path, mmap=bool(span))
    except (ValueError, OSError, EOFError) as error:
        raise DataError(describe(f"{path} cannot be read ({error})", fix="make it again")) from error
    if span:
        first, last = (round(second * fps) for second in span)
        array = np.array(array[first:last])
    if (dimensions is not None and array.ndim != dimensions) or not np.isfinite(array).all():
        what = f"{path} has another form, or values that are not finite"
        raise DataError(describe(what, got=array.shape, allowed=f"{dimensions} dimensions" if dimensions else None))
    return array

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio2Photoreal: four people in conversation, a folder for each.

::

    scene01_audio.wav                   48 kHz; this person, partner; 1600 samples a frame
    scene01_body_pose.npy               (N, 104) joint angles, 30 Hz; columns 12 to 15 are neck and head
    scene01_face_expression.npy         (N, 256)
    scene01_missing_face_frames.npy     numbers of frames
    data_stats.pth                      means and deviations
    wav2vec2_fairseq_base_ls960_asr_ls960_vad100/scene01.npy        (2, M, 29)

``python -m espnet_av.corpora.audio2photoreal --root ROOT/PXB184 --output_dir data`` checks every file against this
layout and writes data folders ``train``, ``valid`` and ``test``.
"""

import argparse
import logging
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path

import numpy as np

from espnet_av.avgen.layouts import RecordingLayout
from espnet_av.avgen.recordings import Recording
from espnet_av.corpora.actor_layouts import FACE_VALUES, WrongFile, check_array, check_sound, check_tokens
from espnet_av.corpora.fifty_hours import pick_token_dir
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.data.types import load_npy
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.experiment import write_json

logger = logging.getLogger(__name__)
PEOPLE = ("PXB184", "RLW104", "TXB805", "GQS883")
POSE_VALUES = 104
#: ``data_stats.pth``: values of mean and deviation of each stream.
STATISTICS = {"code": FACE_VALUES, "pose": POSE_VALUES, "audio": 2}

HEAD_COLUMNS = (12, 16)
FACE_SUFFIX = "_face_expression.npy"
SPLITS = ("a2p", "avflow")
_TEST, _VALID = 4, 2  # scenes at the end, by the rule of the data; the other rule has only the latter


def find_scenes(root: str | Path, *, token_dir: str | None = None, leave_out: Container[str] = ()) -> list[Recording]:
    """Return the scenes of one person, sorted by name.

    Args:
        root: The person's folder.
        token_dir: Folder of the tokens below it; None: the first of the usual ones that is there.
        leave_out: Scenes to pass over.

    Raises:
        MissingDataError: There are no scenes, or a scene lacks a file.
    """
    root = Path(root)
    tokens = pick_token_dir(root, token_dir)
    found = []
    for face in sorted(root.glob(f"*{FACE_SUFFIX}")):
        scene = face.name.removesuffix(FACE_SUFFIX)
        if scene in leave_out:
            continue
        wav, pose = root / f"{scene}_audio.wav", root / f"{scene}_body_pose.npy"
        for path in (wav, pose):
            if not path.is_file():
                raise MissingDataError(describe(f"scene '{scene}' has no {path}", fix="copy it, or drop the scene"))
        missing = root / f"{scene}_missing_face_frames.npy"
        found.append(
            Recording(
                scene,
                str(wav),
                str(face),
                str(pose),
                tokens=str(tokens / f"{scene}.npy") if tokens is not None else None,
                missing=str(missing) if missing.is_file() else None,
                columns=HEAD_COLUMNS,
            )
        )
    if not found:
        raise MissingDataError(describe(f"{root} holds no scenes", allowed="*_face_expression.npy"))
    return found


def check_layout(root: str | Path, *, token_dir: str | None = None) -> Drops:
    """Compare a person's folder with the layout.

    Args:
        root: The folder.
        token_dir: See :func:`find_scenes`.

    Returns:
        The scenes that differ from it, with reasons: ``missing_file``, ``unreadable``, ``wrong_shape``,
        ``wrong_sound``, ``wrong_length``, ``bad_missing``.

    Raises:
        MissingDataError: There is no such folder, or it has no scenes, or no statistics.
        DataError: The statistics are others.
    """
    root = Path(root)
    if not root.is_dir():
        there = sorted(path.name for path in root.parent.glob("*/") if any(path.glob("*_audio.wav")))
        people = ", ".join(there) or f"nobody: the root holds a folder for each person, such as {PEOPLE[0]}"
        raise MissingDataError(describe(f"no folder {root}", allowed=people, fix="name the root, and one person in it"))
    names = {path.name.removesuffix("_audio.wav") for path in root.glob("*_audio.wav")}
    names |= {path.name.removesuffix(FACE_SUFFIX) for path in root.glob(f"*{FACE_SUFFIX}")}
    if not names:
        fix = f"name the folder of one person, such as ROOT/{PEOPLE[0]}"
        raise MissingDataError(describe(f"{root} holds no scenes", allowed="sceneNN_audio.wav and more", fix=fix))
    stats = read_data_stats(root / "data_stats.pth")
    for name, size in STATISTICS.items():
        for what, count in (("mean", size), ("std", size), ("std_flat", 1)):
            got = stats.get(f"{name}_{what}")
            if got is None or np.size(got) != count:
                what = f"{root / 'data_stats.pth'}: {name}_{what} is not what the layout says"
                raise DataError(describe(what, None if got is None else np.shape(got), f"{count} numbers"))
    tokens = pick_token_dir(root, token_dir)
    drops = Drops(len(names))
    for name in sorted(names):
        try:
            _check_scene(root, name, tokens)
        except WrongFile as wrong:
            drops.add(name, *wrong.args)
    return drops


def _check_scene(root: Path, name: str, tokens: Path | None) -> None:
    face = check_array(root / f"{name}_face_expression.npy", (None, FACE_VALUES))
    check_array(root / f"{name}_body_pose.npy", (len(face), POSE_VALUES))
    check_sound(root / f"{name}_audio.wav", len(face))
    path = root / f"{name}_missing_face_frames.npy"
    missing = check_array(path, (None,), "iuf")
    if missing.size and (missing.dtype.kind == "f" or missing.min() < 0 or missing.max() >= len(face)):
        raise WrongFile("bad_missing", f"{path} names frames that are not among the {len(face)} of the scene")
    if tokens is not None:
        check_tokens(tokens / f"{name}.npy")


def write_sets(
    root: str | Path,
    output_dir: str | Path,
    *,
    split: str = "a2p",
    token_dir: str | None = None,
    licence: str | None = None,
    max_dropped_share: float = 0.1,
) -> dict[str, int]:
    """Write data folders ``train``, ``valid`` and ``test`` of one person, and the four angles of neck and head alone.

    Args:
        root: The person's folder.
        output_dir: Gets the data folders and ``head/<scene>.npy``.
        split: See :func:`split_scenes`.
        token_dir: See :func:`find_scenes`.
        licence: Of the recordings.
        max_dropped_share: Scenes that differ from the layout are left out; more than this share are an error.

    Returns:
        The scenes of each set.

    Raises:
        MissingDataError: There are no scenes.
        TooManyDropped: Too many scenes differ from the layout; the reasons lie in ``layout_report.json``.
    """
    root, output_dir = Path(root).resolve(), Path(output_dir)
    drops = check_layout(root, token_dir=token_dir)
    report = output_dir / "layout_report.json"
    (output_dir / "head").mkdir(parents=True, exist_ok=True)
    write_json(report, drops.summary(), sort_keys=True)
    drops.check(max_dropped_share, report, "--max_wrong_share")
    if len(drops):
        logger.warning("%s; see %s", drops.one_line(), report)
    scenes = {each.uid: each for each in find_scenes(root, token_dir=token_dir, leave_out=drops)}
    subsets = split_scenes(list(scenes), split)
    for uid, scene in scenes.items():
        np.save(output_dir / "head" / f"{uid}.npy", np.asarray(load_npy(scene.head)[:, slice(*HEAD_COLUMNS)]))
    for subset, uids in subsets.items():
        data = DataDir(output_dir / subset)
        data.path.mkdir(parents=True, exist_ok=True)
        tables: dict[str, Mapping[str, object]] = {
            "wav.scp": {uid: scenes[uid].wav for uid in uids},
            "face.scp": {uid: scenes[uid].face for uid in uids},
            "head.scp": {uid: output_dir / "head" / f"{uid}.npy" for uid in uids},
            "missing.scp": {uid: scenes[uid].missing for uid in uids if scenes[uid].missing},
            "tokens.scp": {uid: scenes[uid].tokens for uid in uids if scenes[uid].tokens},
            "utt2spk": dict.fromkeys(uids, root.name),
        }
        for name, table in tables.items():
            if table:
                data.write(name, table)
            else:
                (data / name).unlink(missing_ok=True)
        about = {"licence": licence} if licence else {}
        data.write_meta({"motion_fps": Recording.fps, "source": str(root), "split": split, **about})
    return {name: len(uids) for name, uids in subsets.items()}


def split_scenes(scenes: Sequence[str], rule: str = "a2p") -> dict[str, list[str]]:
    """Divide scenes into ``train``, ``valid`` and ``test``.

    Args:
        scenes: Their names.
        rule: ``a2p``: the last 4 are the test, the 2 before them the validation set. ``avflow``: the last 2 are the
            validation set, which is the test set too; the test scenes of ``a2p`` are then trained on.

    Raises:
        UsageError: The rule is unknown.
        DataError: There are too few scenes.
    """
    if rule not in SPLITS:
        usage_error("unknown rule to divide scenes", rule, SPLITS)
    names = sorted(scenes)
    held = _TEST + _VALID if rule == "a2p" else _VALID
    if len(names) <= held:
        raise DataError(describe("too few scenes to divide", len(names), f"more than {held}", "add scenes"))
    if rule == "avflow":
        return {"train": names[:-_VALID], "valid": names[-_VALID:], "test": names[-_VALID:]}
    return {"train": names[:-held], "valid": names[-held:-_TEST], "test": names[-_TEST:]}


class Audio2Photoreal(RecordingLayout):
    """The folder of one person for training and inference."""

    @staticmethod
    def matches(folder: Path) -> bool:
        """Return whether a folder holds scenes."""
        return any(folder.glob(f"*{FACE_SUFFIX}"))

    @staticmethod
    def find(
        folder: Path, *, subset: str = "all", split: str = "a2p", token_dir: str | None = None
    ) -> tuple[list[Recording], list[float] | None]:
        """See :meth:`espnet_av.avgen.layouts.RecordingLayout.find`; ``split`` is that of :func:`split_scenes`."""
        found = find_scenes(folder, token_dir=token_dir)
        chosen = split_scenes([each.uid for each in found], split)
        return [each for each in found if subset == "all" or each.uid in chosen[subset]], None


def read_data_stats(path: str | Path) -> dict[str, np.ndarray]:
    """Read ``data_stats.pth``, whose arrays are those of an older numpy, or the same as ``.npz``.

    Only arrays and numbers are let in: the file cannot run code.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is damaged or holds anything else.
    """
    import torch

    from espnet_av.train.checkpoint import read_tensors
    from espnet_av.utils.plain_arrays import STAND_INS
    from espnet_av.utils.untrusted import open_npz

    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no statistics of the data", str(path), fix="copy data_stats.pth"))
    try:
        if path.suffix == ".npz":
            with open_npz(path) as archive:
                return {name: archive[name] for name in archive.files}
        with torch.serialization.safe_globals([(stand_in, name) for name, stand_in in STAND_INS.items()]):
            content = read_tensors(path)
    except Exception as error:  # the reader of damaged archives raises many kinds
        raise DataError(describe(f"{path}: cannot be read ({error})", fix="copy it again")) from error
    if not isinstance(content, dict):
        raise DataError(describe(f"{path} holds no table", type(content).__name__))
    return {str(name): np.asarray(value) for name, value in content.items()}


def main(cmd: Sequence[str] | None = None) -> int:
    """Write the data folders of one person."""
    parser = argparse.ArgumentParser(description="Write data folders of one person of Audio2Photoreal.")
    parser.add_argument("--root", type=Path, required=True, help="the person's folder")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="gets the data folders")
    parser.add_argument("--split", default="a2p", help=f"how scenes are divided: {' or '.join(SPLITS)}")
    parser.add_argument("--token_dir", help="folder of the tokens below the root (default: the usual ones)")
    parser.add_argument("--licence", help="of the recordings; a model that was trained on them has to keep it")
    share = ("--max_wrong_share", "--max_dropped_share")
    parser.add_argument(*share, type=float, default=0.1, help="more wrong scenes are an error")
    args = parser.parse_args(cmd)
    counts = write_sets(
        args.root,
        args.output_dir,
        split=args.split,
        token_dir=args.token_dir,
        licence=args.licence,
        max_dropped_share=args.max_wrong_share,
    )
    sys.stdout.write(", ".join(f"{args.output_dir / name}: {count}" for name, count in counts.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

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
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from espnet_av.avgen.recordings import Recording
from espnet_av.corpora.fifty_hours import pick_token_dir
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error

HEAD_COLUMNS = (12, 16)
FACE_FILE = re.compile(r"(.+)_face_expression\.npy")
SPLITS = ("a2p", "avflow")
_TEST, _VALID = 4, 2  # scenes at the end, by the rule of the data; the other rule has only the latter


def find_scenes(root: str | Path, *, token_dir: str | None = None) -> list[Recording]:
    """Return the scenes of one person, sorted by name.

    Args:
        root: The person's folder.
        token_dir: Folder of the tokens below it; None: the first of the usual ones that is there.

    Raises:
        MissingDataError: There are no scenes, or a scene lacks a file.
    """
    root = Path(root)
    tokens = pick_token_dir(root, token_dir)
    found = []
    for face in sorted(root.glob("*_face_expression.npy")):
        scene = FACE_FILE.fullmatch(face.name)[1]
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


def read_data_stats(path: str | Path) -> dict[str, np.ndarray]:
    """Read ``data_stats.pth``, whose arrays are those of an older numpy, or the same as ``.npz``.

    Only arrays and numbers are let in: the file cannot run code.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is damaged or holds anything else.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise MissingDataError(describe("no statistics of the data", str(path), fix="copy data_stats.pth"))
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        kinds = [type(np.dtype(kind)) for kind in ("float16", "float32", "float64", "int32", "int64", "bool")]
        rebuild = np._core.multiarray._reconstruct
        allowed = [(rebuild, "numpy.core.multiarray._reconstruct"), rebuild, np.ndarray, np.dtype, *kinds]
        scalar = np._core.multiarray.scalar
        allowed += [(scalar, "numpy.core.multiarray.scalar"), scalar]
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the reader of damaged archives raises many kinds
        raise DataError(describe(f"{path}: cannot be read ({error})", fix="copy it again")) from error
    if not isinstance(content, dict):
        raise DataError(describe(f"{path} holds no table", type(content).__name__))
    return {str(name): np.asarray(value) for name, value in content.items()}

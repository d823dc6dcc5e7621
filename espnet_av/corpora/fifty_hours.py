# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One actor in conversation with many partners: the layout of the published 50-hour recordings.

::

    audio/<segment>.wav                             48 kHz; actor, partner
    expression_codes/<segment>.npy                  (N, 256), 30 Hz
    headpose/<segment>--headpose.npy                (N, 3, 4) rotation | translation
    headpose/headpose_normstats/*.npy
    wav2vec2_fairseq_base_ls960_asr_ls960_vad100/<segment>.npy      (2, M, 29)
    participant/camera01/smirk_outputs/<segment>--{expression,headpose}.npy

The partner's files may be absent. ``text`` and ``phones/<segment>.json`` may lie beside them.
"""

from pathlib import Path

import numpy as np

from espnet_av.avgen.recordings import Recording
from espnet_av.data.data_dir import read_scp
from espnet_av.utils.errors import MissingDataError, describe

AUDIO, FACE, HEAD = "audio", "expression_codes", "headpose"
PARTNER = "participant/camera01/smirk_outputs"
HEAD_STATISTICS = f"{HEAD}/headpose_normstats"
PARTNER_RANGE = f"{PARTNER}/stats"
#: Tokens whose silence was cut by an activity detector come first, as in the published training.
TOKEN_DIRS = ("wav2vec2_fairseq_base_ls960_asr_ls960_vad100", "wav2vec2_fairseq_base_ls960_asr_ls960")
VALID_DATES = ("20240408", "20240509")
TEST_DATE = "20240509--1052"


def find_segments(root: str | Path, *, token_dir: str | None = None) -> list[Recording]:
    """Return the segments of a folder in the 50h layout, sorted by name.

    Args:
        root: The folder.
        token_dir: Folder of the tokens below it; None: the first of :data:`TOKEN_DIRS` that is there.

    Raises:
        MissingDataError: There are no segments, or a segment has no sound or no head.
    """
    root = Path(root)
    tokens = pick_token_dir(root, token_dir)
    texts = read_scp(root / "text", allow_empty=True) if (root / "text").is_file() else {}
    found = []
    for face in sorted((root / FACE).glob("*.npy")):
        name = face.stem
        wav, head = root / AUDIO / f"{name}.wav", root / HEAD / f"{name}--headpose.npy"
        for path in (wav, head):
            if not path.is_file():
                raise MissingDataError(describe(f"segment '{name}' has no {path}", fix="copy it, or drop the segment"))
        partner = [root / PARTNER / f"{name}--{part}.npy" for part in ("expression", "headpose")]
        seen = [str(path) for path in partner] if all(path.is_file() for path in partner) else [None, None]
        token_file = str(tokens / f"{name}.npy") if tokens is not None else None
        files = {"tokens": token_file, "other_expression": seen[0], "other_head": seen[1]}
        found.append(Recording(name, str(wav), str(face), str(head), text=texts.get(name), **files))
    if not found:
        raise MissingDataError(describe(f"{root / FACE} holds no segments", allowed="<segment>.npy"))
    return found


def pick_token_dir(root: Path, token_dir: str | None) -> Path | None:
    """Return the folder of tokens below a data set; None where there is none.

    Raises:
        MissingDataError: The folder that was named is not there.
    """
    if token_dir is not None:
        if not (root / token_dir).is_dir():
            fix = "extract the tokens first, or name another token_dir"
            raise MissingDataError(describe("no folder of tokens", str(root / token_dir), fix=fix))
        return root / token_dir
    return next((root / name for name in TOKEN_DIRS if (root / name).is_dir()), None)


def in_subset(name: str, subset: str) -> bool:
    """Tell whether a segment belongs to ``train``, ``valid``, ``test`` (a part of ``valid``) or ``all``."""
    valid = any(date in name for date in VALID_DATES)
    member = {"all": True, "train": not valid, "valid": valid, "test": valid and TEST_DATE in name}
    return member[subset]


def mean_rotation(root: str | Path) -> list[float] | None:
    """Return the mean quaternion of the published statistics of the head; None where there are none."""
    path = Path(root) / HEAD_STATISTICS / "head_qvec_mean.npy"
    if not path.is_file():
        return None
    return [float(value) for value in np.load(path, allow_pickle=False).reshape(-1)]

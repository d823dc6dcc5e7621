# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The face of the conversation partner: 55 values of expression and 3 of the head, scaled to [-1, 1] by their range.

The generator scales by ranges that it carries; here is where they come from.
"""

from pathlib import Path

import numpy as np

from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.untrusted import load_npy

EXPRESSION_DIM, HEAD_DIM = 55, 3
PARTS = ("expression", "headpose")
PARTNER = "participant/camera01/smirk_outputs"  # of the 50h layout
PARTNER_RANGE = f"{PARTNER}/stats"
CLIP = 1.5
PARTNER_DRIFT_SEC = 0.1  # that a partner may end before the actor


def scale_to_range(values: np.ndarray, low: np.ndarray, high: np.ndarray, clip: float | None = CLIP) -> np.ndarray:
    """Map ``[low, high]`` to [-1, 1] for each value.

    Args:
        values: ``(..., D)``.
        low: Least value of each, ``(D,)``.
        high: Greatest, ``(D,)``; where it equals ``low`` the result is 0.
        clip: Cut results to ``[-clip, clip]``; None: do not, as the published system.
    """
    spread = high - low
    scaled = np.where(spread > 0, 2 * (values - low) / np.where(spread > 0, spread, 1) - 1, 0)
    return (scaled if clip is None else scaled.clip(-clip, clip)).astype(np.float32)


def read_range(folder: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read ``{expression,headpose}_{min,max}.npy``.

    Returns:
        ``(least, greatest)``, each ``(58,)``: expression, then head.

    Raises:
        MissingDataError: A file is not there.
        DataError: A file is damaged or has another size.
    """
    ends = []
    for end in ("min", "max"):
        files = [Path(folder) / f"{part}_{end}.npy" for part in PARTS]
        try:
            ends.append(np.concatenate([load_npy(file).reshape(-1) for file in files]))
        except FileNotFoundError as error:
            fix = "compute the statistics of the set"
            raise MissingDataError(describe(f"no range of the partner's face: {error.filename}", fix=fix)) from error
        except (ValueError, OSError, EOFError) as error:
            raise DataError(f"{folder}: damaged range of the partner's face ({error}); fix: make it again") from error
        if ends[-1].shape != (EXPRESSION_DIM + HEAD_DIM,):
            what = f"{folder}: the range of the partner's face has another size"
            raise DataError(describe(what, ends[-1].shape, (EXPRESSION_DIM + HEAD_DIM,)))
    return ends[0], ends[1]

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Statistics of the data as buffers of the generator, so that they travel with its weights."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from espnet_av.avgen.presets import PARTNER_DIMS
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.untrusted import open_npz

#: Statistics of the published system: of the mel. Its face codes are used as they are.
REFERENCE_MEL_MEAN, REFERENCE_MEL_STD = -5.5366, 2.1161
MIN_STD = 1e-5
STATISTICS = (
    "mel_mean",
    "mel_std",
    "face_mean",
    "face_std",
    "head_mean",
    "head_std",
    "partner_min",
    "partner_max",
    "mouth_direction",
)


class Statistics(nn.Module):
    """Mean and deviation of each stream, the range of the partner's features, and the direction of the mouth.

    ``mouth_direction`` times a face code is how far the mouth is open; zeros where that is not known.
    """

    mel_mean: Tensor
    mel_std: Tensor
    face_mean: Tensor
    face_std: Tensor
    head_mean: Tensor
    head_std: Tensor
    partner_min: Tensor
    partner_max: Tensor
    mouth_direction: Tensor

    def add_statistics(self, face_dim: int, head_dim: int) -> None:
        """Add the buffers, with the published statistics of the mel and none of the others."""
        partner = PARTNER_DIMS["expression"] + PARTNER_DIMS["head"]
        values = {
            "mel_mean": torch.tensor(REFERENCE_MEL_MEAN),
            "mel_std": torch.tensor(REFERENCE_MEL_STD),
            "face_mean": torch.zeros(face_dim),
            "face_std": torch.ones(face_dim),
            "head_mean": torch.zeros(head_dim),
            "head_std": torch.ones(head_dim),
            "partner_min": -torch.ones(partner),
            "partner_max": torch.ones(partner),
            "mouth_direction": torch.zeros(face_dim),
        }
        for name in STATISTICS:
            self.register_buffer(name, values[name])

    @torch.no_grad()
    def set_statistics(self, statistics: Mapping[str, Any]) -> None:
        """Take over statistics of a data set; what is not named stays as it is.

        Args:
            statistics: Numbers or arrays under the names of :data:`STATISTICS`; one number stands for all values.

        Raises:
            UsageError: A name is unknown.
            DataError: An array has the wrong size, or holds what is not finite.
        """
        for name, value in statistics.items():
            if name not in STATISTICS:
                usage_error("unknown statistic", name, STATISTICS)
            buffer = getattr(self, name)
            given = torch.as_tensor(value, dtype=torch.float32).squeeze()
            if given.dim() and given.shape != buffer.shape:
                raise DataError(describe(f"statistic {name} has the wrong size", tuple(given.shape), buffer.shape))
            if not given.isfinite().all():
                raise DataError(describe(f"statistic {name} is not finite", fix="run stage 4b again"))
            buffer.copy_(given.clamp_min(MIN_STD) if name.endswith("_std") else given)


def read_statistics(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read the statistics that a generator takes out of a ``.npz`` file; other arrays are left out.

    Raises:
        MissingDataError: There is no such file.
        DataError: It is damaged, or holds none of them.
    """
    if not Path(path).is_file():
        raise MissingDataError(describe("no statistics of the data", got=str(path), fix="run stage 4"))
    try:
        with open_npz(path) as archive:
            found = {name: archive[name] for name in STATISTICS if name in archive.files}
    except (ValueError, OSError, EOFError) as error:
        raise DataError(describe(f"{path}: damaged statistics ({error})", fix="run stage 4b again")) from error
    if not found:
        raise DataError(describe(f"{path} holds no statistics", allowed=STATISTICS, fix="run stage 4b again"))
    return found

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mixed precision: one context for the forward pass, and a gradient scaler where fp16 needs it."""

import contextlib

import torch

from espnet_av.utils.errors import usage_error

DTYPES: dict[str, torch.dtype | None] = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """How the forward pass computes.

    Args:
        name: ``"none"`` (as the weights are), ``"bf16"`` or ``"fp16"``.
        device: The training device. The scaler exists for fp16 on CUDA only.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        if name not in DTYPES:
            usage_error("unknown precision", name, list(DTYPES), "--amp_dtype none")
        self.dtype = DTYPES[name]
        self.device_type = device.type
        scaled = self.dtype is torch.float16 and device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda") if scaled else None

    def autocast(self) -> contextlib.AbstractContextManager:
        """Return the context for a forward pass and its loss."""
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)

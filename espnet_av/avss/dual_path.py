# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The dual-path recurrence of RTFS-Net: recurrent layers over windows of one axis, then back to the old length.

Axes: ``B`` batch, ``T`` frames, ``F`` bins, ``C`` channels, ``n`` positions of the axis that is walked, ``M`` all other
positions, ``K`` positions of a window.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avss.norms import ChannelNorm
from espnet_av.avss.sru import SRU
from espnet_av.utils.errors import usage_error

AXES = {"freq": (2, 0, 1, 3), "time": (1, 0, 2, 3)}  # (B, T, F, C) -> the walked axis first
RNNS: dict[str, Callable[..., nn.Module]] = {
    "sru": SRU,
    "lstm": partial(nn.LSTM, bidirectional=True),
    "gru": partial(nn.GRU, bidirectional=True),
}
BACK = {"freq": (1, 2, 0, 3), "time": (1, 0, 2, 3)}


class DualPathRNN(nn.Module):
    """``x + deconvolution(RNN(windows(norm(x))))`` along frequency or time.

    The windows (``K`` positions, stride 1, features ordered channel, position) are never written out: their product
    with the weight of the first layer is a convolution.

    Args:
        channels: Channels of input and output.
        hidden: Hidden units of one direction.
        num_layers: Recurrent layers.
        window: Positions of a window.
        axis: ``freq`` or ``time``: the axis that is walked.
        rnn: ``sru`` (published), ``lstm`` or ``gru``.

    Raises:
        UsageError: Unknown axis or ``rnn``.
    """

    def __init__(
        self, channels: int, *, hidden: int, num_layers: int, window: int, axis: str, rnn: str = "sru"
    ) -> None:
        super().__init__()
        if rnn not in RNNS:
            usage_error("unknown rnn", got=rnn, allowed=sorted(RNNS))
        if axis not in AXES:
            usage_error("unknown axis of a dual path", got=axis, allowed=sorted(AXES))
        self.axis = axis
        self.window = window
        self.norm = ChannelNorm(channels)
        self.rnn = RNNS[rnn](channels * window, hidden, num_layers)
        self.linear = nn.ConvTranspose1d(2 * hidden, channels, window)

    def forward(self, x: Tensor) -> Tensor:
        """``(B, T, F, C)`` -> same shape; the walked axis has at least ``window`` positions."""
        walked = self.norm(x).permute(AXES[self.axis])
        shape = walked.shape
        walked = walked.reshape(1, shape[0], -1, shape[-1]).contiguous()  # (1, n, M, C)
        hidden = self._walk(walked)
        kernel = self.linear.weight.flip(-1).transpose(0, 1).unsqueeze(-1)  # a deconvolution of stride 1
        back = self._convolve(hidden.unsqueeze(0), kernel, self.linear.bias, self.window - 1)
        return x + back.view(shape).permute(BACK[self.axis])

    def _walk(self, x: Tensor) -> Tensor:
        """Run the recurrent layers over the windows of ``(1, n, M, C)``: ``(n - K + 1, M, 2H)``."""
        if not isinstance(self.rnn, SRU):
            return self.rnn(self._windows(x))[0]
        first = next(iter(self.rnn.rnn_lst))
        kernel = first.grouped_weight().t().unflatten(1, (-1, self.window)).unsqueeze(-1)
        windows = self._windows(x) if first.columns == 3 else x[0]
        return self.rnn(windows, self._convolve(x, kernel)[0])[0]

    @staticmethod
    def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, padding: int = 0) -> Tensor:
        """Convolve ``(1, n, M, C)`` along ``n`` with ``weight (C', C, K, 1)``: ``(1, n', M, C')``, contiguous."""
        y = F.conv2d(x.permute(0, 3, 1, 2), weight, bias, padding=(padding, 0))
        return y.permute(0, 2, 3, 1).contiguous()

    def _windows(self, x: Tensor) -> Tensor:
        """``(1, n, M, C)`` -> ``(n - K + 1, M, C * K)``."""
        return torch.stack([x[0, k : x.shape[1] - self.window + 1 + k] for k in range(self.window)], dim=-1).flatten(2)

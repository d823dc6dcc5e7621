# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""CTC output layer and loss (Graves et al., ICML 2006).

Same numbers as ESPnet's CTC in evaluation, but its dropout obeys ``train()`` and ``eval()``.

Axes: ``B`` batch, ``T`` encoder frames, ``D`` encoder width, ``L`` labels, ``V`` vocabulary.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CTC(nn.Module):
    """Dropout, one linear layer, CTC.

    Args:
        vocab_size: ``V``, the blank included.
        dim: ``D``.
        dropout: Dropout before the layer.
        blank: Id of the blank.
    """

    def __init__(self, vocab_size: int, dim: int, *, dropout: float = 0.1, blank: int = 0) -> None:
        super().__init__()
        self.ctc_lo = nn.Linear(dim, vocab_size)
        self.dropout = nn.Dropout(dropout)
        self.blank = blank

    def log_softmax(self, encoded: Tensor) -> Tensor:
        """``(B, T, D)`` -> ``(B, T, V)`` float32 log probabilities."""
        return F.log_softmax(self.ctc_lo(self.dropout(encoded)).float(), dim=-1)

    def forward(self, encoded: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor) -> Tensor:
        """Compute the loss.

        Args:
            encoded: ``(B, T, D)``.
            lengths: ``(B,)`` valid frames.
            labels: ``(B, L)`` int64; what lies beyond ``label_lengths`` is not read.
            label_lengths: ``(B,)``.

        Returns:
            Scalar, lower is better: negative log likelihood in nats summed over labels, averaged over the batch.
            An item whose labels do not fit into its frames adds 0.
        """
        log_probs = self.log_softmax(encoded).transpose(0, 1)  # (B, T, V) -> (T, B, V)
        inside = torch.arange(labels.shape[1], device=labels.device) < label_lengths.unsqueeze(1)
        loss = F.ctc_loss(
            log_probs,
            labels.masked_fill(~inside, self.blank),
            lengths,
            label_lengths,
            blank=self.blank,
            reduction="none",
            zero_infinity=True,
        )
        return loss.sum() / encoded.shape[0]

    @torch.no_grad()
    def greedy(self, encoded: Tensor, lengths: Tensor) -> list[list[int]]:
        """Best label per frame, repeats and blanks removed: ``(B, T, D)`` -> one list of ids per item."""
        best = self.ctc_lo(encoded).argmax(dim=-1).cpu()
        collapsed = (torch.unique_consecutive(row[:length]) for row, length in zip(best, lengths.tolist(), strict=True))
        return [row[row != self.blank].tolist() for row in collapsed]

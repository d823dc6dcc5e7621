# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Which frame belongs to which symbol, in training: by monotonic alignment search, or by CTC.

Monotonic alignment search (MAS) finds the most likely path that starts at the first symbol, ends at the last one and
leaves none out; the symbols are described by the Gaussian means that the text encoder learns at the same time. CTC
needs no learning: the tokens are themselves the scores of letters in time.

Axes: ``B`` batch, ``L`` symbols, ``T`` frames, ``D`` features.
"""

import math

import numpy as np
import torch
from torch import Tensor

from espnet_av.utils.errors import DataError, describe


def log_prior(mu: Tensor, y: Tensor) -> Tensor:
    """Return the log-density of every frame under the unit Gaussian around every symbol's mean.

    Args:
        mu: ``(B, D, L)``.
        y: ``(B, D, T)``.

    Returns:
        ``(B, L, T)``.
    """
    constant = -0.5 * math.log(2 * math.pi) * mu.shape[1]
    distance = y.square().sum(dim=1, keepdim=True) - 2 * mu.transpose(1, 2) @ y
    return constant - 0.5 * (distance + mu.square().sum(dim=1).unsqueeze(-1))


def prior_loss(y: Tensor, mu: Tensor, mask: Tensor) -> Tensor:
    """Return the negative log-density of frames under their own symbol, per value; lower is better.

    Args:
        y: ``(B, D, T)``.
        mu: Means of the frames' symbols ``(B, D, T)``.
        mask: ``(B, 1, T)``.
    """
    values = 0.5 * ((y - mu).square() + math.log(2 * math.pi)) * mask
    return values.sum() / (mask.sum() * y.shape[1]).clamp_min(1)


def maximum_path(scores: Tensor, symbols: Tensor, frames: Tensor) -> Tensor:
    """Return the best monotonic path; where two are equal the later symbol holds on longer.

    Args:
        scores: ``(B, L, T)``.
        symbols: Valid symbols of each, ``(B,)``.
        frames: Valid frames of each, ``(B,)``, at least as many.

    Returns:
        0 or 1 of the type of ``scores``, ``(B, L, T)``: every valid frame has one symbol.

    Raises:
        DataError: A sequence has fewer frames than symbols, or no symbols.
    """
    num_symbols, num_frames = symbols.cpu().numpy(), frames.cpu().numpy()
    if (num_frames < num_symbols).any() or (num_symbols < 1).any():
        found = list(zip(num_symbols.tolist(), num_frames.tolist(), strict=True))
        fix = "drop clips whose transcript is too long for their sound (stage 3), or align by ctc"
        raise DataError(describe("a sequence cannot be aligned (symbols, frames)", found, "1 symbol or more", fix))
    value = scores.detach().cpu().numpy()
    value = value.astype(np.result_type(value, np.float32))
    best = np.full_like(value, -np.inf)
    state = np.full(value.shape[:2], -np.inf, dtype=value.dtype)
    state[:, 0] = value[:, 0, 0]
    best[:, :, 0] = state
    for frame in range(1, value.shape[2]):
        before = np.concatenate((np.full_like(state[:, :1], -np.inf), state[:, :-1]), axis=1)
        state = np.maximum(state, before) + value[:, :, frame]
        best[:, :, frame] = state
    path = np.zeros(value.shape, dtype=value.dtype)
    row, index = np.arange(len(value)), num_symbols - 1
    for frame in range(value.shape[2] - 1, -1, -1):
        active = frame < num_frames
        path[row[active], index[active], frame] = 1
        if frame == 0:
            break
        previous = best[row, np.maximum(index - 1, 0), frame - 1]
        step = active & (index > 0) & ((index == frame) | (best[row, index, frame - 1] < previous))
        index = index - step
    return torch.from_numpy(path).to(scores)


def ctc_durations(scores: Tensor, labels: Tensor, blank: int = 0) -> Tensor:
    """Return how many frames each label and each blank around the labels lasts.

    Args:
        scores: Logits or log-probabilities of labels in time, ``(T, classes)``.
        labels: What was said, ``(N,)``, without blanks.
        blank: The class of no label.

    Returns:
        int64 ``(2 N + 1,)``: blank, first label, blank, second label, ..., blank. The sum is ``T``.

    Raises:
        DataError: There are too few frames for the labels.
    """
    num_frames, num_labels = len(scores), len(labels)
    repeats = int((labels[1:] == labels[:-1]).sum())
    if num_frames < num_labels + repeats or num_labels == 0:
        fix = "drop clips whose transcript is too long for their sound (stage 3)"
        needed = f"{num_labels + repeats} frames or more for {num_labels} labels"
        raise DataError(describe("the transcript cannot be aligned with the tokens", num_frames, needed, fix))
    states = torch.full((2 * num_labels + 1,), blank, dtype=torch.long)
    states[1::2] = labels
    emission = scores.log_softmax(dim=-1).double().cpu().numpy()[:, states.numpy()]
    may_skip = np.zeros(len(states), dtype=bool)
    may_skip[3::2] = labels[1:].cpu().numpy() != labels[:-1].cpu().numpy()
    path = _ctc_states(emission, may_skip)
    return torch.from_numpy(np.bincount(path, minlength=len(states)))


def _ctc_states(emission: np.ndarray, may_skip: np.ndarray) -> np.ndarray:
    """Return the best state of every frame, from the first or second state to the last or last but one."""
    num_frames, num_states = emission.shape
    score = np.full(num_states, -np.inf)
    score[:2] = emission[0, :2]
    steps = np.zeros((num_frames, num_states), dtype=np.int64)
    for frame in range(1, num_frames):
        one = np.concatenate(([-np.inf], score[:-1]))
        two = np.where(may_skip, np.concatenate(([-np.inf, -np.inf], score[:-2])), -np.inf)
        choices = np.stack((score, one, two))
        steps[frame] = choices.argmax(axis=0)
        score = choices.max(axis=0) + emission[frame]
    path = np.zeros(num_frames, dtype=np.int64)
    path[-1] = num_states - 1 if score[-1] >= score[-2] else num_states - 2
    for frame in range(num_frames - 1, 0, -1):
        path[frame - 1] = path[frame] - steps[frame, path[frame]]
    return path

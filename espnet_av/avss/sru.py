# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Simple recurrent units (Lei et al., "Simple recurrent units for highly parallelizable recurrence", EMNLP 2018).

The variant of RTFS-Net: version 2 with a highway connection, bidirectional, no inner activation. Plain torch, with the
parameter layout of the ``sru`` package, and no compiler at run time. Both directions run in one loop that holds only
what is recurrent; gradients are written by hand, with one operation per step.

Axes: ``n`` steps, ``M`` sequences, ``H`` hidden size of a direction, ``k`` columns of the weight per hidden unit.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from espnet_av.layers.typed_modules import LayerList

GATE_INIT_SCALE = 0.5**0.5  # columns of both gates, so that their sum of inputs starts with unit variance


def flip_second_half(x: Tensor) -> Tensor:
    """Reverse the steps of the backward direction: ``(n, M, 2H)`` between time order and order of processing."""
    half = x.shape[-1] // 2
    return torch.cat((x[..., :half], x[..., half:].flip(0)), dim=-1)


def shift_steps(x: Tensor) -> Tensor:
    """Return ``x[t - 1]`` for every step, zeros at the first: ``(n, M, 2H)``."""
    shifted = torch.empty_like(x)
    shifted[0] = 0
    shifted[1:] = x[:-1]
    return shifted


def scan(candidate: Tensor, forget: Tensor, forget_c: Tensor, *, keep_gates: bool) -> Tensor:
    """Run the recurrence ``f = sigmoid(forget[t] + forget_c * c); c = f * c + (1 - f) * candidate[t]`` from ``c = 0``.

    Args:
        candidate: ``(n, M, 2H)`` in order of processing.
        forget: ``(n, M, 2H)``, bias added; overwritten with the forget gates if ``keep_gates``.
        forget_c: ``(2H,)``.
        keep_gates: Leave the gates in ``forget``; only gradients need them.

    Returns:
        States ``(n, M, 2H)``.
    """
    states = candidate.new_empty(candidate.shape)
    state = states.new_zeros(candidate.shape[1:])
    weight = forget_c.expand_as(state).contiguous()
    buffer = torch.empty_like(state)
    for value, gate_input, new_state in zip(candidate.unbind(), forget.unbind(), states.unbind(), strict=True):
        gate = torch.addcmul(gate_input, weight, state, out=gate_input if keep_gates else buffer).sigmoid_()
        state = torch.lerp(value, state, gate, out=new_state)
    return states


def run_without_gradients(
    parts: tuple[Tensor, ...], carried: Tensor, weight_c: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Do what :class:`SRUScan` does in as few new tensors as possible: new pages cost more than this arithmetic."""
    candidate, forget = flip_second_half(parts[0]), flip_second_half(parts[1]).add_(bias[0])
    half = candidate.shape[-1] // 2
    states = scan(candidate, forget, weight_c[0], keep_gates=False)
    last = states[-1].clone()
    states[..., half:] = states[..., half:].flip(0)
    reset = reset_gate(parts[2], states, weight_c[1], bias[1], candidate)
    return torch.lerp(carried, states, reset, out=states), last


def reset_gate(inputs: Tensor, cells: Tensor, reset_c: Tensor, bias: Tensor, gate: Tensor) -> Tensor:
    """Write ``sigmoid(inputs + reset_c * the cell before + bias)`` to ``gate``, ``(n, M, 2H)`` in time order.

    The cell before is that of the earlier step for the first half, of the later step for the second.
    """
    half = cells.shape[-1] // 2
    first, second = slice(0, half), slice(half, None)
    gate[0, :, first] = inputs[0, :, first]
    gate[-1, :, second] = inputs[-1, :, second]
    torch.addcmul(inputs[1:, :, first], cells[:-1, :, first], reset_c[first], out=gate[1:, :, first])
    torch.addcmul(inputs[:-1, :, second], cells[1:, :, second], reset_c[second], out=gate[:-1, :, second])
    return gate.add_(bias).sigmoid_()


def scan_gradient(grad_states: Tensor, decay: Tensor) -> Tensor:
    """Run ``g[t] = grad_states[t] + decay[t + 1] * g[t + 1]`` backwards in place of ``grad_states``: ``(n, M, 2H)``."""
    grads, decays = grad_states.unbind(), decay.unbind()
    for step in range(len(grads) - 2, -1, -1):
        grads[step].addcmul_(decays[step + 1], grads[step + 1])
    return grad_states


class SRUScan(torch.autograd.Function):
    """One bidirectional layer after its matrix product, with a backward pass of its own.

    Inputs: ``u (n, M, k * 2H)`` ordered (k, direction, hidden) ``skip (n, M, 2H)`` or None where ``u`` holds it
    as its fourth part, ``weight_c (2, 2H)`` and ``bias (2, 2H)`` = (forget, reset). Outputs: the hidden sequence
    ``(n, M, 2H)`` in time order and the final states ``(M, 2H)``.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, skip: Tensor | None, weight_c: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Return the hidden sequence and the final states."""
        parts = u.split(weight_c.shape[-1], dim=-1)
        carried = parts[3] if skip is None else skip
        if not any(ctx.needs_input_grad):
            return run_without_gradients(parts, carried, weight_c, bias)
        candidate, gates = flip_second_half(parts[0]), flip_second_half(parts[1]).add_(bias[0])
        states = scan(candidate, gates, weight_c[0], keep_gates=True)
        last = states[-1].clone()
        cells = flip_second_half(states)
        reset = reset_gate(parts[2], cells, weight_c[1], bias[1], torch.empty_like(cells))
        ctx.own_skip = skip is None
        ctx.save_for_backward(candidate, states, gates, reset, carried, weight_c)
        return torch.lerp(carried, cells, reset), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_hidden: Tensor, grad_last: Tensor) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """Return the gradients of all inputs."""
        candidate, states, gates, reset, carried, weight_c = ctx.saved_tensors
        previous = shift_steps(states)
        grad_carried = torch.addcmul(grad_hidden, grad_hidden, reset, value=-1)
        grad_reset = grad_carried * reset  # gradient of the input of the reset gate: gh (c - x) r (1 - r)
        grad_reset.mul_(flip_second_half(states).sub_(carried))
        grad_reset_order = flip_second_half(grad_reset)
        grad_states = flip_second_half(grad_hidden * reset)
        grad_states[:-1].addcmul_(grad_reset_order[1:], weight_c[1])
        grad_states[-1].add_(grad_last)
        slope = torch.addcmul(gates, gates, gates, value=-1).mul_(previous - candidate)  # dc / d(gate input)
        grad_states = scan_gradient(grad_states, torch.addcmul(gates, slope, weight_c[0]))
        grad_forget = slope.mul_(grad_states)
        grad_candidate = grad_states.addcmul(grad_states, gates, value=-1)
        grad_weight_c = torch.stack([(g * previous).sum((0, 1)) for g in (grad_forget, grad_reset_order)])
        grad_bias = torch.stack([grad_forget.sum((0, 1)), grad_reset.sum((0, 1))])
        pieces = [flip_second_half(grad_candidate), flip_second_half(grad_forget), grad_reset]
        grad_u = torch.cat([*pieces, grad_carried] if ctx.own_skip else pieces, dim=-1)
        return grad_u, None if ctx.own_skip else grad_carried, grad_weight_c, grad_bias


class SRULayer(nn.Module):
    """One bidirectional layer: ``weight (input_size, 2H * k)``, ``weight_c (4H,)``, ``bias (4H,)``.

    Columns of ``weight`` are ordered (direction, hidden, k), with k = 4 where the input must be projected for the
    highway connection and 3 where it already has ``2H`` features; the vectors (forget or reset, direction, hidden).

    Args:
        input_size: Features per step.
        hidden_size: Hidden units per direction.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.columns = 3 if input_size == 2 * hidden_size else 4
        self.weight = nn.Parameter(torch.empty(input_size, 2 * hidden_size * self.columns))
        self.weight_c = nn.Parameter(torch.empty(4 * hidden_size))
        self.bias = nn.Parameter(torch.zeros(4 * hidden_size))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the weights as the ``sru`` package does."""
        bound = (3.0 / self.input_size) ** 0.5
        nn.init.uniform_(self.weight, -bound, bound)
        self.weight.view(self.input_size, -1, self.columns)[..., 1:3] *= GATE_INIT_SCALE
        bound = 3.0**0.5 * GATE_INIT_SCALE
        nn.init.uniform_(self.weight_c, -bound, bound)
        nn.init.zeros_(self.bias)

    def grouped_weight(self) -> Tensor:
        """Return the weight with its columns ordered (k, direction, hidden): ``(input_size, k * 2H)``."""
        return self.weight.unflatten(1, (-1, self.columns)).transpose(1, 2).flatten(1)

    def run(self, u: Tensor, skip: Tensor | None) -> tuple[Tensor, Tensor]:
        """Run the recurrence over products ``u (n, M, k * 2H)`` with :meth:`grouped_weight`.

        Returns:
            Hidden sequence ``(n, M, 2H)`` and final states ``(M, 2H)``.
        """
        return SRUScan.apply(u, skip, self.weight_c.unflatten(0, (2, -1)), self.bias.unflatten(0, (2, -1)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``(n, M, input_size)`` -> hidden sequence ``(n, M, 2H)`` and final states ``(M, 2H)``."""
        return self.run(x @ self.grouped_weight(), x if self.columns == 3 else None)


class SRU(nn.Module):
    """Stacked bidirectional layers; state-dict keys ``rnn_lst.<layer>.{weight,weight_c,bias}``.

    Args:
        input_size: Features per step.
        hidden_size: Hidden units per direction.
        num_layers: Layers.
    """

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        sizes = [input_size, *[2 * hidden_size] * (num_layers - 1)]
        self.rnn_lst = LayerList(SRULayer(size, hidden_size) for size in sizes)

    def forward(self, x: Tensor, first_product: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run all layers.

        Args:
            x: ``(n, M, input_size)``; not read when ``first_product`` is given and the first layer projects its input.
            first_product: ``(n, M, k * 2H)``, the input times ``rnn_lst[0].grouped_weight()``, where the caller has a
                cheaper way to it.

        Returns:
            Hidden sequence ``(n, M, 2H)`` and final states ``(num_layers, M, 2H)``.
        """
        finals = []
        for index, layer in enumerate(self.rnn_lst):
            if index == 0 and first_product is not None:
                x, last = layer.run(first_product, x if layer.columns == 3 else None)
            else:
                x, last = layer(x)
            finals.append(last)
        return x, torch.stack(finals)

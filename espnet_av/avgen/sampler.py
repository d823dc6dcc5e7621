# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generate sequences of any length, whole or chunk by chunk.

Attention sees a window and positions are relative, so that a chunk needs only the frames within reach: finished ones
before it, and a look ahead. Noise belongs to the absolute frame, so that chunks agree where they overlap. What the
finished frames look like at a time of the flow is told in one of four ways:

* ``states``: as they were at that very time when they were generated. With as much history as one evaluation reaches
  back, and a look ahead of ``steps`` times its reach ahead, chunks give exactly what the whole sequence gives.
* ``path``: on the straight path from their noise to what they became.
* ``prefix``: the same, and the network is told that they are finished, which it must have been trained for.
* ``memory``: they do not go through the network again. Its layers remember what they made of them at that very time
  (:mod:`espnet_av.avgen.frame_memory`). As exact as ``states``, and small chunks cost little more than their new frames
  and the look ahead.

Axes: ``B`` sequences, ``T`` frames, ``D`` values of a frame.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from espnet_av.avgen.frame_memory import FrameMemory
from espnet_av.avgen.noise import FrameNoise
from espnet_av.avgen.solvers import GRIDS, SOLVERS, evaluations, integrate
from espnet_av.utils.errors import usage_error

HISTORY_KINDS = ("states", "path", "prefix", "memory")

#: Velocity of ``x (B, T, D)`` at a time, for frames ``start`` and following, of which ``known (B, H, D)`` come first
#: and are finished (None: none are, or the network is not told); with what its layers remember of those before
#: ``start``.
FrameField = Callable[[Tensor, float, int, Tensor | None, FrameMemory | None], Tensor]


@dataclass(frozen=True)
class ChunkRules:
    """How a sequence is cut.

    Attributes:
        frames: Frames that go through the network together: history, new ones and future.
        history: Finished frames before the new ones. With ``kind="memory"`` none go through again, whatever it says.
        future: Frames after the new ones, thrown away.
        kind: How the history is told; see the module.
    """

    frames: int = 345
    history: int = 128
    future: int = 64
    kind: str = "states"

    def __post_init__(self) -> None:
        if self.kind not in HISTORY_KINDS:
            usage_error("unknown kind of history", self.kind, HISTORY_KINDS)
        if self.history < 0 or self.future < 0 or self.frames <= self.again + self.future:
            usage_error("a chunk has no room for new frames", self, "frames > history + future")

    @property
    def again(self) -> int:
        """Finished frames that go through the network again."""
        return 0 if self.kind == "memory" else self.history


@dataclass(frozen=True)
class Chunk:
    """Frames ``start`` to ``stop`` go through the network; ``first`` to ``last`` of them are new and kept."""

    start: int
    first: int
    last: int
    stop: int


@dataclass(frozen=True)
class SolverRules:
    """How the flow is followed.

    Attributes:
        steps: Steps of the solver.
        solver: ``euler``, ``midpoint`` or ``heun``.
        grid: ``uniform`` or ``sway``.
        temperature: Factor on the noise.
    """

    steps: int = 16
    solver: str = "euler"
    grid: str = "uniform"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        if self.steps < 1:
            usage_error("too few steps of the solver", self.steps, "1 or more")
        if self.solver not in SOLVERS:
            usage_error("unknown solver", self.solver, SOLVERS)
        if self.grid not in GRIDS:
            usage_error("unknown time grid", self.grid, GRIDS)
        if not 0 <= self.temperature < math.inf:
            usage_error("the temperature is out of range", self.temperature, "0 or more")


DEFAULT_SOLVER = SolverRules()


def plan_chunks(length: int, rules: ChunkRules | None = None) -> Iterator[Chunk]:
    """Yield the chunks of a sequence; without rules the whole is one."""
    last = 0
    while last < length:
        first = last
        if rules is None:
            start, stop, last = 0, length, length
        else:
            start = max(0, first - rules.again)
            stop = min(first + rules.frames - rules.again, length)  # the first chunk is as quick as it can be
            last = stop if stop == length else stop - rules.future
        yield Chunk(start, first, last, stop)


class Sampler:
    """Follows a field for a few sequences of one length.

    Args:
        field: The velocity.
        dim: Values of a frame ``D``.
        samples: Number of the sample that each sequence is; equal numbers get equal noise.
        noise: Noise by absolute frame.
        solver: How the flow is followed.
        chunks: How the sequence is cut; None: not at all.
        sigma_min: Noise left at time 1, for histories on the path.
        device: Where to compute.
    """

    def __init__(
        self,
        field: FrameField,
        dim: int,
        samples: Sequence[int],
        noise: FrameNoise,
        solver: SolverRules = DEFAULT_SOLVER,
        chunks: ChunkRules | None = None,
        *,
        sigma_min: float = 1e-6,
        device: torch.device | str = "cpu",
    ) -> None:
        self.field, self.dim, self.samples, self.noise = field, dim, list(samples), noise
        self.solver, self.chunks, self.sigma_min, self.device = solver, chunks, sigma_min, device

    def whole(self, length: int) -> Tensor:
        """Return all frames, ``(B, T, D)``."""
        pieces = [frames for _, frames in self.stream(length)]
        return torch.cat(pieces, dim=1) if pieces else torch.empty(len(self.samples), 0, self.dim, device=self.device)

    def stream(self, length: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the number of the first frame and the frames ``(B, n, D)`` of each chunk, as soon as it is finished."""
        history: list[Tensor] = []  # states of the frames before the next chunk, one per call of the solver
        finished: Tensor | None = None
        remember = self.chunks is not None and self.chunks.kind == "memory"
        memories = [FrameMemory() for _ in range(evaluations(self.solver.steps, self.solver.solver)) if remember]
        for chunk in plan_chunks(length, self.chunks):
            keep = 0 if self.chunks is None else min(self.chunks.again, chunk.last)
            x, history = self._run(chunk, history, finished, keep, memories)
            new = x[:, chunk.first - chunk.start : chunk.last - chunk.start]
            finished = x[:, chunk.last - keep - chunk.start : chunk.last - chunk.start]
            yield chunk.first, new

    def draw(self, start: int, stop: int) -> Tensor:
        """Return the noise of frames, ``(B, T, D)``, with its temperature."""
        each = {sample: self.noise(start, stop - start, self.dim, sample) for sample in set(self.samples)}
        return torch.stack([each[sample] for sample in self.samples]).to(self.device) * self.solver.temperature

    def _run(
        self, chunk: Chunk, history: list[Tensor], finished: Tensor | None, keep: int, memories: list[FrameMemory]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the frames of a chunk, and the states of its last ``keep`` new ones."""
        x0 = self.draw(chunk.start, chunk.stop)
        num_known = chunk.first - chunk.start
        kind = self.chunks.kind if self.chunks is not None else "states"
        record: list[Tensor] = []
        last = chunk.last - chunk.start
        ready = finished if num_known and kind != "states" else None

        def pin(x: Tensor, t: float, call: int) -> Tensor:
            if ready is not None:
                known = (1 - (1 - self.sigma_min) * t) * x0[:, :num_known] + t * ready
                x = torch.cat((known, x[:, num_known:]), dim=1)
            elif num_known:
                x = torch.cat((history[call], x[:, num_known:]), dim=1)
            if kind == "states" and self.chunks is not None:
                record.append(x[:, last - keep : last].clone())
            return x

        told = ready if kind == "prefix" else None
        for memory in memories:
            memory.final = last
        calls = iter(memories)

        def field(x: Tensor, t: float) -> Tensor:
            return self.field(x, t, chunk.start, told, next(calls, None))

        rules = self.solver
        x1 = integrate(field, x0, rules.steps, rules.solver, rules.grid, constrain=pin)
        if ready is not None:
            x1 = torch.cat((ready, x1[:, num_known:]), dim=1)
        return x1, record

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generation with a trained model: conditions, guidance, samples, chunks."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.avgen.flow import FlowMatching
from espnet_av.avgen.flow_transformer import FlowTransformer
from espnet_av.avgen.frame_memory import FrameMemory
from espnet_av.avgen.noise import FrameNoise
from espnet_av.avgen.output import Generated, finish
from espnet_av.avgen.sampler import DEFAULT_SOLVER, ChunkRules, Sampler, SolverRules
from espnet_av.avgen.solvers import evaluations, guide
from espnet_av.utils.errors import DataError, describe, usage_error

AUTO_WHOLE_FRAMES = 8192  # longer sequences (95 s) are cut into chunks by themselves


class Generation(nn.Module):
    """What a generator does after training; :class:`~espnet_av.avgen.model.AVGenModel` has the rest."""

    transformer: FlowTransformer
    dims: Mapping[str, int]
    flows: Mapping[str, FlowMatching]
    prefix_prob: float
    audio_gain: float
    mel_mean: Tensor
    condition: Callable[..., Tensor]
    network: Callable[..., Tensor]
    decode: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]

    @property
    def dim(self) -> int:
        """Values of a frame ``D``."""
        return sum(self.dims.values())

    @property
    def sigma_min(self) -> float:
        """Noise that is left at time 1."""
        return self.flows["mel"].sigma_min

    @torch.inference_mode()
    def generate(
        self,
        tokens: Tensor,
        partner: Mapping[str, Tensor] | None = None,
        *,
        num_samples: int = 1,
        seed: int = 0,
        solver: SolverRules = DEFAULT_SOLVER,
        cfg: float = 0.0,
        partner_cfg: float = 0.0,
        chunks: ChunkRules | None = None,
        fps: float = 30.0,
        vocoder: Any = None,
        progress: Any = None,
    ) -> list[Generated]:
        """Generate speech and motion.

        Args:
            tokens: ``(T, 29)`` or ``(B, T, 29)`` at the mel rate.
            partner: ``other_tokens``, ``other_expression`` and ``other_head`` at the mel rate, shaped as ``tokens``.
            num_samples: Samples of each, with noise of their own.
            seed: Of the noise.
            solver: Steps, solver, time grid and temperature.
            cfg: Guidance by all conditions; 0: none.
            partner_cfg: Guidance by the partner alone.
            chunks: How long sequences are cut; None: not, up to 95 s.
            fps: Rate of the motion.
            vocoder: Turns mel ``(B, 80, T)`` into sound ``(B, 256 T)``; None: no sound.
            progress: Called with the number of finished frames after each chunk.

        Returns:
            ``B * num_samples`` results, the samples of one sequence side by side.

        Raises:
            DataError: Tokens or partner have a wrong shape, or there are no frames.
            UsageError: Guidance of a model that was trained without it, or a value out of range.
        """
        pieces = []
        for first, frames in self.stream(
            tokens,
            partner,
            num_samples=num_samples,
            seed=seed,
            solver=solver,
            cfg=cfg,
            partner_cfg=partner_cfg,
            chunks=chunks,
        ):
            pieces.append(frames)
            if progress is not None:
                progress(first + frames.shape[1])
        return finish(self, torch.cat(pieces, dim=1), fps=fps, vocoder=vocoder)

    @torch.inference_mode()
    def stream(
        self,
        tokens: Tensor,
        partner: Mapping[str, Tensor] | None = None,
        *,
        num_samples: int = 1,
        seed: int = 0,
        solver: SolverRules = DEFAULT_SOLVER,
        cfg: float = 0.0,
        partner_cfg: float = 0.0,
        chunks: ChunkRules | None = None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield the first frame and the standardised frames ``(B * num_samples, n, D)`` of each chunk.

        The arguments are those of :meth:`generate`; :meth:`decode` turns frames into face, head and mel.
        """
        tokens, partner = self._check_input(tokens, partner)
        if num_samples < 1:
            usage_error("too few samples", num_samples, "1 or more")
        if chunks is not None and chunks.kind == "prefix" and not self.prefix_prob:
            fix = "use kind='states', or train with model_conf.prefix_prob"
            usage_error("the model was not trained to be told finished frames", chunks.kind, fix=fix)
        if chunks is None and tokens.shape[1] > AUTO_WHOLE_FRAMES:
            chunks = ChunkRules(AUTO_WHOLE_FRAMES // 2, *self._margins(solver))
        tokens = tokens.repeat_interleave(num_samples, dim=0)
        if partner is not None:
            partner = {name: each.repeat_interleave(num_samples, dim=0) for name, each in partner.items()}
        conditions = self._guided_conditions(tokens, partner, cfg, partner_cfg)
        samples = list(range(num_samples)) * (tokens.shape[0] // num_samples)
        yield from self._sample(tokens.shape[1], conditions, samples, FrameNoise(seed), solver, chunks)

    def _margins(self, solver: SolverRules) -> tuple[int, int]:
        """Return history and future with which chunks give what the whole gives."""
        calls = evaluations(solver.steps, solver.solver)
        before, after = self.transformer.reach
        return before, min(after * calls, AUTO_WHOLE_FRAMES // 4)

    def _sample(
        self,
        length: int,
        conditions: Sequence[tuple[Tensor, float]],
        samples: Sequence[int],
        noise: FrameNoise,
        solver: SolverRules,
        chunks: ChunkRules | None,
    ) -> Iterator[tuple[int, Tensor]]:
        """Follow the flow; ``conditions`` are those of :meth:`_guided_conditions`."""

        def field(x: Tensor, t: float, start: int, finished: Tensor | None, memory: FrameMemory | None) -> Tensor:
            clean = known = None
            if finished is not None:
                known = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1) < finished.shape[1]
                clean = torch.cat((finished, torch.zeros_like(x[:, finished.shape[1] :])), dim=1)
            return guided(self.network, conditions, x, t, start, memory, clean=clean, known=known)

        device = self.mel_mean.device
        sampler = Sampler(field, self.dim, samples, noise, solver, chunks, sigma_min=self.sigma_min, device=device)
        yield from sampler.stream(length)

    def _check_input(
        self, tokens: Tensor, partner: Mapping[str, Tensor] | None
    ) -> tuple[Tensor, dict[str, Tensor] | None]:
        """Give tokens and partner a batch axis, on the device of the model."""
        device = self.mel_mean.device

        def open_stream(name: str, value: Any) -> Tensor:
            tensor = torch.as_tensor(value, dtype=torch.float32, device=device)
            if tensor.dim() not in (2, 3):
                raise DataError(describe(f"wrong shape of {name}", tuple(tensor.shape), "(T, D) or (B, T, D)"))
            return tensor.unsqueeze(0) if tensor.dim() == 2 else tensor

        tokens = open_stream("tokens", tokens)
        if not tokens.numel():
            raise DataError(describe("there are no token frames", tuple(tokens.shape), fix="give text or sound"))
        if not tokens.isfinite().all():
            raise DataError("the tokens hold values that are not finite; fix: extract them again")
        if partner is None or not self.participant_cond:
            return tokens, None
        return tokens, {name: open_stream(name, each) for name, each in partner.items() if each is not None}

    def _guided_conditions(
        self, tokens: Tensor, partner: Mapping[str, Tensor] | None, cfg: float, partner_cfg: float
    ) -> list[tuple[Tensor, float]]:
        """Return the full condition, and those to lead away from with their weights."""
        for name, weight in (("cfg", cfg), ("partner_cfg", partner_cfg)):
            if not 0 <= weight < math.inf:
                usage_error(f"{name} is out of range", weight, "0 (no guidance) or more")
        everything = torch.ones(tokens.shape[0], dtype=torch.bool, device=tokens.device)
        conditions = [(self.condition(tokens, partner), 1.0)]
        if cfg:
            nothing = self.condition(tokens, partner, without_tokens=everything, without_partner=everything)
            conditions.append((nothing, cfg))
        if partner_cfg:
            if partner is None:
                usage_error("partner_cfg needs a partner", partner_cfg, fix="give one to a model that takes it")
            conditions.append((self.condition(tokens, partner, without_partner=everything), partner_cfg))
        return conditions


def guided(
    network: Any,
    conditions: Sequence[tuple[Tensor, float]],
    x: Tensor,
    t: float,
    start: int,
    memory: FrameMemory | None = None,
    **options: Tensor | None,
) -> Tensor:
    """Return the velocity under the first condition, led away from the others by their weights.

    Args:
        network: Gives velocities; asked once, about all conditions side by side.
        conditions: Of the whole sequence ``(B, frames, C)``, each with its weight.
        x: ``(B, T, D)``.
        t: Time of the flow.
        start: First frame of ``x``.
        memory: With what the layers remember of the frames before these.
        **options: Further tensors ``(B, ...)`` for the network.
    """
    count = len(conditions)
    stop = start + x.shape[1]
    joined = torch.cat([condition[:, start:stop] for condition, _ in conditions])
    repeated = {
        name: None if each is None else each.repeat(count, *[1] * (each.dim() - 1)) for name, each in options.items()
    }
    times = torch.full((joined.shape[0],), t, device=x.device)
    full, *others = network(x.repeat(count, 1, 1), times, joined, memory=memory, **repeated).chunk(count)
    return guide(full, [(other, weight) for other, (_, weight) in zip(others, conditions[1:], strict=True)])

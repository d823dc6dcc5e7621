# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The cascade that the joint generator is compared with: first speech from tokens, then motion that fits it.

Both streams are the same blocks without highway. The motion stream gets the finished mel of the frame beside the
tokens: in training the recorded one, in generation the one that was generated.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from espnet_av.avgen.frame_memory import FrameMemory
from espnet_av.avgen.generation import guided
from espnet_av.avgen.model import AVGenModel
from espnet_av.avgen.noise import FrameNoise
from espnet_av.avgen.sampler import ChunkRules, Sampler, SolverRules
from espnet_av.utils.errors import usage_error


class CascadeModel(AVGenModel):
    """Speech first, then motion. Takes the keywords of :class:`~espnet_av.avgen.model.AVGenModel`.

    A joint generator of width ``d`` has ``4 d d`` values more in each layer. With ``d`` values more in ``hidden_dim``
    of each feed-forward layer the cascade is as large; ``same_size: true`` adds them.

    Args:
        same_size: Widen the feed-forward layers by the width, to the size of the joint generator.
        transformer_conf: As there, without ``highway``.
        **conf: As there.

    Raises:
        UsageError: A highway or a prefix is asked for.
    """

    def __init__(
        self, *, same_size: bool = True, transformer_conf: Mapping[str, Any] | None = None, **conf: Any
    ) -> None:
        sizes = dict(transformer_conf or {})
        if sizes.pop("highway", "none") != "none" or conf.get("prefix_prob"):
            usage_error("a cascade has neither highway nor told frames", fix="drop highway and prefix_prob")
        if same_size:
            sizes["hidden_dim"] = sizes.get("hidden_dim", 1024) + sizes.get("d_model", 512)
        super().__init__(transformer_conf={**sizes, "highway": "none"}, **conf)

    def _transformer_sizes(self) -> dict[str, int]:
        return {**super()._transformer_sizes(), "visual_extra_dim": self.dims["mel"]}

    def network(
        self,
        x: Tensor,
        t: Tensor,
        condition: Tensor,
        *,
        mask: Tensor | None = None,
        clean: Tensor | None = None,
        known: Tensor | None = None,
        memory: FrameMemory | None = None,
    ) -> Tensor:
        """Return the velocity of frames ``(B, T, D)``; ``clean`` holds the finished mel that motion is to fit."""
        num_visual = self.transformer.visual_dim
        mel = None if clean is None else clean[..., num_visual:]
        visual, audio = self.transformer(
            x[..., :num_visual], x[..., num_visual:], t, condition, mask, visual_extra=mel, memory=memory
        )
        return torch.cat((visual, audio), dim=-1)

    def _sample(
        self,
        length: int,
        conditions: Sequence[tuple[Tensor, float]],
        samples: Sequence[int],
        noise: FrameNoise,
        solver: SolverRules,
        chunks: ChunkRules | None,
    ) -> Iterator[tuple[int, Tensor]]:
        num_visual = self.transformer.visual_dim

        def audio_network(x: Tensor, t: Tensor, condition: Tensor, **options: Any) -> Tensor:
            return self.transformer.forward_stream("audio", x[..., num_visual:], t, condition, **options)

        def audio_field(x: Tensor, t: float, start: int, _: Tensor | None, memory: FrameMemory | None) -> Tensor:
            velocity = guided(audio_network, conditions, x, t, start, memory)
            return torch.cat((torch.zeros_like(x[..., :num_visual]), velocity), dim=-1)

        def visual_network(x: Tensor, t: Tensor, condition: Tensor, **options: Any) -> Tensor:
            return self.transformer.forward_stream("visual", x[..., :num_visual], t, condition, **options)

        def visual_field(x: Tensor, t: float, start: int, _: Tensor | None, memory: FrameMemory | None) -> Tensor:
            extra = mel[:, start : start + x.shape[1]]
            velocity = guided(visual_network, conditions, x, t, start, memory, extra=extra)
            return torch.cat((velocity, torch.zeros_like(x[..., num_visual:])), dim=-1)

        options: dict[str, Any] = {"sigma_min": self.sigma_min, "device": self.mel_mean.device}
        audio = Sampler(audio_field, self.dim, samples, noise, solver, chunks, **options)
        mel = audio.whole(length)[..., num_visual:]
        visual = Sampler(visual_field, self.dim, samples, noise, solver, chunks, **options)
        for first, frames in visual.stream(length):
            stop = first + frames.shape[1]
            yield first, torch.cat((frames[..., :num_visual], mel[:, first:stop]), dim=-1)

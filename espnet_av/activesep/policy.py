# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The policy: where to go, from what is seen, what is heard, and what is estimated.

"Active Audio-Visual Separation of Dynamic Sound Sources", Majumder and Grauman, ECCV 2022. Three encoders, a GRU over
time, an actor and a critic. Class and pose of the target do not enter; they act through the separators and the memory.

Axes: ``B`` environments, ``N`` observations, ``L`` steps in time, ``F`` 512 bins, ``T`` 32 frames, ``A`` actions.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.activesep.init import init_layers
from espnet_av.activesep.separators import masked_magnitude
from espnet_av.activesep.spectra import NUM_BINS, NUM_FRAMES, NUM_SLICES, slice_bins
from espnet_av.utils.errors import usage_error

NUM_ACTIONS = 3
KERNELS = (8, 4, 3)
AUDIO_KERNELS = (8, 4, 2)
STRIDES = (4, 2, 1)
IMAGES = {"rgb": 3, "depth": 1}
ACTOR_GAIN = 0.01


class ConvEncoder(nn.Module):
    """Three convolutions and a linear layer.

    Args:
        in_channels: Channels of the input.
        size: Its height and width.
        channels: Of the convolutions.
        kernels: Of the convolutions.
        features: Width of the output.
        last_relu: Whether a ReLU follows the last convolution, too.
        init: See :func:`~espnet_av.activesep.init.init_layers`.
    """

    def __init__(
        self,
        in_channels: int,
        size: tuple[int, int],
        *,
        channels: Sequence[int] = (32, 64, 32),
        kernels: Sequence[int] = KERNELS,
        features: int = 512,
        last_relu: bool = True,
        init: str = "he",
    ) -> None:
        super().__init__()
        self.last_relu = last_relu
        widths = [in_channels, *channels]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, kernel, stride=stride)
            for before, after, kernel, stride in zip(widths, widths[1:], kernels, STRIDES, strict=False)
        )
        height, width = size
        for kernel, stride in zip(kernels, STRIDES, strict=True):
            height, width = ((length - kernel) // stride + 1 for length in (height, width))
        if min(height, width) < 1:
            usage_error("the input of the encoder is too small for its kernels", got=[height, width])
        self.linear = nn.Linear(widths[-1] * height * width, features)
        init_layers(self, "relu", mode=init)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, in_channels, *size)`` -> ``(N, features)``, not negative."""
        for number, conv in enumerate(self.convs):
            x = conv(x)
            if self.last_relu or number < len(self.convs) - 1:
                x = F.relu(x)
        return F.relu(self.linear(x.flatten(1)))


class Decision(NamedTuple):
    """What the policy does.

    Attributes:
        value: Expected return, ``(B, 1)``.
        action: ``(B, 1)``, int64.
        log_prob: Of the action, ``(B, 1)``.
        hidden: State of the GRU, ``(1, B, hidden_size)``.
        probs: Of all actions, ``(B, A)``.
    """

    value: Tensor
    action: Tensor
    log_prob: Tensor
    hidden: Tensor
    probs: Tensor


class Evaluation(NamedTuple):
    """What the policy thinks of actions that were taken.

    Attributes:
        value: Expected return, ``(N, 1)``.
        log_prob: Of the actions, ``(N, 1)``.
        entropy: Mean over the observations, in nats, a scalar.
        hidden: State of the GRU after the last step, ``(1, B, hidden_size)``.
    """

    value: Tensor
    log_prob: Tensor
    entropy: Tensor
    hidden: Tensor


class ActiveSeparationPolicy(nn.Module):
    """Encoders, GRU, actor and critic. Calling it evaluates actions (:meth:`evaluate`), for wrappers of DDP.

    Args:
        hidden_size: Width of the encoders' outputs and of the GRU.
        channels: Of the convolutions of all encoders.
        num_actions: Forward, left, right.
        images: What is seen: ``rgb``, ``depth`` or both.
        image_size: Height and width of images.
        num_ears: Channels of the mixture.
        init: See :func:`~espnet_av.activesep.init.init_layers`, for the encoders.
    """

    def __init__(
        self,
        *,
        hidden_size: int = 512,
        channels: Sequence[int] = (32, 64, 32),
        num_actions: int = NUM_ACTIONS,
        images: Sequence[str] = ("rgb",),
        image_size: tuple[int, int] | int = 128,
        num_ears: int = 2,
        init: str = "he",
    ) -> None:
        super().__init__()
        if not images or set(images) - set(IMAGES):
            usage_error("images of the policy", got=list(images), allowed=list(IMAGES))
        self.images, self.hidden_size = tuple(images), hidden_size
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        sliced = (NUM_BINS // NUM_SLICES, NUM_FRAMES)
        shared: dict[str, Any] = {"channels": channels, "features": hidden_size, "init": init}
        self.visual = ConvEncoder(sum(IMAGES[name] for name in images), (height, width), last_relu=False, **shared)
        self.binaural = ConvEncoder(num_ears * NUM_SLICES, sliced, kernels=AUDIO_KERNELS, **shared)
        self.mono = ConvEncoder(NUM_SLICES, sliced, kernels=AUDIO_KERNELS, **shared)
        self.gru = nn.GRU(3 * hidden_size, hidden_size)
        self.actor, self.critic = nn.Linear(hidden_size, num_actions), nn.Linear(hidden_size, 1)
        for name, parameter in self.gru.named_parameters():
            (nn.init.orthogonal_ if name.startswith("weight") else nn.init.zeros_)(parameter)
        nn.init.orthogonal_(self.actor.weight, ACTOR_GAIN)
        nn.init.orthogonal_(self.critic.weight)
        nn.init.zeros_(self.actor.bias)
        nn.init.zeros_(self.critic.bias)

    @property
    def num_actions(self) -> int:
        """Number of actions."""
        return self.actor.out_features

    def initial_hidden(self, num_envs: int) -> Tensor:
        """Return the state of the GRU before the first step, ``(1, num_envs, hidden_size)``."""
        return self.critic.weight.new_zeros(1, num_envs, self.hidden_size)

    def encode(self, images: Tensor | dict[str, Tensor], mixed: Tensor, mask: Tensor, mono: Tensor) -> Tensor:
        """Return the input of the GRU.

        Args:
            images: ``rgb (N, H, W, 3)`` uint8, or a dictionary with that and ``depth (N, H, W, 1)`` in [0, 1].
            mixed: ``log(1 + magnitude)`` of the mixture, ``(N, F, T, 2)``.
            mask: Of the target extractor, ``(N, F, T, 2)``.
            mono: Refined magnitude of the present second, ``(N, F, T, 1)``.

        Returns:
            ``(N, 3 * hidden_size)``: visual, binaural, mono.
        """
        return torch.cat((self.see(images), self.hear(mixed, mask), self.hear_mono(mono)), -1)

    def see(self, images: Tensor | dict[str, Tensor]) -> Tensor:
        """Encode images: ``(N, hidden_size)``."""
        if isinstance(images, Tensor):
            images = {"rgb": images}
        dtype = self.critic.weight.dtype
        planes = [images[name].to(dtype) / 255.0 if name == "rgb" else images[name].to(dtype) for name in self.images]
        return self.visual(torch.cat(planes, -1).permute(0, 3, 1, 2))

    def hear(self, mixed: Tensor, mask: Tensor) -> Tensor:
        """Encode the target at both ears: ``(N, hidden_size)``."""
        masked = masked_magnitude(mixed.detach().float(), mask.detach().float())
        return self.binaural(slice_bins(torch.log1p(masked.clamp_min(0))))

    def hear_mono(self, mono: Tensor) -> Tensor:
        """Encode the refined estimate of the present second: ``(N, hidden_size)``."""
        return self.mono(slice_bins(torch.log1p(mono.detach().float().clamp_min(0))))

    def remember(self, features: Tensor, hidden: Tensor, not_done: Tensor) -> tuple[Tensor, Tensor]:
        """Run the GRU.

        Args:
            features: ``(L * B, 3 * hidden_size)``, time first.
            hidden: ``(1, B, hidden_size)``.
            not_done: 0 where an episode begins: the state is emptied before that step, ``(L * B, 1)``.

        Returns:
            Outputs ``(L * B, hidden_size)`` and the state after the last step.
        """
        batch = hidden.shape[1]
        features, not_done = features.unflatten(0, (-1, batch)), not_done.reshape(-1, batch).to(features)
        cuts = [0]
        if len(not_done) > 1:
            cuts += ((not_done[1:] == 0).any(1).nonzero().flatten() + 1).tolist()
        outputs = []
        for start, stop in zip(cuts, [*cuts[1:], len(not_done)], strict=True):
            output, hidden = self.gru(features[start:stop], hidden * not_done[start].reshape(1, -1, 1))
            outputs.append(output)
        return torch.cat(outputs).flatten(0, 1), hidden

    def act(
        self,
        images: Tensor | dict[str, Tensor],
        mixed: Tensor,
        mask: Tensor,
        mono: Tensor,
        hidden: Tensor,
        not_done: Tensor,
        *,
        deterministic: bool = False,
        generator: torch.Generator | None = None,
    ) -> Decision:
        """Choose one action in each environment.

        Args:
            images: As in :meth:`encode`, ``N = B``.
            mixed: As in :meth:`encode`.
            mask: As in :meth:`encode`.
            mono: As in :meth:`encode`.
            hidden: ``(1, B, hidden_size)``.
            not_done: 0 where an episode begins, ``(B, 1)``.
            deterministic: The most probable action instead of a random one.
            generator: Source of random numbers.
        """
        output, hidden = self.remember(self.encode(images, mixed, mask, mono), hidden, not_done)
        log_probs = F.log_softmax(self.actor(output), -1)
        probs = log_probs.exp()
        action = probs.argmax(-1, keepdim=True) if deterministic else torch.multinomial(probs, 1, generator=generator)
        return Decision(self.critic(output), action, log_probs.gather(-1, action), hidden, probs)

    def value(
        self,
        images: Tensor | dict[str, Tensor],
        mixed: Tensor,
        mask: Tensor,
        mono: Tensor,
        hidden: Tensor,
        not_done: Tensor,
    ) -> Tensor:
        """Return the expected return ``(B, 1)``; arguments as in :meth:`act`."""
        return self.critic(self.remember(self.encode(images, mixed, mask, mono), hidden, not_done)[0])

    def evaluate(
        self,
        images: Tensor | dict[str, Tensor],
        mixed: Tensor,
        mask: Tensor,
        mono: Tensor,
        hidden: Tensor,
        not_done: Tensor,
        actions: Tensor,
    ) -> Evaluation:
        """Evaluate actions that were taken.

        Args:
            images: As in :meth:`encode`, ``N = L * B`` with time first.
            mixed: As in :meth:`encode`.
            mask: As in :meth:`encode`.
            mono: As in :meth:`encode`.
            hidden: State before the first step, ``(1, B, hidden_size)``.
            not_done: 0 where an episode begins, ``(N, 1)``.
            actions: ``(N, 1)``, int64.
        """
        output, hidden = self.remember(self.encode(images, mixed, mask, mono), hidden, not_done)
        log_probs = F.log_softmax(self.actor(output), -1)
        entropy = -(log_probs.exp() * log_probs).sum(-1).mean()
        return Evaluation(self.critic(output), log_probs.gather(-1, actions), entropy, hidden)

    forward = evaluate

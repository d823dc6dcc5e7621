# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A separator with its loss: what training works on.

Axes: ``B`` batch, ``S`` targets, ``N`` samples, ``T`` video frames, ``D`` width of a lip embedding.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.avss.choices import get_model_class, takes_lips
from espnet_av.avss.losses import SeparationLoss, reorder, si_snr
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import DataError, describe, usage_error

#: What leads the names of the network's weights in the checkpoints of a training.
NETWORK_PREFIX = "avss.network."


class SeparationModel(nn.Module):
    """Network and loss.

    Networks that look at lips run once for each target over the same mixture. The others give all voices at once, in
    any order, and need ``pit``.

    Args:
        network: :class:`~espnet_av.avss.rtfsnet.RTFSNet`, :class:`~espnet_av.avss.convtasnet.ConvTasNet` or one that is
            called in the same way.
        terms: Terms of the loss with their weights (:class:`~espnet_av.avss.losses.SeparationLoss`).
        pit: Compare under the best permutation. None: where the network does not look at lips.

    Raises:
        UsageError: Terms are malformed, or ``pit`` is off for a network that gives its voices in any order.
    """

    def __init__(
        self, network: nn.Module, *, terms: Sequence[Mapping[str, Any]] | None = None, pit: bool | None = None
    ) -> None:
        super().__init__()
        parameters = inspect.signature(type(network).forward).parameters
        self.with_lips = takes_lips(type(network))
        self.masks_padding = "mix_lengths" in parameters
        if pit is False and not self.with_lips:
            usage_error("loss_conf.pit must be on for a network without lips", got=pit, allowed=True)
        self.network = network
        self.loss = SeparationLoss(terms, pit=not self.with_lips if pit is None else pit)

    def forward(
        self,
        mix: Tensor,
        target: Tensor,
        mix_lengths: Tensor | None = None,
        *,
        lips: Tensor | None = None,
        has_lips: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss.

        Args:
            mix: ``(B, N)``, zero-padded at the end.
            target: ``(B, S, N)``.
            mix_lengths: Valid samples ``(B,)``; None: all.
            lips: ``(B, S, T, D)``.
            has_lips: ``(B, S)`` bool, False where lips are not to be looked at.

        Returns:
            Loss, and statistics: each term of the loss and, in evaluation, ``si_snr`` and ``si_snri`` in dB as means
            over all targets that are not silent.
        """
        estimate = self.separate(mix, mix_lengths, lips=lips, has_lips=has_lips)
        if estimate.shape != target.shape:
            fix = "as many targets in the data as the network has outputs"
            raise DataError(describe("outputs and targets differ", tuple(estimate.shape), tuple(target.shape), fix))
        with torch.autocast(estimate.device.type, enabled=False):
            estimate, target = estimate.float(), target.float()
            lengths = None if mix_lengths is None or bool((mix_lengths == mix.shape[1]).all()) else mix_lengths
            result = self.loss(estimate, target, lengths)
            stats = {f"loss_{name}": part for name, part in result.parts.items()}
            if not self.training:
                stats |= improvement(reorder(estimate, result.permutation), target, mix.float(), lengths)
        return result.loss, stats

    def separate(
        self,
        mix: Tensor,
        mix_lengths: Tensor | None = None,
        *,
        lips: Tensor | None = None,
        has_lips: Tensor | None = None,
    ) -> Tensor:
        """Return the voices ``(B, S, N)``, zero past an item's end; arguments as of :meth:`forward`.

        Raises:
            DataError: The network looks at lips and there are none.
        """
        if not self.with_lips:
            return self._separate_all(mix, mix_lengths)
        if lips is None:
            raise DataError("the network looks at lips and the batch has none; fix: run stage 4 (lip embeddings)")
        known = None if has_lips is None else has_lips.flatten()
        voices = self.network(mix, lips.flatten(0, 1), mix_lengths, has_lips=known)
        return voices.squeeze(1).unflatten(0, lips.shape[:2])

    def _separate_all(self, mix: Tensor, mix_lengths: Tensor | None) -> Tensor:
        if mix_lengths is None or bool((mix_lengths == mix.shape[1]).all()):
            return self.network(mix)
        if self.masks_padding:
            return self.network(mix, mix_lengths=mix_lengths)
        groups, parts = [], []
        for length in sorted(set(mix_lengths.tolist())):  # norms see all of an item: equal lengths run together
            rows = (mix_lengths == length).nonzero()[:, 0].to(mix.device)
            part = self.network(mix[rows, :length])
            groups.append(rows)
            parts.append(nn.functional.pad(part, (0, mix.shape[1] - length)))
        return torch.cat(parts)[torch.cat(groups).argsort()]


def improvement(estimate: Tensor, target: Tensor, mix: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
    """Return ``si_snr`` and ``si_snri`` in dB, means over all targets that are not silent.

    Args:
        estimate: ``(B, S, N)`` in the order of the targets.
        target: ``(B, S, N)``.
        mix: ``(B, N)``.
        lengths: Valid samples ``(B,)``; None: all.
    """
    count = None if lengths is None else lengths[:, None]
    heard = target.square().sum(-1) > 0
    if not bool(heard.any()):
        return {}
    after = si_snr(estimate, target, num_samples=count)
    before = si_snr(mix.unsqueeze(1), target, num_samples=count)
    return {"si_snr": after[heard].mean(), "si_snri": (after - before)[heard].mean()}


def build_network(name: str | None, conf: Mapping[str, Any]) -> nn.Module:
    """Build a separator from ``model`` and ``model_conf`` of a configuration.

    Raises:
        UsageError: The name is unknown, or the network does not take a keyword.
    """
    model_class = get_model_class(name)
    try:
        return model_class(**conf)
    except TypeError as error:
        raise does_not_fit(error, "model_conf", conf) from error


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the network out of those of a training (or of the network itself)."""
    return {name.removeprefix(NETWORK_PREFIX): tensor for name, tensor in state.items()}

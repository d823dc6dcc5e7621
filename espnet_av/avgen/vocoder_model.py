# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A vocoder with its discriminator and losses: what training works on.

A batch takes two turns, the vocoder's and the discriminator's; the second uses the sound of the first. Before the
discriminator starts (``discriminator_start_step`` of the trainer) spectra of several resolutions alone teach the
vocoder; a step then takes much less time, which is what a short training on a CPU needs.

Axes: ``B`` batch, ``N`` samples, ``M`` mel bands, ``T`` frames.
"""

import functools
import operator
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avgen.mel import MelConfig, MelSpectrogram
from espnet_av.layers.frozen import frozen
from espnet_av.layers.gan_losses import discriminator_hinge_loss, feature_matching_loss, generator_hinge_loss
from espnet_av.layers.mel_loss import MultiScaleMelLoss
from espnet_av.layers.stft_discriminator import Features, MultiScaleSTFTDiscriminator
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import usage_error

GENERATOR, DISCRIMINATOR = 0, 1  # places of their optimizers
ADVERSARIAL = ("hinge", "least_squares")
DISCRIMINATORS = ("stft", "hifigan")


class VocoderModel(nn.Module):
    """Vocoder, discriminator and losses.

    Args:
        generator: ``(B, M, T) -> (B, 1, T * hop_length)``.
        mel_config: The spectrograms that it is given; they are computed from the sound of the batch.
        discriminator: Gives features and logits; None: the multi-scale STFT discriminator.
        adversarial: ``"hinge"``, or ``"least_squares"`` as HiFi-GAN was published.
        lambda_adv: Weight of the adversarial loss.
        lambda_feat_match: Weight of feature matching.
        lambda_mel: Weight of the mean absolute difference of the spectrograms that it is given.
        lambda_spectrum: Weight of the spectra of several resolutions.
        spectrum_conf: Keywords of :class:`~espnet_av.layers.mel_loss.MultiScaleMelLoss`.

    Raises:
        UsageError: A weight is negative, a keyword unknown, or the vocoder of another clock.
    """

    def __init__(
        self,
        generator: nn.Module,
        mel_config: MelConfig | None = None,
        discriminator: nn.Module | None = None,
        *,
        adversarial: str = "hinge",
        lambda_adv: float = 1.0,
        lambda_feat_match: float = 2.0,
        lambda_mel: float = 15.0,
        lambda_spectrum: float = 5.0,
        spectrum_conf: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.mel_config = mel_config = mel_config or MelConfig()
        own, wanted = (generator.num_mels, generator.hop_length), (mel_config.num_mels, mel_config.hop_length)
        if own != wanted:
            usage_error("vocoder (model_conf) and mel_conf differ in bands or hop", own, wanted)
        if adversarial not in ADVERSARIAL:
            usage_error("unknown adversarial loss", adversarial, ADVERSARIAL)
        self.generator = generator
        self.discriminator = MultiScaleSTFTDiscriminator() if discriminator is None else discriminator
        self.adversarial = adversarial
        self.weights = {
            "adv": lambda_adv,
            "feat_match": lambda_feat_match,
            "mel": lambda_mel,
            "spectrum": lambda_spectrum,
        }
        for name, weight in self.weights.items():
            if not weight >= 0:
                usage_error(f"lambda_{name} must not be negative", weight)
        self.mel = MelSpectrogram(mel_config)
        try:
            self.spectrum_loss = MultiScaleMelLoss(**{"sample_rate": mel_config.sample_rate, **(spectrum_conf or {})})
        except TypeError as error:
            raise does_not_fit(error, "loss_conf.spectrum_conf", spectrum_conf or {}) from error
        self._cache: tuple[Tensor, Tensor] | None = None

    def forward(
        self,
        audio: Tensor,
        audio_lengths: Tensor | None = None,
        forward_generator: bool = True,
        *,
        adversarial: bool = True,
        **_: Any,
    ) -> dict[str, Any]:
        """Take a turn.

        Args:
            audio: Sound in [-1, 1], ``(B, N)``; ``N`` is a multiple of the hop.
            audio_lengths: Not used: batches are chunks of one length.
            forward_generator: The vocoder's turn; otherwise the discriminator's.
            adversarial: False in the vocoder's turn: train without a discriminator.

        Returns:
            ``loss`` ``()``, ``stats`` (detached), ``weight`` (batch size) and ``optim_idx``.
        """
        fake = self._run_generator(audio)
        real = audio.unsqueeze(1)
        if forward_generator:
            terms = self._generator_terms(fake, real, adversarial)
            stats = {f"{name}_loss": term for name, term in terms.items()}
        else:
            terms = self._discriminator_terms(fake.detach(), real)
            stats = dict(terms)
        loss = functools.reduce(operator.add, terms.values())
        stats["loss" if forward_generator else "discriminator_loss"] = loss
        return {
            "loss": loss,
            "stats": {name: value.detach() for name, value in stats.items()},
            "weight": torch.tensor(len(audio), device=loss.device),
            "optim_idx": GENERATOR if forward_generator else DISCRIMINATOR,
        }

    def clear_cache(self) -> None:
        """Forget the first turn of a batch whose second turn will not come."""
        self._cache = None

    def _run_generator(self, audio: Tensor) -> Tensor:
        """Return the vocoder's sound ``(B, 1, N)``, that of the other turn where this is the second of a batch."""
        cached, self._cache = self._cache, None
        if cached is not None and cached[0].data_ptr() == audio.data_ptr() and cached[0].shape == audio.shape:
            return cached[1]
        with torch.no_grad():
            mel = self.mel(audio)
        fake = self.generator(mel)
        self._cache = (audio, fake)
        return fake

    def _generator_terms(self, fake: Tensor, real: Tensor, adversarial: bool) -> dict[str, Tensor]:
        with torch.no_grad():
            wanted = self.mel(real[:, 0])
        terms = {"mel": F.l1_loss(self.mel(fake[:, 0]), wanted), "spectrum": self.spectrum_loss(fake, real)}
        if adversarial:
            with torch.no_grad():
                real_features = self.discriminator(real)
            with frozen(self.discriminator):
                fake_features = self.discriminator(fake)
            hinge = self.adversarial == "hinge"
            terms["adv"] = generator_hinge_loss(fake_features) if hinge else _squared(fake_features, 1.0)
            terms["feat_match"] = feature_matching_loss(real_features, fake_features)
        return {name: self.weights[name] * term for name, term in terms.items()}

    def _discriminator_terms(self, fake: Tensor, real: Tensor) -> dict[str, Tensor]:
        real_features, fake_features = self.discriminator(real), self.discriminator(fake)
        if self.adversarial == "hinge":
            real_loss, fake_loss = discriminator_hinge_loss(real_features, fake_features)
        else:
            real_loss, fake_loss = _squared(real_features, 1.0), _squared(fake_features, 0.0)
        return {"real_loss": real_loss, "fake_loss": fake_loss}


def build_discriminator(name: str, conf: Mapping[str, Any]) -> nn.Module:
    """Build a discriminator.

    Args:
        name: ``"stft"``: complex spectra of several resolutions, light; ``"hifigan"``: the published multi-scale and
            multi-period discriminator, which costs many times the vocoder.
        conf: Its keywords.

    Raises:
        UsageError: The name or a keyword is unknown.
    """
    if name == "stft":
        network: type = MultiScaleSTFTDiscriminator
    elif name == "hifigan":
        from espnet_av import _espnet

        network = _espnet.HiFiGANMultiScaleMultiPeriodDiscriminator
    else:
        usage_error("unknown discriminator", name, DISCRIMINATORS)
    try:
        return network(**conf)
    except TypeError as error:
        raise does_not_fit(error, "discriminator_conf", conf) from error


def _squared(features: Features, goal: float) -> Tensor:
    """Return the mean squared distance of logits from ``goal``, averaged over scales."""
    errors = [(each[-1].float() - goal).square().mean() for each in features]
    return functools.reduce(operator.add, errors) / len(features)

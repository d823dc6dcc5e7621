# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A codec with its discriminator and losses: what training works on.

Axes: ``B`` batch, ``T`` samples.

A batch takes two turns. In the generator's turn the codec learns to deceive the discriminator and to stay close to the
target; in the discriminator's turn the discriminator learns to tell both apart. The second turn uses what the first one
computed, so that a batch runs through the codec, and through its codebooks' averages, once.

In evaluation every bit rate of the codec is computed, not a drawn one, so that the numbers of two epochs can be
compared: ``mel_loss_1kbps``, ``mel_loss_6kbps``, and ``mel_loss``, their mean.
"""

import contextlib
import dataclasses
import functools
import random
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.codec.codebook import is_distributed
from espnet_av.codec.generator import CodecGenerator, GeneratorOutput
from espnet_av.codec.semantic import SemanticLoss
from espnet_av.layers.frozen import frozen
from espnet_av.layers.gan_losses import discriminator_hinge_loss, feature_matching_loss, generator_hinge_loss
from espnet_av.layers.mel_loss import MultiScaleMelLoss
from espnet_av.layers.stft_discriminator import Features, MultiScaleSTFTDiscriminator
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import DataError, describe, usage_error

#: What leads the names of a training's weights: ``codec.generator.*`` and ``codec.discriminator.*``.
CODEC_PREFIX = "codec."
GENERATOR, DISCRIMINATOR = 0, 1  # places of their optimizers


@dataclasses.dataclass
class _Turn:
    """What the first turn of a batch leaves to the second.

    Attributes:
        audio: Input of the batch ``(B, T)``, which tells whether the next turn is of the same batch.
        outputs: Output of the codec by number of quantiser layers.
        real: Features of the target, with the gradients of the discriminator, or None.
    """

    audio: Tensor
    outputs: dict[int, GeneratorOutput]
    real: Features | None = None


class CodecModel(nn.Module):
    """Codec, discriminator and losses.

    Args:
        generator: The codec (:class:`~espnet_av.codec.generator.CodecGenerator` or one called in the same way).
        discriminator: Gives features and logits; None: the published one.
        lambda_adv: Weight of the adversarial loss.
        lambda_mel: Weight of the mel loss.
        lambda_feat_match: Weight of feature matching.
        lambda_commit: Weight of the commitment loss.
        lambda_quantization: Weight of the error of the quantised latent, as a loss for the encoder.
        lambda_reconstruct: Weight of the mean absolute difference of waveforms.
        lambda_semantic: Weight of the semantic loss; 0 leaves it and its speech model out.
        mel_loss_conf: Keywords of :class:`~espnet_av.layers.mel_loss.MultiScaleMelLoss`.
        semantic_loss_conf: Keywords of :class:`~espnet_av.codec.semantic.SemanticLoss`.
        use_dual_decoder: Add the mel loss of the decoded latent without quantisation.
        quantizer_start_step: Steps of training before there is a quantiser. The codebooks then start from latents that
            mean something; a short training with a quantiser from the first step hardly gets past a mean spectrum.
        cache_generator_outputs: Run the codec once for both turns of a batch.
        reference_compat: Compute what is thrown away as the published training does: gradients of the discriminator in
            the generator's turn, and the features of the target in both turns. The results are the same.

    Raises:
        UsageError: A weight is negative, or a keyword unknown.
    """

    def __init__(
        self,
        generator: CodecGenerator,
        discriminator: nn.Module | None = None,
        *,
        lambda_adv: float = 1.0,
        lambda_mel: float = 5.0,
        lambda_feat_match: float = 2.0,
        lambda_commit: float = 10.0,
        lambda_quantization: float = 0.0,
        lambda_reconstruct: float = 0.0,
        lambda_semantic: float = 0.0,
        mel_loss_conf: Mapping[str, Any] | None = None,
        semantic_loss_conf: Mapping[str, Any] | None = None,
        use_dual_decoder: bool = False,
        quantizer_start_step: int = 0,
        cache_generator_outputs: bool = True,
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        self.generator = generator
        self.discriminator = MultiScaleSTFTDiscriminator() if discriminator is None else discriminator
        self.weights = {
            "adv": lambda_adv,
            "mel": lambda_mel,
            "feat_match": lambda_feat_match,
            "commit": lambda_commit,
            "quantization": lambda_quantization,
            "reconstruct": lambda_reconstruct,
            "semantic": lambda_semantic,
        }
        for name, weight in self.weights.items():
            if not weight >= 0:
                usage_error(f"lambda_{name} must not be negative", got=weight)
        rate = generator.sample_rate
        try:
            self.mel_loss = MultiScaleMelLoss(**{"sample_rate": rate, **(mel_loss_conf or {})})
            conf = {"sample_rate": rate, **(semantic_loss_conf or {})}
            self.semantic_loss = SemanticLoss(**conf) if lambda_semantic > 0 else None
        except TypeError as error:
            parts = {"mel_loss_conf": mel_loss_conf, "semantic_loss_conf": semantic_loss_conf}
            raise does_not_fit(error, "loss_conf", parts) from error
        if quantizer_start_step < 0:
            usage_error("quantizer_start_step is too small", quantizer_start_step, "0 or more")
        self.use_dual_decoder = use_dual_decoder
        self.quantizer_start_step = quantizer_start_step  # draw_conditions of the training keeps to it
        self.cache_generator_outputs = cache_generator_outputs
        self.reference_compat = reference_compat
        self._cache: _Turn | None = None

    def forward(
        self,
        audio: Tensor,
        audio_lengths: Tensor | None = None,
        speech_ref1: Tensor | None = None,
        forward_generator: bool = True,
        *,
        num_quantizers: int | None = None,
        adversarial: bool = True,
        **_: Any,
    ) -> dict[str, Any]:
        """Take a turn.

        Args:
            audio: Input of the codec ``(B, T)``.
            audio_lengths: Not used: batches are chunks of one length.
            speech_ref1: What the codec should give, ``(B, T)``; None: its input.
            forward_generator: The generator's turn; otherwise the discriminator's.
            num_quantizers: Quantiser layers to use; 0: none, the decoder gets the latent. None: in training those of a
                bit rate that is drawn for the batch, on all ranks the same, with Python's generator of rank 0; in
                evaluation those of every bit rate.
            adversarial: False in the generator's turn: train without the discriminator and feature matching.

        Returns:
            ``loss`` ``()``, ``stats`` (detached), ``weight`` (batch size) and ``optim_idx``, 0 for the generator and 1
            for the discriminator. In evaluation the mean over bit rates, with statistics of each under their names
            with ``_1kbps`` and so on.

        Raises:
            DataError: Input and target differ in shape.
        """
        if speech_ref1 is not None and speech_ref1.shape != audio.shape:
            shapes = f"{tuple(audio.shape)} and {tuple(speech_ref1.shape)}"
            raise DataError(describe("input (audio) and target (speech_ref1) differ in shape", shapes))
        target = (audio if speech_ref1 is None else speech_ref1).unsqueeze(1)
        turn, is_second = self._run_generator(audio, num_quantizers, forward_generator)
        take_turn: Callable[[_Turn, GeneratorOutput, Tensor], tuple[Tensor, dict[str, Tensor]]]
        if forward_generator:
            take_turn = functools.partial(self._generator_turn, adversarial=adversarial)
        else:
            take_turn = self._discriminator_turn
        results = {number: take_turn(turn, output, target) for number, output in turn.outputs.items()}
        self._cache = turn if self.cache_generator_outputs and not is_second else None
        loss = torch.stack([loss for loss, _ in results.values()]).mean()
        return {
            "loss": loss,
            "stats": self._merge_stats({number: stats for number, (_, stats) in results.items()}),
            "weight": torch.tensor(len(audio), device=loss.device),
            "optim_idx": GENERATOR if forward_generator else DISCRIMINATOR,
        }

    def clear_cache(self) -> None:
        """Forget the first turn of a batch whose second turn will not come."""
        self._cache = None

    def draw_num_quantizers(self, device: torch.device) -> int:
        """Draw a bit rate of the codec, the same on all ranks, and return its number of quantiser layers."""
        rates = self.generator.bitrates
        choice = random.randint(0, len(rates) - 1)  # on every rank, so that their generators stay in step
        if is_distributed():
            drawn = torch.tensor(choice, device=device)
            dist.broadcast(drawn, src=0)
            choice = int(drawn)
        return self.generator.codebooks_for(rates[choice])

    def _run_generator(self, audio: Tensor, num_quantizers: int | None, with_gradient: bool) -> tuple[_Turn, bool]:
        """Return the codec's outputs, and whether they are those of the other turn of the same batch."""
        cached, self._cache = self._cache, None
        if cached is not None and _same(cached.audio, audio):
            return cached, True
        if num_quantizers is not None:
            numbers = [num_quantizers]
        elif self.training:
            numbers = [self.draw_num_quantizers(audio.device)]
        else:
            numbers = sorted({self.generator.codebooks_for(rate) for rate in self.generator.bitrates})
        with torch.set_grad_enabled(torch.is_grad_enabled() and (with_gradient or self.cache_generator_outputs)):
            outputs = {number: self.generator(audio.unsqueeze(1), number) for number in numbers}
        return _Turn(audio, outputs), False

    def _generator_turn(
        self, turn: _Turn, output: GeneratorOutput, target: Tensor, *, adversarial: bool
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the generator's loss and its weighted terms."""
        zero = output.wav.new_zeros(())
        deceived = matched = zero
        if adversarial:
            with contextlib.nullcontext() if self.reference_compat else frozen(self.discriminator):
                fake = self.discriminator(output.wav)
            deceived = generator_hinge_loss(fake)
            matched = feature_matching_loss(self._real_features(turn, target), fake)
        terms = {
            "adv": deceived,
            "commit": output.commit_loss,
            "quantization": output.quantization_loss,
            "reconstruct": F.l1_loss(output.wav, target) if self.weights["reconstruct"] else zero,
            "feat_match": matched,
            "mel": self.mel_loss(output.wav, target),
        }
        if self.use_dual_decoder:
            direct = self.generator.decoder(output.latent)[..., : target.shape[-1]]
            terms["mel_direct"] = self.mel_loss(direct, target)
        if self.semantic_loss is not None:
            terms["semantic"] = self.semantic_loss(output.wav, target)
        terms = {name: term * self.weights[name.removesuffix("_direct")] for name, term in terms.items()}
        loss = sum(terms.values())
        stats = {
            "adv_loss": terms["adv"],
            "codec_loss": terms["commit"] + terms["quantization"],
            "codec_commit_loss": terms["commit"],
            "codec_quantization_loss": terms["quantization"],
            "reconstruct_loss": terms["reconstruct"],
            "feat_match_loss": terms["feat_match"],
            "mel_loss": terms["mel"],
            **{f"{name}_loss": terms[name] for name in ("mel_direct", "semantic") if name in terms},
            "loss": loss,
        }
        return loss, {name: value.detach() for name, value in stats.items()}

    def _real_features(self, turn: _Turn, target: Tensor) -> Features:
        """Return the features of the target, kept for the discriminator's turn where that follows."""
        if self.reference_compat or not self.cache_generator_outputs:
            with torch.no_grad():
                return self.discriminator(target)
        if turn.real is None:  # with several bit rates, the same for all
            turn.real = self.discriminator(target)
        return turn.real

    def _discriminator_turn(
        self, turn: _Turn, output: GeneratorOutput, target: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's loss and its terms."""
        fake = self.discriminator(output.wav.detach())
        real = self.discriminator(target) if turn.real is None else turn.real
        real_loss, fake_loss = discriminator_hinge_loss(real, fake)
        loss = real_loss + fake_loss
        stats = {"discriminator_loss": loss, "real_loss": real_loss, "fake_loss": fake_loss}
        return loss, {name: value.detach() for name, value in stats.items()}

    def _merge_stats(self, stats: Mapping[int, Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return means over bit rates, and in evaluation the values of every bit rate too."""
        names = next(iter(stats.values()))
        merged = {name: torch.stack([each[name] for each in stats.values()]).mean() for name in names}
        if not self.training and len(stats) > 1:
            for number, each in stats.items():
                rate = self.generator.bitrate_of(number)
                merged |= {f"{name}_{rate:g}kbps": value for name, value in each.items()}
        return merged


def _same(first: Tensor, second: Tensor) -> bool:
    """Tell whether two tensors are the same place of memory; ``first`` is alive, so that it cannot have been reused."""
    return first is second or (first.data_ptr() == second.data_ptr() and first.shape == second.shape)


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the codec alone out of those of a training, of a published file, or of the codec."""
    prefix = f"{CODEC_PREFIX}generator."
    found = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
    return found or dict(state)

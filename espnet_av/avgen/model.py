# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The generator with all that belongs to it: flow transformer, head VAE, statistics, loss and sampling.

A frame at the mel rate is ``[face code | head latent | mel]``, in this order, standardised. All that goes in and comes
out is in the units of the data: the statistics are buffers of the model and travel with its weights.

====================  =========================================================================================
stream                what a frame holds
====================  =========================================================================================
``mel``               natural logarithm of the mel bands, ``(T, 80)``
``face``              face code, ``(T, 256)``
``head``              quaternion (w, x, y, z) and translation ``(T, 7)``, or angles of neck and head ``(T, 4)``
``tokens``            raw logits of the 29 letters, ``(T, 29)``
``other_tokens``      the same of the partner, ``(T, 29)``
``other_expression``  the partner's expression, ``(T, 55)``
``other_head``        the partner's head, ``(T, 3)``
``valid``             False where the face was not seen, ``(T,)``
====================  =========================================================================================

Axes: ``B`` batch, ``T`` frames at the mel rate, ``D`` values of a frame.
"""

import functools
import operator
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from espnet_av.avgen.flow import FlowMatching, masked_mean, sample_time
from espnet_av.avgen.flow_transformer import FlowTransformer
from espnet_av.avgen.frame_memory import FrameMemory
from espnet_av.avgen.generation import Generation
from espnet_av.avgen.model_statistics import Statistics
from espnet_av.avgen.noise import FrameNoise
from espnet_av.avgen.presets import PARTNER_STREAMS
from espnet_av.utils.errors import CheckpointError, DataError, UsageError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.head_vae import HeadVAE

PARTNER_CLIP = 1.5


@dataclass(frozen=True)
class FlowStep:
    """What one evaluation of the training objective gave.

    Attributes:
        loss: Weighted sum of the terms.
        terms: Each term, not weighted.
        velocity: ``(B, T, D)``.
        data: The estimate of the data that the velocity leads to, ``(B, T, D)``.
    """

    loss: Tensor
    terms: dict[str, Tensor]
    velocity: Tensor
    data: Tensor


class AVGenModel(Statistics, Generation):
    """Speech and motion generated together.

    Args:
        face_dim: Values of a face code.
        headvec_dim: Values of the head latent.
        melspec_dim: Mel bands.
        token_dim: Values of a token frame.
        input_head_dim: Values of the head pose: 7, or 4.
        participant_cond: Condition on a conversation partner too.
        transformer_conf: Keywords of :class:`~espnet_av.avgen.flow_transformer.FlowTransformer`, without dimensions.
        head_vae: Use a head VAE; without one the standardised head pose itself is generated.
        head_vae_conf: Keywords of :class:`~espnet_av.avgen.head_vae.HeadVAE`, without dimensions.
        sigma_min: See :class:`~espnet_av.avgen.flow.FlowMatching`.
        loss_fn_vision: ``l1`` or ``l2`` for face and head.
        loss_fn_audio: The same for mel.
        face_weight: Weight of the face term.
        headpose_weight: Weight of the head term.
        audio_weight: Weight of the mel term.
        motion_velocity_weight: Weight of the L1 error of frame differences of face and head.
        mouth_weight: Weight of the L1 error of the mouth opening; needs the statistic ``mouth_direction``.
        condition_drop: Share of training sequences without condition, for guidance; 0: guidance is not possible.
        prefix_prob: Share of training sequences whose first frames are told, for ``prefix`` histories.
        prefix_max: Most frames told.
        time_distribution: ``uniform`` or ``logit_normal``.
        valid_times: Times of the flow that validation looks at, evenly spread.
        valid_seed: Of the noise of validation.
        audio_gain: What the vocoder's output is multiplied by: 1.1 where training sound was divided by that.
        reference_compat: Weight the mel term with ``headpose_weight``, as the published training does.

    Raises:
        UsageError: A value is out of range.
    """

    def __init__(
        self,
        *,
        face_dim: int = 256,
        headvec_dim: int = 8,
        melspec_dim: int = 80,
        token_dim: int = 29,
        input_head_dim: int = 7,
        participant_cond: bool = False,
        transformer_conf: Mapping[str, Any] | None = None,
        head_vae: bool = True,
        head_vae_conf: Mapping[str, Any] | None = None,
        sigma_min: float = 1e-6,
        loss_fn_vision: str = "l1",
        loss_fn_audio: str = "l1",
        face_weight: float = 1.0,
        headpose_weight: float = 0.2,
        audio_weight: float = 1.0,
        motion_velocity_weight: float = 0.0,
        mouth_weight: float = 0.0,
        condition_drop: float = 0.1,
        prefix_prob: float = 0.0,
        prefix_max: int = 172,
        time_distribution: str = "uniform",
        valid_times: int = 4,
        valid_seed: int = 0,
        audio_gain: float = 1.0,
        reference_compat: bool = False,
    ) -> None:
        super().__init__()
        for name, share in (("condition_drop", condition_drop), ("prefix_prob", prefix_prob)):
            if not 0 <= share <= 1:
                usage_error(f"{name} is a share", share, "0 to 1")
        if not head_vae:
            headvec_dim = input_head_dim
        self.dims = {"face": face_dim, "head": headvec_dim, "mel": melspec_dim}
        self.token_dim, self.input_head_dim, self.participant_cond = token_dim, input_head_dim, participant_cond
        self.flows = {
            "face": FlowMatching(sigma_min, loss_fn_vision),
            "head": FlowMatching(sigma_min, loss_fn_vision),
            "mel": FlowMatching(sigma_min, loss_fn_audio),
        }
        self.weights = {
            "face": face_weight,
            "head": headpose_weight,
            "mel": headpose_weight if reference_compat else audio_weight,
            "motion": motion_velocity_weight,
            "mouth": mouth_weight,
        }
        for name, weight in self.weights.items():
            if not weight >= 0:
                usage_error(f"the weight of the {name} term is negative", weight)
        self.condition_drop, self.prefix_prob, self.prefix_max = condition_drop, prefix_prob, prefix_max
        self.time_distribution, self.audio_gain = time_distribution, audio_gain
        self.valid_times, self.valid_noise = valid_times, FrameNoise(valid_seed)
        sample_time(1, distribution=time_distribution)

        self.transformer = FlowTransformer(**self._transformer_sizes(), **(transformer_conf or {}))
        self.head_vae = _build_head_vae(input_head_dim, headvec_dim, head_vae_conf or {}) if head_vae else None
        if condition_drop:
            self.null_tokens = nn.Parameter(torch.zeros(token_dim))
            if participant_cond:
                self.null_partner = nn.Parameter(torch.zeros(sum(PARTNER_STREAMS.values())))
        self.add_statistics(face_dim, input_head_dim)

    def train(self, mode: bool = True) -> "AVGenModel":
        """Set the mode; the head VAE stays in evaluation."""
        super().train(mode)
        if self.head_vae is not None:
            self.head_vae.eval()
        return self

    # ---------------------------------------------------------------- construction

    def _transformer_sizes(self) -> dict[str, Any]:
        visual, audio = self.dims["face"] + self.dims["head"], self.dims["mel"]
        condition = self.token_dim + (sum(PARTNER_STREAMS.values()) if self.participant_cond else 0)
        told = self.prefix_prob > 0
        return {
            "visual_dim": visual,
            "audio_dim": audio,
            "condition_dim": condition,
            "visual_extra_dim": visual + 1 if told else 0,
            "audio_extra_dim": audio + 1 if told else 0,
        }

    def load_head_vae(self, source: str | os.PathLike) -> None:
        """Take over the weights of a trained or published head VAE, and the statistics of its poses where it has them.

        Raises:
            UsageError: The model has none.
            MissingDataError: There is no such file or folder.
            CheckpointError: The weights do not fit.
        """
        if self.head_vae is None:
            usage_error("this model has no head VAE", fix="set model_conf.head_vae: true")
        from espnet_av.avgen.head_vae import load_head_vae
        from espnet_av.train.loading import load_into

        trained, statistics = load_head_vae(source)
        load_into(self.head_vae, trained.state_dict(), source=f"head VAE {source}")
        if statistics is not None:
            self.set_statistics({"head_mean": statistics.mean, "head_std": statistics.std})

    # ---------------------------------------------------------------- frames and conditions

    @torch.no_grad()
    def encode(self, face: Tensor, head: Tensor, mel: Tensor, mask: Tensor | None = None) -> Tensor:
        """Turn data into standardised frames.

        Args:
            face: ``(B, T, face_dim)``.
            head: ``(B, T, input_head_dim)``.
            mel: ``(B, T, melspec_dim)``.
            mask: False for padding, ``(B, T)``.

        Returns:
            ``(B, T, D)``.
        """
        latent = (head - self.head_mean) / self.head_std
        if self.head_vae is not None:
            latent = self.head_vae.encode(latent, mask)
        face = (face - self.face_mean) / self.face_std
        return torch.cat((face, latent, (mel - self.mel_mean) / self.mel_std), dim=-1)

    @torch.no_grad()
    def decode(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turn standardised frames ``(B, T, D)`` into face, head and mel: the inverse of :meth:`encode`."""
        face, latent, mel = frames.split(list(self.dims.values()), dim=-1)
        head = latent if self.head_vae is None else self.head_vae.decode(latent)
        return (
            face * self.face_std + self.face_mean,
            head * self.head_std + self.head_mean,
            mel * self.mel_std + self.mel_mean,
        )

    def condition(
        self,
        tokens: Tensor,
        partner: Mapping[str, Tensor] | None = None,
        *,
        without_tokens: Tensor | None = None,
        without_partner: Tensor | None = None,
    ) -> Tensor:
        """Put the condition of each frame together.

        Args:
            tokens: ``(B, T, token_dim)``.
            partner: ``other_tokens``, ``other_expression`` and ``other_head``; ignored by a model without partner.
            without_tokens: True where the null vector stands for the tokens, ``(B,)``.
            without_partner: The same for the partner. A partner that is not given is null too.

        Returns:
            ``(B, T, C)``: tokens, then of the partner tokens, expression and head.

        Raises:
            DataError: Channels or lengths are wrong.
            UsageError: The partner is missing, and the model was not trained without one.
        """
        if tokens.shape[-1] != self.token_dim:
            fix = "extract the tokens with the model that the generator was trained with"
            raise DataError(describe("wrong number of token channels", tokens.shape[-1], self.token_dim, fix))
        if without_tokens is not None:
            tokens = torch.where(without_tokens.view(-1, 1, 1), self._null("null_tokens"), tokens)
        if not self.participant_cond:
            return tokens
        if partner is None:
            other = self._null("null_partner").expand(*tokens.shape[:2], -1)
        else:
            other = self._join_partner(partner, tokens.shape[1])
            if without_partner is not None:
                other = torch.where(without_partner.view(-1, 1, 1), self._null("null_partner"), other)
        return torch.cat((tokens, other), dim=-1)

    def _null(self, name: str) -> Tensor:
        if not self.condition_drop:
            fix = "train with model_conf.condition_drop above 0, or give all conditions and no guidance"
            usage_error("the model was not trained without conditions", name, fix=fix)
        return getattr(self, name)

    def _join_partner(self, partner: Mapping[str, Tensor], length: int) -> Tensor:
        missing = [name for name in PARTNER_STREAMS if partner.get(name) is None]
        if missing:
            raise DataError(describe("the partner is incomplete", got=f"no {missing}", allowed=list(PARTNER_STREAMS)))
        for name, dim in PARTNER_STREAMS.items():
            if partner[name].shape[1:] != (length, dim):
                found = tuple(partner[name].shape)
                fix = "cut or pad the partner to the actor's frames"
                raise DataError(describe(f"wrong shape of {name}", found, f"(B, {length}, {dim})", fix))
        tokens = partner["other_tokens"]
        seen = torch.cat((partner["other_expression"], partner["other_head"]), dim=-1)
        spread = self.partner_max - self.partner_min
        scaled = torch.where(spread > 0, 2 * (seen - self.partner_min) / spread.clamp_min(1e-12) - 1, 0.0)
        return torch.cat((tokens, scaled.clamp(-PARTNER_CLIP, PARTNER_CLIP)), dim=-1)

    # ---------------------------------------------------------------- training

    def forward(
        self,
        mel: Tensor,
        face: Tensor,
        head: Tensor,
        tokens: Tensor,
        lengths: Tensor | None = None,
        valid: Tensor | None = None,
        other_tokens: Tensor | None = None,
        other_expression: Tensor | None = None,
        other_head: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of a batch and its terms.

        In training, time and noise are drawn; in evaluation times are spread evenly and the noise is always the same,
        so that two epochs can be compared: ``loss_t1`` is the loss of the earliest times.

        Args:
            mel, face, head, tokens: The streams of the table above, ``(B, T, ...)``.
            lengths: Frames of each, ``(B,)``; None: all ``T``.
            valid: True where the face was seen, ``(B, T)``; None: everywhere.
            other_tokens, other_expression, other_head: The partner.
        """
        mask = None
        if lengths is not None and bool((lengths < mel.shape[1]).any()):
            mask = torch.arange(mel.shape[1], device=mel.device) < lengths.to(mel.device).unsqueeze(1)
        x1 = self.encode(face, head, mel, mask)
        given = {"other_tokens": other_tokens, "other_expression": other_expression, "other_head": other_head}
        partner = {name: each for name, each in given.items() if each is not None} if self.participant_cond else None
        valid = None if valid is None else valid.bool()
        if self.training:
            step = self._train_step(x1, tokens, partner, mask, valid)
            stats = {"loss": step.loss, **{f"loss_{name}": term for name, term in step.terms.items()}}
            return step.loss, {name: value.detach() for name, value in stats.items()}
        return self._validate(x1, self.condition(tokens, partner), mask, valid)

    def _train_step(
        self,
        x1: Tensor,
        tokens: Tensor,
        partner: Mapping[str, Tensor] | None,
        mask: Tensor | None,
        valid: Tensor | None,
    ) -> FlowStep:
        batch, length, _ = x1.shape
        t = sample_time(batch, x1.device, self.time_distribution)
        drop = {}
        if self.condition_drop:
            nothing = torch.rand(batch, device=x1.device) < self.condition_drop
            alone = torch.rand(batch, device=x1.device) < self.condition_drop
            drop = {"without_tokens": nothing, "without_partner": nothing | alone}
        known = None
        if self.prefix_prob:
            told = torch.rand(batch, device=x1.device) < self.prefix_prob
            most = min(self.prefix_max, length - 1)
            frames = torch.randint(0, most + 1, (batch,), device=x1.device) * told
            known = torch.arange(length, device=x1.device) < frames.unsqueeze(1)
        condition = self.condition(tokens, partner, **drop)
        return self.flow_step(x1, torch.randn_like(x1), t, condition, mask=mask, valid=valid, known=known)

    def _validate(
        self, x1: Tensor, condition: Tensor, mask: Tensor | None, valid: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        batch, length, dim = x1.shape
        x0 = self.valid_noise.batch(0, length, dim, batch).to(x1)
        steps = []
        for index in range(self.valid_times):
            t = torch.full((batch,), (index + 0.5) / self.valid_times, device=x1.device)
            steps.append(self.flow_step(x1, x0, t, condition, mask=mask, valid=valid))
        loss = torch.stack([step.loss for step in steps]).mean()
        stats = {"loss": loss}
        for name in steps[0].terms:
            stats[f"loss_{name}"] = torch.stack([step.terms[name] for step in steps]).mean()
        stats |= {f"loss_t{number}": step.loss for number, step in enumerate(steps, 1)}
        return loss, {name: value.detach() for name, value in stats.items()}

    def flow_step(
        self,
        x1: Tensor,
        x0: Tensor,
        t: Tensor,
        condition: Tensor,
        *,
        mask: Tensor | None = None,
        valid: Tensor | None = None,
        known: Tensor | None = None,
    ) -> FlowStep:
        """Evaluate the objective at given times with given noise.

        Args:
            x1: Standardised frames, ``(B, T, D)``.
            x0: Noise.
            t: Times, ``(B,)``.
            condition: Result of :meth:`condition`.
            mask: False for padding, ``(B, T)``.
            valid: False where the face was not seen, ``(B, T)``; face and head do not count there.
            known: True for frames that the network is told, ``(B, T)``; they do not count.
        """
        flow = self.flows["mel"]
        velocity = self.network(flow.path(x0, x1, t), t, condition, mask=mask, clean=x1, known=known)
        data = flow.data_from_velocity(velocity, x0)
        counted = mask
        if known is not None:
            counted = ~known if counted is None else counted & ~known
        seen = counted if valid is None else valid if counted is None else counted & valid
        sizes = list(self.dims.values())
        terms = {}
        parts = zip(self.dims, *(each.split(sizes, dim=-1) for each in (velocity, x0, x1)), strict=True)
        for name, v, noise, target in parts:
            terms[name] = self.flows[name].loss(v, noise, target, counted if name == "mel" else seen)
        num_visual = sizes[0] + sizes[1]
        if self.weights["motion"]:
            terms["motion"] = self._motion_error(data[..., :num_visual], x1[..., :num_visual], seen)
        if self.weights["mouth"]:
            terms["mouth"] = self._mouth_error(data[..., : sizes[0]] - x1[..., : sizes[0]], seen)
        loss = functools.reduce(operator.add, (self.weights[name] * term for name, term in terms.items()))
        return FlowStep(loss, terms, velocity, data)

    @staticmethod
    def _motion_error(data: Tensor, x1: Tensor, seen: Tensor | None) -> Tensor:
        both = None if seen is None else seen[:, 1:] & seen[:, :-1]
        return masked_mean((data.diff(dim=1) - x1.diff(dim=1)).abs(), both)

    def _mouth_error(self, difference: Tensor, seen: Tensor | None) -> Tensor:
        """Return the mean error of the mouth opening in standard deviations."""
        direction = self.mouth_direction * self.face_std
        spread = direction.norm()
        if not spread > 0:
            fix = "store the statistic mouth_direction (stage 4), or set model_conf.mouth_weight: 0"
            raise UsageError(describe("the mouth opening of this data is not known", fix=fix))
        return masked_mean((difference @ (direction / spread)).abs().unsqueeze(-1), seen)

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
        """Return the velocity of frames ``(B, T, D)``.

        Args:
            x: Noisy frames.
            t: Times, ``(B,)``.
            condition: ``(B, T, C)``.
            mask: False for padding, ``(B, T)``.
            clean: Finished frames ``(B, T, D)``, of which ``known`` tells the network some.
            known: True for those, ``(B, T)``; None: none.
            memory: With what the layers remember of the frames before these.
        """
        num_visual = self.transformer.visual_dim
        extra = {}
        if self.prefix_prob:
            told = x.new_zeros(x.shape[:2]) if known is None else known.to(x.dtype)
            told = told.unsqueeze(-1)
            shown = torch.zeros_like(x) if known is None or clean is None else clean * told
            extra["visual_extra"] = torch.cat((shown[..., :num_visual], told), dim=-1)
            extra["audio_extra"] = torch.cat((shown[..., num_visual:], told), dim=-1)
        visual, audio = self.transformer(
            x[..., :num_visual], x[..., num_visual:], t, condition, mask, memory=memory, **extra
        )
        return torch.cat((visual, audio), dim=-1)


def _build_head_vae(in_dim: int, latent: int, conf: Mapping[str, Any]) -> "HeadVAE":
    from espnet_av.avgen.head_vae import HeadVAE

    vae = HeadVAE(in_dim=in_dim, latent=latent, **conf)
    return vae.requires_grad_(False).eval()


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the generator out of those of a training, where they lie below ``avgen.``.

    Raises:
        CheckpointError: There are none.
    """
    found = {name.removeprefix("avgen."): each for name, each in state.items() if name.startswith("avgen.")}
    found = found or dict(state)
    if not any(name.startswith("transformer.") for name in found):
        raise CheckpointError(describe("no generator", got=sorted(state)[:3], allowed="names below transformer."))
    return found

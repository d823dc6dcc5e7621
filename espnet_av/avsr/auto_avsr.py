# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""auto_avsr: a conformer over the lips, one over the waveform, both fused per video frame.

Ma et al., "Auto-AVSR: Audio-Visual Speech Recognition with Automatic Labels" (ICASSP 2023), figure 1. Either half alone
is their audio-only or video-only recogniser. CTC layer, decoder and losses are those of
:class:`~espnet_av.avsr.model.AVSRModel`.

Axes: ``B`` batch, ``N`` samples at 16 kHz, ``T`` video frames (25 Hz), ``D`` width. Masks are True on valid frames.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avsr.conformer import Conformer
from espnet_av.avsr.encoder import MODALITIES
from espnet_av.avsr.model import AVSRModel, AVSROutput
from espnet_av.avsr.resnet import SAMPLES_PER_FRAME, AudioResNet, norm_valid
from espnet_av.layers.lip_trunk import LipResNet
from espnet_av.utils.errors import usage_error


class WaveformRows(nn.Module):
    """Waveform -> the samples of each video frame, normalised over the whole clip. Holds no parameters.

    Args:
        eps: Added to the variance.
    """

    def __init__(self, *, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.samples_per_row = SAMPLES_PER_FRAME
        self.output_size = SAMPLES_PER_FRAME

    @torch.no_grad()
    def forward(self, wave: Tensor, wave_lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compute the model's audio input.

        Args:
            wave: ``(B, N)`` samples in [-1, 1].
            wave_lengths: ``(B,)`` valid samples, all of them when left out.

        Returns:
            ``(B, 640, T)`` float32, zero beyond the valid samples, and ``(B,)`` row counts.

        Raises:
            UsageError: The waveform is not a batch of mono signals, or is empty.
        """
        if wave.dim() != 2 or wave.shape[1] == 0:
            usage_error("audio must be a batch of mono signals (B, N) with N > 0", got=tuple(wave.shape))
        if wave_lengths is None:
            wave_lengths = torch.full((wave.shape[0],), wave.shape[1], device=wave.device)
        lengths = wave_lengths.to(wave.device).unsqueeze(1)
        valid = torch.arange(wave.shape[1], device=wave.device) < lengths
        compute = torch.float32 if wave.device.type == "mps" else torch.float64  # sums that padding does not change
        wave = wave.to(compute).masked_fill(~valid, 0.0)
        centred = (wave - wave.sum(dim=1, keepdim=True) / lengths).masked_fill(~valid, 0.0)
        variance = centred.square().sum(dim=1, keepdim=True) / lengths
        wave = (centred * (variance + self.eps).rsqrt()).float()
        wave = F.pad(wave, (0, -wave.shape[1] % self.samples_per_row))
        counts = torch.div(lengths.squeeze(1) + self.samples_per_row - 1, self.samples_per_row, rounding_mode="floor")
        return wave.unflatten(1, (-1, self.samples_per_row)).transpose(1, 2), counts  # (B, N) -> (B, 640, T)


class LipStream(LipResNet):
    """The lip ResNet-18 of the video branch, over the valid frames of a padded batch."""

    def forward(self, video: Tensor, valid: Tensor | None = None) -> Tensor:
        """``(B, 1, T, H, W)`` and the optional ``(B, T)`` mask -> ``(B, T, output_size)``, zero outside the mask."""
        frames = video.squeeze(1)  # (B, T, H, W)
        features = super().forward(frames, valid)
        if valid is None:
            return features.unflatten(0, frames.shape[:2])
        out = features.new_zeros(*frames.shape[:2], features.shape[-1])
        out[valid] = features
        return out


class Fusion(nn.Module):
    """Both streams -> one: linear, batch norm, ReLU, linear.

    Args:
        input_dim: Width of both streams together.
        hidden_dim: Inner width.
        output_dim: Width of the result.
    """

    def __init__(self, input_dim: int, hidden_dim: int, output_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(input_dim, hidden_dim)
        self.bn1 = nn.BatchNorm1d(hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, output_dim)

    def forward(self, video: Tensor, audio: Tensor, mask: Tensor | None = None) -> Tensor:
        """``(B, T, D)`` each and the optional ``(B, T)`` mask -> ``(B, T, output_dim)``."""
        x = self.fc1(torch.cat([video, audio], dim=-1)).transpose(1, 2)  # (B, T, D) -> (B, D, T)
        return self.fc2(F.relu(norm_valid(self.bn1, x, mask)).transpose(1, 2))


class AutoAVSREncoder(nn.Module):
    """Waveform rows and mouth video -> one vector per video frame.

    Takes and gives what :class:`~espnet_av.avsr.encoder.AVHubertEncoder` does, except that audio is waveform. Keywords
    of the conformers hold for both; ``audio_conf`` holds what differs in the audio branch.

    Args:
        modality: ``av`` builds both branches and the fusion, ``audio`` or ``video`` that branch alone.
        dim: Width ``D`` of the result and of the conformers.
        fusion_dim: Inner width of the fusion.
        audio_conf: Keywords of the audio branch's :class:`~espnet_av.avsr.conformer.Conformer` that differ.
        stem_channels: Channels after the lip stem.
        resnet_planes: Channels of the four stages of the lip ResNet.
        resnet_activation: ``swish``, ``prelu`` or ``relu``, of the lip ResNet.
        video_pool: Average pooling of the frames before the lip stem (1: off).
        audio_channels: Channels of the first convolution over the waveform.
        audio_planes: Channels of the four stages of the audio ResNet.
        modality_dropout: Probability that a training batch loses one stream; 0 as published.
        audio_dropout: Which one: audio with this probability, else video.
        reference_compat: Let padded frames into convolutions and batch-norm statistics, as the reference does. A
            padded batch then differs from its clips alone, in evaluation too.
        **conformer: Further keywords of :class:`~espnet_av.avsr.conformer.Conformer`.

    Raises:
        UsageError: An unknown modality, or sizes that do not fit together.
    """

    def __init__(
        self,
        *,
        modality: str = "av",
        dim: int = 768,
        fusion_dim: int = 8192,
        audio_conf: dict[str, Any] | None = None,
        stem_channels: int = 64,
        resnet_planes: Sequence[int] = (64, 128, 256, 512),
        resnet_activation: str = "swish",
        video_pool: int = 1,
        audio_channels: int = 64,
        audio_planes: Sequence[int] = (64, 128, 256, 512),
        modality_dropout: float = 0.0,
        audio_dropout: float = 0.5,
        reference_compat: bool = False,
        **conformer: Any,
    ) -> None:
        super().__init__()
        if modality not in MODALITIES:
            usage_error("unknown modality", got=modality, allowed=MODALITIES)
        self.modality = modality
        self.modalities = MODALITIES if modality == "av" else (modality,)
        self.modality_dropout = modality_dropout
        self.audio_dropout = audio_dropout
        self.reference_compat = reference_compat
        self.modality_generator: torch.Generator | None = None
        conformer.update(dim=dim, reference_compat=reference_compat)
        self.video: Conformer | None = None
        self.audio: Conformer | None = None
        self.fusion: Fusion | None = None
        widths = {}
        if modality != "audio":
            lips = LipStream(
                stem_channels=stem_channels, planes=resnet_planes, activation=resnet_activation, video_pool=video_pool
            )
            self.video = Conformer(lips, **conformer)
            widths["video"] = self.video.dim
        if modality != "video":
            waves = AudioResNet(channels=audio_channels, planes=audio_planes)
            self.audio = Conformer(waves, **{**conformer, **(audio_conf or {})})
            widths["audio"] = self.audio.dim
        if modality == "av":
            self.fusion = Fusion(sum(widths.values()), fusion_dim, dim)
        self.output_size = widths["audio" if modality == "audio" else "video"]

    def forward(
        self, audio: Tensor | None, video: Tensor | None, mask: Tensor | None = None, *, modality: str | None = None
    ) -> Tensor:
        """Encode a batch.

        Args:
            audio: ``(B, 640, T)`` normalised samples, zero outside the mask; None where the modality is ``video``.
            video: ``(B, 1, T, 88, 88)`` normalised gray frames, likewise; None where the modality is ``audio``.
            mask: ``(B, T)`` bool, True = valid frame. None: all frames are valid.
            modality: ``av``, ``audio`` or ``video``; None takes that of the constructor. A network with both branches
                gets zeros for the one that is left out.

        Returns:
            ``(B, T, D)``; frames outside the mask hold no meaning.

        Raises:
            UsageError: A modality that the network does not have, or a stream it needs is missing.
        """
        modality = self.modality if modality is None else modality
        if modality not in self.modalities:
            usage_error("the network does not have this modality", got=modality, allowed=self.modalities)
        if mask is not None and bool(mask.all()):
            mask = None  # nothing is padded: no need to pick valid frames
        use_audio, use_video = self._draw_used_streams(modality, audio, video)
        seen = self.video(video, mask) if use_video and self.video is not None else None
        heard = self.audio(audio, mask) if use_audio and self.audio is not None else None
        like = next(output for output in (seen, heard) if output is not None)
        if self.video is None or self.audio is None or self.fusion is None:
            return like
        seen = self._absent(self.video, like) if seen is None else seen
        heard = self._absent(self.audio, like) if heard is None else heard
        return self.fusion(seen, heard, None if self.reference_compat else mask)

    def _draw_used_streams(self, modality: str, audio: Tensor | None, video: Tensor | None) -> tuple[bool, bool]:
        used = [modality != "video", modality != "audio"]
        for name, wanted, stream in zip(("audio", "video"), used, (audio, video), strict=True):
            if wanted and stream is None:
                usage_error(f"modality '{modality}' needs the {name} stream, which is missing", fix="pass both streams")
        if self.training and modality == "av" and self.modality_dropout > 0:
            drop, which = torch.rand(2, generator=self.modality_generator).tolist()
            if drop < self.modality_dropout:
                used[0 if which < self.audio_dropout else 1] = False
        return used[0], used[1]

    def _absent(self, branch: Conformer, like: Tensor) -> Tensor:
        zeros = like.new_zeros(*like.shape[:2], branch.dim)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        if self.training and distributed:  # every rank must report a gradient for every parameter
            zeros = zeros + 0.0 * sum(p.sum() for p in branch.parameters())
        return zeros


class AutoAVSRModel(AVSRModel):
    """auto_avsr with CTC and attention decoder. The defaults are the published 444.0 M parameter model's.

    Args:
        vocab_size: ``V``: blank (id 0), tokens, and ``<eos>`` = ``<sos>`` as the last id.
        encoder_conf: Keywords of :class:`AutoAVSREncoder`; ``modality: audio`` or ``video`` gives the smaller models.
        decoder_conf: Keywords of :class:`~espnet_av.avsr.decoder.TransformerDecoder`; ``dim`` is the encoder's unless
            given (another width gets a linear bridge), with 12 heads.
        ctc_weight: Share of the CTC loss, 0 to 1.
        label_smoothing: Probability mass spread over wrong tokens.
        video_size: Side in pixels of the square in the middle of the mouth crops that the network sees, 88 at most.
        length_normalized_loss: Divide the decoder loss by tokens instead of utterances.
        ctc_dropout: Dropout before the CTC layer.
        blank_id: Id of the CTC blank.
        ignore_id: Padding of labels.

    Raises:
        UsageError: A weight out of range, or sizes that do not fit together.
    """

    encoder_class: ClassVar[type[nn.Module]] = AutoAVSREncoder
    features_class: ClassVar[type[nn.Module]] = WaveformRows
    decoder_defaults: ClassVar[Mapping[str, Any]] = {"num_heads": 12}

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the network can be asked for, its own first."""
        return self.encoder.modalities

    def forward(
        self,
        audio: Tensor | None,
        video: Tensor | None,
        lengths: Tensor,
        labels: Tensor,
        *,
        modality: str | None = None,
    ) -> AVSROutput:
        """Compute the training loss.

        Args:
            audio: ``(B, 640, T)`` waveform rows, or None.
            video: ``(B, 1, T, 88, 88)`` normalised frames, or None.
            lengths: ``(B,)`` valid frames.
            labels: ``(B, L)`` int64, padded at the end with ``ignore_id``.
            modality: ``av``, ``audio`` or ``video``; None: the network's own.
        """
        encoded, mask = self.encode(audio, video, lengths, modality=modality)
        return self.compute_loss(encoded, mask, lengths, labels)

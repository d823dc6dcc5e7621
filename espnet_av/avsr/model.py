# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio-visual speech recognition with AV-HuBERT and a joint CTC/attention decoder (AVSRCocktail).

Nguyen et al., "Cocktail-Party Audio-Visual Speech Recognition" (arXiv 2506.02178): the encoder feeds a CTC layer and a
transformer decoder; the loss is ``ctc_weight * CTC + (1 - ctc_weight) * attention``. The keys of the state dict are
those of the published checkpoint without its leading ``avsr.``.

Axes: ``B`` batch, ``N`` samples, ``T`` video frames (25 Hz), ``D`` width, ``L`` labels, ``V`` vocabulary.
"""

import functools
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from espnet_av.avsr.ctc import CTC
from espnet_av.avsr.decoder import TransformerDecoder
from espnet_av.avsr.encoder import AVHubertEncoder
from espnet_av.avsr.features import LogFbankStack
from espnet_av.avsr.losses import add_sos_eos, label_smoothing_loss, token_accuracy
from espnet_av.data import mouth_pixels
from espnet_av.utils.errors import usage_error


@dataclass(frozen=True)
class AVSROutput:
    """What a training step gives.

    Attributes:
        loss: Weighted sum of both losses, lower is better.
        loss_ctc: CTC loss in nats per utterance, detached; None where its weight is 0.
        loss_att: Label-smoothed decoder loss in nats per utterance, detached; None where its weight is 0.
        acc: Teacher-forced token accuracy, 0 to 1; None without decoder loss.
        encoded: Encoder output ``(B, T, D)``.
        loss_audio: Mean squared error of the audio that the lips predict, detached; None where it was not computed.
    """

    loss: Tensor
    loss_ctc: Tensor | None
    loss_att: Tensor | None
    acc: Tensor | None
    encoded: Tensor
    loss_audio: Tensor | None = None


class AudioPrediction(nn.Module):
    """Predict the audio row of a frame from the lips alone: a frame by frame task that teaches the lip network early.

    A prediction task from intermediate features as in Ma, Petridis and Pantic, "Visual speech recognition for multiple
    languages in the wild" (Nature Machine Intelligence 2022), here of the normalised filterbank rows themselves.
    """

    def __init__(self, dim: int, audio_dim: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, audio_dim)

    def forward(self, lips: Tensor, audio: Tensor, mask: Tensor) -> Tensor:
        """Lip features ``(B, T, D)``, audio rows ``(B, C, T)``, valid frames ``(B, T)`` -> mean squared error."""
        error = (self.proj(lips) - audio.transpose(1, 2)).square().mean(dim=-1)
        return error[mask].mean()


class AVSRModel(nn.Module):
    """Encoder, CTC and attention decoder. The defaults are the published 428.8 M parameter model's.

    Args:
        vocab_size: ``V``: blank (id 0), tokens, and ``<eos>`` = ``<sos>`` as the last id.
        encoder_conf: Keywords of :class:`~espnet_av.avsr.encoder.AVHubertEncoder`.
        decoder_conf: Keywords of :class:`~espnet_av.avsr.decoder.TransformerDecoder`; ``dim`` is the encoder's
            unless given, and another width gets a linear bridge.
        ctc_weight: Share of the CTC loss, 0 to 1.
        label_smoothing: Probability mass spread over wrong tokens.
        video_size: Side in pixels of the square in the middle of the mouth crops that the network sees, 88 at most.
        audio_prediction_weight: Weight of the error of :class:`AudioPrediction` in the loss of batches that hold both
            streams and use the lips. 0, as published, leaves its layer out. Networks that learn to read lips from few
            clips gain most; with summed losses of some ten nats per utterance 5 is a good weight.
        length_normalized_loss: Divide the decoder loss by tokens instead of utterances.
        ctc_dropout: Dropout before the CTC layer.
        blank_id: Id of the CTC blank.
        ignore_id: Padding of labels.

    Raises:
        UsageError: A weight out of range, or sizes that do not fit together.
    """

    encoder_class: ClassVar[type[Any]] = AVHubertEncoder  # a module with output_size
    features_class: ClassVar[type[Any]] = LogFbankStack  # a module with samples_per_row
    decoder_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(
        self,
        vocab_size: int = 5049,
        *,
        encoder_conf: dict[str, Any] | None = None,
        decoder_conf: dict[str, Any] | None = None,
        ctc_weight: float = 0.1,
        label_smoothing: float = 0.1,
        length_normalized_loss: bool = False,
        ctc_dropout: float = 0.1,
        blank_id: int = 0,
        ignore_id: int = -1,
        video_size: int = mouth_pixels.CROP_SIZE,
        audio_prediction_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0.0 <= ctc_weight <= 1.0:
            usage_error("ctc_weight is out of range", got=ctc_weight, allowed="0 to 1")
        if vocab_size < 3:
            usage_error("the vocabulary needs blank, <eos> and a token", got=vocab_size, allowed="3 or more")
        if not 16 <= video_size <= mouth_pixels.CROP_SIZE:
            usage_error("video_size is out of range", got=video_size, allowed=f"16 to {mouth_pixels.CROP_SIZE}")
        if audio_prediction_weight < 0:
            usage_error("audio_prediction_weight is out of range", got=audio_prediction_weight, allowed="0 or more")
        self.vocab_size = vocab_size
        self.video_size = video_size
        self.sos = self.eos = vocab_size - 1
        self.blank_id = blank_id
        self.ignore_id = ignore_id
        self.ctc_weight = ctc_weight
        self.label_smoothing = label_smoothing
        self.length_normalized_loss = length_normalized_loss

        self.encoder = self.encoder_class(**(encoder_conf or {}))
        decoder_conf = {"dim": self.encoder.output_size, **self.decoder_defaults, **(decoder_conf or {})}
        self.decoder = TransformerDecoder(vocab_size, **decoder_conf)
        self.ctc = CTC(vocab_size, self.encoder.output_size, dropout=ctc_dropout, blank=blank_id)
        self.bridge = None
        if self.decoder.dim != self.encoder.output_size:
            self.bridge = nn.Linear(self.encoder.output_size, self.decoder.dim)
        self.audio_prediction_weight = audio_prediction_weight
        self.audio_prediction = None
        if audio_prediction_weight > 0:
            if not hasattr(self.encoder, "front_ends"):
                usage_error("this encoder has no lips to predict audio from", got=audio_prediction_weight, allowed=[0])
            self.audio_prediction = AudioPrediction(self.encoder.output_size, self.encoder.audio_dim)
        self.features = self.features_class()
        self._init_linear_layers()

    @classmethod
    def from_config(cls, **kwargs: Any) -> "AVSRModel":
        """Build from the keywords of the constructor, as a configuration file holds them."""
        return cls(**kwargs)

    def _init_linear_layers(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:  # the map of relative positions has none
                    nn.init.zeros_(module.bias)

    @staticmethod
    def valid_mask(lengths: Tensor, size: int) -> Tensor:
        """``(B,)`` lengths -> bool ``(B, size)``, True = valid."""
        return torch.arange(size, device=lengths.device) < lengths.unsqueeze(1)

    @torch.no_grad()
    def prepare_inputs(
        self,
        speech: Tensor | None,
        speech_lengths: Tensor | None,
        video: Tensor | None,
        video_lengths: Tensor | None,
    ) -> tuple[Tensor | None, Tensor | None, Tensor]:
        """Turn what the loader gives into what the encoder takes, on the device of the input.

        Args:
            speech: ``(B, N)`` float samples in [-1, 1] at 16 kHz, or None.
            speech_lengths: ``(B,)`` valid samples; None: all.
            video: ``(B, T, H, W)`` uint8 gray mouth crops, at least ``video_size`` wide and high (cut in the
                centre), or None.
            video_lengths: ``(B,)`` valid frames; None: all.

        Returns:
            Audio rows ``(B, 104, T)`` or None, normalised video ``(B, 1, T, S, S)`` (S: ``video_size``) or None, and
            lengths ``(B,)`` in video frames. Audio is cut or zero-padded at the end to 640 samples per frame; padding
            is zero in both.

        Raises:
            UsageError: Neither stream is given, or a stream has a wrong shape or type.
        """
        frames, lengths = None, video_lengths
        if video is not None:
            frames, lengths = self._video_frames(video, video_lengths)
            if speech is None:
                return None, frames, lengths
        elif speech is None:
            usage_error("neither audio nor video was given", fix="pass at least one stream")
        if speech_lengths is None:
            speech_lengths = torch.full((speech.shape[0],), speech.shape[1], device=speech.device)
        if lengths is None:
            per_row = self.features.samples_per_row
            lengths = torch.div(speech_lengths + per_row - 1, per_row, rounding_mode="floor")
        num_frames = int(lengths.max()) if frames is None else frames.shape[2]
        return self._audio_rows(speech, speech_lengths, lengths.to(speech.device), num_frames), frames, lengths

    def _video_frames(self, video: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor]:
        if video.dim() != 4 or video.dtype != torch.uint8:
            usage_error("video must be uint8 gray (B, T, H, W)", got=(video.dtype, tuple(video.shape)))
        if lengths is None:
            lengths = torch.full((video.shape[0],), video.shape[1], device=video.device)
        outside = ~self.valid_mask(lengths.to(video.device), video.shape[1])
        frames = mouth_pixels.normalize(mouth_pixels.center_crop(video, self.video_size))
        frames.masked_fill_(outside[:, :, None, None], 0.0)
        return frames.unsqueeze(1), lengths  # (B, T, 88, 88) -> (B, 1, T, 88, 88)

    def _audio_rows(self, speech: Tensor, speech_lengths: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        per_row = self.features.samples_per_row
        speech = speech.float().masked_fill(~self.valid_mask(speech_lengths.to(speech.device), speech.shape[1]), 0.0)
        wanted = num_frames * per_row
        speech = F.pad(speech, (0, max(0, wanted - speech.shape[1])))[:, :wanted]
        rows, _ = self.features(speech, lengths * per_row)
        return rows[:, :, :num_frames]

    def encode(
        self, audio: Tensor | None, video: Tensor | None, lengths: Tensor, *, modality: str | None = None
    ) -> tuple[Tensor, Tensor]:
        """Encode prepared inputs.

        Args:
            audio: ``(B, 104, T)`` or None.
            video: ``(B, 1, T, 88, 88)`` or None.
            lengths: ``(B,)`` valid frames.
            modality: ``av``, ``audio`` or ``video``; None: the encoder's own.

        Returns:
            ``(B, T, D)`` and the ``(B, T)`` mask, True = valid.
        """
        mask = self._frame_mask(audio, video, lengths)
        return self.encoder(audio, video, mask, modality=modality), mask

    def _frame_mask(self, audio: Tensor | None, video: Tensor | None, lengths: Tensor) -> Tensor:
        sizes = tuple(stream.shape[2] for stream in (audio, video) if stream is not None)
        if len(set(sizes)) > 1:
            usage_error("audio and video differ in length", got=sizes, allowed="equal frame counts")
        return self.valid_mask(lengths, sizes[0])

    def decoder_memory(self, encoded: Tensor) -> Tensor:
        """Bring the encoder output to the decoder's width: ``(B, T, D)`` -> ``(B, T, D')``."""
        return encoded if self.bridge is None else self.bridge(encoded)

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
            audio: ``(B, 104, T)`` stacked filterbank rows, or None.
            video: ``(B, 1, T, 88, 88)`` normalised frames, or None.
            lengths: ``(B,)`` valid frames.
            labels: ``(B, L)`` int64, padded at the end with ``ignore_id``.
            modality: ``av``, ``audio`` or ``video``; None: the encoder's own.
        """
        mask = self._frame_mask(audio, video, lengths)
        features = self.encoder.front_ends(audio, video, mask, modality=modality)
        encoded = self.encoder.encoder(self.encoder.fuse(features.audio, features.video, mask), mask)
        output = self.compute_loss(encoded, mask, lengths, labels)
        if self.audio_prediction is None or audio is None or not features.video_used:
            return output
        loss_audio = self.audio_prediction(features.video, audio, mask)
        loss = output.loss + self.audio_prediction_weight * loss_audio
        return replace(output, loss=loss, loss_audio=loss_audio.detach())

    def compute_loss(self, encoded: Tensor, mask: Tensor | None, lengths: Tensor, labels: Tensor) -> AVSROutput:
        """Compute both losses from the encoder output; arguments as in :meth:`forward` and :meth:`encode`."""
        label_lengths = (labels != self.ignore_id).sum(dim=1)
        loss_ctc = loss_att = acc = None
        if self.ctc_weight > 0:
            loss_ctc = self.ctc(encoded, lengths, labels, label_lengths)
        if self.ctc_weight < 1:
            inputs, targets = add_sos_eos(labels, self.sos, self.eos, self.ignore_id)
            logits = self.decoder(self.decoder_memory(encoded), mask, inputs, label_lengths + 1)
            loss_att = label_smoothing_loss(
                logits,
                targets,
                smoothing=self.label_smoothing,
                ignore_id=self.ignore_id,
                normalize_length=self.length_normalized_loss,
            )
            acc = token_accuracy(logits, targets, ignore_id=self.ignore_id)
        parts = ((self.ctc_weight, loss_ctc), (1 - self.ctc_weight, loss_att))
        loss = functools.reduce(operator.add, (weight * part for weight, part in parts if part is not None))
        detached_ctc, detached_att = (None if part is None else part.detach() for part in (loss_ctc, loss_att))
        return AVSROutput(loss, detached_ctc, detached_att, acc, encoded)

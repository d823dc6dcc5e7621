# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Vocoders as an ESPnet task: chunks of sound, two turns a batch, as the codec's training has them.

Data, plan of the chunks and schedules are those of :class:`~espnet_av.tasks.codec.CodecTask`; mel spectrograms are
computed on the way.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espnet_av import _espnet
from espnet_av.avgen.mel import MelConfig
from espnet_av.avgen.vocoder_choices import (
    DEFAULT_MODEL,
    MODEL_CLASSES,
    MODEL_GROUP,
    build_generator,
    complete_conf,
)
from espnet_av.registry import LazyChoices
from espnet_av.tasks.codec import CodecTask
from espnet_av.tasks.parser import AVArgumentParser
from espnet_av.train.loading import load_into, load_weights
from espnet_av.utils.config import NestedDictAction, does_not_fit
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av._espnet import AbsESPnetModel
    from espnet_av.avgen.vocoder_model import VocoderModel

CHUNK_LENGTH = 8192  # 32 frames, 0.37 s, as HiFi-GAN was published
model_choices = LazyChoices(MODEL_GROUP, MODEL_CLASSES, name="model", default=DEFAULT_MODEL)


class ESPnetVocoderModel(_espnet.AbsESPnetModel):
    """Puts vocoder, discriminator and losses behind ESPnet's model interface; weights lie below ``vocoder.``.

    Args:
        vocoder: :class:`~espnet_av.avgen.vocoder_model.VocoderModel`.
    """

    def __init__(self, vocoder: "VocoderModel") -> None:
        super().__init__()
        self.vocoder = vocoder

    def forward(self, audio: torch.Tensor, audio_lengths: torch.Tensor, **batch: Any) -> dict[str, Any]:
        """Return ``loss``, ``stats``, ``weight`` and ``optim_idx`` of a turn.

        Args:
            audio: Sound in [-1, 1], (B, N).
            audio_lengths: Samples of each, (B,).
            **batch: Whose turn it is.
        """
        return self.vocoder(audio, audio_lengths, **batch)

    def clear_cache(self) -> None:
        """Forget what the first turn of a batch has left."""
        self.vocoder.clear_cache()

    def collect_feats(self, audio: torch.Tensor, audio_lengths: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Return the waveform as the feature; nothing is normalised with statistics of a corpus."""
        return {"feats": audio, "feats_lengths": audio_lengths}


class AVGenVocoderTask(CodecTask):
    """Train a vocoder against a discriminator."""

    class_choices_list = [model_choices]

    @classmethod
    def get_parser(cls) -> AVArgumentParser:
        """Return the parser of the training options."""
        parser = super().get_parser()
        parser.set_defaults(chunk_length=CHUNK_LENGTH)
        return parser

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("vocoder")
        options = {
            "mel_conf": "settings of the mel spectrogram (espnet_av/avgen/mel.py: MelConfig)",
            "loss_conf": "weights of the losses and their settings (espnet_av/avgen/vocoder_model.py: VocoderModel)",
            "discriminator_conf": "keywords of the discriminator",
        }
        for name, about in options.items():
            group.add_argument(f"--{name}", action=NestedDictAction, default={}, help=about)
        group.add_argument(
            "--discriminator", choices=("stft", "hifigan"), default="stft", help="stft: light; hifigan: as published"
        )
        group.add_argument(
            "--valid_max_chunks", type=int, default=0, help="most chunks of a validation, spread evenly; 0: all"
        )
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Write out the sizes of a preset and the spectrogram, so that ``config.yaml`` stands alone.

        Raises:
            UsageError: An unknown preset or setting, or chunks that are not whole frames.
        """
        args.model_conf = complete_conf(args.model, args.model_conf)
        mel_config = cls.mel_config(args)
        args.mel_conf = mel_config.to_dict()
        length = str(args.chunk_length)
        if not length.isdigit() or int(length) < mel_config.n_fft or int(length) % mel_config.hop_length:
            allowed = f"one number, a multiple of {mel_config.hop_length}, {mel_config.n_fft} or more"
            usage_error("chunk_length does not fit the mel spectrogram", args.chunk_length, allowed)
        if args.collect_stats:
            usage_error("a vocoder needs no statistics of the data", "--collect_stats true", fix="leave it out")

    @classmethod
    def mel_config(cls, args: argparse.Namespace) -> MelConfig:
        """Return the spectrogram of ``mel_conf``.

        Raises:
            UsageError: A setting is unknown or out of range.
        """
        try:
            return MelConfig(**args.mel_conf)
        except TypeError as error:
            raise does_not_fit(error, "mel_conf", args.mel_conf) from error

    @classmethod
    def sample_rate(cls, args: argparse.Namespace) -> int:
        """Return the sample rate of the sound in Hz."""
        return cls.mel_config(args).sample_rate

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable | None:
        """Return None: chunks are used as they are."""
        return None

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given beside the sound: none."""
        return ()

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetVocoderModel:
        """Build vocoder, discriminator and losses.

        Raises:
            UsageError: ``model_conf``, ``discriminator_conf`` or ``loss_conf`` holds an unknown keyword.
        """
        from espnet_av.avgen.vocoder_model import VocoderModel, build_discriminator

        generator = build_generator(args.model, args.model_conf)
        discriminator = build_discriminator(args.discriminator, args.discriminator_conf)
        try:
            return ESPnetVocoderModel(VocoderModel(generator, cls.mel_config(args), discriminator, **args.loss_conf))
        except TypeError as error:
            raise does_not_fit(error, "loss_conf", args.loss_conf) from error

    @classmethod
    def networks(cls, model: "AbsESPnetModel") -> tuple[torch.nn.Module, torch.nn.Module]:
        """Return the vocoder and the discriminator."""
        return model.vocoder.generator, model.vocoder.discriminator

    @classmethod
    def load_start(cls, model: "AbsESPnetModel", weights: Path) -> None:
        """Fill the model from ``--model_name_or_path``: a training, or a published vocoder with a new discriminator.

        Raises:
            CheckpointError: The weights are of another vocoder.
        """
        if (weights.parent / "config.json").is_file():
            from espnet_av.avgen.vocoder import read_published

            published = read_published(weights)
            source = f"--model_name_or_path {weights}"
            load_into(model.vocoder.generator, published.build(folded=False).state_dict(), strict=True, source=source)
        else:
            load_into(model, load_weights(weights), strict=True, source=f"--model_name_or_path {weights}")

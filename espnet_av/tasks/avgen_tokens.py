# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The small recogniser that makes tokens, as an ESPnet task: 16 kHz speech and its text, CTC over 29 labels."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from espnet_av import _espnet
from espnet_av.avgen.token_labels import labels_to_text, text_to_labels
from espnet_av.data.collate import AVCollate
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.registry import LazyChoices
from espnet_av.tasks.av_task import AVTaskMixin
from espnet_av.tasks.parser import AVArgumentParser
from espnet_av.train.loading import load_into, load_weights
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import DataError, usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.ctc_tokens import CTCTokens

SPEECH, TEXT = "speech", "text"
MODEL_CLASSES = {"ctc_tokens": "espnet_av.avgen.ctc_tokens:CTCTokens"}
model_choices = LazyChoices("avgen.tokens", MODEL_CLASSES, name="model", default="ctc_tokens")


class ESPnetTokensModel(_espnet.AbsESPnetModel):
    """Puts the recogniser behind ESPnet's model interface; its weights lie below ``tokens.``.

    Args:
        tokens: :class:`~espnet_av.avgen.ctc_tokens.CTCTokens`.
    """

    def __init__(self, tokens: "CTCTokens") -> None:
        super().__init__()
        self.tokens = tokens

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        **_: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return loss, statistics and the batch size.

        Args:
            speech: Sound in [-1, 1], (B, N).
            speech_lengths: Samples of each, (B,).
            text: Labels, (B, L).
            text_lengths: Labels of each, (B,).
        """
        loss, logits = self.tokens.loss(speech, speech_lengths, text, text_lengths)
        stats = {"loss": loss.detach()}
        if not self.training:
            stats["cer"] = self._character_errors(logits, speech_lengths, text, text_lengths)
        return _espnet.force_gatherable((loss, stats, speech.shape[0]), loss.device)

    def collect_feats(self, speech: torch.Tensor, speech_lengths: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Return the waveform as the feature; nothing is normalised with statistics of a corpus."""
        return {"feats": speech, "feats_lengths": speech_lengths}

    @staticmethod
    def _character_errors(
        logits: torch.Tensor, speech_lengths: torch.Tensor, text: torch.Tensor, text_lengths: torch.Tensor
    ) -> torch.Tensor:
        """Return edits of characters over characters of the reference, in the batch."""
        import jiwer

        from espnet_av.avgen.ctc_tokens import token_lengths

        frames = token_lengths(speech_lengths).tolist()
        found = [labels_to_text(row[:size]) for row, size in zip(logits.argmax(-1).tolist(), frames, strict=True)]
        wanted = [_spelled(row[:size]) for row, size in zip(text.tolist(), text_lengths.tolist(), strict=True)]
        return torch.tensor(jiwer.cer(wanted, found), device=logits.device)


class AVGenTokensTask(AVTaskMixin, _espnet.AbsTask):
    """Train the small recogniser that makes tokens."""

    num_optimizers = 1
    class_choices_list = [model_choices]

    @classmethod
    def get_parser(cls) -> AVArgumentParser:
        """Return the parser of the training options; batches are counted in samples with ``--batch_frames``."""
        parser = super().get_parser()
        parser.set_defaults(best_model_criterion=[("valid", "cer", "min")])
        return parser

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("token model")
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the step from a text to labels."""
        return TextLabels()

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the function that pads items into a batch."""
        return AVCollate(ignore_id=0)

    @classmethod
    def build_sampler(
        cls, args: argparse.Namespace, shape_files: Sequence[str], *, train: bool, world_size: int = 1
    ) -> BucketBatchSampler:
        """Return the length-bucketed batches of a set; lengths are samples, counted here where no file has them."""
        from espnet_av.codec.chunks import read_num_samples

        mode = "train" if train else "valid"
        streams = {name: path for path, name, _ in getattr(args, f"{mode}_data_path_and_name_and_type")}
        if SPEECH not in streams:
            fix = f"pass --{mode}_data_path_and_name_and_type FOLDER/wav.scp,{SPEECH},sound"
            usage_error(f"the {mode} set has no stream '{SPEECH}'", sorted(streams), fix=fix)
        frames = args.batch_frames if train else (args.valid_batch_frames or args.batch_frames)
        size = args.batch_size if train else (args.valid_batch_size or args.batch_size)
        return BucketBatchSampler(
            read_num_samples(streams[SPEECH], shape_files),
            batch_frames=frames or None,
            batch_size=size or None,
            seed=args.seed,
            shuffle=train,
            min_batch_size=world_size,
        )

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given."""
        return (SPEECH,) if inference else (SPEECH, TEXT)

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given beside them: none."""
        return ()

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetTokensModel:
        """Build the recogniser.

        Raises:
            UsageError: ``model_conf`` holds a keyword that it does not take.
        """
        try:
            return ESPnetTokensModel(model_choices.get_class(args.model)(**args.model_conf))
        except TypeError as error:
            raise does_not_fit(error, "model_conf", args.model_conf) from error

    @classmethod
    def load_start(cls, model: torch.nn.Module, weights: Path) -> None:
        """Fill the recogniser from ``--model_name_or_path``.

        Raises:
            CheckpointError: The weights are of another one.
        """
        load_into(model, load_weights(weights), strict=True, source=f"--model_name_or_path {weights}")


class TextLabels:
    """Callable ``(uid, data, rng) -> data`` that turns the text of an utterance into labels."""

    def __call__(self, uid: str, data: dict[str, Any], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Return ``data`` with ``text`` as int64 ``(L,)``.

        Raises:
            DataError: The text is empty or has characters without a label.
        """
        if TEXT not in data:
            return data
        try:
            return {**data, TEXT: np.array(text_to_labels(str(data[TEXT])), dtype=np.int64)}
        except DataError as error:
            raise DataError(f"utterance '{uid}': {error}") from error


def _spelled(labels: Sequence[int]) -> str:
    from espnet_av.avgen.token_labels import LABELS, SPACE

    return "".join(LABELS[label] for label in labels).replace(SPACE, " ")

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio-visual speech separation as an ESPnet task.

The task derives from ``AbsTask`` and not from ESPnet's enhancement or extraction tasks: their preprocessors neither cut
lips together with the sound nor play all voices through one microphone, and their models have no place for lips.
"""

import argparse
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espnet_av import _espnet
from espnet_av.avss.choices import DEFAULT_MODEL, MODEL_CLASSES, MODEL_GROUP, takes_lips
from espnet_av.registry import LazyChoices
from espnet_av.tasks.av_task import AVTaskMixin
from espnet_av.train.loading import load_into, load_weights
from espnet_av.utils.config import NestedDictAction
from espnet_av.utils.errors import CheckpointError, MissingDataError, UsageError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avss.model import SeparationModel

logger = logging.getLogger(__name__)

MAX_VOICES = 4
model_choices = LazyChoices(MODEL_GROUP, MODEL_CLASSES, default=DEFAULT_MODEL)


class ESPnetAVSSModel(_espnet.AbsESPnetModel):
    """Puts a separator and its loss behind ESPnet's model interface; the network's weights lie below ``avss.network.``.

    Args:
        avss: The network with its loss (:class:`~espnet_av.avss.model.SeparationModel`).
    """

    def __init__(self, avss: "SeparationModel") -> None:
        super().__init__()
        self.avss = avss

    def forward(
        self,
        mix: torch.Tensor,
        mix_lengths: torch.Tensor,
        target: torch.Tensor,
        lips: torch.Tensor | None = None,
        has_lips: torch.Tensor | None = None,
        **_: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return loss, statistics and the batch size.

        Args:
            mix: Mixtures in [-1, 1], (B, N).
            mix_lengths: Samples of each, (B,).
            target: Voices to extract, (B, S, N).
            lips: Embeddings of their lips, (B, S, T, D), for networks that look at lips.
            has_lips: False where the lips of a target are not to be looked at, (B, S).
        """
        loss, stats = self.avss(mix, target, mix_lengths, lips=lips, has_lips=has_lips)
        return _espnet.force_gatherable((loss, {"loss": loss.detach(), **stats}, mix.shape[0]), loss.device)

    def collect_feats(self, mix: torch.Tensor, mix_lengths: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Return the waveform as the feature; nothing is normalised with statistics of a corpus."""
        return {"feats": mix, "feats_lengths": mix_lengths}


class AVSSTask(AVTaskMixin, _espnet.AbsTask):
    """Train a speech separator: RTFS-Net, which looks at lips, or ConvTasNet, which does not."""

    num_optimizers = 1
    class_choices_list = [model_choices]

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("separator")
        group.add_argument(
            "--loss_conf",
            action=NestedDictAction,
            default={},
            help="terms with their weights, and pit (espnet_av/avss/model.py: SeparationModel)",
        )
        group.add_argument(
            "--preprocessor_conf",
            action=NestedDictAction,
            default={},
            help="segments, levels, noise, microphones, remixing (espnet_av/avss/preprocess.py: build_preprocessor)",
        )
        group.add_argument(
            "--lips",
            action=NestedDictAction,
            default={},
            help="where the lip embeddings come from; filled in from data.json of the training set",
        )
        for choices in cls.class_choices_list:
            choices.add_arguments(group)

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the step from files to arrays; see :class:`~espnet_av.avss.preprocess.SeparationPreprocessor`."""
        from espnet_av.avss.preprocess import build_preprocessor

        streams = {name: path for path, name, _ in args.train_data_path_and_name_and_type}
        with_lips = takes_lips(model_choices.get_class(args.model))
        return build_preprocessor(train, args.preprocessor_conf, streams, with_lips=with_lips)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the function that pads items into a batch."""
        from espnet_av.avss.preprocess import SeparationCollate

        return SeparationCollate()

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given."""
        return ("mix",) if inference else ("mix", "s1")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given."""
        voices = [f"s{number}" for number in range(1, MAX_VOICES + 1)]
        return (*voices, *(f"lips_{name}" for name in voices))

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Note the front end of the lips, check that it is the same in both sets, and take over its width.

        Raises:
            UsageError: The network looks at lips and there are none, or ``video_dim`` is another width.
            DataError: The lips of validation come from another front end.
        """
        from espnet_av.avss.lips import read_description, require_same_front_end

        if not takes_lips(model_choices.get_class(args.model)):
            return
        found = {}
        for kind in ("train", "valid"):
            table = {name: path for path, name, _ in getattr(args, f"{kind}_data_path_and_name_and_type")}
            if "lips_s1" not in table:
                fix = f"pass --{kind}_data_path_and_name_and_type FOLDER/lips_s1.scp,lips_s1,npy, or --model convtasnet"
                usage_error(f"model {args.model} looks at lips, and the {kind} set has none", sorted(table), fix=fix)
            try:
                found[kind] = read_description(Path(table["lips_s1"]).parent)
            except MissingDataError as error:
                logger.warning("the front end of the lips is not known, so that it cannot be checked: %s", error)
        if len(found) == 2:
            require_same_front_end(found["train"], found["valid"], "the validation set")
        if "train" in found:
            args.lips = found["train"].to_dict()
            width = args.model_conf.setdefault("video_dim", found["train"].dim)
            if width != found["train"].dim:
                usage_error("model_conf.video_dim is not the width of the lip embeddings", width, found["train"].dim)

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetAVSSModel:
        """Build the network and its loss.

        Raises:
            UsageError: ``model_conf`` holds a keyword that the network does not take, or ``loss_conf`` is malformed.
        """
        from espnet_av.avss.model import SeparationModel, build_network

        network = build_network(args.model, args.model_conf)
        try:
            return ESPnetAVSSModel(SeparationModel(network, **args.loss_conf))
        except TypeError as error:
            raise UsageError(describe(f"loss_conf: {error}", sorted(args.loss_conf), ["terms", "pit"])) from error

    @classmethod
    def load_start(cls, model: ESPnetAVSSModel, weights: Path) -> None:
        """Fill the network from ``--model_name_or_path``: weights of a training, a pack or a published model.

        Raises:
            CheckpointError: They are of another model.
        """
        from espnet_av.avss.model import network_state

        try:
            load_into(
                model.avss.network, network_state(load_weights(weights)), source=f"--model_name_or_path {weights}"
            )
        except CheckpointError as error:
            fix = f"espnet-av convert turns a published file into one of ours; --init_param {weights} takes what fits"
            raise CheckpointError(describe(str(error), fix=fix)) from error

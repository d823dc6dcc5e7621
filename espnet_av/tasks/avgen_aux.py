# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The two small trainings beside the generator: head VAE (stage 4c) and text-to-tokens (stage 4d).

Both run through the trainer of all tasks. What they are standardised with is computed from the training set, noted in
``config.yaml``, and stored in the weights.
"""

import argparse
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from espnet_av import _espnet
from espnet_av.data.collate import AVCollate
from espnet_av.data.data_dir import read_scp
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.tasks.av_task import AVTaskMixin
from espnet_av.utils.config import NestedDictAction, does_not_fit
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.aux_data import HeadPreprocessor
    from espnet_av.avgen.head_vae import HeadVAE

logger = logging.getLogger(__name__)
VALIDATION_SEED = 20


class ESPnetHeadVAEModel(_espnet.AbsESPnetModel):
    """Puts the head VAE behind ESPnet's model interface; its weights lie below ``head_vae.``.

    Args:
        head_vae: The autoencoder.
        mean: Of the vectors, ``(D,)``.
        std: Their deviation.
        kld_weight: Weight of the divergence in the loss.
    """

    head_mean: Tensor
    head_std: Tensor

    def __init__(self, head_vae: "HeadVAE", mean: Tensor, std: Tensor, kld_weight: float = 1e-4) -> None:
        super().__init__()
        self.head_vae = head_vae
        self.kld_weight = kld_weight
        self.register_buffer("head_mean", mean)
        self.register_buffer("head_std", std)

    def forward(self, head: Tensor, head_lengths: Tensor, **_: Any) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return loss, statistics and the batch size.

        Validation draws its noise from a fixed seed, and adds ``mean_l1``: the error of decoding the mean, the best
        that a generator of latents can reach.

        Args:
            head: Poses in natural units, ``(B, T, D)``.
            head_lengths: Frames of each, ``(B,)``.
        """
        from espnet_av.avgen.durations import sequence_mask
        from espnet_av.avgen.flow import masked_mean
        from espnet_av.avgen.head_vae import head_vae_loss

        mask = sequence_mask(head_lengths, head.shape[1])
        x = (head - self.head_mean) / self.head_std * mask.unsqueeze(-1)
        noise = None
        if not self.training:
            generator = torch.Generator().manual_seed(VALIDATION_SEED)
            noise = torch.randn(*x.shape[:2], self.head_vae.latent, generator=generator).to(x)
        output = self.head_vae(x, mask, noise)
        loss, stats = head_vae_loss(output, x, mask, self.kld_weight)
        if not self.training:
            stats["mean_l1"] = masked_mean((self.head_vae.decode(output.mu, mask) - x).abs(), mask)
        return _espnet.force_gatherable((loss, {"loss": loss.detach(), **stats}, len(x)), loss.device)

    def collect_feats(self, head: Tensor, head_lengths: Tensor, **_: Any) -> dict[str, Tensor]:
        """Return the poses as they are."""
        return {"feats": head, "feats_lengths": head_lengths}


class ESPnetTextToTokensModel(_espnet.AbsESPnetModel):
    """Puts the text-to-tokens model behind ESPnet's interface; its weights lie below ``text_to_tokens.``.

    Args:
        text_to_tokens: The model.
    """

    def __init__(self, text_to_tokens: torch.nn.Module) -> None:
        super().__init__()
        self.text_to_tokens = text_to_tokens

    def forward(
        self,
        text: Tensor,
        text_lengths: Tensor,
        tokens: Tensor,
        tokens_lengths: Tensor,
        durations: Tensor | None = None,
        **_: Any,
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return loss, statistics and the batch size.

        Args:
            text: Symbols ``(B, L)``.
            text_lengths: ``(B,)``.
            tokens: Logits at the mel rate ``(B, T, 29)``.
            tokens_lengths: ``(B,)``.
            durations: Frames of each symbol ``(B, L)``; None: the model aligns.
        """
        durations = None if durations is None else durations.clamp_min(0)  # padding is -1
        loss, stats = self.text_to_tokens(text, text_lengths, tokens, tokens_lengths, durations)
        return _espnet.force_gatherable((loss, {"loss": loss.detach(), **stats}, len(text)), loss.device)

    def collect_feats(self, tokens: Tensor, tokens_lengths: Tensor, **_: Any) -> dict[str, Tensor]:
        """Return the tokens as they are."""
        return {"feats": tokens, "feats_lengths": tokens_lengths}


class _AuxiliaryTask(AVTaskMixin):
    """What both have in common: no choice of networks, and no shape files needed."""

    title: str
    model_help: str
    preprocessor_help: str
    num_optimizers = 1
    class_choices_list: list = []

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group(cls.title)
        group.add_argument("--model_conf", action=NestedDictAction, default={}, help=cls.model_help)
        group.add_argument("--preprocessor_conf", action=NestedDictAction, default={}, help=cls.preprocessor_help)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the function that pads items into a batch."""
        return AVCollate()

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given."""
        return ()

    @classmethod
    def build_sampler(
        cls, args: argparse.Namespace, shape_files: Sequence[str], *, train: bool, world_size: int = 1
    ) -> BucketBatchSampler:
        """Return batches by the lengths of the shape file; without one, of any utterances."""
        if shape_files:
            return super().build_sampler(args, shape_files, train=train, world_size=world_size)
        streams = args.train_data_path_and_name_and_type if train else args.valid_data_path_and_name_and_type
        size = args.batch_size if train else (args.valid_batch_size or args.batch_size)
        lengths = dict.fromkeys(read_scp(streams[0][0], allow_empty=True), 1)
        return BucketBatchSampler(
            lengths, batch_size=size or None, seed=args.seed, shuffle=train, sort=False, min_batch_size=world_size
        )

    @classmethod
    def training_stream(cls, args: argparse.Namespace, name: str) -> str:
        """Return the file of a stream of the training set.

        Raises:
            UsageError: There is none.
        """
        table = {stream: path for path, stream, _ in args.train_data_path_and_name_and_type}
        if name not in table:
            fix = f"pass --train_data_path_and_name_and_type FOLDER/{name}.scp,{name},npy"
            usage_error(f"the training set has no stream {name}", sorted(table), fix=fix)
        return table[name]

    @classmethod
    def build(cls, build: Callable, conf: dict[str, Any], option: str) -> Any:
        """Build something of keywords of a configuration.

        Raises:
            UsageError: It does not take a keyword.
        """
        try:
            return build(**conf)
        except TypeError as error:
            raise does_not_fit(error, option, conf) from error


class HeadVAETask(_AuxiliaryTask, _espnet.AbsTask):
    """Train the head VAE on recordings of head poses (stream ``head``)."""

    title = "head VAE"
    model_help = "keywords of espnet_av/avgen/head_vae.py: HeadVAE"
    preprocessor_help = "keywords of espnet_av/avgen/aux_data.py: HeadPreprocessor"

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        super().add_task_arguments(parser)
        group = parser.add_argument_group("head poses")
        group.add_argument(
            "--head_statistics", default=None, help="folder or .npz with mean and deviation; else of the training set"
        )
        group.add_argument("--head_vectors", action=NestedDictAction, default={}, help="filled in: mean and std")
        group.add_argument("--kld_weight", type=float, default=1e-4, help="weight of the divergence in the loss")

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> "HeadPreprocessor":
        """Return the step from files to arrays."""
        from espnet_av.avgen.aux_data import HeadPreprocessor

        return cls.build(HeadPreprocessor, {**args.preprocessor_conf, "train": train}, "preprocessor_conf")

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given."""
        return ("head",)

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Note mean and deviation of the vectors, and their number of values.

        Raises:
            UsageError: ``in_dim`` is another number.
        """
        from espnet_av.avgen.aux_data import head_statistics
        from espnet_av.avgen.pose import HeadStatistics

        if args.head_statistics:
            found = HeadStatistics.from_file(args.head_statistics)
        else:
            found = head_statistics(cls.training_stream(args, "head"), cls.build_preprocess_fn(args, train=False))
        args.head_vectors = {"mean": found.mean.tolist(), "std": found.std.tolist()}
        if args.model_conf.setdefault("in_dim", found.dim) != found.dim:
            usage_error("model_conf.in_dim is not the width of the poses", args.model_conf["in_dim"], found.dim)

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetHeadVAEModel:
        """Build the autoencoder with its statistics."""
        from espnet_av.avgen.head_vae import HeadVAE

        vae = cls.build(HeadVAE, args.model_conf, "model_conf")
        if not args.head_vectors:
            usage_error("the statistics of the poses are missing", fix="train through bin/avgen_head_vae_train.py")
        mean, std = (torch.tensor(args.head_vectors[name], dtype=torch.float32) for name in ("mean", "std"))
        return ESPnetHeadVAEModel(vae, mean, std, args.kld_weight)


class TextToTokensTask(_AuxiliaryTask, _espnet.AbsTask):
    """Train the text-to-tokens model on transcripts and tokens (streams ``text`` and ``tokens``)."""

    title = "text to tokens"
    model_help = "keywords of espnet_av/avgen/text_to_tokens.py: TextToTokens"
    preprocessor_help = "g2p and alignment (espnet_av/avgen/aux_data.py: TextTokensPreprocessor)"

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the step from files to arrays; see :class:`~espnet_av.avgen.aux_data.TextTokensPreprocessor`."""
        from espnet_av.avgen.aux_data import TextTokensPreprocessor

        conf = {"symbols": args.model_conf.get("symbols", "characters"), **args.preprocessor_conf}
        return cls.build(TextTokensPreprocessor, conf, "preprocessor_conf")

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given."""
        return ("text", "tokens")

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Note mean and deviation of the tokens."""
        from espnet_av.avgen.aux_data import token_statistics

        if not {"mean", "std"} <= set(args.model_conf):
            args.model_conf["mean"], args.model_conf["std"] = token_statistics(cls.training_stream(args, "tokens"))
            logger.info("tokens: mean %.4f, deviation %.4f", args.model_conf["mean"], args.model_conf["std"])

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetTextToTokensModel:
        """Build the model."""
        from espnet_av.avgen.text_to_tokens import TextToTokens

        return ESPnetTextToTokensModel(cls.build(TextToTokens, args.model_conf, "model_conf"))

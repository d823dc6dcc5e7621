# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio-visual speech recognition as an ESPnet task.

The task derives from ``AbsTask`` and not from ESPnet's ``ASRTask``: the recogniser takes two streams, and none of the
front ends, spectrogram masks and normalisers whose options ``ASRTask`` adds applies to it.
"""

import argparse
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from espnet_av import _espnet
from espnet_av.avsr.choices import DEFAULT_MODEL, MODEL_CLASSES, MODEL_GROUP
from espnet_av.registry import LazyChoices
from espnet_av.tasks.av_task import AVTaskMixin
from espnet_av.train.loading import load_weights
from espnet_av.train.optim import DepthRule
from espnet_av.utils.config import NestedDictAction, does_not_fit
from espnet_av.utils.errors import CheckpointError, describe

if TYPE_CHECKING:
    from espnet_av.avsr.model import AVSRModel
    from espnet_av.avsr.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

# Names of parameters: of the blocks of an encoder, and of what comes before them.
_ENCODER_LAYER = re.compile(r"encoder\.(?:encoder\.layers|(?:(?:video|audio)\.)?encoders)\.(\d+)\.")
_FRONT_END = re.compile(
    r"(?<!encoder\.)encoder\."
    r"(?:feature_|\w+_emb|layer_norm|post_|encoder\.pos_|(?:(?:video|audio)\.)?(?:frontend|embed)\.)"
)

model_choices = LazyChoices(MODEL_GROUP, MODEL_CLASSES, default=DEFAULT_MODEL)


class ESPnetAVSRModel(_espnet.AbsESPnetModel):
    """Puts the recogniser behind ESPnet's model interface; its weights lie below ``avsr.``, as published ones do.

    Args:
        avsr: The network.
        decode: Function from token ids to text, for the word error rate of greedy CTC in validation.
        audio_epochs: Epochs at the start that train on sound alone. They are cheap, as the lip network is left out, and
            give the lip network a recogniser that listens already.
    """

    def __init__(self, avsr: "AVSRModel", decode: Callable[[list[int]], str], audio_epochs: int = 0) -> None:
        super().__init__()
        self.avsr = avsr
        self.decode = decode
        self.audio_epochs = audio_epochs
        self.modality: str | None = None  # the network's own

    def set_epoch(self, epoch: int) -> None:
        """Choose the streams of an epoch, counted from 1; validation follows."""
        self.modality = "audio" if epoch <= self.audio_epochs else None

    def forward(
        self,
        speech: torch.Tensor,
        speech_lengths: torch.Tensor,
        video: torch.Tensor,
        video_lengths: torch.Tensor,
        text: torch.Tensor,
        text_lengths: torch.Tensor,
        **_: Any,
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
        """Return loss, statistics and the batch size.

        Args:
            speech: Waveforms in [-1, 1], (B, N).
            speech_lengths: Samples of each, (B,).
            video: Mouth crops, uint8 (B, T, H, W).
            video_lengths: Frames of each, (B,).
            text: Token ids padded with -1, (B, L).
            text_lengths: Tokens of each, (B,).
        """
        audio, frames, lengths = self.avsr.prepare_inputs(speech, speech_lengths, video, video_lengths)
        output = self.avsr(audio, frames, lengths, text[:, : int(text_lengths.max())], modality=self.modality)
        names = ("loss_ctc", "loss_att", "loss_audio", "acc")
        parts = {name: getattr(output, name) for name in names}
        stats = {"loss": output.loss.detach(), **{name: part for name, part in parts.items() if part is not None}}
        if not self.training:
            stats["wer_ctc"] = self._greedy_wer(output.encoded, video_lengths, text, text_lengths)
        return _espnet.force_gatherable((output.loss, stats, speech.shape[0]), output.loss.device)

    def _greedy_wer(
        self, encoder_out: torch.Tensor, lengths: torch.Tensor, text: torch.Tensor, text_lengths: torch.Tensor
    ) -> float:
        from espnet_av.avsr.metrics import score_utterance

        errors = words = 0
        best = self.avsr.ctc.greedy(encoder_out, lengths)
        for ids, reference, length in zip(best, text.tolist(), text_lengths.tolist(), strict=True):
            score = score_utterance("", self.decode(reference[:length]), self.decode(ids))
            errors += score.words.errors
            words += score.words.num_reference
        return errors / max(1, words)

    def collect_feats(self, speech: torch.Tensor, speech_lengths: torch.Tensor, **_: Any) -> dict[str, torch.Tensor]:
        """Return the waveform as the feature; the network normalises its own features."""
        return {"feats": speech, "feats_lengths": speech_lengths}


class AVSRTask(AVTaskMixin, _espnet.AbsTask):
    """Train an audio-visual speech recogniser (AV-HuBERT encoder, CTC/attention decoder)."""

    num_optimizers = 1
    class_choices_list = [model_choices]

    @classmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the options of this task."""
        group = parser.add_argument_group("recogniser")
        required = parser.get_default("required")
        required += ["token_list"]
        group.add_argument("--token_list", type=_espnet.str_or_none, default=None, help="tokens.txt of stage 4")
        group.add_argument("--token_type", default="bpe", choices=["bpe", "char", "word"])
        group.add_argument("--bpemodel", type=_espnet.str_or_none, default=None, help="SentencePiece model of stage 4")
        group.add_argument(
            "--preprocessor_conf",
            action=NestedDictAction,
            default={},
            help="crop, masks, interferers and noise of training (espnet_av/avsr/preprocess.py: build_transform)",
        )
        group.add_argument("--audio_epochs", type=int, default=0, help="first epochs, trained on sound alone")
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        parser.set_defaults(unused_parameters=True)  # modality dropout leaves one front end out of a batch

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable:
        """Return the step from files to arrays; see :class:`~espnet_av.avsr.preprocess.AVSRPreprocessor`."""
        from espnet_av.avsr.preprocess import AVSRPreprocessor, build_transform

        speech = [path for path, name, _ in args.train_data_path_and_name_and_type if name == "speech"]
        transform = build_transform(train, args.preprocessor_conf, speech_scp=speech[0] if speech else None)
        return AVSRPreprocessor(transform, get_tokenizer(args).encode)

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that must be given."""
        return ("speech", "video") if inference else ("speech", "video", "text")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Return the streams that may be given."""
        return ("text",) if inference else ()

    @classmethod
    def complete_args(cls, args: argparse.Namespace) -> None:
        """Put the tokens themselves into the configuration."""
        args.token_list = list(get_tokenizer(args).tokens)

    @classmethod
    def build_network(cls, args: argparse.Namespace) -> ESPnetAVSRModel:
        """Build the network.

        Raises:
            UsageError: ``model_conf`` holds a keyword that the network does not take.
        """
        tokenizer = get_tokenizer(args)
        model_class = model_choices.get_class(args.model)
        try:
            network = model_class(vocab_size=tokenizer.vocab_size, **args.model_conf)
        except TypeError as error:
            raise does_not_fit(error, "model_conf", args.model_conf) from error
        return ESPnetAVSRModel(network, tokenizer.decode, args.audio_epochs)

    @classmethod
    def load_start(cls, model: ESPnetAVSRModel, weights: Path) -> None:
        """Fill the recogniser from ``--model_name_or_path``: weights of a training, a pack or a published model.

        Raises:
            CheckpointError: They are of another model.
        """
        from espnet_av.avsr.inference import load_state

        try:
            load_state(model.avsr, load_weights(weights))
        except CheckpointError as error:
            fix = f"--init_param {weights}:::avsr.decoder,avsr.ctc takes all but these parts (--init_min_share)"
            raise CheckpointError(describe(f"--model_name_or_path {weights}: {error}", fix=fix)) from error
        logger.info("all weights are those of %s", weights)

    @classmethod
    def depth_rule(cls, model: torch.nn.Module) -> DepthRule:
        """Return the layers by name: front ends are 0, encoder layer N is N + 1, everything behind comes after them."""
        layers = [int(found[1]) for found in map(_ENCODER_LAYER.search, dict(model.named_parameters())) if found]
        after = max(layers, default=-1) + 2
        return lambda name: _depth(name, after)


def _depth(name: str, after: int) -> int:
    layer = _ENCODER_LAYER.search(name)
    if layer:
        return int(layer[1]) + 1
    return 0 if _FRONT_END.search(name) else after


def get_tokenizer(args: argparse.Namespace) -> "Tokenizer":
    """Return the tokenizer that ``token_list`` (a file or the list itself), ``token_type`` and ``bpemodel`` describe.

    Raises:
        DataError: A file is missing or has another form.
    """
    from espnet_av.avsr.tokenizer import build_tokenizer, load_tokenizer

    make = load_tokenizer if isinstance(args.token_list, str) else build_tokenizer
    return make(args.token_type, args.token_list, args.bpemodel)

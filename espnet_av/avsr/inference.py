# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The recogniser as one object: a clip in, text out.

    recogniser = AVSR.from_pretrained("exp/avsr/pack")
    recogniser("clip.wav", "mouth.npy").text

Axes: ``N`` samples at 16 kHz, ``T`` video frames at 25 fps, ``H``/``W`` pixels.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from espnet_av.avsr.beam_search import BeamSearch, Hypothesis
from espnet_av.avsr.choices import get_model_class
from espnet_av.avsr.convert import PUBLISHED_PREFIX, load_published, load_strictly
from espnet_av.avsr.encoder import MODALITIES
from espnet_av.avsr.model import AVSRModel
from espnet_av.avsr.tokenizer import Tokenizer, build_tokenizer
from espnet_av.data.audio_input import AudioLike, load_audio
from espnet_av.data.mouth_pixels import CROP_SIZE, center_crop, to_gray
from espnet_av.data.types import load_npy, load_video_npz
from espnet_av.data.video_io import read_video
from espnet_av.hub import Origin, Pretrained, locate_model
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import build_for, find_beside, find_weights, resolve_device
from espnet_av.utils.errors import (
    CheckpointError,
    DataError,
    MissingDataError,
    describe,
    usage_error,
)
from espnet_av.utils.untrusted import read_yaml

SAMPLE_RATE = 16000
FPS = 25

VideoLike = str | os.PathLike | np.ndarray | Tensor


@dataclass(frozen=True)
class Hypotheses:
    """Results for one clip, best first.

    Attributes:
        texts: Transcripts.
        scores: Weighted log probability of each, higher is better.
        nbest: Token ids and the scores of each scorer.
    """

    texts: list[str]
    scores: list[float]
    nbest: list[Hypothesis]

    @property
    def text(self) -> str:
        """The best transcript."""
        return self.texts[0] if self.texts else ""

    @property
    def score(self) -> float:
        """Weighted log probability of the best transcript."""
        return self.scores[0] if self.scores else float("-inf")

    def __str__(self) -> str:
        return self.text


class AVSR(Pretrained):
    """Recognise speech from sound, lips or both.

    Args:
        model: The network.
        tokenizer: Ids to text.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a GPU where there is one.
        beam_size: Hypotheses kept per step of the search.
        ctc_weight: Weight of the CTC score in the search, 0 to 1.
        search_options: Further keywords of :class:`~espnet_av.avsr.beam_search.BeamSearch`.

    Attributes:
        checkpoint: The weights file that :meth:`from_pretrained` read; else None.

    Raises:
        UsageError: Vocabulary and tokenizer differ in size, or the device has no such name.
        EnvironmentProblem: There is no such device.
    """

    system_name = "avsr"
    weight_prefix = PUBLISHED_PREFIX

    def __init__(
        self,
        model: AVSRModel,
        tokenizer: Tokenizer,
        *,
        device: str | torch.device = "cpu",
        beam_size: int = 3,
        ctc_weight: float = 0.1,
        search_options: dict[str, Any] | None = None,
    ) -> None:
        if tokenizer.vocab_size != model.vocab_size:
            usage_error("tokenizer and network differ in size", got=tokenizer.vocab_size, allowed=[model.vocab_size])
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.beam_size = beam_size
        self.ctc_weight = ctc_weight
        self.search_options = dict(search_options or {})
        self.checkpoint: Path | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        device: str | torch.device = "cpu",
        *,
        revision: str | None = None,
        weights: str | os.PathLike | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | None = None,
        **options: Any,
    ) -> "AVSR":
        """Load a packed model, an experiment folder or a model of the hub.

        Args:
            source: Holds ``config.yaml`` (``model_conf``, ``token_list``, ``token_type`` and, for pieces, ``bpemodel``,
                looked for beside it too) and weights; or, where no such folder is, ``organisation/name[@revision]`` of
                the Hugging Face hub.
            device: Where to compute.
            revision: Branch, tag or commit of the hub.
            weights: Weights file, a path or a name in the folder. None takes the first of ``model.safetensors``, the
                average of the best epochs and the best epoch.
            cache_dir: Where files of the hub are kept; None: where its own programs keep them.
            token: Access token of the hub; None: that of ``hf auth login`` or ``HF_TOKEN``.
            **options: Keywords of :class:`AVSR`: ``beam_size``, ``ctc_weight``, ``search_options``.

        Raises:
            DataError: A file is missing or damaged.
            CheckpointError: The weights do not fit the configuration.
            EnvironmentProblem: The hub cannot be reached.
        """
        folder = locate_model(source, revision, cache_dir, token)
        path = folder / "config.yaml"
        if not path.is_file():
            raise MissingDataError(describe("no model here", got=str(path), fix="run stage 5 (train) or 9 (pack)"))
        try:
            config = read_yaml(path)
            tokens = config["token_list"]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise DataError(f"{path} is no configuration of a recogniser ({error!r})") from error
        packed = (folder / "meta.json").is_file()
        if not isinstance(tokens, (str, list)) or not all(isinstance(token, str) for token in tokens):
            raise DataError(describe(f"{path}: token_list", str(tokens)[:60], "texts, or the name of a file with them"))
        if isinstance(tokens, str):
            path_of_tokens = find_beside(folder, tokens, only_beside=packed)
            tokens = path_of_tokens.read_text(encoding="utf-8").removesuffix("\n").split("\n")
        bpe_model = config.get("bpemodel")
        tokenizer = build_tokenizer(
            config.get("token_type", "bpe"),
            tokens,
            None if bpe_model is None else find_beside(folder, bpe_model, only_beside=packed),
        )
        checkpoint = find_weights(folder, weights, config.get("best_model_criterion"))
        arguments = config.get("model"), tokenizer.vocab_size, config.get("model_conf"), str(path)
        model = build_for(checkpoint, lambda: build_model(*arguments))
        try:
            load_state(model, load_weights(checkpoint))
        except CheckpointError as error:
            raise CheckpointError(f"{checkpoint} is of another model than {path}: {error}") from error
        recogniser = cls(model, tokenizer, device=device, **options)
        recogniser.checkpoint, recogniser.origin = checkpoint, Origin(folder, checkpoint)
        return recogniser

    def trained_network(self) -> torch.nn.Module:
        """Return the network whose weights are saved."""
        return self.model

    @property
    def modalities(self) -> tuple[str, ...]:
        """What the model can listen to or look at, the best first."""
        return tuple(getattr(self.model, "modalities", MODALITIES))

    def __call__(
        self,
        audio: AudioLike | None = None,
        video: VideoLike | None = None,
        modality: str = "av",
        *,
        sample_rate: int = SAMPLE_RATE,
        fps: float = FPS,
        beam_size: int | None = None,
        ctc_weight: float | None = None,
    ) -> Hypotheses:
        """Recognise one clip.

        Args:
            audio: ``(N,)`` samples in [-1, 1] (or integer PCM), or the path of a sound or video file. None where the
                modality is ``video``.
            video: Mouth crops, uint8 ``(T, H, W)`` gray or ``(T, H, W, 3)`` RGB of at least 88x88 pixels, or the path
                of a ``.npy``, ``.npz`` or video file that holds them. None where the modality is ``audio``.
            modality: ``av``, ``audio`` or ``video``.
            sample_rate: Of an array; anything but 16000 Hz is refused.
            fps: Of an array; anything but 25 is refused.
            beam_size: Overrides that of the constructor.
            ctc_weight: Overrides that of the constructor.

        Returns:
            Transcripts, best first.

        Raises:
            UsageError: A needed stream is missing, or the modality is unknown.
            DataError: A stream has a wrong shape, type, sample or frame rate.
        """
        if sample_rate != SAMPLE_RATE:
            raise DataError(describe("wrong sample rate", got=sample_rate, allowed=[SAMPLE_RATE], fix="resample first"))
        if fps != FPS:
            raise DataError(describe("wrong frame rate", got=fps, allowed=[FPS], fix="run stage 2 (format)"))
        return self.decode_batch([audio], [video], modality, beam_size=beam_size, ctc_weight=ctc_weight)[0]

    @torch.inference_mode()
    def decode_batch(
        self,
        audios: Sequence[AudioLike | None] | None,
        videos: Sequence[VideoLike | None] | None,
        modality: str = "av",
        *,
        beam_size: int | None = None,
        ctc_weight: float | None = None,
    ) -> list[Hypotheses]:
        """Recognise several clips together; each gives what it gives alone.

        Clips of about the same length waste the least. Arguments are lists of those of :meth:`__call__`.
        """
        if modality not in self.modalities:
            usage_error("unknown modality", got=modality, allowed=self.modalities)
        waves = _collect(audios, "audio", load_audio) if modality != "video" else None
        clips = _collect(videos, "video", load_mouth_video) if modality != "audio" else None
        if waves is not None and clips is not None and len(waves) != len(clips):
            usage_error("the batch has unequal numbers of sounds and videos", got=(len(waves), len(clips)))
        encoded, lengths = self.encode(waves, clips, modality)
        search = BeamSearch(
            self.model.decoder,
            self.model.ctc,
            sos=self.model.sos,
            eos=self.model.eos,
            beam_size=self.beam_size if beam_size is None else beam_size,
            ctc_weight=self.ctc_weight if ctc_weight is None else ctc_weight,
            bridge=self.model.bridge,
            **self.search_options,
        )
        return [self._hypotheses(nbest) for nbest in search.search(encoded, lengths)]

    @torch.inference_mode()
    def encode(
        self, waves: Sequence[np.ndarray] | None, clips: Sequence[np.ndarray] | None, modality: str = "av"
    ) -> tuple[Tensor, Tensor]:
        """Run the encoder over loaded clips.

        Args:
            waves: Float ``(N,)`` each, or None.
            clips: uint8 ``(T, H, W)`` each, or None.
            modality: ``av``, ``audio`` or ``video``.

        Returns:
            Encoder output ``(B, T, D)`` and ``(B,)`` lengths.
        """
        speech, speech_lengths = _pad(waves, self.device)
        size = self.model.video_size
        video, video_lengths = _pad(None if clips is None else [center_crop(clip, size) for clip in clips], self.device)
        audio_rows, frames, lengths = self.model.prepare_inputs(speech, speech_lengths, video, video_lengths)
        return self.model.encode(audio_rows, frames, lengths, modality=modality)[0], lengths

    def _hypotheses(self, nbest: list[Hypothesis]) -> Hypotheses:
        texts = [self.tokenizer.decode(hypothesis.ids) for hypothesis in nbest]
        return Hypotheses(texts, [hypothesis.score for hypothesis in nbest], nbest)


def build_model(name: str | None, vocab_size: int, conf: dict[str, Any] | None, source: str) -> AVSRModel:
    """Build the network that a configuration describes.

    Args:
        name: What ``model:`` says; None is ``avsr``.
        vocab_size: Number of token ids.
        conf: Keywords of the network (``model_conf``).
        source: Name of the configuration for messages.

    Raises:
        UsageError: The name is unknown.
        DataError: A keyword is unknown.
    """
    model_class = get_model_class(name)
    try:
        return model_class(vocab_size=vocab_size, **(conf or {}))
    except TypeError as error:
        raise DataError(f"{source}: model_conf does not fit {model_class.__name__} ({error})") from error


def load_state(model: torch.nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights strictly; the leading ``avsr.`` of trained and published ones may be there or not.

    Raises:
        CheckpointError: A tensor is missing, left over or of another shape.
    """
    if isinstance(model, AVSRModel):
        load_published(model, state)
    else:
        load_strictly(model, {key.removeprefix(PUBLISHED_PREFIX): tensor for key, tensor in state.items()})


def load_mouth_video(source: VideoLike) -> np.ndarray:
    """Turn what :class:`AVSR` accepts as video into uint8 gray ``(T, H, W)``.

    Raises:
        DataError: It is empty, of a wrong type, smaller than 88x88, or at another frame rate.
    """
    if isinstance(source, (str, os.PathLike)):
        loaders: dict[str, Callable] = {".npy": load_npy, ".npz": load_video_npz}
        loader = loaders.get(Path(source).suffix.lower())
        source = loader(str(source)) if loader else read_video(source, gray=True, fps=FPS).frames
    frames = source.detach().cpu().numpy() if isinstance(source, Tensor) else np.asarray(source)
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or (frames.ndim == 4 and frames.shape[3] != 3):
        allowed = "uint8 (T, H, W) or (T, H, W, 3)"
        raise DataError(describe("video has a wrong shape or type", got=(frames.dtype, frames.shape), allowed=allowed))
    if len(frames) == 0 or min(frames.shape[1:3]) < CROP_SIZE:
        allowed = f"one frame or more of at least {CROP_SIZE}x{CROP_SIZE} pixels"
        raise DataError(describe("video is too small", got=frames.shape, allowed=allowed, fix="cut mouths (stage 2)"))
    return to_gray(frames) if frames.ndim == 4 else frames


def _collect(items: Sequence | None, name: str, load: Callable) -> list[np.ndarray]:
    if not items or any(item is None for item in items):
        usage_error(f"the {name} stream is missing", fix=f"pass {name}, or choose another modality")
    return [load(item) for item in items]


def _pad(items: Sequence[np.ndarray | Tensor] | None, device: torch.device) -> tuple[Tensor | None, Tensor | None]:
    if items is None:
        return None, None
    lengths = torch.tensor([len(item) for item in items], device=device)
    tensors = [torch.from_numpy(np.array(item)) for item in items]
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True).to(device), lengths

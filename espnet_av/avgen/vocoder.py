# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Vocoders as one object, whatever they are made of: mel spectrograms in, sound out.

    vocoder = load_vocoder("exp/vocoder_small")       # trained here; or a folder of BigVGAN or HiFi-GAN
    vocoder.check(model.mel_config)                   # refuses spectrograms of another kind
    wav = vocoder(mel)                                # (B, 80, T) -> (B, 256 T)

Axes: ``B`` batch, ``M`` mel bands, ``T`` frames, ``N`` samples.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from espnet_av.avgen import mel as mel_rules
from espnet_av.avgen.mel import MelConfig
from espnet_av.avgen.vocoder_choices import GRIFFIN_LIM, build_generator, get_model_class
from espnet_av.avgen.vocoder_parts import (
    fold,
    has_weight_norm,
    keywords_of,
    mel_config_of,
    own_names,
    published_names,
)
from espnet_av.train.checkpoint import read_tensors, write_tensors
from espnet_av.train.loading import load_into, load_weights
from espnet_av.train.pretrained import find_weights, resolve_device
from espnet_av.utils.errors import CheckpointError, DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.untrusted import parse_json, read_yaml

#: What leads the names of a training's weights.
GENERATOR_PREFIX = "vocoder.generator."
PUBLISHED_FILES = ("bigvgan_generator.pt", "bigvgan_generator.safetensors", "generator*", "g_*", "*generator*.pt*")
CHUNK_FRAMES = 1024  # longer spectrograms go through the network piece by piece


class Vocoder:
    """Turn mel spectrograms into sound; long ones piece by piece, with the same result and bounded memory.

    Args:
        network: ``(B, M, T) -> (B, 1, T * hop_length)`` with ``num_mels``, ``hop_length`` and ``reach``, the frames to
            each side that a sample depends on, or None: all.
        mel_config: The spectrograms that it was made for.
        device: Where to compute: ``cpu``, ``cuda``, ``auto``, ...
        name: For messages.
        chunk_frames: Most frames of a piece.

    Raises:
        CheckpointError: The network is of another hop or number of bands than the spectrograms.
    """

    def __init__(
        self,
        network: nn.Module,
        mel_config: MelConfig,
        device: str | torch.device = "cpu",
        *,
        name: str = "the vocoder",
        chunk_frames: int = CHUNK_FRAMES,
    ) -> None:
        own, wanted = (network.num_mels, network.hop_length), (mel_config.num_mels, mel_config.hop_length)
        if own != wanted:
            raise CheckpointError(describe(f"{name}: network and spectrogram differ in bands or hop", own, wanted))
        self.device = resolve_device(device)
        self.network = network.to(self.device).eval()
        self.dtype = next((each.dtype for each in network.parameters()), torch.float32)
        self.mel_config, self.name, self.chunk_frames = mel_config, name, chunk_frames

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {self.mel_config})"

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.mel_config.sample_rate

    @property
    def hop_length(self) -> int:
        """Samples of a frame."""
        return self.mel_config.hop_length

    @property
    def num_mels(self) -> int:
        """Mel bands."""
        return self.mel_config.num_mels

    @property
    def fmax(self) -> float:
        """Upper end of the bands in Hz."""
        return self.mel_config.fmax

    @property
    def reach(self) -> int | None:
        """Frames to each side that a sample depends on at most; None: all."""
        reach: Any = self.network.reach
        return reach

    def check(self, mel_config: MelConfig) -> None:
        """Refuse spectrograms of another kind than this vocoder was made for.

        Raises:
            CheckpointError: Naming every difference.
        """
        mel_rules.check_compatible(self.mel_config, mel_config, self.name)

    @torch.inference_mode()
    def __call__(self, mel: Tensor) -> Tensor:
        """Return sound ``(B, T * hop_length)`` in [-1, 1].

        Args:
            mel: Natural logarithms, ``(B, M, T)``.

        Raises:
            DataError: Spectrograms of another shape, or with values that are not finite.
        """
        if mel.dim() != 3 or mel.shape[1] != self.num_mels or 0 in mel.shape:
            allowed = f"(batch, {self.num_mels}, frames)"
            raise DataError(describe(f"{self.name}: mel spectrograms of another shape", tuple(mel.shape), allowed))
        if not torch.isfinite(mel).all():
            raise DataError(f"{self.name}: the mel spectrogram holds values that are not finite")
        mel = mel.to(self.device, self.dtype)
        if self.reach is None or mel.shape[-1] <= self.chunk_frames:
            return self.network(mel)[:, 0]
        return torch.cat([self._piece(mel, *place, self.reach) for place in self._places(mel.shape[-1])], dim=1)

    def _places(self, num_frames: int) -> Iterator[tuple[int, int]]:
        for first in range(0, num_frames, self.chunk_frames):
            yield first, min(first + self.chunk_frames, num_frames)

    def _piece(self, mel: Tensor, first: int, last: int, reach: int) -> Tensor:
        """Return the sound of frames ``first`` to ``last``, computed with as much around them as they depend on."""
        begin, end = max(0, first - reach), min(mel.shape[-1], last + reach)
        wav = self.network(mel[..., begin:end])[:, 0]
        return wav[:, (first - begin) * self.hop_length : (last - begin) * self.hop_length]


@dataclass(frozen=True)
class PublishedVocoder:
    """A vocoder as its authors publish it: ``config.json`` and the weights of the generator.

    Attributes:
        source: The file of the weights.
        kind: ``"bigvgan"`` or ``"hifigan"``.
        conf: Keywords of the network.
        mel_config: The spectrograms that it was made for.
        config: The configuration as it stands in the file.
        state: Tensors under their published names.
    """

    source: Path
    kind: str
    conf: dict[str, Any]
    mel_config: MelConfig
    config: dict[str, Any]
    state: dict[str, Tensor]

    def build(self, *, folded: bool = True) -> nn.Module:
        """Return the network with its weights.

        Args:
            folded: With plain weights, for use; otherwise in the form of the file, to train on.

        Raises:
            CheckpointError: Weights and configuration do not fit.
        """
        state = fold(self.state) if folded else own_names(self.state)
        network = build_generator(self.kind, {**self.conf, "weight_norm": has_weight_norm(state)})
        load_into(network, state, strict=True, source=str(self.source))
        return network


def read_published(path: str | os.PathLike) -> PublishedVocoder:
    """Read a published BigVGAN or HiFi-GAN.

    Args:
        path: The folder with ``config.json``, or the file of the weights beside it.

    Raises:
        MissingDataError: A file is missing.
        CheckpointError: The files cannot be used.
    """
    path = Path(path).expanduser()
    folder = path if path.is_dir() else path.parent
    config = _read_json(folder / "config.json")
    source = path if path.is_file() and path.suffix != ".json" else published_weights(folder)
    state = _generator_of(load_weights(source) if source.suffix == ".safetensors" else read_tensors(source), source)
    kind = "bigvgan" if any(name.startswith("activation_post.") for name in state) else "hifigan"
    network = get_model_class(kind)
    first = next((state[name] for name in ("conv_pre.weight", "conv_pre.weight_v") if name in state), None)
    if first is None:
        raise CheckpointError(describe(f"{source} holds no generator of a vocoder", sorted(state)[:3]))
    config.setdefault("num_mels", first.shape[1])
    conf = keywords_of(network, config)
    rates = conf.get("upsample_rates", [8, 8, 2, 2])
    if not isinstance(rates, list) or not all(type(rate) is int for rate in rates):
        raise CheckpointError(describe(f"{folder / 'config.json'}: upsample_rates are no whole numbers", rates))
    mel = mel_config_of(config, first.shape[1], math.prod(rates))
    return PublishedVocoder(source, kind, conf, mel, config, state)


def write_published(published: PublishedVocoder, folder: str | os.PathLike) -> Path:
    """Write a vocoder in its published form and return the file of its weights.

    Args:
        published: What to write.
        folder: Gets ``config.json`` and ``bigvgan_generator.pt`` or ``generator.pt``.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / ("bigvgan_generator.pt" if published.kind == "bigvgan" else "generator.pt")
    write_tensors(target, {"generator": published_names(published.state)})
    with atomic_write(folder / "config.json") as stream:
        json.dump(published.config, stream, indent=1)
    return target


def load_vocoder(source: str | os.PathLike, device: str | torch.device = "cpu", **options: Any) -> Vocoder:
    """Load a vocoder.

    Args:
        source: ``"griffinlim"``; an experiment or pack of ``avgen_vocoder_train``; a folder or file of a published
            BigVGAN or HiFi-GAN.
        device: Where to compute.
        **options: Others of :class:`Vocoder`; ``mel_config`` for Griffin-Lim, which takes any.

    Raises:
        MissingDataError: There is no such vocoder.
        CheckpointError: Its files cannot be used.
    """
    if str(source) == GRIFFIN_LIM:
        from espnet_av.avgen.griffin_lim import GriffinLim

        config = options.pop("mel_config", None) or MelConfig()
        return Vocoder(GriffinLim(config), config, device, name=GRIFFIN_LIM, **options)
    options.pop("mel_config", None)
    path = Path(source).expanduser()
    if not path.exists():
        allowed = [GRIFFIN_LIM, "an experiment of avgen_vocoder_train", "a folder of BigVGAN or HiFi-GAN"]
        raise MissingDataError(describe("no such vocoder", str(source), allowed, "run stage 4e, or give another"))
    folder = path if path.is_dir() else path.parent
    if (folder / "config.yaml").is_file():
        network, config = _load_trained(folder, None if path.is_dir() or path.suffix == ".yaml" else path)
    else:
        published = read_published(path)
        network, config = published.build(), published.mel_config
    return Vocoder(network, config, device, name=str(source), **options)


def _load_trained(folder: Path, weights: Path | None) -> tuple[nn.Module, MelConfig]:
    try:
        config = read_yaml(folder / "config.yaml")
    except yaml.YAMLError as error:
        raise DataError(f"{folder}/config.yaml is no configuration of a vocoder ({error})") from error
    if not isinstance(config, dict) or "mel_conf" not in config:
        fix = "give the experiment of avgen_vocoder_train"
        raise CheckpointError(describe(f"{folder} holds no vocoder", fix=fix))
    source = find_weights(folder, weights, config.get("best_model_criterion"))
    state = fold(generator_state(load_weights(source)))
    network = build_generator(config.get("model"), {**(config.get("model_conf") or {}), "weight_norm": False})
    load_into(network, state, strict=True, source=str(source))
    return network, MelConfig(**config["mel_conf"])


def generator_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights of the generator alone out of those of a training, a pack or the generator."""
    own = {name: each for name, each in state.items() if name.startswith(GENERATOR_PREFIX)}
    return {name.removeprefix(GENERATOR_PREFIX): each for name, each in own.items()} if own else dict(state)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        fix = "keep the config.json of the publication beside its weights"
        raise MissingDataError(describe("no configuration of a vocoder", str(path), fix=fix))
    try:
        content = parse_json(path.read_bytes())
    except ValueError as error:
        raise CheckpointError(f"{path} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(describe(f"{path} is no configuration of a vocoder", type(content).__name__))
    return content


def published_weights(folder: Path) -> Path:
    """Return the file of the weights of a published vocoder.

    Raises:
        MissingDataError: There is none.
    """
    for pattern in PUBLISHED_FILES:
        found = sorted(path for path in folder.glob(pattern) if path.is_file())
        if found:
            return found[-1]  # g_02500000 is newer than g_00100000
    raise MissingDataError(describe("no weights of a vocoder", str(folder), PUBLISHED_FILES))


def _generator_of(content: Any, source: Path) -> dict[str, Tensor]:
    state = content.get("generator", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(describe(f"{source} holds no generator", allowed="{'generator': weights}, or weights"))
    return dict(state)

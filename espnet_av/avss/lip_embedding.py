# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The frozen lip-reading front end: mouth crops in, one vector per video frame out.

    embedder = LipEmbedder.from_pretrained("lrw_resnet18_dctcn_video_boundary.pth")
    embedder(mouths)

Its batch norms never see a batch: an embedding depends on its own clip only.

Axes: ``B`` batch, ``T`` video frames, ``H``/``W`` pixels, ``D`` embedding width.
"""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.avss.convert import from_lipreading, lipreading_conf
from espnet_av.avss.lips import LipDescription
from espnet_av.data.mouth_pixels import CROP_SIZE, PIXEL_MEAN, PIXEL_STD, center_crop, normalize
from espnet_av.layers.lip_shufflenet import LipShuffleNet
from espnet_av.layers.lip_trunk import LIP_CHUNK, LipResNet, LipTrunk
from espnet_av.train.conversion import find_checkpoint, load_strictly
from espnet_av.train.foreign_file import read_foreign
from espnet_av.train.pretrained import resolve_device
from espnet_av.utils.errors import CheckpointError, DataError, describe, usage_error
from espnet_av.utils.files import atomic_path

logger = logging.getLogger(__name__)
BACKBONES = ("resnet18", "shufflenetv2")
#: Changes when the same crops and weights would give other embeddings.
PREPROCESSING = {"version": 1, "mean": PIXEL_MEAN, "std": PIXEL_STD, "stored": "float16"}
METADATA_KEY = "lip_front_end"
AVSR_PREFIX = "avsr:"
RANDOM_PREFIX = "random"


class LipEmbedder(nn.Module):
    """Gray mouth crops -> embeddings. Always in evaluation mode, without gradients.

    Args:
        backbone: ``resnet18`` or ``shufflenetv2``.
        activation: ``prelu``, ``swish`` or ``relu``; of the stem alone for ShuffleNetV2.
        stem_channels: Channels after the stem; ResNet-18 only.
        planes: Channels of the four stages; ResNet-18 only.
        width: Width of ShuffleNetV2.
        video_pool: Average-pool the frames by this factor first; ResNet-18 only.
        video_size: Side of the centre crop in pixels.
        chunk: Frames computed at a time; 0: all.

    Attributes:
        output_size: Width ``D``: 512 for the published ResNet-18, 1024 for ShuffleNetV2.
        name: Where the weights come from, for people.
        conf: The keywords that make this network.

    Raises:
        UsageError: Unknown backbone, activation or width.
    """

    def __init__(
        self,
        backbone: str = "resnet18",
        *,
        activation: str = "prelu",
        stem_channels: int = 64,
        planes: Sequence[int] = (64, 128, 256, 512),
        width: float = 1.0,
        video_pool: int = 1,
        video_size: int = CROP_SIZE,
        chunk: int = LIP_CHUNK,
    ) -> None:
        super().__init__()
        sizes: dict[str, Any]
        if backbone == "resnet18":
            sizes = {"stem_channels": stem_channels, "planes": list(planes), "video_pool": video_pool}
            self.net: LipTrunk = LipResNet(activation=activation, chunk=chunk, **sizes)
        elif backbone == "shufflenetv2":
            sizes = {"width": width}
            self.net = LipShuffleNet(activation=activation, chunk=chunk, width=width)
        else:
            usage_error("unknown backbone of the lip-reading front end", got=backbone, allowed=BACKBONES)
        self.conf: dict[str, Any] = {
            "backbone": backbone, "activation": activation, **sizes, "video_size": video_size
        }  # fmt: skip
        self.video_size = video_size
        self.output_size = self.net.output_size
        self.name = f"{backbone} ({activation})"
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> "LipEmbedder":
        """Stay in evaluation mode, whatever the separator that owns this does."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, mouths: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Compute embeddings.

        Args:
            mouths: uint8 ``(B, T, H, W)``, at least ``video_size`` high and wide; the centre is cut out.
            lengths: Frames of each clip ``(B,)``; None: all.

        Returns:
            float32 ``(B, T, D)``; zeros past the end of a clip.

        Raises:
            DataError: Type or shape are wrong.
        """
        if mouths.dtype != torch.uint8 or mouths.dim() != 4:
            got = (str(mouths.dtype), tuple(mouths.shape))
            raise DataError(describe("mouth crops have the wrong type or shape", got, "uint8 (B, T, H, W)"))
        frames = normalize(center_crop(mouths, self.video_size))
        # a GPU gives what a CPU gives: embeddings of both may lie in one cache
        exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False) if frames.is_cuda else nullcontext()
        with exact, torch.autocast(frames.device.type, enabled=False):
            return self._embed(frames, lengths)

    def _embed(self, frames: Tensor, lengths: Tensor | None) -> Tensor:
        if lengths is None:
            return self.net(frames).unflatten(0, frames.shape[:2])
        valid = torch.arange(frames.shape[1], device=frames.device) < lengths.to(frames.device).unsqueeze(1)
        frames = frames * valid[:, :, None, None]  # the stem sees two frames beyond the end: nothing, as for one clip
        output = frames.new_zeros(*frames.shape[:2], self.output_size)
        output[valid] = self.net(frames, valid)
        return output

    def digest(self) -> str:
        """Return the hex SHA-256 of weights, sizes and preprocessing: equal digests, equal embeddings."""
        digest = hashlib.sha256(json.dumps([PREPROCESSING, self.conf], sort_keys=True).encode())
        for key, tensor in sorted(self.net.state_dict().items()):
            if not key.endswith("num_batches_tracked"):
                digest.update(f"{key} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def describe(self, variants: int = 1, seed: int = 0) -> LipDescription:
        """Return what is stored beside embeddings of this front end."""
        return LipDescription(self.name, self.digest(), self.output_size, variants, seed)

    def save(self, path: str | os.PathLike) -> Path:
        """Write weights and sizes to a ``.safetensors`` file that :meth:`from_pretrained` reads.

        Raises:
            UsageError: The suffix is another one.
        """
        path = Path(path)
        if path.suffix != ".safetensors":
            usage_error("a lip-reading front end is kept as .safetensors", got=str(path))
        from safetensors.torch import save_file

        state = {key: tensor.detach().cpu().contiguous() for key, tensor in self.net.state_dict().items()}
        note = json.dumps({"name": self.name, "conf": self.conf})
        with atomic_path(path) as temporary:
            temporary.touch()  # with the usual permissions, which the library would make private
            mode = temporary.stat().st_mode
            save_file(state, str(temporary), metadata={"format": "pt", METADATA_KEY: note})
            temporary.chmod(mode)
        return path

    @classmethod
    def from_pretrained(
        cls, source: str | os.PathLike, *, activation: str | None = None, device: str | torch.device = "cpu"
    ) -> "LipEmbedder":
        """Load a front end.

        Args:
            source: A published lip-reading checkpoint (``.pth``, ``.pth.tar``, ...); a file of :meth:`save`; a trained
                audio-visual recogniser of ours as ``avsr:FOLDER``, whose lip network is taken; or ``random:SEED``, an
                untrained network for trying out a recipe.
            activation: Of a published file; None: what the file says (see
                :func:`~espnet_av.avss.convert.lipreading_conf`).
            device: Where to compute: ``cpu``, ``cuda``, ``auto``.

        Raises:
            MissingDataError: There is no such file.
            CheckpointError: It is damaged, of another network, or of another activation.
        """
        text = os.fspath(source)
        if text.startswith(AVSR_PREFIX):
            embedder = _from_avsr(Path(text.removeprefix(AVSR_PREFIX)))
        elif text.split(":")[0] == RANDOM_PREFIX and not Path(text).exists():
            embedder = _random(text)
        else:
            embedder = _from_file(find_checkpoint(text), activation)
        return embedder.to(resolve_device(device))


def _from_file(path: Path, activation: str | None) -> LipEmbedder:
    note = read_note(path)
    if note is not None and activation not in (None, note["conf"]["activation"]):
        allowed = [note["conf"]["activation"]]
        raise CheckpointError(describe(f"{path}: the front end has another activation", activation, allowed))
    state, report = from_lipreading(read_foreign(path))
    embedder = LipEmbedder(**(note["conf"] if note is not None else lipreading_conf(state, activation)))
    try:
        load_strictly(embedder.net, state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    embedder.name = note["name"] if note is not None else path.name
    logger.info("%s: %s, %s", path, report, embedder.conf)
    return embedder


def read_note(path: Path) -> dict[str, Any] | None:
    """Return name and sizes that :meth:`LipEmbedder.save` wrote into a file; None for any other file.

    Raises:
        CheckpointError: The file is damaged.
    """
    if path.suffix != ".safetensors":
        return None
    from safetensors import safe_open

    try:
        with safe_open(str(path), framework="pt") as content:
            note = (content.metadata() or {}).get(METADATA_KEY)
        return None if note is None else json.loads(note)
    except Exception as error:  # the library's own error class is private
        raise CheckpointError(describe(f"{path} is damaged or no safetensors file: {error}")) from error


def _from_avsr(folder: Path) -> LipEmbedder:
    """Take the lip network out of a recogniser of ours."""
    from espnet_av.avsr.inference import AVSR

    model = AVSR.from_pretrained(folder).model
    net = next((module for module in model.modules() if isinstance(module, LipResNet)), None)
    if net is None:
        raise CheckpointError(describe(f"{folder}: the recogniser does not look at lips", fix="take another one"))
    conf = lipreading_conf(net.state_dict())
    blocks = {type(module).__name__ for module in net.frontend3D}
    if "ReLU" in blocks:
        conf["activation"] = "relu"
    embedder = LipEmbedder(**conf, video_pool=net.video_pool, video_size=model.video_size)
    load_strictly(embedder.net, net.state_dict())
    embedder.name = f"lips of {folder.resolve().parent.name if folder.name == 'pack' else folder.resolve().name}"
    return embedder


def _random(text: str) -> LipEmbedder:
    seed = text.partition(":")[2] or "0"
    if not seed.isdigit():
        usage_error("the untrained front end takes a seed", got=text, allowed="random or random:N")
    logger.warning("lip embeddings of an UNTRAINED network (%s): only for trying out a recipe", text)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(seed))
        # cheap but for the last stage: published separators need the 512 values that it gives
        embedder = LipEmbedder(stem_channels=16, planes=(16, 32, 64, 512), activation="relu", video_pool=2)
    embedder.name = f"untrained, seed {seed}"
    return embedder

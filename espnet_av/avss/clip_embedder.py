# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One clip of mouth crops into one file of lip embeddings, in several crops and flips for training.

Axes: ``K`` variants, ``T`` video frames, ``H``/``W`` pixels, ``D`` embedding width.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from espnet_av.avss.lip_embedding import LipEmbedder
from espnet_av.avss.lips import read_mouth
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError, describe
from espnet_av.utils.files import atomic_write, is_disk_full

REACH = 4  # pixels that a random crop is off the centre, at most: all that 88 pixels out of 96 leave


def crop_variants(
    key: str, height: int, width: int, size: int, variants: int, seed: int
) -> list[tuple[int, int, bool]]:
    """Choose how each stored variant of a clip is cut, the same in every run.

    Args:
        key: Name of the clip.
        height: Of a frame, in pixels.
        width: Of a frame, in pixels.
        size: Side of the crop.
        variants: How many, ``K``.
        seed: Of the random crops.

    Returns:
        Top, left and flipped or not, ``K`` times: the centre crop, the same mirrored, then random crops in pairs of
        plain and mirrored. Random crops lie up to :data:`REACH` pixels off the centre.
    """
    top, left = round((height - size) / 2), round((width - size) / 2)
    places = [(top, left)]
    rng = np.random.default_rng([seed, zlib.crc32(key.encode())])

    def near(at: int, end: int) -> int:
        return int(rng.integers(max(0, at - REACH), min(end, at + REACH) + 1))

    while 2 * len(places) < variants:
        places.append((near(top, height - size), near(left, width - size)))
    return [(*places[index // 2], index % 2 == 1) for index in range(variants)]


@dataclass
class ClipEmbedder:
    """Callable ``(mouth crops, target) -> problem``: embed one clip into a file.

    Attributes:
        embedder: The front end.
        variants: Stored variants.
        seed: Of their random crops.
    """

    embedder: LipEmbedder
    variants: int = 1
    seed: int = 0

    def embed(self, frames: np.ndarray, key: str) -> np.ndarray:
        """Crops uint8 ``(T, H, W)`` -> float16 ``(T, D)``, or ``(K, T, D)`` with several variants."""
        size = self.embedder.video_size
        device = next(self.embedder.parameters()).device
        height, width = frames.shape[1:]
        results = []
        for top, left, flipped in crop_variants(key, height, width, size, self.variants, self.seed):
            crop = frames[:, top : top + size, left : left + size]
            crop = np.array(crop[:, :, ::-1] if flipped else crop)  # a copy: the file may be mapped
            vectors = self.embedder(torch.from_numpy(crop)[None].to(device))[0]
            results.append(vectors.cpu().numpy())
        lips = np.stack(results) if self.variants > 1 else results[0]
        if not np.isfinite(lips).all() or np.abs(lips).max() > np.finfo(np.float16).max:
            raise DataError(
                describe("the embeddings do not fit 16 bits", float(np.abs(lips).max()), "finite, to 65504")
            )
        return lips.astype(np.float16)

    def __call__(self, source: str, target: str) -> tuple[str, str]:
        """Embed a file of mouth crops.

        Returns:
            Short reason and message of what is wrong with the crops; both empty when the target is written.

        Raises:
            EnvironmentProblem: The disk is full.
        """
        try:
            lips = self.embed(read_mouth(source, self.embedder.video_size), Path(source).stem)
        except MissingDataError as error:
            return "no_crops", str(error)
        except DataError as error:
            return "bad_crops", str(error)
        try:
            with atomic_write(target, "wb") as stream:
                np.save(stream, lips, allow_pickle=False)
        except OSError as error:
            if is_disk_full(error):
                fix = "make room, then run again: done clips are kept"
                raise EnvironmentProblem(describe(f"the disk is full ({error})", fix=fix)) from error
            raise
        return "", ""


@dataclass(frozen=True)
class EmbedSettings:
    """What to compute.

    Attributes:
        front_end: See :meth:`~espnet_av.avss.lip_embedding.LipEmbedder.from_pretrained`.
        activation: Of a published front end; None: what its file says.
        cache_dir: Folder that several data folders share.
        variants: Stored crops and flips of each clip; 1: the centre crop.
        seed: Of the random crops.
        device: Where to compute.
    """

    front_end: str
    cache_dir: str
    activation: str | None = None
    variants: int = 1
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.variants < 1:
            raise UsageError(describe("--variants must be at least 1", got=self.variants))

    def load(self) -> ClipEmbedder:
        """Load the front end."""
        embedder = LipEmbedder.from_pretrained(self.front_end, activation=self.activation, device=self.device)
        return ClipEmbedder(embedder, self.variants, self.seed)

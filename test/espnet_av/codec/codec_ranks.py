# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A training of a small codec in one or two processes: ``codec_ranks.py FOLDER RANK WORLD``.

Every process takes its share of the same clips and writes ``FOLDER/WORLD.RANK.pt``.
"""

import random
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from espnet_av.codec.codebook import EuclideanCodebook
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.model import CodecModel
from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator

SIZES = (70, 30)  # vectors of the ranks: unequal, and together fewer than they are entries in the second codebook
STEPS = 2


def shared_vectors() -> Tensor:
    return torch.randn(sum(SIZES), 4, generator=torch.Generator().manual_seed(0))


def train_codebook(size: int, rank: int, world: int) -> dict[str, Tensor]:
    """K-means, then batches in which most entries die."""
    codebook = EuclideanCodebook(4, size, kmeans_iters=5).train()
    vectors = shared_vectors() if world == 1 else shared_vectors().split(SIZES)[rank]
    for scale in (1.0, 1.0, 0.1, 3.0):
        codebook(scale * vectors)
    return codebook.state_dict()


def train_model(rank: int, world: int) -> dict[str, Tensor]:
    """Both turns of a few batches; the bit rate is drawn by the model."""
    torch.manual_seed(3)
    discriminator = MultiScaleSTFTDiscriminator(n_ffts=[128, 256], channels=4)
    mel = {"n_ffts": [64, 256], "num_mels": [10, 40]}
    model = CodecModel(CodecGenerator.from_preset("tiny"), discriminator, mel_loss_conf=mel)
    torch.manual_seed(3 + rank)
    random.seed(rank)  # rank 0 draws as one process does, the others otherwise
    clips = torch.randn(STEPS, 4, 1200, generator=torch.Generator().manual_seed(1)) * 0.3
    clips = clips if world == 1 else clips.chunk(2, dim=1)[rank]
    wrapped = model if world == 1 else nn.parallel.DistributedDataParallel(
        model, find_unused_parameters=True, broadcast_buffers=False
    )  # fmt: skip
    optimizers = [torch.optim.SGD(part.parameters(), lr=1e-4) for part in (model.generator, model.discriminator)]
    result = {}
    for step, audio in enumerate(clips):
        for forward_generator in (True, False):
            output = wrapped(audio, forward_generator=forward_generator)
            output["loss"].backward()
            if step == 0:
                part = model.generator if forward_generator else model.discriminator
                name = "generator" if forward_generator else "discriminator"
                grads = {n: p.grad.clone() for n, p in part.named_parameters() if p.grad is not None}
                result |= {f"grad.{name}.{key}": grad for key, grad in grads.items()}
            optimizers[output["optim_idx"]].step()
            for optimizer in optimizers:
                optimizer.zero_grad()
        result |= {f"{step}.{key}": tensor.clone() for key, tensor in model.state_dict().items()}
    return result


def main(folder: Path, rank: int, world: int) -> None:
    """Run everything and write the result."""
    torch.set_num_threads(1)
    if world > 1:
        dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    result = {}
    for size in (16, 150):
        torch.manual_seed(7 + rank)
        result |= {f"codebook{size}.{key}": tensor for key, tensor in train_codebook(size, rank, world).items()}
    result |= train_model(rank, world)
    torch.save(result, folder / f"{world}.{rank}.pt")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))

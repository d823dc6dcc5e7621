# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``codec_killed.py STEP options``: a training of a codec that kills itself between two turns after STEP steps."""

import os
import signal
import sys

import torch

from espnet_av.bin import codec_train
from espnet_av.train.gan import GANTrainer

train_turn = GANTrainer.train_turn


def killed_turn(self: GANTrainer, turn: str, batch: dict, **options: bool) -> bool:
    """Kill the process when it is its time."""
    if self.progress.step == int(sys.argv[1]) and turn == "discriminator":
        os.kill(os.getpid(), signal.SIGKILL)
    return train_turn(self, turn, batch, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    GANTrainer.train_turn = killed_turn
    codec_train.main(sys.argv[2:])

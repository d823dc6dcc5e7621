# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the fault campaign runs on: a corpus of twelve short clips in the GRID manner, and configurations to match."""

from pathlib import Path

import numpy as np

from espnet_av.data.video_io import write_video

NAMES = "bbaf2n bgwb5s lrak9a pwij3p swiz3n sbbu2p lbwy9a prwd6p pgby6p brim8s bbaf3s lgwz1a".split()
TEST, VALID = NAMES[-2:], NAMES[-4:-2]
NUM_FRAMES = 16
TRAIN = """
model: avsr
model_conf:
  video_size: 32
  encoder_conf: {dim: 16, num_layers: 1, num_heads: 2, ffn_dim: 16, conv_pos: 4, conv_pos_groups: 1, stem_channels: 4,
    resnet_planes: [4, 4, 4, 8], resnet_activation: relu, num_classes: 0, feature_grad_mult: 1.0}
  decoder_conf: {num_layers: 1, num_heads: 2, ffn_dim: 16}
preprocessor_conf: {audio_masks: false, video_masks: false, interferers: {}}
batch_size: 2
max_epoch: 4
save_every_steps: 1
optim: adamw
grad_clip: 5.0
num_workers: 0
best_model_criterion: [[valid, loss, min]]
keep_nbest_models: [3]
"""
INFER = "{beam_size: 2, ctc_weight: 0.5, batch_size: 4}\n"


def write_clip(path: Path, seed: int, num_frames: int = NUM_FRAMES) -> None:
    """Write a clip of noise, 25 frames and 16000 samples per second; the container follows the suffix of an MP4."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 256, (num_frames, 28, 28, 3), dtype=np.uint8), 4, axis=1).repeat(4, axis=2)
    wave = (0.1 * rng.standard_normal(num_frames * 640)).astype(np.float32)
    target = path.with_suffix(".mp4")
    write_video(target, frames, fps=25, audio=wave, sample_rate=16000)
    target.replace(path)


def write_corpus(root: Path) -> Path:
    """Write the corpus with its lists and the configurations ``train.yaml`` and ``infer.yaml``."""
    (root / "s1").mkdir(parents=True)
    (root / "align" / "s1").mkdir(parents=True)
    for seed, name in enumerate(NAMES):
        write_clip(root / "s1" / f"{name}.mpg", seed)
        (root / "align" / "s1" / f"{name}.align").write_text("0 2000 sil\n2000 9000 bin\n9000 16000 blue\n")
    (root / "test.list").write_text("".join(f"{name}\n" for name in TEST))
    (root / "valid.list").write_text("".join(f"{name}\n" for name in VALID))
    (root / "train.yaml").write_text(TRAIN)
    (root / "infer.yaml").write_text(INFER)
    return root

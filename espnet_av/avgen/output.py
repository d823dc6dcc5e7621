# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the generator gives: mel, sound and motion of equal duration."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from espnet_av.avgen.clock import HOP_LENGTH, motion_frames, resample_linear
from espnet_av.avgen.pose import POSE_DIM, align_signs, vector_to_pose
from espnet_av.utils.errors import DataError, describe

if TYPE_CHECKING:
    from espnet_av.avgen.generation import Generation

QUATERNION = 4  # values of it, first in a head pose of seven values

#: Turns mel ``(B, bands, T)`` into sound ``(B, 256 T)`` or ``(B, 1, 256 T)``.
VocoderLike = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Generated:
    """One sample. All arrays are float32.

    Attributes:
        face: Face codes at the rate of the motion, ``(F, 256)``.
        head: Head pose at the same rate, ``(F, 7)``: quaternion (w, x, y, z) and translation; or angles ``(F, 4)``.
        mel: Natural logarithm of the mel bands at the mel rate, ``(T, 80)``.
        fps: Rate of the motion.
        wav: Sound at 22.05 kHz, ``(256 T,)``; None without a vocoder.
    """

    face: np.ndarray
    head: np.ndarray
    mel: np.ndarray
    fps: float = 30.0
    wav: np.ndarray | None = None

    @property
    def head_R(self) -> np.ndarray | None:  # noqa: N802 (the name of the array in files)
        """Rotation of the head, ``(F, 3, 3)``; None where the pose is given as angles."""
        return vector_to_pose(torch.from_numpy(self.head))[0].numpy() if self.head.shape[-1] == POSE_DIM else None

    @property
    def head_t(self) -> np.ndarray | None:
        """Translation of the head, ``(F, 3)``; None where the pose is given as angles."""
        return vector_to_pose(torch.from_numpy(self.head))[1].numpy() if self.head.shape[-1] == POSE_DIM else None


def resample_head(head: Tensor, num_out: int) -> Tensor:
    """Resample head poses ``(B, T, 7)`` or ``(B, T, 4)``; quaternions take the shorter way and keep their unit length.

    Args:
        head: Poses in natural units.
        num_out: Frames to give.
    """
    if head.shape[-1] != POSE_DIM:
        return resample_linear(head, num_out, 1)
    quaternion, translation = head[..., :QUATERNION], head[..., QUATERNION:]
    quaternion = resample_linear(torch.stack([align_signs(each) for each in quaternion]), num_out, 1)
    quaternion = quaternion / quaternion.norm(dim=-1, keepdim=True).clamp_min(1e-8)
    return torch.cat((quaternion, resample_linear(translation, num_out, 1)), dim=-1)


def finish(
    model: "Generation", frames: Tensor, *, fps: float = 30.0, vocoder: VocoderLike | None = None
) -> list[Generated]:
    """Turn standardised frames into samples.

    Args:
        model: The generator.
        frames: ``(B, T, D)``.
        fps: Rate of the motion.
        vocoder: Gives the sound; None: no sound.

    Raises:
        DataError: The vocoder gives another number of samples than 256 a frame.
    """
    face, head, mel = model.decode(frames)
    num_motion = max(1, motion_frames(frames.shape[1], fps))
    face = resample_linear(face, num_motion, 1)
    head = resample_head(head, num_motion)
    wavs: list[np.ndarray | None] = [None] * len(mel)
    if vocoder is not None:
        sound = vocoder(mel.transpose(1, 2)).reshape(len(mel), -1) * model.audio_gain
        if sound.shape[1] != HOP_LENGTH * mel.shape[1]:
            what = "the vocoder does not belong to this mel"
            raise DataError(describe(what, f"{sound.shape[1]} samples", f"{HOP_LENGTH} for each of {mel.shape[1]}"))
        wavs = [_array(each) for each in sound]
    return [
        Generated(_array(face[row]), _array(head[row]), _array(mel[row]), fps, wavs[row]) for row in range(len(mel))
    ]


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()

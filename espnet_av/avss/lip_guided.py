# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What separators that look at lips have in common: lips that are missing or too short, items of unequal length.

Axes: ``B`` mixtures, ``S`` speakers of each, ``L`` samples, ``Tv`` video frames, ``Cv`` embedding width.
"""

import abc

import torch
from torch import Tensor, nn

from espnet_av.utils.errors import DataError, describe

SAMPLES_PER_FRAME = 640  # of video: 16 kHz, 25 frames per second


class LipGuided(nn.Module, abc.ABC):
    """A network that extracts the speaker whose lips it is shown; subclasses define :meth:`_separate`.

    Args:
        video_dim: Width ``Cv`` of the lip embeddings.
        lips_tolerance: Video frames by which lips may differ from the audio; the last frame is repeated, or frames
            are cut. None: any length is passed on.
        samples_per_frame: Audio samples per video frame.
    """

    def __init__(
        self, video_dim: int, *, lips_tolerance: int | None = 1, samples_per_frame: int = SAMPLES_PER_FRAME
    ) -> None:
        super().__init__()
        self.video_dim = video_dim
        self.lips_tolerance = lips_tolerance
        self.samples_per_frame = samples_per_frame
        self.no_video = nn.Parameter(torch.zeros(video_dim))

    def forward(
        self,
        mix: Tensor,
        lips: Tensor | None = None,
        mix_lengths: Tensor | None = None,
        *,
        has_lips: Tensor | None = None,
    ) -> Tensor:
        """Extract one voice per item.

        Norms and attention see all of an item, so padding may not be seen: items of unequal length run in groups of
        equal length. In evaluation each item's result is the same alone, in a batch and padded.

        What comes before the fusion sees no lips. A network may do it once for all speakers of a mixture, when ``lips``
        holds several of each.

        Args:
            mix: Mixtures ``(B, L)``, zero-padded at the end.
            lips: Embeddings ``(B * S, Tv, Cv)`` of the speakers to extract, those of a mixture in a row; None where no
                lips are known.
            mix_lengths: Valid samples ``(B,)``; None: all.
            has_lips: ``(B * S,)`` bool, False where a speaker's lips are missing and not to be read.

        Returns:
            ``(B * S, 1, L)``, zero past an item's length.

        Raises:
            DataError: Shapes do not fit, or lips and audio differ by more than ``lips_tolerance`` frames.
        """
        self._check_input(mix, lips)
        lengths = [mix.shape[1]] * len(mix) if mix_lengths is None else [int(n) for n in mix_lengths]
        if len(lengths) != len(mix) or not all(0 < n <= mix.shape[1] for n in lengths):
            raise DataError(describe("mix_lengths do not fit the mixtures", lengths, f"1 to {mix.shape[1]}"))
        speakers = 1 if lips is None else len(lips) // len(mix)
        if all(n == mix.shape[1] for n in lengths):
            return self._separate(mix, self._prepare_lips(mix, lips, has_lips))
        if speakers > 1:
            mix = mix.repeat_interleave(speakers, dim=0)
            lengths = [length for length in lengths for _ in range(speakers)]
        output = mix.new_zeros(len(mix), 1, mix.shape[1])
        for length in sorted(set(lengths)):
            rows = torch.tensor([i for i, n in enumerate(lengths) if n == length], device=mix.device)
            part = mix[rows, :length]
            embeddings = None if lips is None else lips[rows, : self._frames_of_padded(lips, length, mix)]
            known = None if has_lips is None else has_lips[rows]
            voices = self._separate(part, self._prepare_lips(part, embeddings, known))
            padded = torch.nn.functional.pad(voices, (0, mix.shape[1] - length))
            output = output.index_copy(0, rows, padded.to(output.dtype))
        return output

    def _check_input(self, mix: Tensor, lips: Tensor | None) -> None:
        if mix.dim() != 2 or not mix.shape[1]:
            raise DataError(describe("mixtures have the wrong shape", tuple(mix.shape), "(batch, samples)"))
        if lips is not None and (lips.dim() != 3 or lips.shape[0] % len(mix) or lips.shape[2] != self.video_dim):
            allowed = f"({len(mix)} or a multiple, frames, {self.video_dim})"
            raise DataError(describe("lip embeddings have the wrong shape", tuple(lips.shape), allowed))

    def _frames_of_padded(self, lips: Tensor, length: int, mix: Tensor) -> int:
        """Return the valid frames of lips that are padded like a mixture of which ``length`` samples are valid."""
        if length == mix.shape[1]:
            return lips.shape[1]
        return min(lips.shape[1], self.num_video_frames(length))

    def num_video_frames(self, num_samples: int) -> int:
        """Return the video frames that belong to so many samples (rounded, at least 1)."""
        return max(1, round(num_samples / self.samples_per_frame))

    def _prepare_lips(self, mix: Tensor, lips: Tensor | None, has_lips: Tensor | None) -> Tensor:
        """Return embeddings ``(B, Tv, Cv)`` of the right length, with those put in that are missing."""
        expected = self.num_video_frames(mix.shape[1])
        if lips is None:
            return self.no_video.expand(len(mix), expected, -1)
        lips = self._fit_lips(lips.to(self.no_video.dtype), expected, mix.shape[1])
        if has_lips is None:
            return lips + 0 * self.no_video if self.training else lips  # every parameter has a gradient
        return torch.where(has_lips.to(lips.device, torch.bool).view(-1, 1, 1), lips, self.no_video)

    def _fit_lips(self, lips: Tensor, expected: int, num_samples: int) -> Tensor:
        """Cut or repeat the last frame within the tolerance."""
        if self.lips_tolerance is None:
            return lips
        difference = abs(lips.shape[1] - num_samples / self.samples_per_frame)
        if difference > self.lips_tolerance:
            raise DataError(
                describe(
                    f"lips do not last as long as the mixture of {num_samples} samples",
                    got=f"{lips.shape[1]} frames",
                    allowed=f"{expected} +- {self.lips_tolerance}",
                    fix="cut both to the same stretch of time",
                )
            )
        missing = expected - lips.shape[1]
        if missing > 0:
            return torch.cat([lips, lips[:, -1:].expand(-1, missing, -1)], dim=1)
        return lips[:, :expected]

    @abc.abstractmethod
    def _separate(self, mix: Tensor, lips: Tensor) -> Tensor:
        """``(B, L)``, ``(B * S, Tv, Cv)`` -> ``(B * S, 1, L)``; all of both is valid."""

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From one utterance's files to what the recogniser takes: aligned, cut, augmented and tokenised.

The same object serves training, statistics and inference; only ``train=True`` draws random numbers, and all of them
from the generator of the item, so that an epoch repeats whatever the number of loader workers.
"""

from collections.abc import Callable

import numpy as np

from espnet_av.avsr.augment import AudioAugment, VideoAugment
from espnet_av.avsr.video import center_crop
from espnet_av.data.av_clock import AVClock
from espnet_av.utils.errors import DataError, describe


class AVSRPreprocessor:
    """Callable ``(uid, data, rng) -> data`` for the names ``speech``, ``video`` and ``text``.

    Args:
        train: Draw crops and augmentations; otherwise cut the centre and change nothing.
        encode: Function from text to token ids; None drops the text.
        clock: Frame rate and sample rate of the corpus.
        crop_size: Height and width of the cut, in pixels.
        audio_augment: Changes the waveform in training; None leaves it.
        video_augment: Cuts and masks the frames in training; None cuts the centre.
    """

    def __init__(
        self,
        train: bool,
        encode: Callable[[str], list[int]] | None,
        clock: AVClock | None = None,
        crop_size: int = 88,
        audio_augment: AudioAugment | None = None,
        video_augment: VideoAugment | None = None,
    ) -> None:
        self.train = train
        self.encode = encode
        self.clock = clock or AVClock()
        self.crop_size = crop_size
        self.audio_augment = audio_augment
        self.video_augment = video_augment

    def __call__(
        self, uid: str, data: dict[str, np.ndarray], rng: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """Return ``speech`` float32 (640 T,), ``video`` uint8 (T, crop, crop) and ``text`` int64 (L,).

        Raises:
            DataError: The clip has no frames, or the text no token.
        """
        video, speech = data["video"], data["speech"]
        if video.ndim != 3 or len(video) == 0:
            raise DataError(describe(f"{uid}: mouth crops must be (T, H, W) with T > 0", got=video.shape))
        speech = self.clock.fit_audio(speech, len(video)).astype(np.float32)
        if self.train and rng is not None:
            if self.audio_augment is not None:
                speech = self.audio_augment(speech, rng, exclude=uid)
            video = self.video_augment(video, rng) if self.video_augment is not None else center_crop(video, self.crop_size)
        else:
            video = center_crop(video, self.crop_size)
        item = {"speech": speech, "video": np.ascontiguousarray(video)}
        if self.encode is not None and "text" in data:
            item["text"] = self._tokens(uid, str(data["text"]))
        return item

    def _tokens(self, uid: str, text: str) -> np.ndarray:
        ids = np.asarray(self.encode(text), dtype=np.int64)
        if ids.size == 0:
            raise DataError(describe(f"{uid}: the transcript has no token", got=text, fix="run stage 3 (filter) again"))
        return ids

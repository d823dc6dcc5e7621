# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A photo-real decoder that users install themselves, behind the interface of the other renderers.

Such decoders (a personal codec avatar with its rasteriser) come with data sets that only their owners may pass on, and
need a GPU. Whoever has one writes a few lines that call it::

    # my_decoder.py, somewhere on PYTHONPATH
    def build():                       # called once
        avatar = ...
        def render(face, head_R, head_t, fps):
            ...                        # (F, 256), (F, 3, 3), (F, 3) float32 -> pictures (H, W, 3) uint8, one by one
        return render

and names it: ``--renderer codec --codec my_decoder:build``, or ``ESPNET_AV_CODEC_RENDERER=my_decoder:build``. Of poses
that are joint angles, ``head_R`` holds the angles ``(F, 4)`` and ``head_t`` is None.
"""

import importlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.utils.errors import DataError, EnvironmentProblem, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated

VARIABLE = "ESPNET_AV_CODEC_RENDERER"


class CodecFace:
    """Draw with a user's decoder, which is loaded with the first sample.

    Args:
        source: ``module:callable`` that returns the decoder; None: that of ``ESPNET_AV_CODEC_RENDERER``.

    Raises:
        UsageError: The name has another form.
        EnvironmentProblem: None is named.
    """

    def __init__(self, source: str | None = None) -> None:
        source = source or os.environ.get(VARIABLE)
        if not source:
            fix = f"install a decoder and name it: --codec module:callable or {VARIABLE}, or pass --renderer mesh"
            allowed = "a decoder of yours; none comes with this package, and 'drtk' on PyPI is not Meta's rasteriser"
            raise EnvironmentProblem(describe("there is no photo-real decoder", allowed=allowed, fix=fix))
        self.module, colon, self.name = source.partition(":")
        if not (self.module and colon and self.name):
            usage_error("a decoder is named as module:callable", source, fix="for example --codec my_decoder:build")
        self._decoder: Any = None

    def __call__(self, sample: "Generated") -> Iterator[np.ndarray]:
        """Yield the decoder's picture for each frame of the motion.

        Raises:
            EnvironmentProblem: The decoder cannot be imported.
            UsageError: It is none.
            DataError: It gives something else than a picture for each frame.
        """
        decoder = self._decoder = self._decoder or self._load()
        head, shift = (sample.head, None) if sample.head_R is None else (sample.head_R, sample.head_t)
        count = 0
        pictures = decoder(sample.face, head, shift, sample.fps)
        if not hasattr(pictures, "__iter__") and not hasattr(pictures, "__getitem__"):
            what = f"{self.module}:{self.name} gives no pictures"
            raise DataError(describe(what, type(pictures).__name__, "one after the other"))
        for given in pictures:
            picture = np.asarray(given)
            count += 1
            if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
                got = (str(picture.dtype), picture.shape)
                raise DataError(describe(f"{self.module}:{self.name} gives no pictures", got, "uint8 (H, W, 3)"))
            yield picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2]
        if count != len(sample.face):
            what = f"{self.module}:{self.name} gives another number of pictures"
            raise DataError(describe(what, count, f"{len(sample.face)}, one for each frame of the motion"))

    def _load(self) -> Any:
        try:
            build = getattr(importlib.import_module(self.module), self.name)
        except (ImportError, AttributeError) as error:
            what = f"the decoder {self.module}:{self.name} cannot be imported ({error})"
            raise EnvironmentProblem(describe(what, fix="put it on PYTHONPATH, or pass --renderer mesh")) from error
        decoder = build() if callable(build) else None
        if not callable(decoder):
            got = type(decoder if callable(build) else build).__name__
            fix = "let it return a function (face, head_R, head_t, fps) -> pictures"
            usage_error(f"{self.module}:{self.name} builds no decoder", got, "a callable that returns a callable", fix)
        return decoder

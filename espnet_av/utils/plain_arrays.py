# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What stands for NumPy's classes while a file is read that names them: arrays of numbers and text, nothing else.

NumPy's own ``dtype`` takes over any flags that a pickle gives it, among them that numbers are addresses of objects.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from espnet_av.utils.errors import DataError, describe

_make_array: Any = np.empty(0).__reduce__()[0]  # NumPy's own; where it lies differs between versions
_KINDS = re.compile(r"[?bBhHiIlLqQefdg]|[biufc][0-9]{1,2}|[SU][0-9]{1,7}")


class ForeignClassError(DataError):
    """A file that names something outside the allow-list; nothing of it was run."""


class Kind:
    """What a file says of the numbers of an array.

    Attributes:
        dtype: NumPy's description of them.
    """

    def __init__(self, code: str, *_: object) -> None:
        if not isinstance(code, str) or not _KINDS.fullmatch(code):
            raise ForeignClassError(describe("the file holds an array of something else than numbers", got=str(code)))
        self.dtype = np.dtype(code)

    def __setstate__(self, state: Any) -> None:
        """Take over the order of bytes, and nothing else; called while reading."""
        plain = isinstance(state, tuple) and len(state) >= 8 and state[2:5] == (None, None, None)
        if not plain or state[1] not in ("<", ">", "|", "="):
            raise ForeignClassError(describe("the file holds an array of an unusual kind", got=str(state)[:80]))
        self.dtype = self.dtype if state[1] == "|" else self.dtype.newbyteorder(state[1])


class PlainArray(np.ndarray):
    """An array that a file fills; it takes numbers only, and only as many as there are bytes for."""

    def __new__(cls, *_: object) -> "PlainArray":
        """Refuse arrays that are not filled from bytes."""
        raise ForeignClassError(describe("the file makes an array in an unusual way", got="numpy.ndarray(...)"))

    def __setstate__(self, state: Any) -> None:
        """Take the numbers over; called while reading."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise ForeignClassError(describe("an array with an unusual state", got=type(state).__name__))
        version, shape, kind, fortran, content = state
        sizes = isinstance(shape, tuple) and all(isinstance(size, int) and size >= 0 for size in shape)
        if not (sizes and isinstance(kind, Kind) and isinstance(content, bytes)):
            raise ForeignClassError(describe("an array with an unusual state", got=str(shape)[:80]))
        if math.prod(shape) * kind.dtype.itemsize != len(content):
            raise DataError(describe("an array that is not of its size", got=shape, allowed=f"{len(content)} bytes"))
        filled: Any = (version, shape, kind.dtype, bool(fortran), content)  # NumPy's stub wants its own kind of bool
        super().__setstate__(filled)

    def __reduce__(self) -> Any:
        """Write it as any other array."""
        return self.view(np.ndarray).__reduce__()


def reconstruct(kind: type, shape: tuple, typecode: bytes) -> np.ndarray:
    """Return an empty array for :meth:`PlainArray.__setstate__`; stands for NumPy's ``_reconstruct``."""
    if kind is not PlainArray:
        raise ForeignClassError(describe("the file holds an array of a foreign class", got=str(kind)))
    return _make_array(PlainArray, (0,), b"b")


def scalar(kind: Kind, content: bytes = b"") -> Any:
    """Return a number out of its bytes; stands for NumPy's ``scalar``."""
    if not isinstance(kind, Kind) or not isinstance(content, bytes) or len(content) != kind.dtype.itemsize:
        raise ForeignClassError(describe("the file holds a NumPy scalar that is no number", got=str(kind)))
    return np.frombuffer(content, kind.dtype)[0].item()


#: Name in a file -> what stands for it.
STAND_INS: dict[str, Callable[..., Any]] = {
    "numpy.ndarray": PlainArray,
    "numpy.dtype": Kind,
    **{f"numpy.{core}.multiarray._reconstruct": reconstruct for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray.scalar": scalar for core in ("core", "_core")},
}

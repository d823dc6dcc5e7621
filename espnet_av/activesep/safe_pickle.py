# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Pickles that corpora force upon us, read without running anything that is not on a short list.

Graphs, cached observations and data points of SoundSpaces are pickles. A pickle names classes and calls them; here
only the names of :data:`ALLOWED` exist: plain containers, arrays, and stand-ins that keep what they are given.
This is the one module that imports ``pickle``.
"""

import codecs
import collections
import io
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write

_PROTOCOL = 3  # which Python 3.6 can read, for which the published programs were written
_make_array = np.empty(0).__reduce__()[0]  # NumPy's own; where it lies differs between versions


class ForeignClassError(DataError):
    """A pickle that names something outside the allow-list; nothing of it was run."""


class Record:
    """Keeps the state of an object whose class is not imported, as attributes."""

    def __setstate__(self, state: Any) -> None:
        """Take the attributes over; called while unpickling."""
        parts = state if isinstance(state, tuple) else (state,)
        for part in parts:
            if part is None:
                continue
            if not isinstance(part, dict) or not all(isinstance(name, str) for name in part):
                raise ForeignClassError(describe("a pickled object with an unusual state", got=type(part).__name__))
            vars(self).update(part)


class GraphRecord(Record):
    """What a pickled ``networkx.Graph`` holds: among others ``_node`` and ``_adj``."""


class FilterRecord(Record):
    """What a pickled filter of the package ``slab``, or a set of them, holds."""


class ObservationRecord(dict):
    """What a pickled habitat ``Observations`` holds: a dictionary."""

    def __setstate__(self, state: Any) -> None:
        """Leave out attributes beside the items; called while unpickling."""


def _encode(text: str, encoding: str = "latin1") -> bytes:
    if encoding != "latin1":
        raise ForeignClassError(describe("a pickle asks for a text encoding", got=encoding, allowed="latin1"))
    return codecs.encode(text, "latin1")


def _reconstruct(kind: type, shape: tuple, typecode: bytes) -> np.ndarray:
    if kind is not np.ndarray:
        raise ForeignClassError(describe("a pickle holds an array of a foreign class", got=str(kind)))
    return _make_array(np.ndarray, (0,), b"b")


def _scalar(kind: np.dtype, content: bytes = b"") -> Any:
    if not isinstance(kind, np.dtype) or kind.hasobject or not isinstance(content, bytes):
        raise ForeignClassError(describe("a pickle holds a NumPy scalar that is no number", got=str(kind)))
    return np.frombuffer(content, kind)[0].item()


#: (module, name) in the pickle -> what stands for it here.
ALLOWED: Mapping[tuple[str, str], Any] = {
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "set"): set,
    ("__builtin__", "dict"): dict,
    ("__builtin__", "list"): list,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): _encode,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("networkx.classes.graph", "Graph"): GraphRecord,
    ("networkx.classes.reportviews", "NodeView"): Record,
    ("networkx.classes.reportviews", "EdgeView"): Record,
    ("networkx.classes.reportviews", "DegreeView"): Record,
    ("habitat.core.simulator", "Observations"): ObservationRecord,
    ("slab.hrtf", "HRTF"): FilterRecord,
    ("slab.filter", "Filter"): FilterRecord,
}


class _Reader(pickle.Unpickler):
    """An unpickler to which nothing but :data:`ALLOWED` exists."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the pickle."""
        if (module, name) not in ALLOWED:
            raise ForeignClassError(
                describe("the pickle names a class that is not allowed; nothing of it was run", got=f"{module}.{name}")
            )
        return ALLOWED[module, name]

    def persistent_load(self, pid: Any) -> Any:
        """Refuse objects that lie outside the file."""
        raise ForeignClassError(describe("the pickle refers to something outside of it", got=str(pid)))


def loads(content: bytes, name: str = "pickle") -> Any:
    """Read a pickle from bytes.

    Args:
        content: The pickle.
        name: What to call it in errors.

    Raises:
        ForeignClassError: It names a class that is not allowed; nothing was run.
        DataError: It is damaged.
    """
    try:
        return _Reader(io.BytesIO(content)).load()
    except ForeignClassError as error:
        raise ForeignClassError(
            f"{name}: {error}; fix: take the file from its publisher again, or leave it out"
        ) from None
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            describe(f"{name} is no pickle that can be read ({error})", fix="fetch or write it again")
        ) from error


def read_pickle(path: str | os.PathLike) -> Any:
    """Read a pickle file; see :func:`loads`.

    Raises:
        MissingDataError: There is no such file.
        ForeignClassError: It names a class that is not allowed; nothing was run.
        DataError: It is damaged.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise MissingDataError(describe("no such file", got=str(path))) from error
    return loads(content, str(path))


def write_pickle(path: str | os.PathLike, value: Any) -> None:
    """Write plain containers, arrays or a ``networkx.Graph`` for programs that read nothing but pickles."""
    with atomic_write(path, "wb") as stream:
        pickle.dump(value, stream, protocol=_PROTOCOL)

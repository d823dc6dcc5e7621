# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Pickles that corpora force upon us, read without running anything that is not on a short list.

Graphs, cached observations and data points of SoundSpaces are pickles. A pickle names classes and calls them; here
only the names of :data:`ALLOWED` exist: plain containers, arrays of numbers and text, and stand-ins that keep what they
are given. A pickle can also ask for memory out of proportion to its size; that is counted.
This is the one module that imports ``pickle``.
"""

import codecs
import collections
import functools
import io
import os
import pickle
import pickletools
from collections.abc import Callable, Mapping, Sized
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.plain_arrays import STAND_INS, ForeignClassError

_PROTOCOL = 3  # which Python 3.6 can read, for which the published programs were written
_MEMORY_PER_BYTE, _FREE_MEMORY = 64, 1 << 20  # what containers may take, by the size of the pickle


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


#: (module, name) in the pickle -> what stands for it here.
ALLOWED: Mapping[tuple[str, str], Any] = {
    ("builtins", "dict"): dict,
    ("builtins", "list"): list,
    ("builtins", "tuple"): tuple,
    ("builtins", "set"): set,
    ("__builtin__", "dict"): dict,
    ("__builtin__", "list"): list,
    ("__builtin__", "tuple"): tuple,
    ("__builtin__", "set"): set,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): collections.defaultdict,
    ("_codecs", "encode"): _encode,
    **{(module, last): stand_in for name, stand_in in STAND_INS.items() for module, _, last in [name.rpartition(".")]},
    ("networkx.classes.graph", "Graph"): GraphRecord,
    ("networkx.classes.reportviews", "NodeView"): Record,
    ("networkx.classes.reportviews", "EdgeView"): Record,
    ("networkx.classes.reportviews", "DegreeView"): Record,
    ("habitat.core.simulator", "Observations"): ObservationRecord,
    ("slab.hrtf", "HRTF"): FilterRecord,
    ("slab.filter", "Filter"): FilterRecord,
}


#: Those that copy what they are given.
_COPYING = (dict, list, tuple, set, collections.OrderedDict, collections.defaultdict, _encode)


class _Reader(pickle.Unpickler):
    """An unpickler to which nothing but :data:`ALLOWED` exists."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content))
        self._left = _FREE_MEMORY + _MEMORY_PER_BYTE * len(content)

    def _charge(self, make: Callable, *arguments: Any) -> Any:
        """Call one of :data:`_COPYING` if there is memory for it."""
        self._left -= 64 + 8 * sum(len(argument) for argument in arguments if isinstance(argument, Sized))
        if self._left < 0:
            raise ForeignClassError(describe("the pickle asks for much more memory than its size"))
        return make(*arguments)

    def find_class(self, module: str, name: str) -> Any:
        """Return what stands for a name in the pickle."""
        if (module, name) not in ALLOWED:
            raise ForeignClassError(
                describe("the pickle names a class that is not allowed; nothing of it was run", got=f"{module}.{name}")
            )
        found = ALLOWED[module, name]
        return functools.partial(self._charge, found) if found in _COPYING else found

    def persistent_load(self, pid: Any) -> Any:
        """Refuse objects that lie outside the file."""
        raise ForeignClassError(describe("the pickle refers to something outside of it", got=str(pid)))


_DAMAGES = (
    *(pickle.UnpicklingError, EOFError, AttributeError, IndexError, KeyError, TypeError, ValueError, ImportError),
    *(OverflowError, MemoryError, RecursionError, UnicodeError),
)


def _refuse_large_memo(content: bytes) -> None:
    """Raise where a pickle numbers an object so that the table of all numbers would fill the memory."""
    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"object number {argument} in {len(content)} bytes")


def loads(content: bytes, name: str = "pickle") -> Any:
    """Read a pickle from bytes.

    Args:
        content: The pickle.
        name: What to call it in errors.

    Raises:
        ForeignClassError: It names a class that is not allowed; nothing was run.
        DataError: It is damaged, or claims more memory than it holds.
    """
    try:
        _refuse_large_memo(content)
        return _Reader(content).load()
    except ForeignClassError as error:
        raise ForeignClassError(
            f"{name}: {error}; fix: take the file from its publisher again, or leave it out"
        ) from None
    except _DAMAGES as error:
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

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Readers for files that others made: nothing is executed, and what a file may claim of memory is bounded.

They raise what readers of good files raise on damage, ``yaml.YAMLError`` or ``ValueError``, so that callers tell it in
their own words.
"""

import contextlib
import json
import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    import numpy as np

MIB = 1 << 20
MAX_YAML_BYTES = 32 * MIB
MAX_YAML_VALUES = 2_000_000  # with aliases written out
MAX_MERGED = 16  # mappings that one merge key may name
MAX_MERGED_KEYS = 10_000
MAX_JSON_BYTES = 1024 * MIB
MAX_ARCHIVE_BYTES = 2048 * MIB
MAX_TAR_HEADER_BYTES = MIB
_EXTENDED_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE)


class _Loader(yaml.SafeLoader):
    """The safe loader with bounds for merge keys, which copy what they name."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Write merge keys out."""
        for key, value in node.value:
            if key.tag == "tag:yaml.org,2002:merge" and len(value.value) > MAX_MERGED_KEYS:
                raise yaml.YAMLError(f"a merge key names more than {MAX_MERGED_KEYS} values")
            if (
                key.tag == "tag:yaml.org,2002:merge"
                and isinstance(value, yaml.SequenceNode)
                and len(value.value) > MAX_MERGED
            ):
                raise yaml.YAMLError(f"a merge key names more than {MAX_MERGED} mappings")
        super().flatten_mapping(node)
        if len(node.value) > MAX_MERGED_KEYS * MAX_MERGED:
            raise yaml.YAMLError("merge keys multiply")


def parse_yaml(text: str) -> Any:
    """Read YAML of plain values.

    Raises:
        yaml.YAMLError: It is none, names objects, or is larger than any configuration: in itself, in depth, or with its
            aliases written out.
    """
    if len(text) > MAX_YAML_BYTES:
        raise yaml.YAMLError(f"{len(text)} characters; allowed: {MAX_YAML_BYTES}")
    try:
        loader = _Loader(text)
        try:
            content = loader.get_single_data()
        finally:
            loader.dispose()
        if _count(content, {}, set()) > MAX_YAML_VALUES:
            raise yaml.YAMLError(f"more than {MAX_YAML_VALUES} values with aliases written out")
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply, or within itself") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise yaml.YAMLError(f"a value that cannot be read ({error})") from error
    return content


def read_yaml(path: str | os.PathLike) -> Any:
    """Read a YAML file; see :func:`parse_yaml`.

    Raises:
        yaml.YAMLError: Likewise, and where it is no text.
        OSError: It cannot be opened.
    """
    with open(path, "rb") as stream:
        content = stream.read(MAX_YAML_BYTES + 1)
    try:
        return parse_yaml(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise yaml.YAMLError(f"no text in UTF-8 ({error})") from error


def _count(value: Any, known: dict[int, int], above: set[int]) -> int:
    """Return how many values there are, each alias counted as what it stands for."""
    if not isinstance(value, (dict, list, tuple, set)):
        return 1
    if id(value) in above:
        raise yaml.YAMLError("a value that holds itself")
    if id(value) not in known:
        above.add(id(value))
        parts = [*value.keys(), *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(part, known, above) for part in parts)
        above.discard(id(value))
    return known[id(value)]


def parse_json(text: str | bytes) -> Any:
    """Read JSON.

    Raises:
        ValueError: It is none, or nested deeper than any file of ours.
    """
    try:
        return json.loads(text)
    except (RecursionError, MemoryError) as error:
        raise ValueError("nested too deeply or too large") from error


def gunzip(content: bytes, max_bytes: int = MAX_JSON_BYTES) -> bytes:
    """Decompress gzip.

    Args:
        content: One or more members.
        max_bytes: Most that may come out.

    Raises:
        ValueError: It is damaged or cut off, or more comes out.
    """
    parts, left = [], max_bytes
    try:
        while content:
            unpacker = zlib.decompressobj(wbits=31)
            parts.append(unpacker.decompress(content, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise ValueError(f"more than {max_bytes} bytes come out of it")
            if not unpacker.eof:
                raise ValueError("it is cut off")
            content = unpacker.unused_data.lstrip(b"\0")
    except zlib.error as error:
        raise ValueError(f"it is damaged ({error})") from error
    return b"".join(parts)


def load_npy(path: str | os.PathLike, *, mmap: bool = False) -> "np.ndarray":
    """Read an array of numbers from a ``.npy`` file.

    Args:
        path: The file.
        mmap: Leave it in the file until it is used.

    Raises:
        ValueError: It is damaged, holds Python objects, or claims more than it holds.
        OSError: It cannot be opened.
    """
    import numpy as np

    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # no memory is asked for yet
        if not isinstance(array, np.ndarray):
            raise ValueError("it is no .npy file")
        return array if mmap else np.load(path, allow_pickle=False)
    except (MemoryError, OverflowError, SyntaxError, TypeError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"it is damaged or claims more than it holds ({error})") from error


class Arrays(Mapping):
    """The arrays of a ``.npz`` file by name.

    Attributes:
        files: Their names.
    """

    def __init__(self, archive: "np.lib.npyio.NpzFile") -> None:
        self._archive = archive
        self.files: list[str] = list(archive.files)

    def __getitem__(self, name: str) -> "np.ndarray":
        """Read an array.

        Raises:
            KeyError: There is none of this name.
            ValueError: What has its name is none.
        """
        found = self._archive[name]
        if not hasattr(found, "dtype"):
            raise ValueError(f"{name} is no array")
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@contextlib.contextmanager
def open_npz(path: str | os.PathLike, max_bytes: int = MAX_ARCHIVE_BYTES) -> "Iterator[Arrays]":
    """Open a ``.npz`` file; its arrays are read when they are asked for.

    Args:
        path: The file.
        max_bytes: Most that its arrays may take together.

    Raises:
        ValueError: It is damaged, holds Python objects, or its arrays take more.
        OSError: It cannot be opened.
    """
    import numpy as np

    try:
        require_small_archive(path, max_bytes)
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is no .npz file")
            yield Arrays(archive)
    except (MemoryError, OverflowError, SyntaxError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ValueError(f"it is damaged or claims more than it holds ({error})") from error
    except NotImplementedError as error:
        raise ValueError(f"it is packed in an unusual way ({error})") from error


def require_small_archive(path: str | os.PathLike, max_bytes: int) -> None:
    """Raise ``ValueError`` where the files in a zip archive take more than ``max_bytes`` together."""
    with zipfile.ZipFile(path) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > max_bytes:
        raise ValueError(f"{total} bytes come out of it; allowed: {max_bytes}")


class BoundedTarInfo(tarfile.TarInfo):
    """A member of a tar archive whose name or extended header may not be huge; ``tarfile`` reads those into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in _EXTENDED_HEADERS and self.size > MAX_TAR_HEADER_BYTES:
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]  # a private method that stubs leave out


def read_member(archive: tarfile.TarFile, member: tarfile.TarInfo, max_bytes: int = MAX_ARCHIVE_BYTES) -> bytes:
    """Return the content of a plain file in a tar archive.

    Raises:
        tarfile.ReadError: It is larger than ``max_bytes``, is no plain file, or is cut off.
    """
    if member.size > max_bytes:
        raise tarfile.ReadError(f"{Path(member.name).name} has {member.size} bytes; allowed: {max_bytes}")
    stream = archive.extractfile(member) if member.isfile() else None
    if stream is None:
        raise tarfile.ReadError(f"{Path(member.name).name} is no plain file")
    return stream.read()

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The data folder, exchange format of all stages: ``key value`` files, sorted by key in byte order.

A folder holds ``wav.scp``, ``video.scp`` or ``mouth.scp``, ``text``, ``utt2spk``, ``spk2utt``, ``utt2num_samples``,
``utt2num_frames``, further streams, and two descriptions:

* ``streams``: one line ``<file> <name> <type>`` per stream, e.g. ``wav.scp speech sound``;
* ``data.json``: ``{"sample_rate": 16000, "fps": 25, "licence": "...", "description": "..."}``.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.files import atomic_write


@dataclass(frozen=True)
class Stream:
    """One line of ``streams``: a file of the folder, the name of its data in a batch, and the loader type."""

    file: str
    name: str
    type: str


def iter_lines(path: str | os.PathLike) -> Iterator[tuple[int, str, str]]:
    """Yield ``(line number, key, value)`` of a ``key value`` file; a key alone has the value ``""``.

    Raises:
        MissingDataError: If there is no such file.
        DataError: For an empty line, a byte-order mark, or text that is not UTF-8.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise MissingDataError(describe(f"no file {path}", fix="run the stage that writes it"))
    try:
        content = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        number = path.read_bytes()[: error.start].count(b"\n") + 1
        raise DataError(f"{path}:{number}: not UTF-8; fix: iconv -t UTF-8") from error
    if content.startswith("\ufeff"):
        raise DataError(f"{path}:1: starts with a byte-order mark; fix: save it as UTF-8 without one")
    lines = content.split("\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, 1):
        fields = line.strip().split(maxsplit=1)
        if not fields:
            raise DataError(f"{path}:{number}: empty line; fix: utils/fix_data_dir {path.parent}")
        yield number, fields[0], fields[1] if len(fields) == 2 else ""


def read_scp(path: str | os.PathLike, *, allow_empty: bool = False) -> dict[str, str]:
    """Read a ``key value`` file.

    Args:
        path: The file.
        allow_empty: Accept keys without a value (empty transcripts).

    Returns:
        Key to value, in the order of the file.

    Raises:
        MissingDataError: If there is no such file.
        DataError: For a malformed line or a key that occurs twice, with the line number.
    """
    table: dict[str, str] = {}
    seen: dict[str, int] = {}
    for number, key, value in iter_lines(path):
        if key in table:
            raise DataError(
                f"{path}:{number}: duplicate id '{key[:200]}' (first in line {seen[key]}); "
                "fix: remove or rename one of them"
            )
        if not value and not allow_empty:
            raise DataError(
                f"{path}:{number}: malformed line, '{key[:200]}' has no value; fix: write '{key[:200]} VALUE'"
            )
        table[key], seen[key] = value, number
    return table


def read_text(path: str | os.PathLike, *, allow_empty: bool = False) -> dict[str, str]:
    """Read transcripts, id to text. As :func:`read_scp`."""
    return read_scp(path, allow_empty=allow_empty)


def read_ints(path: str | os.PathLike) -> dict[str, int]:
    """Read a ``key number`` file such as ``utt2num_frames``; the first of comma-separated numbers counts.

    Raises:
        DataError: As :func:`read_scp`, or for a value that is no whole number.
    """
    table = {}
    for key, value in read_scp(path).items():
        number = value.split(",")[0]
        if not number.isascii() or not number.isdigit() or len(number) > 18:
            raise DataError(describe(f"{path}: '{key[:200]}' has no whole number", value[:40], "0, 1, 2, ..."))
        table[key] = int(number)
    return table


def write_scp(path: str | os.PathLike, table: Mapping[str, object]) -> None:
    """Write a ``key value`` file, sorted by key in byte order (``LC_ALL=C sort``), atomically.

    Raises:
        DataError: For a key with white space or a value with a line break.
    """
    with atomic_write(path) as stream:
        for key in sorted(table, key=lambda key: key.encode("utf-8")):
            value = str(table[key])
            if not key or key.split() != [key]:
                raise DataError(describe(f"{path}: an id must be one word", key))
            if "\n" in value or "\r" in value:
                raise DataError(describe(f"{path}: the value of '{key}' has a line break", value))
            stream.write(f"{key} {value}\n" if value else f"{key}\n")


def spk2utt(utt2spk: Mapping[str, str]) -> dict[str, str]:
    """Invert ``utt2spk``: speaker to its utterances, separated by blanks, both sorted."""
    speakers: dict[str, list[str]] = {}
    for utt in sorted(utt2spk, key=lambda key: key.encode("utf-8")):
        speakers.setdefault(utt2spk[utt], []).append(utt)
    return {speaker: " ".join(utts) for speaker, utts in speakers.items()}


class DataDir:
    """A data folder.

    Args:
        path: The folder; it need not exist yet when only written to.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)

    def __repr__(self) -> str:
        return f"DataDir({str(self.path)!r})"

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def has(self, name: str) -> bool:
        """Tell whether the folder holds this file."""
        return (self.path / name).is_file()

    @property
    def streams(self) -> list[Stream]:
        """The streams, in the order of the file ``streams``.

        Raises:
            MissingDataError, DataError: If the file is absent or a line is not ``<file> <name> <type>``.
        """
        found: list[Stream] = []
        for number, file, rest in iter_lines(self.path / "streams"):
            fields = rest.split()
            if len(fields) != 2:
                raise DataError(f"{self.path}/streams:{number}: malformed line; allowed: <file> <name> <type>")
            if any(fields[0] == stream.name for stream in found):
                raise DataError(f"{self.path}/streams:{number}: the name '{fields[0][:200]}' occurs twice")
            found.append(Stream(file, *fields))
        return found

    def path_name_type_list(self, names: Iterable[str] | None = None) -> list[tuple[str, str, str]]:
        """Return ``(path, name, type)`` of the streams, the form that datasets take.

        Args:
            names: Only these streams, in this order; None takes all.

        Raises:
            UsageError: If a wanted stream is absent.
        """
        triples = {stream.name: (str(self.path / stream.file), stream.name, stream.type) for stream in self.streams}
        wanted = list(triples) if names is None else list(names)
        for name in wanted:
            if name not in triples:
                raise UsageError(describe(f"{self.path}: no stream of this name", name, list(triples)))
        return [triples[name] for name in wanted]

    @property
    def meta(self) -> dict[str, Any]:
        """The content of ``data.json``; empty where there is none."""
        path = self.path / "data.json"
        if not path.is_file():
            return {}
        try:
            meta = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}: no JSON ({str(error)[:200]})") from error
        if not isinstance(meta, dict):
            raise DataError(describe(f"{path}: must hold an object", type(meta).__name__))
        return meta

    @property
    def keys(self) -> list[str]:
        """The utterance ids, of the first stream (or of ``wav.scp``, ``text`` or ``utt2spk`` without ``streams``)."""
        if self.has("streams"):
            streams = self.streams
            if not streams:
                raise DataError(describe(f"{self.path}/streams names no stream", allowed="<file> <name> <type>"))
            return list(read_scp(self.path / streams[0].file, allow_empty=True))
        for name in ("wav.scp", "video.scp", "text", "utt2spk"):
            if self.has(name):
                return list(read_scp(self.path / name, allow_empty=True))
        raise MissingDataError(describe(f"{self.path} is no data folder", fix="run stage 1 (prepare)"))

    def read(self, name: str, *, allow_empty: bool = False) -> dict[str, str]:
        """Read one of its ``key value`` files (:func:`read_scp`)."""
        return read_scp(self.path / name, allow_empty=allow_empty)

    def num_frames(self) -> dict[str, int]:
        """Video frames of every utterance (``utt2num_frames``)."""
        return read_ints(self.path / "utt2num_frames")

    def num_samples(self) -> dict[str, int]:
        """Audio samples of every utterance (``utt2num_samples``)."""
        return read_ints(self.path / "utt2num_samples")

    def write(self, name: str, table: Mapping[str, object]) -> None:
        """Write one of its ``key value`` files; ``utt2spk`` brings ``spk2utt`` along."""
        write_scp(self.path / name, table)
        if name == "utt2spk":
            write_scp(self.path / "spk2utt", spk2utt({key: str(value) for key, value in table.items()}))

    def write_streams(self, streams: Iterable[Stream | tuple[str, str, str]]) -> None:
        """Write ``streams``, in the given order."""
        with atomic_write(self.path / "streams") as out:
            for stream in streams:
                stream = stream if isinstance(stream, Stream) else Stream(*stream)
                out.write(f"{stream.file} {stream.name} {stream.type}\n")

    def write_meta(self, meta: Mapping[str, Any]) -> None:
        """Write ``data.json``."""
        with atomic_write(self.path / "data.json") as out:
            json.dump(dict(meta), out, indent=2, sort_keys=True)
            out.write("\n")

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Which data a program read, in a few words: how many clips, and digests that are equal where the data are.

Of a data folder the tables count, of lists of files (``*.scp``) only the ids: a copy elsewhere is the same, and so is
the folder with one stream more. Of any other folder the names and sizes of its files count, and the content of those
that are neither sound nor pictures.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

LISTS = ".scp"
STREAMS = "streams"  # which of the lists training reads
MEDIA = frozenset((".wav", ".flac", ".mp3", ".ogg", ".opus", ".mp4", ".mkv", ".npy", ".npz", ".tar", ".png", ".jpg"))


def data_record(places: Iterable[str | os.PathLike]) -> dict[str, int | str]:
    """Tell what lies in data folders.

    Args:
        places: Data folders, folders of files, or single files, for which a list of ids or a table is taken.

    Returns:
        ``clips``, the number of ids (of files where there are no tables), ``ids`` and ``tables``, digests of 12 hex
        digits of the ids and of everything. Nothing where none of the places is there.
    """
    ids: set[str] = set()
    found: list[tuple[str, str]] = []
    for place in dict.fromkeys(Path(item) for item in places):
        if place.is_file():
            found += _read_file(place, ids)
        elif place.is_dir():
            tables = sorted(path for path in place.iterdir() if path.is_file() and path.suffix in ("", LISTS))
            if any(path.suffix == LISTS for path in tables):
                found += [item for path in tables if path.name != STREAMS for item in _read_file(path, ids)]
            else:
                found += sorted(_files_below(place, ids))
    if not ids:
        return {}
    return {"clips": len(ids), "ids": _digest(sorted(ids)), "tables": _digest([sorted(ids), found])}


def _read_file(path: Path, ids: set[str]) -> Iterator[tuple[str, str]]:
    if path.suffix == LISTS:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        ids.update(line.split(maxsplit=1)[0] for line in lines if line.strip())
    else:
        if path.suffix:
            ids.add(path.name)
        yield path.name, hashlib.sha256(path.read_bytes()).hexdigest()


def _files_below(folder: Path, ids: set[str]) -> Iterator[tuple[str, str]]:
    for parent, _, names in os.walk(folder):
        for path in (Path(parent, name) for name in names):
            name = path.relative_to(folder).as_posix()
            ids.add(name)
            if path.suffix in MEDIA:
                yield name, str(path.stat().st_size)
            else:
                yield name, hashlib.sha256(path.read_bytes()).hexdigest()


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:12]

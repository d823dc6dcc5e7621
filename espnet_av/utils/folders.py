# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Folders that are either whole or absent: fill a temporary one beside the target, then rename it."""

import contextlib
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from espnet_av.utils.files import is_locked, locked

_LOCK = "lock"


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give an empty temporary folder and move it onto ``path`` when the block ends well.

    An older ``path`` is replaced as a whole; on any error it stays as it was and the temporary folder is removed. What
    killed runs left beside ``path`` is removed, too.

    Args:
        path: The folder to make.
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    with locked(temporary / _LOCK):
        try:
            filled = temporary / "new"
            filled.mkdir()
            yield filled
            if path.exists():
                os.replace(path, temporary / "old")
            try:
                os.replace(filled, path)
            except OSError:
                with contextlib.suppress(FileNotFoundError):
                    os.replace(temporary / "old", path)
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def remove_leftovers(path: str | os.PathLike) -> None:
    """Remove temporary folders that killed runs of :func:`atomic_folder` left beside ``path``, none that is in use."""
    path = Path(os.path.abspath(path))
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        if left.is_dir() and not is_locked(left / _LOCK):
            shutil.rmtree(left, ignore_errors=True)

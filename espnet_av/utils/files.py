# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or absent: write beside the target, sync, rename."""

import contextlib
import errno
import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, mode: str = "w", **kwargs: Any) -> Iterator[IO]:
    """Open a temporary file in the target's folder and move it onto ``path`` when the block ends well.

    The folder is made when absent. On any error the temporary file is removed and an older ``path`` stays as it was.

    Args:
        path: The file to write.
        mode: ``"w"`` (UTF-8 unless told otherwise) or ``"wb"``.
        **kwargs: Passed to :func:`open`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if "b" not in mode:
        kwargs.setdefault("encoding", "utf-8")
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, mode, **kwargs) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextlib.contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path with the target's suffix, for writers that want a file name; rename it when done."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def locked(path: str | os.PathLike) -> Iterator[int]:
    """Hold a lock that one process has at a time; others wait.

    Args:
        path: Of the file that is locked; it stays.

    Yields:
        A file descriptor. A child process that gets it holds the lock, too, until it ends.
    """
    import fcntl

    with open(path, "a", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream.fileno()  # closing the file gives the lock back


def is_locked(path: str | os.PathLike) -> bool:
    """Tell whether a process holds the lock of :func:`locked` now; of a file that is absent, none does."""
    import fcntl

    try:
        with open(path, "a", encoding="utf-8") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)  # when in doubt, it is in use
    return False


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error says that there is no room left on the disk, or none in the user's quota."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def sha256_file(path: str | os.PathLike) -> str:
    """Return the hex SHA-256 digest of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()

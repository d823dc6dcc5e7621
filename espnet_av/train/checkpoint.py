# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that survive a kill, a full disk and a damaged file.

A folder holds ``checkpoint.pth``, the one before as ``checkpoint.prev.pth``, and ``checkpoint.sha256`` with the digests
of both. A new state is written beside them, synced, and renamed last, so at every moment one whole checkpoint exists.
Only tensors and plain Python values are stored; everything is read with ``weights_only=True``.
"""

import contextlib
import errno
import hashlib
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from mmap import ACCESS_READ
from mmap import mmap as map_file
from pathlib import Path
from typing import IO, Any, NoReturn, cast

import numpy as np
import torch

from espnet_av.utils.errors import CheckpointError, EnvironmentProblem, describe
from espnet_av.utils.files import atomic_write, sha256_file

logger = logging.getLogger(__name__)

NAME = "checkpoint.pth"
PREVIOUS = "checkpoint.prev.pth"
DIGESTS = "checkpoint.sha256"
_DIGEST_LINE = re.compile(r"([0-9a-f]{64})  checkpoint(?:\.prev)?\.pth")
_GROWING = b"\nbytearray\n"
_MOST_INFLATION, _FREE = 8, 64 << 20  # what may come out of a byte of a file, and what of any file
_FIX = "get the weights as .safetensors, or as a state dict saved with torch.save"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class UnsafeCheckpointError(CheckpointError):
    """A file that holds more than tensors and plain values; it was not unpickled."""


def to_plain(value: Any, where: str = "state") -> Any:
    """Return ``value`` with tensors detached and everything else turned into plain Python.

    Args:
        value: Nested dicts, lists and tuples of tensors, numbers, strings and None; numpy scalars and arrays are turned
            into Python numbers and tensors.
        where: Name of the value, for the error message.

    Raises:
        CheckpointError: For an object that could not be read back safely, with its place.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value.item() if isinstance(value, np.generic) else value
    if isinstance(value, torch.Tensor):
        return value.detach()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, Mapping):
        return {to_plain(key, where): to_plain(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [to_plain(item, f"{where}[{index}]") for index, item in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    raise CheckpointError(
        describe(f"{where} cannot be stored", got=type(value).__name__, allowed="tensors and plain Python values")
    )


class _HashingStream:
    """A stream that hashes what passes and keeps the first write error, which torch.save would hide."""

    def __init__(self, stream: IO) -> None:
        self.stream = stream
        self.digest = hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write and hash ``data``; after a failure only count."""
        size = memoryview(data).nbytes
        if self.error is None:
            try:
                self.stream.write(data)
                self.digest.update(data)
            except OSError as error:
                self.error = error
        return size

    def flush(self) -> None:
        """Flush the stream behind."""
        if self.error is None:
            try:
                self.stream.flush()
            except OSError as error:
                self.error = error


@contextlib.contextmanager
def explain_full_disk(path: str | os.PathLike) -> Iterator[None]:
    """Turn an error for lack of space into one that names the folder and what is free there.

    Raises:
        EnvironmentProblem: Instead of ``ENOSPC``, ``EDQUOT`` and ``EFBIG``.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_SPACE:
            raise
        folder = Path(path).resolve().parent
        free = shutil.disk_usage(folder).free / 2**20
        raise EnvironmentProblem(
            describe(
                f"{Path(path).name} could not be written: {error.strerror or error}",
                got=f"{free:.0f} MiB free in {folder}",
                fix="free space or raise the quota there, then start the same command again; "
                "the checkpoint written before is whole",
            )
        ) from error


def write_tensors(path: str | os.PathLike, value: Any, before_rename: Any = None) -> str:
    """Write ``value`` to ``path`` so that the file is whole or the old one stays.

    Args:
        path: The file.
        value: See :func:`to_plain`.
        before_rename: Called with the new file's digest when its data are written, before it takes its name.

    Returns:
        The hex SHA-256 digest of the file.

    Raises:
        EnvironmentProblem: When the disk is full.
    """
    plain = to_plain(value)
    with explain_full_disk(path), atomic_write(path, "wb") as stream:
        hashing = _HashingStream(stream)
        torch.save(plain, cast(IO[bytes], hashing))  # all that it asks of a stream is write and flush
        hashing.flush()
        if hashing.error is not None:
            raise hashing.error
        digest = hashing.digest.hexdigest()
        if before_rename is not None:
            os.fsync(stream.fileno())
            before_rename(digest)
    sync_folder(Path(path).parent)
    return digest


def read_tensors(path: str | os.PathLike, *, mmap: bool = False) -> Any:
    """Read a file of :func:`write_tensors`, or any other that holds only tensors and plain values; onto the CPU.

    Args:
        path: The file.
        mmap: Leave the tensors' data in the file until they are used.

    Raises:
        UnsafeCheckpointError: When the file asks for more than that, or claims much more than it holds. Nothing of it
            was run.
        CheckpointError: When the file is damaged or cannot be read.
    """
    try:
        require_plain_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
        _require_held(content, os.path.getsize(path))
        if not mmap:
            _compare_check_sums(path)
        return content
    except UnsafeCheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError(describe(f"no such checkpoint: {path}")) from error
    except Exception as error:  # torch raises a different class for each kind of damage
        refused = re.search(r"GLOBAL ([\w.]+)|Can only [^.\n]+", str(error))
        if type(error).__name__ == "UnpicklingError" and refused:
            raise UnsafeCheckpointError(
                describe(
                    f"{path} holds objects other than tensors and plain values and was not loaded",
                    got=refused.group(1) or refused.group(0),
                    fix="get the weights as .safetensors, or as a state dict saved with torch.save",
                )
            ) from error
        reason = str(error).strip().partition("\n")[0][:160]
        raise CheckpointError(
            describe(f"{path} is damaged or no checkpoint ({type(error).__name__}: {reason})")
        ) from error


def require_plain_file(path: str | os.PathLike) -> None:
    """Raise where reading a file of torch would take memory out of proportion to its size.

    Torch writes its archives without compression, and never a ``bytearray``, which makes itself as large as it is told.

    Raises:
        UnsafeCheckpointError: It would.
        OSError: It cannot be opened.
    """
    with open(path, "rb") as stream:
        zipped = stream.read(4) == b"PK\x03\x04"
        if not zipped and os.fstat(stream.fileno()).st_size:
            with map_file(stream.fileno(), 0, access=ACCESS_READ) as content:
                found = content.find(_GROWING) >= 0
    if zipped:
        with zipfile.ZipFile(path) as archive:
            packed = [
                each for each in archive.infolist() if each.file_size > _FREE + _MOST_INFLATION * each.compress_size
            ]
            if packed:
                _refuse_inflated(path, f"{packed[0].filename} of {packed[0].file_size} bytes")
            names = [name for name in archive.namelist() if name.endswith(".pkl")]
            found = any(_GROWING in archive.read(name) for name in names)
    elif not os.path.getsize(path):
        return
    if found:
        _refuse_inflated(path, "a bytearray")


def _require_held(content: Any, num_bytes: int) -> None:
    """Raise where tensors claim much more values than the file holds: one number can be repeated without end."""
    total, pending, seen = 0, [content], set()
    while pending:
        value = pending.pop()
        if isinstance(value, torch.Tensor):
            total += value.numel() * value.element_size() if not value.is_meta else 0
        elif isinstance(value, (dict, list, tuple)) and id(value) not in seen:
            seen.add(id(value))
            pending += list(value.values()) if isinstance(value, dict) else list(value)
    if total > _MOST_INFLATION * num_bytes + _FREE:
        raise UnsafeCheckpointError(
            describe("the file claims more than it holds", f"{total} bytes of tensors in {num_bytes} bytes", fix=_FIX)
        )


def _refuse_inflated(path: str | os.PathLike, got: str) -> NoReturn:
    raise UnsafeCheckpointError(describe(f"{path} claims more than it holds", got=got, fix=_FIX))


def _compare_check_sums(path: str | os.PathLike) -> None:
    """Compare the check sums in a file of torch.save, which torch.load itself passes over.

    Raises:
        zipfile.BadZipFile: A part of the file is not what was written.
    """
    if not zipfile.is_zipfile(path):  # the format before 2020 has none
        return
    with zipfile.ZipFile(path) as parts:
        damaged = parts.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the check sum of {damaged} is wrong")


def sync_folder(folder: Path) -> None:
    """Make renames in ``folder`` durable, where the file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def place_copy(source: Path, target: Path) -> None:
    """Give a file a second name, atomically: a hard link where possible, otherwise a copy. No symbolic links."""
    temporary = target.with_name(f".{target.name}.{os.getpid()}.link")
    temporary.unlink(missing_ok=True)
    try:
        try:
            os.link(source, temporary)
        except OSError:
            with explain_full_disk(target):
                shutil.copyfile(source, temporary)
        os.replace(temporary, target)
        temporary.unlink(missing_ok=True)  # rename does nothing when both names are the same file already
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class CheckpointStore:
    """The resume state of one experiment folder.

    Args:
        folder: The experiment folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.path = self.folder / NAME
        self.previous = self.folder / PREVIOUS
        self._current_digest: str | None = None  # None while checkpoint.pth is not known to be good

    def exists(self) -> bool:
        """Tell whether the folder holds any checkpoint."""
        return self.path.exists() or self.previous.exists()

    def save(self, state: dict[str, Any]) -> None:
        """Write ``state`` as ``checkpoint.pth`` and keep the one before as ``checkpoint.prev.pth``.

        Raises:
            CheckpointError: When the state holds something that is neither a tensor nor plain Python.
            EnvironmentProblem: When the disk is full; the older checkpoints stay as they were.
        """
        self._current_digest = write_tensors(self.path, state, before_rename=self._keep_current)

    def load(self) -> dict[str, Any] | None:
        """Return the newest whole state, or None when there is no checkpoint.

        A damaged ``checkpoint.pth`` is reported as an error in the log and the previous one is taken.

        Raises:
            UnsafeCheckpointError: When the file holds more than tensors and plain values.
            CheckpointError: When no whole checkpoint is left.
        """
        problems = []
        for path in (self.path, self.previous):
            if not path.exists():
                continue
            try:
                state, digest = self._read(path)
            except UnsafeCheckpointError:
                raise
            except CheckpointError as error:
                logger.error("%s", error)
                problems.append(str(error))
                continue
            if path == self.path:
                self._current_digest = digest
            else:
                logger.warning("FALLING BACK to the previous checkpoint %s: work since then is done again", path)
            return state
        if problems:
            raise CheckpointError(
                describe(
                    f"no checkpoint in {self.folder} can be read: {' | '.join(problems)}",
                    fix="start again in another --output_dir, or from saved weights with --init_param",
                )
            )
        return None

    def peek(self, key: str) -> Any:
        """Return one entry of the newest readable state without reading its tensors; None when there is none.

        Raises:
            UnsafeCheckpointError: See :meth:`load`.
        """
        for path in (self.path, self.previous):
            if path.exists():
                try:
                    return read_tensors(path, mmap=True).get(key)
                except UnsafeCheckpointError:
                    raise
                except (CheckpointError, AttributeError):
                    continue  # load() reports the damage
        return None

    def remove_leftovers(self, *exports: Path) -> None:
        """Remove the temporary files of writers that were killed, also of weights in other folders."""
        for pattern in (".checkpoint.sha256.*.tmp", ".latest.*.tmp", ".history.*.tmp"):
            for path in self.folder.glob(pattern):
                path.unlink(missing_ok=True)
        for folder in (self.folder, *exports):
            for path in (*folder.glob(".*.pth.*.tmp"), *folder.glob(".*.pth.*.link")):
                path.unlink(missing_ok=True)

    def _read(self, path: Path) -> tuple[dict[str, Any], str]:
        digest = sha256_file(path)
        known = self._known_digests()
        if known and digest not in known:
            raise CheckpointError(describe(f"{path} is damaged: its digest is not in {DIGESTS}", got=digest[:12]))
        state = read_tensors(path)
        if not isinstance(state, dict):
            raise CheckpointError(describe(f"{path} is no training state", got=type(state).__name__, allowed="dict"))
        return state, digest

    def _known_digests(self) -> list[str]:
        path = self.folder / DIGESTS
        if not path.exists():
            return []
        lines = path.read_bytes().decode("ascii", errors="replace").splitlines()
        known = [found[1] for line in lines if (found := _DIGEST_LINE.fullmatch(line))]
        if len(known) < len(lines) or not known:
            logger.error("%s is damaged: checkpoints are read without it, by their own check sums", path)
            return []
        return known

    def _keep_current(self, new_digest: str) -> None:
        """Before the rename: list the new digest beside the old one, and give the old file its second name."""
        good = self.path.exists() and self._current_digest is not None
        if good:
            place_copy(self.path, self.previous)
            kept = self._current_digest
        else:  # never put an unread or damaged file over a good previous one
            kept = sha256_file(self.previous) if self.previous.exists() else None
        with atomic_write(self.folder / DIGESTS) as stream:
            stream.write(f"{new_digest}  {NAME}\n")
            if kept is not None:
                stream.write(f"{kept}  {PREVIOUS}\n")


def differing_keys(saved: Mapping[str, Any], current: Mapping[str, Any], prefix: str = "") -> list[str]:
    """List the settings that differ, each as ``key: saved -> current``; of nested ones the keys within."""
    lines = []
    for key in sorted({*saved, *current}, key=str):
        before, now = saved.get(key, "<absent>"), current.get(key, "<absent>")
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            lines += differing_keys(before, now, f"{prefix}{key}.")
        elif before != now:
            lines.append(f"{prefix}{key}: {' -> '.join(_short(repr(before), repr(now)))}")
    return lines


def _short(*texts: str) -> list[str]:
    """Cut long texts so that what differs between them is seen."""
    same = len(os.path.commonprefix(texts))
    start = same - 20 if same > 60 else 0
    lead, stop = "..." if start else "", start + 74
    return [lead + (text[start:] if len(text) <= stop + 3 else f"{text[start:stop]}...") for text in texts]

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Sound out of Debian packages: fetched by ``apt-get download``, checked by SHA-256, read without installing them.

Nothing is unpacked by the names in a package: wanted files are read into memory one by one.
"""

import contextlib
import logging
import lzma
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from espnet_av.utils.errors import DataError, EnvironmentProblem, describe
from espnet_av.utils.files import locked, sha256_file
from espnet_av.utils.untrusted import BoundedTarInfo, read_member

logger = logging.getLogger(__name__)
TIMEOUT_SEC = 1800
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


@dataclass(frozen=True)
class DebPackage:
    """One package: name, version, digest and size of its file, licence of the sound in it."""

    name: str
    version: str
    sha256: str
    num_bytes: int
    licence: str

    @property
    def file_name(self) -> str:
        """Name of the file in Debian's archive."""
        return f"{self.name}_{self.version}_all.deb"


def fetch_packages(
    packages: Sequence[DebPackage], cache: Path, *, deb_dir: Path | None = None, any_version: bool = False
) -> dict[str, Path]:
    """Return the files of some packages, downloading those that are not there.

    Args:
        packages: The packages.
        cache: Folder where downloads are kept.
        deb_dir: Folder with files that are there already; nothing is downloaded then.
        any_version: Take another version than the one the recipe was made with, unchecked.

    Raises:
        EnvironmentProblem: A file cannot be fetched, or is not the expected one.
    """
    found, wanted = {}, []
    for package in packages:
        path = _find(package, [deb_dir] if deb_dir else [cache], any_version)
        if path is None:
            wanted.append(package)
        else:
            found[package.name] = path
    if wanted and deb_dir is not None:
        names = [package.file_name for package in wanted]
        raise EnvironmentProblem(
            describe(
                f"{deb_dir} lacks packages", names, None, "copy them there, or let the recipe download: no --deb_dir"
            )
        )
    if wanted:
        _require_apt(wanted, cache)
        cache.mkdir(parents=True, exist_ok=True)
        for package in wanted:
            found[package.name] = _download(package, cache, any_version)
    return found


def _find(package: DebPackage, folders: Sequence[Path], any_version: bool) -> Path | None:
    for folder in folders:
        path = folder / package.file_name
        if path.is_file() and _is_good(package, path):
            return path
        others = sorted(folder.glob(f"{package.name}_*.deb"))
        if any_version and others:
            return others[-1]
        if path.is_file():
            logger.warning("%s is damaged or another file than expected", path)
    return None


def _is_good(package: DebPackage, path: Path) -> bool:
    return path.stat().st_size == package.num_bytes and sha256_file(path) == package.sha256


def _by_hand(packages: Sequence[DebPackage], cache: Path) -> str:
    names = " ".join(package.file_name for package in packages)
    page = f"https://packages.debian.org/bookworm/{packages[0].name}"
    return f"on a machine with network get {names} (e.g. {page}), copy to {cache}, and run again"


def _require_apt(packages: Sequence[DebPackage], cache: Path) -> None:
    if shutil.which("apt-get") is None:
        raise EnvironmentProblem(
            describe("no apt-get on this machine to fetch Debian packages with", fix=_by_hand(packages, cache))
        )


def _download(package: DebPackage, cache: Path, any_version: bool) -> Path:
    """Download one package into the cache; the file appears there when it was checked.

    An ``apt-get`` that outlived its call holds the lock; what it has fetched by then is taken.
    """
    with locked(cache / ".apt.lock") as lock:
        found = _find(package, [cache], any_version)
        if found is not None:  # by another call, while this one waited
            return found
        scratch = cache / f".apt.{package.file_name}"
        fetched = scratch / package.file_name
        if not (fetched.is_file() and _is_good(package, fetched)):
            for left in cache.glob(".apt.*"):  # of calls that were killed
                if left.is_dir():
                    shutil.rmtree(left, ignore_errors=True)
            scratch.mkdir()
            try:
                fetched = _run_apt(package, cache, scratch, any_version, lock)
            except BaseException:
                shutil.rmtree(scratch, ignore_errors=True)
                raise
        target = cache / (fetched.name.replace("%3a", "_") if any_version else package.file_name)
        os.replace(fetched, target)
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _run_apt(package: DebPackage, cache: Path, scratch: Path, any_version: bool, lock: int) -> Path:
    """Let ``apt-get`` download a package into a folder and check what it left."""
    wanted = package.name if any_version else f"{package.name}={package.version}"
    logger.info("downloading %s (%.0f MB)", package.name, package.num_bytes / 1e6)
    command = ["apt-get", "download", "-q", wanted]
    try:
        subprocess.run(
            command, cwd=scratch, check=True, capture_output=True, text=True, timeout=TIMEOUT_SEC, pass_fds=(lock,)
        )
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        said = [line for line in str(getattr(error, "stderr", None) or error).splitlines() if line.strip()]
        told = next((line for line in said if line.startswith("E:")), said[-1] if said else "")
        fix = f"connect to the network and run 'apt-get update', or {_by_hand([package], cache)}"
        if "not found" in told or "Unable to locate" in told:
            fix += "; another release of Debian or Ubuntu has another version: --any_version true"
        raise EnvironmentProblem(describe(f"cannot download {wanted} ({told.strip()})", fix=fix)) from error
    files = sorted(scratch.glob("*.deb"))
    if len(files) != 1:
        raise EnvironmentProblem(describe("apt-get left no single file", [path.name for path in files]))
    if not any_version and not _is_good(package, files[0]):
        raise EnvironmentProblem(
            describe(
                f"{files[0].name} is not the expected file",
                sha256_file(files[0]),
                f"{package.num_bytes} bytes with sha256 {package.sha256}",
                "check the mirror in sources.list",
            )
        )
    return files[0]


def read_files(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of the files of a package whose whole name matches a regular expression.

    Raises:
        DataError: It is no Debian package, or damaged.
    """
    wanted = re.compile(pattern)
    try:
        with open(path, "rb") as stream, _open_data(stream, path) as archive:
            for member in archive:
                name = member.name.removeprefix("./")
                if member.isfile() and wanted.fullmatch(name):
                    yield name, read_member(archive, member)
    except (tarfile.TarError, lzma.LZMAError, EOFError, OSError) as error:
        raise DataError(
            describe(f"{path} cannot be read ({error})", fix="remove it and run the stage again")
        ) from error


@contextlib.contextmanager
def _open_data(stream: IO[bytes], path: Path) -> Iterator[tarfile.TarFile]:
    """Open the archive of files inside the ``ar`` archive that a package is."""
    if stream.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise DataError(describe("no Debian package", str(path), fix="remove it and run the stage again"))
    while header := stream.read(_AR_HEADER):
        name, size = header[:16].decode("ascii", "replace").strip().rstrip("/"), header[48:58].strip()
        if len(header) < _AR_HEADER or not size.isdigit():
            break
        if name.startswith("data.tar"):
            if name.endswith(".zst"):
                yield from _open_by_dpkg(path)
            else:
                with tarfile.open(fileobj=stream, mode="r|*", tarinfo=BoundedTarInfo) as archive:
                    yield archive
            return
        stream.seek(int(size) + int(size) % 2, os.SEEK_CUR)
    raise DataError(describe(f"{path} holds no data", fix="remove it and run the stage again"))


def _open_by_dpkg(path: Path) -> Iterator[tarfile.TarFile]:
    """Open an archive that Python's library does not decompress."""
    if shutil.which("dpkg-deb") is None:
        raise EnvironmentProblem(describe(f"{path} is compressed with zstd", fix="install dpkg, which reads it"))
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(path)], stdout=subprocess.PIPE) as process:
        with tarfile.open(fileobj=process.stdout, mode="r|", tarinfo=BoundedTarInfo) as archive:
            yield archive

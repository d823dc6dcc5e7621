# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where the shards of a data set lie: in a folder, or on the Hugging Face hub, both in the same layout.

A repository has *configurations* (``lrs2``, ``video_7``) and each has *splits* (``train``, ``asd_chunk``), a split
being one or more shard files. Which file belongs where is written in the YAML head of ``README.md`` (key ``configs``),
as on the hub; without it the names tell: ``<config>/<split>.tar``, ``<config>/<split>-00007.tar`` or
``<config>/<split>/*.tar``.
"""

import io
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, cast

from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError, describe
from espnet_av.utils.hub import explain_hub_error, is_hub_name
from espnet_av.utils.optional import require
from espnet_av.utils.untrusted import parse_yaml

SUFFIXES = (".tar", ".tar.gz", ".tgz", ".parquet", ".arrow")
_NUMBER = r"(?:[-.]\d+|_\d{3,})?(?:-of-\d+)?"  # of a shard: train-00007, train_000007, train-00007-of-00010
DEFAULT = "default"
_GLOB = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
_BLOCK_BYTES = 8 << 20  # read ahead from the hub


class Repository(Protocol):
    """A place that holds shards."""

    name: str

    def files(self) -> list[str]:
        """Return the paths of all files, relative, with slashes, sorted."""

    def open(self, path: str) -> BinaryIO:
        """Open one of them for reading; it can be positioned."""


class FolderRepository:
    """Shards in a folder: a download of the hub's repository, or one's own.

    Args:
        folder: The folder.

    Raises:
        MissingDataError: There is no such folder.
    """

    def __init__(self, folder: str | os.PathLike) -> None:
        self.folder = Path(folder)
        self.name = str(folder)
        if not self.folder.is_dir():
            raise MissingDataError(
                describe("no folder with shards", str(folder), fix="check the path, or give a hub name ORG/NAME")
            )

    def files(self) -> list[str]:
        """See :class:`Repository`."""
        found = (path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file())
        return sorted(path.as_posix() for path in found if not any(part.startswith(".") for part in path.parts))

    def open(self, path: str) -> BinaryIO:
        """See :class:`Repository`."""
        try:
            return open(self.folder / path, "rb")
        except OSError as error:
            raise MissingDataError(describe(f"{self.folder / path}: cannot be opened ({error.strerror})")) from error


class HubRepository:
    """Shards of a data set on the Hugging Face hub.

    Args:
        name: ``organisation/name``.
        streaming: Read shards over the network as they are needed; off: download each before it is read.
        cache_dir: Where downloads are kept; None takes the hub library's own folder.
        revision: Branch, tag or commit; it is resolved to a commit at the start, so all shards are of one version.

    Raises:
        EnvironmentProblem: The extra ``hub`` is not installed, or the hub cannot be reached.
        MissingDataError: There is no such data set, or it is gated.
    """

    def __init__(
        self,
        name: str,
        *,
        streaming: bool = True,
        cache_dir: str | os.PathLike | None = None,
        revision: str | None = None,
    ) -> None:
        self._hub = require("huggingface_hub", "hub")
        self.name, self.streaming, self.cache_dir = name, streaming, cache_dir
        try:
            info = self._hub.HfApi().dataset_info(name, revision=revision)
        except Exception as error:  # the library raises its own, those of the HTTP client, OSError and ValueError
            raise explain_hub_error(error, name, cache_dir) from error
        self.revision = info.sha
        self._files = sorted(sibling.rfilename for sibling in info.siblings or [])

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_hub"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._hub = require("huggingface_hub", "hub")

    def files(self) -> list[str]:
        """See :class:`Repository`."""
        return list(self._files)

    def open(self, path: str) -> BinaryIO:
        """See :class:`Repository`.

        Raises:
            EnvironmentProblem, MissingDataError: The network is gone, or access was withdrawn.
        """
        try:
            if self.streaming:
                system = self._hub.HfFileSystem()
                address = f"datasets/{self.name}@{self.revision}/{path}"
                file = _HubFile(system.open(address, "rb", block_size=_BLOCK_BYTES), self.name)
                return cast(BinaryIO, file)  # it is one, but the type of raw files does not say so
            local = self._hub.hf_hub_download(
                self.name, path, repo_type="dataset", revision=self.revision, cache_dir=self.cache_dir
            )
        except Exception as error:  # as above
            raise explain_hub_error(error, self.name, self.cache_dir) from error
        return open(local, "rb")


class _HubFile(io.RawIOBase):
    """A file on the hub whose errors are ours; what reads it need not know the HTTP client."""

    def __init__(self, inner: BinaryIO, name: str) -> None:
        self._inner, self._name = inner, name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._inner.tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._inner.seek(offset, whence)

    def read(self, size: int = -1) -> bytes:
        try:
            return self._inner.read(size)
        except Exception as error:  # of the HTTP client
            raise explain_hub_error(error, self._name) from error

    def close(self) -> None:
        self._inner.close()
        super().close()


def open_repository(
    source: str | os.PathLike,
    *,
    streaming: bool = True,
    cache_dir: str | os.PathLike | None = None,
    revision: str | None = None,
) -> Repository:
    """Open a folder, or where there is none of this name, a data set of the hub.

    Args:
        source: Folder, or ``organisation/name``.
        streaming: See :class:`HubRepository`.
        cache_dir: See :class:`HubRepository`.
        revision: See :class:`HubRepository`.

    Raises:
        MissingDataError, EnvironmentProblem: There is neither.
    """
    if Path(source).is_dir() or not is_hub_name(str(source)):
        return FolderRepository(source)
    try:
        return HubRepository(str(source), streaming=streaming, cache_dir=cache_dir, revision=revision)
    except (MissingDataError, EnvironmentProblem) as error:
        raise type(error)(f"{error} (there is no folder '{source}' either)") from error


def list_splits(repository: Repository) -> dict[str, list[str]]:
    """Return the splits of every configuration that the repository declares or that its file names show."""
    files = repository.files()
    declared = _declared(repository, files)
    if any(declared.values()):
        return {name: list(patterns) for name, patterns in declared.items()}
    found: dict[str, list[str]] = {}
    for path in files:
        for config, splits in _places(path).items():
            known = found.setdefault(config, [])
            known += [split for split in splits if split not in known]
    if len(found) > 1:  # folders are configurations, or the splits of a single one
        found.pop(DEFAULT, None)
    return found


def find_shards(repository: Repository, config: str, split: str) -> list[str]:
    """Return the shard files of a split in stored order; ``train+pretrain`` joins splits.

    Raises:
        UsageError: For an unknown configuration or split; the message lists those there are.
    """
    files = repository.files()
    declared = _declared(repository, files)
    shards: list[str] = []
    for name in split.split("+"):
        if declared.get(config):
            found = _match(declared[config].get(name, []), files)
        else:
            found = _by_name(files, config, name) if not declared or config in declared else []
        if not found:
            _refuse(repository, config, name)
        shards += found
    return shards


def _refuse(repository: Repository, config: str, split: str) -> None:
    known = list_splits(repository)
    what, got, allowed = "configuration", config, sorted(known)
    if config in known:
        what, got, allowed = f"split of '{config}'", split, known[config]
    if not known:
        raise MissingDataError(
            describe(f"{repository.name} holds no shards", allowed=[f"*{s}" for s in SUFFIXES], fix="check the path")
        )
    raise UsageError(describe(f"{repository.name} has no such {what}", got, allowed))


def _suffix(path: str) -> str | None:
    return next((suffix for suffix in SUFFIXES if path.endswith(suffix)), None)


def _by_name(files: Sequence[str], config: str, split: str) -> list[str]:
    return [path for path in files if split in _places(path).get(config, [])]


def _places(path: str) -> dict[str, list[str]]:
    """Return what a file may be by its name alone: configuration -> splits; nothing when it is no shard.

    ``default`` is the configuration of data sets that have but one: their splits lie at the top or in ``data/``.
    """
    suffix, parts = _suffix(path), PurePosixPath(path).parts
    if suffix is None:
        return {}
    stem = parts[-1].removesuffix(suffix)
    split = re.sub(f"{_NUMBER}$", "", stem) or stem
    if len(parts) == 1:
        return {DEFAULT: [split]}
    if len(parts) == 2:
        return {DEFAULT: [split if parts[0] == "data" else parts[0]], parts[0]: [split]}
    return {parts[0]: [parts[1]]} if len(parts) == 3 else {}


def _declared(repository: Repository, files: Sequence[str]) -> dict[str, dict[str, list[str]]]:
    """Read ``configs`` of README.md: configuration -> split -> file patterns; empty where there is none."""
    if "README.md" not in files:
        return {}
    with repository.open("README.md") as stream:
        text = stream.read().decode("utf-8", errors="replace")
    head = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, re.DOTALL)
    if head is None:
        return {}
    import yaml

    try:
        meta = parse_yaml(head.group(1))
        configs = (meta or {}).get("configs") or []
        return {str(entry.get("config_name", "default")): _data_files(entry) for entry in configs}
    except (yaml.YAMLError, AttributeError, TypeError, KeyError) as error:
        raise DataError(f"{repository.name}/README.md: its YAML head cannot be read ({error})") from error


def _data_files(entry: Mapping[str, Any]) -> dict[str, list[str]]:
    """Bring the forms that ``data_files`` may have into one: split -> patterns."""
    given = entry.get("data_files") or {}
    folder = PurePosixPath(str(entry.get("data_dir") or ""))
    if isinstance(given, str) or (isinstance(given, list) and isinstance(given[0], str)):
        given = {"train": given}
    elif isinstance(given, list):
        given = {str(item["split"]): item["path"] for item in given}
    return {
        str(split): [str(folder / path) for path in ([paths] if isinstance(paths, str) else paths)]
        for split, paths in given.items()
    }


def _match(patterns: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return the files that fit, pattern after pattern; ``*`` stays within a folder, ``**/`` goes through folders."""
    found: dict[str, None] = {}
    for pattern in patterns:
        regex = "".join(_GLOB.get(piece, re.escape(piece)) for piece in re.split(r"(\*\*/|\*|\?)", pattern))
        found.update(dict.fromkeys(path for path in files if re.fullmatch(regex, path)))
    return list(found)

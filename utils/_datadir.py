# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders for the programs in utils/: tables `key value`, which file is keyed by what, whole or absent outputs.

Standard library only. Text is UTF-8, the order is that of the bytes (``LC_ALL=C``), the key is the first field.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

#: Files that list every utterance where they exist, besides those that `streams` declares.
CORE_FILES = ("utt2spk", "wav.scp", "video.scp", "mouth.scp", "text", "segments", "utt2num_samples", "utt2num_frames")
RECORDING_FILES = ("wav.scp", "video.scp")  # keyed by recording where the folder has `segments`
Table = dict[str, str]


class Problem(Exception):
    """Data that cannot be used; ends a program with exit code 1."""


def make_parser(description: str, *positionals: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser with positional arguments."""
    parser = argparse.ArgumentParser(
        description=description, epilog=epilog, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in positionals:
        parser.add_argument(name)
    return parser


def add_option(parser: argparse.ArgumentParser, name: str, **kwargs: object) -> None:
    """Add an option under its name with dashes and with underscores."""
    other = "--" + name[2:].replace("-", "_")
    parser.add_argument(*dict.fromkeys([name, other]), **kwargs)


def run_tool(main: Callable[[], int | None]) -> None:
    """Run a program; a Problem becomes one line on standard error and exit code 1."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        sys.exit(main() or 0)
    except (Problem, OSError, UnicodeDecodeError) as problem:
        say(f"error: {problem}")
        sys.exit(1)


def say(message: str) -> None:
    """Write a line on standard error with the name of the program."""
    sys.stderr.write(f"{Path(sys.argv[0]).name}: {message}\n")


def usage(message: str) -> None:
    """End with exit code 2."""
    say(f"error: {message}")
    sys.exit(2)


def byte_order(key: str) -> bytes:
    """Sort key that gives the order of ``LC_ALL=C sort``."""
    return key.encode("utf-8", errors="surrogateescape")


def read_rows(path: Path) -> list[tuple[int, str, str]]:
    """Return (line number, key, value) of every line; the value may be empty.

    Raises:
        Problem: The file is absent, not UTF-8, or a line has no key.
    """
    if not path.is_file():
        raise Problem(f"no file {path}")
    rows = []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise Problem(f"{path} is not UTF-8 text ({error.reason} at byte {error.start})") from error
    for number, line in enumerate(lines[:-1] if lines[-1] == "" else lines, 1):
        key, _, value = line.strip().replace("\t", " ", 1).partition(" ")
        if not key:
            raise Problem(f"{path}:{number}: empty line")
        rows.append((number, key, value.strip()))
    return rows


def read_table(path: Path, allow_empty: bool = False) -> Table:
    """Return a file as a mapping in its own order.

    Raises:
        Problem: A key comes twice, or has no value where one is needed.
    """
    table: Table = {}
    for number, key, value in read_rows(path):
        if not value and not allow_empty:
            raise Problem(f"{path}:{number}: '{key}' has no value")
        if key in table:
            raise Problem(f"{path}:{number}: '{key}' comes twice")
        table[key] = value
    return table


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file as a whole: beside its place, then renamed."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.writelines(line + "\n" for line in lines)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_table(path: Path, table: Mapping[str, str]) -> None:
    """Write a mapping in byte order."""
    write_lines(path, (f"{key} {table[key]}".rstrip() for key in sorted(table, key=byte_order)))


def group_by_speaker(utt2spk: Mapping[str, str]) -> Table:
    """Return spk2utt of utt2spk, speakers and utterances in order of first appearance."""
    groups: dict[str, list[str]] = {}
    for utterance, speaker in utt2spk.items():
        groups.setdefault(speaker, []).append(utterance)
    return {speaker: " ".join(utterances) for speaker, utterances in groups.items()}


class Folder:
    """A data folder.

    Args:
        path: The folder.
        extra_files: Further files that list every utterance.

    Raises:
        Problem: There is no such folder.
    """

    def __init__(self, path: str | Path, extra_files: Iterable[str] = ()) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise Problem(f"no folder {self.path}")
        self.extra_files = list(extra_files)

    def has(self, name: str) -> bool:
        """Return whether a file exists."""
        return (self.path / name).is_file()

    def declared(self) -> list[str]:
        """Return the files that `streams` declares; none without it.

        Raises:
            Problem: A line is malformed, or a declared file does not exist.
        """
        if not self.has("streams"):
            return []
        names = []
        for number, name, rest in read_rows(self.path / "streams"):
            if name.startswith("#"):
                continue
            if len(rest.split()) != 2:
                raise Problem(f"{self.path}/streams:{number}: expected '<file> <name> <type>'")
            if not self.has(name):
                raise Problem(f"{self.path}/streams:{number} declares {name}, which does not exist")
            names.append(name)
        return list(dict.fromkeys(names))

    def primary(self) -> list[str]:
        """Return the files that must list every utterance (or, with `segments`, every recording)."""
        found = [name for name in (*CORE_FILES, *self.extra_files) if self.has(name)]
        return list(dict.fromkeys(["utt2spk", *found, *self.declared()]))

    def keyed_by_recording(self) -> list[str]:
        """Return the files keyed by recording."""
        return [name for name in RECORDING_FILES if self.has(name)] if self.has("segments") else []

    def utterance_files(self) -> list[str]:
        """Return all files keyed by utterance."""
        by_recording = self.keyed_by_recording()
        return [
            path.name
            for path in self.files()
            if path.name not in by_recording
            and (path.name in self.primary() or path.suffix == ".scp" or path.name.startswith("utt2"))
        ]

    def speaker_files(self) -> list[str]:
        """Return the files keyed by speaker, without spk2utt."""
        return [path.name for path in self.files() if path.name.startswith("spk2") and path.name != "spk2utt"]

    def files(self) -> list[Path]:
        """Return all files of the folder, hidden ones left out."""
        return sorted(path for path in self.path.iterdir() if path.is_file() and not path.name.startswith("."))

    def read(self, name: str) -> Table:
        """Return a file as a mapping; only transcripts may be empty."""
        return read_table(self.path / name, allow_empty=name.startswith("text"))

    def write_subset(self, utterances: Iterable[str], target: str | Path) -> None:
        """Write a folder with some of the utterances, as a whole."""
        keep = set(utterances)
        with new_folder(target) as folder:
            utt2spk = {key: value for key, value in self.read("utt2spk").items() if key in keep}
            recordings = {value.split()[0] for key, value in self.read_optional("segments").items() if key in keep}
            speakers = set(utt2spk.values())
            wanted = {name: keep for name in self.utterance_files()}
            wanted.update({name: recordings for name in self.keyed_by_recording()})
            wanted.update({name: speakers for name in self.speaker_files()})
            for path in self.files():
                if path.name in wanted:
                    rows = self.read(path.name).items()
                    write_table(folder / path.name, {key: text for key, text in rows if key in wanted[path.name]})
                elif path.name != "spk2utt":
                    shutil.copy2(path, folder / path.name)
            write_spk2utt(folder, utt2spk)

    def read_optional(self, name: str) -> Table:
        """Return a file as a mapping, empty where there is none."""
        return self.read(name) if self.has(name) else {}


def write_spk2utt(folder: Path, utt2spk: Mapping[str, str]) -> None:
    """Write spk2utt, sorted."""
    write_table(folder / "spk2utt", group_by_speaker({key: utt2spk[key] for key in sorted(utt2spk, key=byte_order)}))


class new_folder:  # noqa: N801 - used as a verb in a with statement
    """Context that gives a temporary folder and moves it to its place when the block ends well.

    Raises:
        Problem: Something other than a data folder is there.
    """

    def __init__(self, target: str | Path) -> None:
        self.target = Path(target)
        if self.target.exists() and not (self.target / "utt2spk").is_file() and any(self.target.iterdir()):
            raise Problem(f"{self.target} exists and is no data folder; fix: remove it, or choose another name")

    def __enter__(self) -> Path:
        self.target.parent.mkdir(parents=True, exist_ok=True)
        self.temporary = Path(tempfile.mkdtemp(dir=self.target.parent, prefix=f".{self.target.name}."))
        self.temporary.chmod(0o755)
        return self.temporary

    def __exit__(self, kind: object, value: object, trace: object) -> None:
        if kind is not None:
            shutil.rmtree(self.temporary)
            return
        if self.target.exists():
            shutil.rmtree(self.target)
        self.temporary.replace(self.target)


def same_folder(first: str | Path, second: str | Path) -> bool:
    """Return whether two paths are one folder."""
    return Path(first).resolve() == Path(second).resolve()


def brief(keys: Iterable[str], most: int = 3) -> str:
    """Return the first keys as text.

    >>> brief(["a", "b", "c", "d"])
    'a, b, c, ... (4)'
    """
    listed = list(keys)
    return ", ".join(listed[:most]) + (f", ... ({len(listed)})" if len(listed) > most else "")

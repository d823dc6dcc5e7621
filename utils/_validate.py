# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The checks of a data folder, for `validate_data_dir` and the programs that end with one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from _datadir import Folder, Problem, Table, add_option, brief, byte_order, group_by_speaker, make_parser, say

HELP = """Check a data folder: validate_data_dir [options] DIR

The files exist, are not empty, sorted and unique; utt2spk, text, wav.scp and every file that `streams` declares list
the same utterances; spk2utt agrees with utt2spk; the media files are there. The first fault is named; exit code 1.
"""


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the checks."""
    parser = make_parser(HELP, "folder")
    add_option(parser, "--no-feats", action="store_true", help="accepted; there are no feature files here")
    add_option(parser, "--no-text", action="store_true", help="do not ask for text")
    add_option(parser, "--no-wav", action="store_true", help="do not ask for wav.scp")
    add_option(parser, "--no-spk-sort", action="store_true", help="utt2spk need not be sorted by speaker")
    add_option(parser, "--no-media", action="store_true", help="do not look for the media files")
    add_option(parser, "--non-print", action="store_true", help="allow non-printable characters in text")
    return parser


def validate(argv: Sequence[str]) -> Folder:
    """Check a folder.

    Raises:
        Problem: The first fault.
    """
    args = get_parser().parse_args(argv)
    folder = Folder(args.folder)
    names = folder.primary()
    if "text" not in names and not args.no_text:
        names.append("text")
    if "wav.scp" not in names and not args.no_wav and not folder.declared():
        names.append("wav.scp")
    tables = {name: read_sorted(folder, name) for name in names}
    utterances = tables["utt2spk"]
    by_recording = folder.keyed_by_recording()
    recordings = {value.split()[0]: "" for value in tables.get("segments", {}).values() if value}
    for name, table in tables.items():
        same_keys(folder, name, table, recordings if name in by_recording else utterances)
    for name in folder.utterance_files():
        if name not in tables:
            absent = [key for key in folder.read(name) if key not in utterances]
            if absent:
                raise Problem(f"{folder.path}/{name} has utterances that utt2spk does not have: {brief(absent)}")
    check_speakers(folder, utterances, by_speaker=not args.no_spk_sort)
    if not args.no_text and "text" in tables:
        check_text(folder, tables["text"], args.non_print)
    if not args.no_media:
        check_media(folder, {name: table for name, table in tables.items() if name.endswith(".scp")})
    return folder


def read_sorted(folder: Folder, name: str) -> Table:
    """Return a file that must not be empty and must be in byte order."""
    table = folder.read(name)
    if not table:
        raise Problem(f"{folder.path}/{name} is empty")
    keys = list(table)
    if keys != sorted(keys, key=byte_order):
        wrong = next(b for a, b in zip(keys, keys[1:], strict=False) if byte_order(a) > byte_order(b))
        raise Problem(
            f"{folder.path}/{name} is not sorted (LC_ALL=C) at '{wrong}'; fix: utils/fix_data_dir {folder.path}"
        )
    return table


def same_keys(folder: Folder, name: str, table: Table, wanted: Table) -> None:
    """Raise a Problem unless a file lists exactly the wanted keys."""
    missing = [key for key in wanted if key not in table]
    extra = [key for key in table if key not in wanted]
    fix = f"; fix: utils/fix_data_dir {folder.path}"
    if missing:
        raise Problem(f"{folder.path}/{name} lacks {brief(missing)}, which utt2spk has{fix}")
    if extra:
        raise Problem(f"{folder.path}/{name} has {brief(extra)}, which utt2spk lacks{fix}")


def check_speakers(folder: Folder, utt2spk: Table, by_speaker: bool) -> None:
    """Check spk2utt against utt2spk, and the order of the speakers."""
    if not folder.has("spk2utt"):
        raise Problem(f"no file {folder.path}/spk2utt; fix: utils/fix_data_dir {folder.path}")
    expected = {speaker: sorted(text.split()) for speaker, text in group_by_speaker(utt2spk).items()}
    found = {speaker: sorted(text.split()) for speaker, text in folder.read("spk2utt").items()}
    if expected != found:
        raise Problem(f"{folder.path}/spk2utt does not agree with utt2spk; fix: utils/fix_data_dir {folder.path}")
    speakers = list(utt2spk.values())
    if by_speaker and speakers != sorted(speakers, key=byte_order):
        raise Problem(
            f"{folder.path}/utt2spk is not sorted by speaker; fix: begin utterance ids with the speaker, "
            "or pass --no-spk-sort"
        )
    if len(expected) == 1:
        say(f"warning: {folder.path} has one speaker only")


def check_text(folder: Folder, text: Table, non_print: bool) -> None:
    """Check that transcripts are there and printable."""
    for utterance, words in text.items():
        if not words:
            raise Problem(f"{folder.path}/text: '{utterance}' has no words")
        if not non_print and not words.isprintable():
            raise Problem(f"{folder.path}/text: '{utterance}' has non-printable characters: {words!r}")


def check_media(folder: Folder, tables: dict[str, Table]) -> None:
    """Check that the files that .scp files name exist."""
    for name, table in tables.items():
        for key, path in table.items():
            if path.endswith("|"):
                raise Problem(f"{folder.path}/{name}: '{key}' is a command; only files are read: {path}")
            if not Path(path).exists():
                raise Problem(f"{folder.path}/{name}: '{key}' names a file that does not exist: {path}")

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Lip embeddings of a whole data folder, computed once and kept (stage 4).

One ``.npy`` file per clip of mouth crops, however many mixtures it occurs in. Files lie in a folder named after the
digest of the front end, so embeddings of two front ends never mix, and a run that was stopped goes on where it was.

Axes: ``K`` variants, ``T`` video frames, ``H``/``W`` pixels, ``D`` embedding width.
"""

import hashlib
import json
import logging
import multiprocessing
import os
import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch

from espnet_av.avss.clip_embedder import ClipEmbedder, EmbedSettings
from espnet_av.avss.lips import META_KEY, LipDescription, load_lips
from espnet_av.data.data_dir import DataDir, Stream
from espnet_av.data.drops import Drops
from espnet_av.data.format_set import copy_tables
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
NOTE = "front_end.json"
REPORT = "lips_report.json"
MOUTH_PATTERN = re.compile(r"mouth_(s\d+)\.scp")
_worker: ClipEmbedder | None = None


def clip_name(path: str | os.PathLike) -> str:
    """Return the name under which a clip is cached: it changes when the file of crops is made anew.

    Raises:
        MissingDataError: There is no such file.
    """
    path = Path(os.path.abspath(path))
    try:
        about = path.stat()
    except OSError as error:
        raise MissingDataError(describe("no mouth crops", got=str(path), fix="run stage 2 (format)")) from error
    print_of_file = hashlib.sha256(f"{path} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '-', path.stem)}-{print_of_file[:12]}"


def embed_set(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike | None,
    settings: EmbedSettings,
    *,
    nj: int = 1,
    max_dropped_share: float = 0.0,
) -> str:
    """Give a data folder the embeddings of its lips: ``lips_s1.scp``, ``lips_s2.scp``, ... and their description.

    Args:
        data_dir: Folder with ``mouth_s1.scp``, ...
        output_dir: Folder to make: all tables of the first without mixtures whose mouth crops are bad. None: the
            first itself, replaced as a whole.
        settings: What to compute.
        nj: Number of processes, each with one thread.
        max_dropped_share: Share of lost mixtures above which the stage fails.

    Returns:
        One line on what was kept and lost.

    Raises:
        MissingDataError: The folder or the front end is absent.
        CheckpointError: The front end is damaged or of another kind.
        DataError: The cache was made by something else.
        TooManyDropped: Too many were lost; the reasons lie in ``<output_dir>.lips_report.json``.
    """
    data = DataDir(data_dir)
    output = Path(data.path if output_dir is None else output_dir)
    if nj < 1:
        raise UsageError(describe("--nj must be at least 1", got=nj))
    mouths = read_mouth_tables(data)
    worker = settings.load()
    description = worker.embedder.describe(settings.variants, settings.seed)
    folder = open_cache(Path(os.path.abspath(settings.cache_dir)), description)
    clips = sorted({path for table in mouths.values() for path in table.values()})
    logger.info("%s: %d clips of %d mixtures, front end %s", data.path, len(clips), _count(mouths), description)
    problems, targets = _embed_clips(clips, folder, settings, worker, nj, output.name)

    drops = Drops(_count(mouths))
    for speaker, table in mouths.items():
        for utt, path in table.items():
            if path in problems:
                reason, message = problems[path]
                drops.add(utt, reason, f"{speaker}: {message}")
    report = {META_KEY: description.to_dict(), **drops.summary()}
    failed_report = output.with_name(f"{output.name}.{REPORT}")
    failed_report.unlink(missing_ok=True)
    if drops.share > max_dropped_share or len(drops) == drops.total:
        write_json(failed_report, report, sort_keys=True)
        drops.check(max_dropped_share, failed_report)
    _write_folder(data, output, mouths, targets, drops, description, report)
    return drops.one_line()


def read_mouth_tables(data: DataDir) -> dict[str, dict[str, str]]:
    """Return mouth crops by mixture for each speaker ``s1``, ``s2``, ... of a folder.

    Raises:
        MissingDataError: There are none.
        DataError: The speakers' tables hold different mixtures.
    """
    names = sorted(path.name for path in data.path.glob("mouth_s*.scp") if MOUTH_PATTERN.fullmatch(path.name))
    if not names:
        raise MissingDataError(describe(f"{data.path} has no mouth_s1.scp", fix="run stage 2 (format)"))
    tables = {match[1]: data.read(name) for name in names if (match := MOUTH_PATTERN.fullmatch(name))}
    first = next(iter(tables.values()))
    for speaker, table in tables.items():
        if table.keys() != first.keys():
            odd = sorted(table.keys() ^ first.keys())[:3]
            fix = "run stage 3 (filter)"
            raise DataError(
                describe(f"{data.path}: mouth_{speaker}.scp holds other mixtures than {names[0]}", odd, fix=fix)
            )
    return tables


def open_cache(root: Path, description: LipDescription) -> Path:
    """Return the folder of a front end's embeddings; made when absent.

    Raises:
        DataError: The folder holds those of something else.
    """
    folder = root / f"{description.digest[:16]}-k{description.variants}-s{description.seed}"
    note = folder / NOTE
    if not note.is_file():
        if folder.is_dir() and any(folder.glob("*/*.npy")):
            raise DataError(describe(f"{folder} holds embeddings of unknown origin", fix="remove it, then run again"))
        write_json(note, description.to_dict(), sort_keys=True)
        return folder
    try:
        fields = json.loads(note.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{note}: no JSON ({error}); fix: remove {folder}, then run again") from error
    stored = LipDescription.from_dict(fields, str(note))
    made_by = (stored.digest, stored.dim, stored.variants, stored.seed)
    if made_by != (description.digest, description.dim, description.variants, description.seed):
        fix = f"remove {folder}, or pass another --cache_dir"
        raise DataError(describe(f"{folder} was made by another front end", stored, description, fix))
    return folder


def _count(tables: Mapping[str, Mapping[str, str]]) -> int:
    return len(next(iter(tables.values())))


def _embed_clips(
    clips: Sequence[str], folder: Path, settings: EmbedSettings, worker: ClipEmbedder, nj: int, title: str
) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Embed what is not there yet; return reason and message of bad clips, and the files of all others."""
    problems: dict[str, tuple[str, str]] = {}
    targets: dict[str, str] = {}
    missing = []
    for clip in clips:
        try:
            name = clip_name(clip)
        except MissingDataError as error:
            problems[clip] = ("no_crops", str(error))
            continue
        target = folder / name[-2:] / f"{name}.npy"  # at most 256 folders
        targets[clip] = str(target)
        if not _is_good(target, worker):
            missing.append((clip, str(target)))
    logger.info("%d clips are in the cache, %d to compute", len(targets) - len(missing), len(missing))
    done = progress(_run(missing, settings, worker, nj), len(missing), f"embed lips of {title}")
    for clip, (reason, message) in done:
        if reason:
            problems[clip] = (reason, message)
            targets.pop(clip)
    return problems, targets


def _is_good(target: Path, worker: ClipEmbedder) -> bool:
    if not target.is_file():
        return False
    try:
        lips = load_lips(target)
    except DataError:
        return False
    dims = (worker.embedder.output_size,) if worker.variants == 1 else (worker.variants, worker.embedder.output_size)
    return (lips.shape[-1],) == dims if lips.ndim == 2 else (lips.shape[0], lips.shape[-1]) == dims


def _run(
    jobs: Sequence[tuple[str, str]], settings: EmbedSettings, worker: ClipEmbedder, nj: int
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield clips and what is wrong with them, in any order."""
    if nj == 1 or len(jobs) < 2:
        for source, target in jobs:
            yield source, worker(source, target)
        return
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))  # read by the libraries when a child starts
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(nj, len(jobs)), context, initializer=_start_worker, initargs=(settings,))
    try:
        futures = {pool.submit(_work, *job): job[0] for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as error:
        fix = "free memory or lower --nj, then run again: done clips are kept"
        raise EnvironmentProblem(describe("a process that embeds lips died", fix=fix)) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in threads.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _start_worker(settings: EmbedSettings) -> None:
    global _worker
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = settings.load()


def _end_with_parent() -> None:
    """Wait for the end of the parent process and end as well: a killed parent leaves no process behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(source: str, target: str) -> tuple[str, str]:
    if _worker is None:
        raise RuntimeError("the process was not started by _start_worker")
    return _worker(source, target)


def _write_folder(
    data: DataDir,
    output: Path,
    mouths: Mapping[str, Mapping[str, str]],
    targets: Mapping[str, str],
    drops: Drops,
    description: LipDescription,
    report: Mapping[str, object],
) -> None:
    """Make the folder with the new tables; it takes the place of an older one when it is whole."""
    lips = {
        f"lips_{speaker}": {utt: targets[path] for utt, path in table.items() if utt not in drops}
        for speaker, table in mouths.items()
    }
    keep = set(next(iter(lips.values())))
    remove_leftovers(output)
    with atomic_folder(output) as folder:
        new = DataDir(folder)
        copy_tables(data, new, keep, skip={"streams", "spk2utt", *(f"{name}.scp" for name in lips)})
        for path in data.path.iterdir():  # reports and pictures of earlier stages
            if path.suffix in (".json", ".png") and path.name not in ("data.json", REPORT):
                shutil.copy2(path, new / path.name)
        if data.has("utt2spk"):
            new.write("utt2spk", new.read("utt2spk"))
        for name, table in lips.items():
            new.write(f"{name}.scp", table)
        streams = [stream for stream in (data.streams if data.has("streams") else []) if stream.name not in lips]
        new.write_streams([*streams, *(Stream(f"{name}.scp", name, "npy") for name in lips)])
        new.write_meta({**data.meta, META_KEY: description.to_dict()})
        write_json(new / REPORT, report, sort_keys=True)

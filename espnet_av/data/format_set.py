# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Formats a whole data folder with several processes, and writes the new folder with its reports (stage 2)."""

import argparse
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.data.clip_formatter import (
    ROI_FORMATS,
    ROI_MODES,
    ClipFormatter,
    ClipSource,
    FormatSettings,
    FormattedClip,
)
from espnet_av.data.data_dir import DataDir, iter_lines
from espnet_av.data.drops import Drops
from espnet_av.data.mouth_roi import CropRules
from espnet_av.utils.errors import DataError, EnvironmentProblem, MissingDataError, UsageError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write, is_disk_full
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress
from espnet_av.utils.untrusted import load_npy, open_npz

logger = logging.getLogger(__name__)
MADE_HERE = {
    "wav.scp", "mouth.scp", "utt2num_samples", "utt2num_frames", "spk2utt", "streams", "data.json", "landmarks.scp",
    "segments", "utt2roi",
}  # fmt: skip
PRODUCT_FILES = ("roi_report.json", "roi_contact_sheet.png")
_worker: ClipFormatter | None = None


def settings_from(args: argparse.Namespace) -> FormatSettings:
    """Return the settings of the command line ``format_av``."""
    roi_dir = Path(os.path.abspath(args.roi_dir or Path(args.output_dir).absolute().parent / "mouth"))
    rules = CropRules(
        crop_size=args.crop_size,
        min_detected=0.0 if args.reference_compat else args.min_detected,
        max_gap=None if args.reference_compat or args.max_gap < 0 else args.max_gap,
    )
    return FormatSettings(
        roi=args.roi,
        roi_format=args.roi_format,
        roi_dir=str(roi_dir),
        audio_dir=os.path.abspath(args.audio_dir or roi_dir.parent / "audio"),
        rules=rules,
    )


def format_set(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    settings: FormatSettings,
    *,
    nj: int = 1,
    max_dropped_share: float = 0.2,
    sheet_clips: int = 20,
) -> str:
    """Format a data folder.

    Args:
        data_dir: Folder with ``text``, ``utt2spk``, and ``video.scp`` or ``wav.scp`` or both. With ``segments``, lines
            ``<utterance> <recording> <start> <end>`` in seconds (end -1: to the end), these two are keyed by recording
            and every utterance is cut out of its recording. ``utt2roi`` names utterances whose mouth is found in
            another way than ``settings.roi``, e.g. ``center`` for videos of mouths.
        output_dir: Folder to make; it appears when complete.
        settings: What to make of each clip.
        nj: Number of processes.
        max_dropped_share: Share of lost utterances above which the stage fails.
        sheet_clips: Clips on the contact sheet.

    Returns:
        One line on what was kept and lost.

    Raises:
        TooManyDropped: If too many were lost; the reasons lie in ``<output_dir>.roi_report.json``.
        MissingDataError: If a needed file of the folder is absent.
    """
    data, output = DataDir(data_dir), Path(output_dir)
    if nj < 1:
        raise UsageError(describe("--nj must be at least 1", got=nj))
    sources, text, utt2spk = read_sources(data, settings)
    failed_report = output.with_name(output.name + ".roi_report.json")
    failed_report.unlink(missing_ok=True)
    if any((source.roi or settings.roi) == "face" for source in sources) and settings.roi != "none":
        _fetch_detector(settings)
    start = time.monotonic()
    clips = {clip.utt: clip for clip in progress(_run(sources, settings, nj), len(sources), f"format {output.name}")}
    logger.info("formatted in %.1f s", time.monotonic() - start)
    drops = _collect_drops(clips, text, utt2spk)
    report = _report(settings, clips, drops)
    if drops.share > max_dropped_share or len(drops) == drops.total:
        write_json(failed_report, report, sort_keys=True)
        drops.check(max_dropped_share, failed_report)
    kept = {utt: clips[utt] for utt in sorted(clips) if utt not in drops}
    remove_leftovers(output)
    with atomic_folder(output) as folder:
        _write_data(DataDir(folder), data, kept, settings)
        write_json(folder / "roi_report.json", report, sort_keys=True)
        if settings.roi != "none" and sheet_clips > 0:
            _write_sheet(folder / "roi_contact_sheet.png", kept, drops, sheet_clips)
    return drops.one_line()


def read_sources(data: DataDir, settings: FormatSettings) -> tuple[list[ClipSource], dict[str, str], dict[str, str]]:
    """Read which utterances there are and where their files lie.

    Returns:
        The sources sorted by utterance, the transcripts, and the speakers.

    Raises:
        MissingDataError: If a needed file is absent.
        DataError: If an id is there twice (with the line) or a line is malformed.
    """
    if not data.path.is_dir():
        raise MissingDataError(describe("no data folder", got=str(data.path), fix="run stage 1 (prepare)"))
    needed = {"face": ["video.scp"], "center": ["video.scp"], "landmarks": ["video.scp", "landmarks.scp"], "none": []}
    for name in needed[settings.roi]:
        if not data.has(name):
            raise MissingDataError(
                describe(
                    f"{data.path} has no {name}", fix=f"run stage 1 (prepare), or pass --roi other than {settings.roi}"
                )
            )
    if not data.has("video.scp") and not data.has("wav.scp"):
        raise MissingDataError(describe(f"{data.path} has neither wav.scp nor video.scp", fix="run stage 1 (prepare)"))
    tables = {
        name: data.read(name) if data.has(name) else {} for name in ("video.scp", "wav.scp", "landmarks.scp", "utt2spk")
    }
    text = data.read("text", allow_empty=True)
    segments = read_segments(data) if data.has("segments") else None
    recordings = {*tables["video.scp"], *tables["wav.scp"]} if segments is None else set(segments)
    rois = _read_rois(data)
    sources = []
    for utt in sorted({*text, *recordings}):
        recording, start, end = (utt, 0.0, None) if segments is None else segments.get(utt, ("", 0.0, None))
        video, wav = (tables[name].get(recording) for name in ("video.scp", "wav.scp"))
        wav = None if wav == video else wav  # the clip's own track, which is aligned to its first frame
        sources.append(ClipSource(utt, video, wav, tables["landmarks.scp"].get(utt), start, end, rois.get(utt)))
    return sources, text, tables["utt2spk"]


def read_segments(data: DataDir) -> dict[str, tuple[str, float, float | None]]:
    """Read ``segments``: utterance to recording, start and end in seconds; None stands for the recording's end.

    Raises:
        DataError: If a line is not ``<utterance> <recording> <start> <end>`` with ``0 <= start < end`` (or end -1).
    """
    segments = {}
    for utt, value in data.read("segments").items():
        fields = value.split()
        try:
            recording, (start, end) = fields[0], map(float, fields[1:])
        except ValueError:
            recording, start, end = "", -1.0, -1.0
        if start < 0 or (end != -1 and not start < end < float("inf")):
            allowed = "<utterance> <recording> <start> <end>, seconds, end -1: to the end"
            raise DataError(describe(f"{data / 'segments'}: '{utt}' is no segment", value, allowed))
        segments[utt] = (recording, start, None if end == -1 else end)
    return segments


def _read_rois(data: DataDir) -> dict[str, str]:
    rois = data.read("utt2roi") if data.has("utt2roi") else {}
    for utt, roi in rois.items():
        if roi not in ROI_MODES[:3]:
            raise DataError(describe(f"{data / 'utt2roi'}: '{utt}' has an unknown kind of crop", roi, ROI_MODES[:3]))
    return rois


def _fetch_detector(settings: FormatSettings) -> None:
    """Fetch the detector's files once, before processes are started, so that what is wrong is said once."""
    from espnet_av.utils.assets import ASSETS, fetch_asset
    from espnet_av.utils.optional import require

    require("ai_edge_litert.interpreter", "face")
    for name in ASSETS:
        if name.startswith("face_"):
            fetch_asset(name, settings.cache)


def _run(sources: Sequence[ClipSource], settings: FormatSettings, nj: int) -> Iterator[FormattedClip]:
    """Yield formatted clips in any order."""
    if nj == 1 or len(sources) < 2:
        formatter = ClipFormatter(settings)
        for source in sources:
            yield _guarded(formatter, source)
        return
    threads = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    os.environ.update(dict.fromkeys(threads, "1"))  # read by the libraries when a child starts
    pool = ProcessPoolExecutor(
        min(nj, len(sources)), multiprocessing.get_context("spawn"), initializer=_start_worker, initargs=(settings,)
    )
    try:
        for future in as_completed([pool.submit(_work, source) for source in sources]):
            yield future.result()
    except BrokenProcessPool as error:
        raise EnvironmentProblem(
            describe("a formatting process died", fix="free memory or lower --nj, then run again: done clips are kept")
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        for name, value in threads.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _start_worker(settings: FormatSettings) -> None:
    global _worker
    import cv2

    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker = ClipFormatter(settings)


def _end_with_parent() -> None:
    """Wait for the end of the parent process and end as well: a killed parent leaves no process behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(source: ClipSource) -> FormattedClip:
    if _worker is None:
        raise RuntimeError("the process was not started by _start_worker")
    return _guarded(_worker, source)


def _guarded(formatter: ClipFormatter, source: ClipSource) -> FormattedClip:
    """Format a clip; a full disk stops everything and says so."""
    try:
        return formatter(source)
    except OSError as error:
        if is_disk_full(error):
            raise EnvironmentProblem(
                describe(f"the disk is full ({error})", fix="make room, then run again: done clips are kept")
            ) from error
        raise


def _collect_drops(clips: dict[str, FormattedClip], text: dict[str, str], utt2spk: dict[str, str]) -> Drops:
    drops = Drops(len(clips))
    for utt, clip in clips.items():
        if utt not in text:
            drops.add(utt, "no_text", "no line in text")
        elif clip.reason is not None:
            drops.add(utt, clip.reason, clip.detail)
        elif utt2spk and utt not in utt2spk:
            drops.add(utt, "no_speaker", "no line in utt2spk")
    return drops


def _report(settings: FormatSettings, clips: dict[str, FormattedClip], drops: Drops) -> dict[str, Any]:
    """Return the content of ``roi_report.json``; nothing in it depends on speed or order of the run."""
    wanted = {name: value for name, value in asdict(settings).items() if name in ("roi", "roi_format", "fps", "rules")}
    kept = [clip for utt, clip in clips.items() if utt not in drops]
    frames = sum(clip.num_frames for clip in kept)
    return {
        "settings": {**wanted, "sample_rate": settings.sample_rate},
        **drops.summary(),
        "num_frames": frames,
        "detected_share_of_kept_frames": round(sum(clip.num_detected for clip in kept) / frames, 6) if frames else None,
        "clips": {
            utt: {
                "num_frames": clip.num_frames,
                "num_detected": clip.num_detected,
                "num_interpolated": clip.num_interpolated,
                "detected_share": round(clip.num_detected / clip.num_frames, 6) if clip.num_frames else 0.0,
                "note": clip.note,
            }
            for utt, clip in sorted(clips.items())
            if clip.num_frames and settings.roi != "none"
        },
    }


def _write_data(new: DataDir, old: DataDir, kept: dict[str, FormattedClip], settings: FormatSettings) -> None:
    by_recording = {"video.scp"} if old.has("segments") else set()
    copy_tables(old, new, set(kept), skip=MADE_HERE | by_recording)
    if not new.has("utt2spk"):
        new.write("utt2spk", {utt: utt for utt in kept})
    new.write("utt2spk", new.read("utt2spk"))
    new.write("wav.scp", {utt: clip.wav for utt, clip in kept.items()})
    new.write("utt2num_samples", {utt: clip.num_samples for utt, clip in kept.items()})
    new.write("utt2num_frames", {utt: clip.num_frames for utt, clip in kept.items()})
    streams = [("wav.scp", "speech", "sound")]
    if settings.roi != "none":
        new.write("mouth.scp", {utt: clip.mouth for utt, clip in kept.items()})
        streams.append(("mouth.scp", "video", ROI_FORMATS[settings.roi_format]))
    new.write_streams([*streams, ("text", "text", "text")])
    new.write_meta({**old.meta, "sample_rate": settings.sample_rate, "fps": settings.fps})


def copy_tables(old: DataDir, new: DataDir, keep: set[str], *, skip: set[str]) -> None:
    """Copy every ``key ...`` file of a folder, reduced to the ids ``keep`` and sorted; several lines an id may have.

    Files that are no such tables (JSON, pictures, reports) and those in ``skip`` stay behind.
    """
    for path in sorted(old.path.iterdir()):
        if not path.is_file() or path.name.startswith(".") or path.name in skip or path.suffix in (".json", ".png"):
            continue
        lines = [(key, rest) for _, key, rest in iter_lines(path) if key in keep]
        lines.sort(key=lambda line: line[0].encode())  # stable: the lines of one id keep their order
        with atomic_write(new / path.name) as stream:
            stream.writelines(f"{key} {rest}\n" if rest else f"{key}\n" for key, rest in lines)


def _write_sheet(path: Path, kept: dict[str, FormattedClip], drops: Drops, num_clips: int) -> None:
    from espnet_av.data.contact_sheet import SheetRow, write_contact_sheet

    clips = [(clip, clip.mouth) for _, clip in sorted(kept.items()) if clip.mouth is not None]
    picks = sorted({int(index) for index in np.linspace(0, len(clips) - 1, min(num_clips, len(clips))).round()})
    rows = [
        SheetRow(f"{clip.utt}\n{clip.num_detected}/{clip.num_frames} faces", load_crops(mouth))
        for clip, mouth in (clips[index] for index in picks)
    ]
    lost = [
        f"dropped {utt}: {reason}"
        for reason, entry in drops.summary()["reasons"].items()
        for utt in list(entry["utterances"])[:10]
    ]
    write_contact_sheet(path, rows, title=f"{drops.one_line()}; {len(rows)} shown", notes=lost)


def load_crops(path: str | os.PathLike) -> np.ndarray:
    """Read a crop file of any format: (T, S, S) gray or (T, S, S, 3) RGB uint8."""
    path = Path(path)
    if path.suffix == ".npy":
        return load_npy(path)
    if path.suffix == ".npz":
        with open_npz(path) as loaded:
            return loaded["video"]
    if path.suffix == ".mp4":
        from espnet_av.data.video_io import read_video

        return read_video(path).frames
    raise DataError(describe("unknown format of crops", got=str(path), allowed=[".npy", ".npz", ".mp4"]))

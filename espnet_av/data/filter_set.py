# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Leaves out utterances by simple rules and writes the data folder that all later stages read (stage 3)."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_av.data.av_clock import AVClock
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.data.format_set import copy_tables
from espnet_av.data.validate import validate_data_dir
from espnet_av.utils.errors import MissingDataError, UsageError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder, remove_leftovers

NOT_COPIED = {"spk2utt", "streams", "data.json"}


@dataclass(frozen=True)
class FilterRules:
    """What an utterance must fulfil.

    Attributes:
        min_sec: Shortest length in seconds.
        max_sec: Longest length in seconds.
        max_drift_frames: Largest difference between the length of the sound and of the video, in video frames.
        keep_empty_text: Whether an empty transcript is allowed.
        check_media: Whether to open every sound and crop file and compare its rate and length with the tables
            (headers only, about 2 ms an utterance).
    """

    min_sec: float = 0.4
    max_sec: float = 15.0
    max_drift_frames: float = 2.0
    keep_empty_text: bool = False
    check_media: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.min_sec < self.max_sec:
            raise UsageError(describe("--min_sec must be below --max_sec", got=(self.min_sec, self.max_sec)))
        if self.max_drift_frames < 0:
            raise UsageError(describe("--max_drift_frames must not be negative", got=self.max_drift_frames))


def filter_set(
    data_dir: str | os.PathLike,
    output_dir: str | os.PathLike,
    rules: FilterRules = FilterRules(),
    *,
    max_dropped_share: float = 0.2,
    doctor_report: str | os.PathLike | None = None,
) -> str:
    """Filter a formatted data folder.

    Reasons: ``incomplete`` (an id that some file of the folder lacks), ``empty_text``, ``no_crops`` and ``no_audio``
    (the file is gone), ``too_short``, ``too_long``, ``av_drift``, and those of :mod:`espnet_av.data.validate` that the
    files themselves give (``unreadable``, ``wrong_rate``, ``wrong_length``, ...).

    Args:
        data_dir: Folder of stage 2.
        output_dir: Folder to make; it appears when complete, sorted, with ``spk2utt`` made anew.
        rules: The rules.
        max_dropped_share: Share of dropped utterances above which the stage fails.
        doctor_report: ``doctor.json`` of :mod:`espnet_av.bin.data_doctor`; what it drops of this folder goes too.

    Returns:
        One line on what was kept and dropped.

    Raises:
        TooManyDropped: If too many are dropped; the reasons lie in ``<output_dir>.filter_report.json``.
        MissingDataError: If the folder or a needed file of it is absent.
    """
    data, output = DataDir(data_dir), Path(output_dir)
    if not data.has("utt2num_frames"):
        raise MissingDataError(
            describe("no formatted data folder", got=str(data.path), fix="run stage 2 (format) first: --stage 2")
        )
    drops = find_drops(data, rules)
    drops.add_doctor(doctor_report, data.path)
    report = {"rules": asdict(rules), **drops.summary()}
    failed_report = output.with_name(output.name + ".filter_report.json")
    failed_report.unlink(missing_ok=True)
    if drops.share > max_dropped_share or len(drops) == drops.total:
        write_json(failed_report, report, sort_keys=True)
        drops.check(max_dropped_share, failed_report)
    keep = {utt for utt in data.read("text", allow_empty=True) if utt not in drops}
    remove_leftovers(output)
    with atomic_folder(output) as folder:
        new = DataDir(folder)
        copy_tables(data, new, keep, skip=NOT_COPIED)
        new.write("utt2spk", new.read("utt2spk"))
        new.write_streams(data.streams)
        new.write_meta(data.meta)
        write_json(folder / "filter_report.json", report, sort_keys=True)
    return drops.one_line()


def find_drops(data: DataDir, rules: FilterRules) -> Drops:
    """Apply the rules to a folder; tables first, then the headers of the files; nothing is decoded."""
    tables: dict[str, Mapping[str, object]] = {
        name: data.read(name, allow_empty=name == "text")
        for name in dict.fromkeys([*(stream.file for stream in data.streams), "text", "utt2spk"])
    }
    frames, samples = data.num_frames(), data.num_samples()
    tables |= {"utt2num_frames": frames, "utt2num_samples": samples}
    utts = sorted(set().union(*tables.values()))
    clock = AVClock(data.meta.get("sample_rate", 16000), data.meta.get("fps", 25))
    drops = Drops(len(utts))
    for utt in utts:
        absent = [name for name, table in tables.items() if utt not in table]
        if absent:
            drops.add(utt, "incomplete", f"no line in {', '.join(absent)}")
            continue
        if not str(tables["text"][utt]).strip() and not rules.keep_empty_text:
            drops.add(utt, "empty_text", "the transcript is empty")
        for reason, name in (("no_crops", "mouth.scp"), ("no_audio", "wav.scp")):
            if name in tables and not os.path.isfile(str(tables[name][utt])):
                drops.add(utt, reason, f"no file {tables[name][utt]}")
        seconds = frames[utt] / float(clock.fps)
        if seconds < rules.min_sec:
            drops.add(utt, "too_short", f"{seconds:.2f} s < {rules.min_sec:g} s")
        elif seconds > rules.max_sec:
            drops.add(utt, "too_long", f"{seconds:.2f} s > {rules.max_sec:g} s")
        drift = clock.drift_frames(samples[utt], frames[utt])
        if "mouth.scp" in tables and abs(drift) > rules.max_drift_frames:
            drops.add(utt, "av_drift", f"the sound is {drift:+.2f} frames longer than the video")
    if rules.check_media:
        good = [utt for utt in utts if utt not in drops]
        for problem in validate_data_dir(data.path, clock=clock, max_drift_frames=rules.max_drift_frames, utts=good):
            if problem.utt in tables["text"] and not (rules.keep_empty_text and problem.code == "empty_text"):
                drops.add(problem.utt, problem.code, problem.message)
    return drops

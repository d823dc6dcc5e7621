# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Damaged media and lists: each damaged clip is a counted drop or a clear error, and never costs a whole one."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fault_corpus
import numpy as np
from fault_bench import Line
from fault_damage import ALL

LONGEST_SEC = 60
UTTS = tuple(f"u{index}" for index in range(6))


class TooSlowError(Exception):
    """Something took longer than allowed."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TooSlowError when the block takes longer."""

    def end(*_: object) -> None:
        raise TooSlowError(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def call(main: Callable, *words: object) -> tuple[str, str]:
    """Run a command; return ``ok``, ``refused`` or ``lost``, and what it said."""
    from espnet_av.utils.errors import EspnetAVError

    said = io.StringIO()
    try:
        with time_limit(LONGEST_SEC), contextlib.redirect_stdout(said):
            main([str(word) for word in words])
    except EspnetAVError as error:
        return "refused", str(error)
    except (SystemExit, Exception) as error:
        return "lost", f"{type(error).__name__}: {error}"
    return "ok", said.getvalue()


def write_data(folder: Path, kind: str) -> dict[str, Path]:
    """Write a data folder of six utterances and its media of one kind; return id -> file."""
    import soundfile

    from espnet_av.data.data_dir import DataDir

    data, media = DataDir(folder / "data"), folder / "media"
    media.mkdir(parents=True)
    files = {utt: media / f"{utt}.{'npz' if kind == 'scp' else kind}" for utt in UTTS}
    rng = np.random.default_rng(0)
    for seed, path in enumerate(files.values()):
        if kind == "mp4":
            fault_corpus.write_clip(path, seed)
        elif kind in ("wav", "flac"):
            soundfile.write(path, 0.1 * rng.standard_normal(8000), 16000, subtype="PCM_16")
        else:
            np.savez_compressed(path, rng.integers(0, 256, (16, 96, 96), dtype=np.uint8))
    data.write("text", dict.fromkeys(UTTS, "BIN BLUE"))
    data.write("utt2spk", dict.fromkeys(UTTS, "s1"))
    if kind == "mp4":
        data.write("video.scp", files)
    elif kind in ("wav", "flac"):
        data.write("wav.scp", files)
    else:
        waves = {utt: path.with_suffix(".wav") for utt, path in files.items()}
        for path in waves.values():
            soundfile.write(path, 0.1 * rng.standard_normal(10240), 16000, subtype="PCM_16")
        data.write("mouth.scp", files)
        data.write("wav.scp", waves)
        data.write("utt2num_frames", dict.fromkeys(UTTS, 16))
        data.write("utt2num_samples", dict.fromkeys(UTTS, 10240))
        data.write_streams(
            [("wav.scp", "speech", "sound"), ("mouth.scp", "video", "video_npz"), ("text", "text", "text")]
        )
        data.write_meta({"fps": 25, "sample_rate": 16000})
    return files


def run_stage(folder: Path, kind: str) -> tuple[str, str]:
    """Run the stage that first reads media of this kind."""
    from espnet_av.bin import filter_data, format_audio, format_av

    out = folder / "out"
    given = ["--data_dir", folder / "data", "--output_dir", out, "--max_dropped_share", 0.9]
    if kind == "mp4":
        return call(format_av.main, *given, "--roi", "center", "--sheet_clips", 0)
    if kind in ("wav", "flac"):
        return call(format_audio.main, *given, "--audio_dir", folder / "audio", "--fs", 16000, "--audio_format", kind)
    return call(filter_data.main, *given, "--min_sec", 0.1)


def damage_media(place: Path, kind: str, times: int, seed: int, deadline: float) -> Line:
    """Damage some of six files; the stage drops and counts damaged ones, keeps the whole ones, or refuses clearly."""
    line = Line(f"media-{kind}", f"damaged {kind} files" if kind != "scp" else "damaged lines of data folders")
    began, dice = time.monotonic(), random.Random(f"{seed} {kind}")
    while line.tried < times and len(line.lost) < 3 and time.monotonic() < deadline:
        folder = place / f"{kind}{line.tried}"
        shutil.rmtree(folder, ignore_errors=True)
        files = write_data(folder, kind)
        damage = ALL[line.tried % len(ALL)]
        if kind == "scp":
            damaged = [folder / "data" / dice.choice(("wav.scp", "mouth.scp", "text", "utt2num_frames", "streams"))]
        else:
            damaged = [files[utt] for utt in dice.sample(UTTS, dice.randint(1, 4))]
        for path in damaged:
            damage(path, dice)
        outcome, said = run_stage(folder, kind)
        line.tried += 1
        line.note(outcome)
        names = f"{damage.__name__} of {[path.name for path in damaged]}"
        if not line.check(outcome != "lost", f"{names}: {said[:400]}"):
            keep_evidence(place, folder)
        elif outcome == "ok":
            check_kept(folder, kind, files, set(damaged), names, line)
        elif kind != "scp":
            line.check(False, f"{names}: refused although whole clips are left: {said[:300]}")
        shutil.rmtree(folder)
    line.seconds = time.monotonic() - began
    return line


def check_kept(folder: Path, kind: str, files: dict, damaged: set, names: str, line: Line) -> None:
    """Whole clips are kept, the counts add up, and what is kept can be read to its end."""
    from espnet_av.data.audio_io import read_audio
    from espnet_av.data.data_dir import DataDir

    out = DataDir(folder / "out")
    table = "mouth.scp" if kind in ("mp4", "npz", "scp") else "wav.scp"
    kept = out.read(table)
    if kind != "scp":
        gone = [utt for utt, path in files.items() if path not in damaged and utt not in kept]
        line.check(not gone, f"{names}: whole clips are gone: {gone}")
        report = next((path for path in out.path.glob("*report.json")), None)
        counted = json.loads(report.read_text())["num_dropped"] if report else 0
        line.check(len(kept) + counted == len(UTTS), f"{names}: {len(kept)} kept and {counted} dropped of {len(UTTS)}")
        line.notes["dropped and counted"] = line.notes.get("dropped and counted", 0) + counted
    for utt, path in kept.items():
        try:
            if table == "wav.scp":
                samples = len(read_audio(path)[0])
                good = samples == out.num_samples()[utt]
            else:
                content = np.load(path)
                good = len(content if isinstance(content, np.ndarray) else content[content.files[0]]) > 0
        except Exception as error:
            good = line.check(False, f"{names}: kept, and cannot be read: {Path(path).name}: {error!r}")
        else:
            line.check(good, f"{names}: kept with a wrong length: {Path(path).name}")


def keep_evidence(place: Path, folder: Path) -> None:
    """Keep what caused a loss for who looks into it."""
    if os.environ.get("FAULT_KEEP"):
        shutil.copytree(folder, place.parent / f"evidence-{folder.name}", dirs_exist_ok=True)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One real talker of GRID as an actor: sound, face codes and head poses in the 50h layout, and data folders of them.

``python -m espnet_av.corpora.grid_talk --grid_root DIR --corpus_dir downloads/s1 --output_dir data --nj 2``

::

    <corpus_dir>/measured/<utt>-<key>.npz              what was measured in a clip; kept from run to run
    <corpus_dir>/audio/<utt>.wav                       48 kHz, the talker alone
    <corpus_dir>/expression_codes/<utt>.npy            (N, 256), 30 Hz
    <corpus_dir>/headpose/<utt>--headpose.npy          (N, 3, 4) rotation | translation
    <corpus_dir>/missing/<utt>.npy                     frames of motion without a face, where there are any
    <corpus_dir>/{text,face_basis.npz,report.json}

Clips are divided by a hash of their names. Zeros, units and pictures of the controls are learned from the clips of
training alone; see :mod:`espnet_av.corpora.face_tracking_codes`.

Axes: ``T`` video frames, ``N`` frames of motion at 30 Hz, ``K`` controls, ``D`` values of a code.
"""

import argparse
import functools
import hashlib
import json
import logging
import sys
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.corpora import fifty_hours
from espnet_av.corpora.grid import Clip, find_clips, read_align, spell_out
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error

logger = logging.getLogger(__name__)

SAMPLE_RATE, MOTION_FPS = 48000, 30
SETS = ("train", "valid", "test")
VERSION = 1  # raise this when the same clip gives other measurements
MIN_LEVEL_DB = -55.0  # of full scale; what is softer is no speech
MIN_SEC = 0.5


@dataclass(frozen=True)
class Rules:
    """When a clip is dropped.

    Attributes:
        min_detected: Share of frames with a face that a clip needs.
        max_gap: Longest run of frames without a face.
        max_dropped_share: More dropped clips than this share are an error.
    """

    min_detected: float = 0.8
    max_gap: int = 15
    max_dropped_share: float = 0.2

    def __post_init__(self) -> None:
        if not (0 <= self.min_detected <= 1 and 0 <= self.max_dropped_share <= 1 and self.max_gap >= 0):
            allowed = "shares from 0 to 1, a gap of 0 or more"
            usage_error("impossible rules", (self.min_detected, self.max_gap, self.max_dropped_share), allowed)


@dataclass(frozen=True)
class Work:
    """A clip to be measured: its files, and where the sound and the measurements go."""

    clip: Clip
    wav: Path
    measured: Path
    rules: Rules


@dataclass(frozen=True)
class Outcome:
    """What became of a clip; ``reason`` is empty where it can be used."""

    utt: str
    reason: str = ""
    detail: str = ""


def split_by_name(clips: Sequence[Clip], num_valid: int, num_test: int, seed: int = 0) -> dict[str, list[Clip]]:
    """Divide clips by a hash of their names.

    Args:
        clips: All clips.
        num_valid: Of the validation set.
        num_test: Of the test set.
        seed: Goes into the hash.

    Raises:
        DataError: A set stays empty.
    """
    order = sorted(clips, key=lambda clip: hashlib.sha256(f"{seed}:{clip.name}".encode()).hexdigest())
    parts = order[num_valid + num_test :], order[num_test : num_valid + num_test], order[:num_test]
    sets = {name: sorted(part, key=lambda clip: clip.utt) for name, part in zip(SETS, parts, strict=True)}
    empty = [name for name, members in sets.items() if not members]
    if empty:
        what = f"{len(clips)} clips are too few: {', '.join(empty)} would be empty"
        raise DataError(describe(what, (num_valid, num_test), fix="lower --num_valid and --num_test"))
    return sets


def choose_talker(root: str | Path, talker: str | None) -> list[Clip]:
    """Return the clips of one talker; None: the only one, or the first.

    Raises:
        MissingDataError: There are no clips of that talker.
    """
    clips = find_clips(root, talker)
    talkers = sorted({clip.speaker for clip in clips}, key=lambda name: (len(name), name))
    chosen = talker or talkers[0]
    if chosen not in talkers:
        raise MissingDataError(describe("no clips of this talker", chosen, talkers, "pass another --talker"))
    return [clip for clip in clips if clip.speaker == chosen]


def measure_clip(work: Work) -> Outcome:
    """Write the sound and the measurements of a clip, unless they are there; what is wrong becomes the reason."""
    from espnet_av.data.mouth_roi import ClipRejected

    utt = work.clip.utt
    if work.measured.is_file() and work.wav.is_file():
        return Outcome(utt)
    refused = work.measured.with_suffix(".json")
    if refused.is_file():
        return Outcome(utt, **json.loads(refused.read_text(encoding="utf-8")))
    try:
        _measure(work)
        return Outcome(utt)
    except ClipRejected as error:
        found = {"reason": error.reason, "detail": str(error)}
    except MissingDataError as error:
        return Outcome(utt, "missing_file", str(error))
    except DataError as error:
        found = {"reason": "unreadable", "detail": str(error)}
    refused.write_text(json.dumps(found) + "\n", encoding="utf-8")
    return Outcome(utt, **found)


def _measure(work: Work) -> None:
    from espnet_av.corpora.face_tracking_codes import drop_slips, measure_face
    from espnet_av.data.audio_io import write_audio
    from espnet_av.data.mouth_roi import ClipRejected, CropRules, check_detection
    from espnet_av.data.video_io import read_audio_track, read_video

    video = read_video(work.clip.video)
    duration = len(video.frames) / video.fps
    if duration < MIN_SEC:
        raise ClipRejected("too_short", describe("the clip is too short", f"{duration:.2f} s", f"{MIN_SEC} s or more"))
    num_samples = round(duration * MOTION_FPS) * SAMPLE_RATE // MOTION_FPS
    wave = read_audio_track(work.clip.video, SAMPLE_RATE)[:num_samples]
    level = 10 * np.log10(np.mean(np.square(wave, dtype=np.float64)) + 1e-12)
    if level < MIN_LEVEL_DB:
        raise ClipRejected(
            "silent", describe("no speech", f"{level:.0f} dB of full scale", f"above {MIN_LEVEL_DB:.0f}")
        )
    landmarks = drop_slips(_detector().detect(video.frames))
    check_detection(landmarks, CropRules(min_detected=work.rules.min_detected, max_gap=work.rules.max_gap))
    motion = measure_face(video.frames, landmarks, video.fps)
    write_audio(work.wav, np.pad(wave, (0, num_samples - len(wave))), SAMPLE_RATE)
    motion.save(work.measured)  # last: it says that the clip is done


@functools.cache
def _detector() -> Any:
    from espnet_av.data.face_detector import LiteRTFaceMesh

    return LiteRTFaceMesh()


def plan(clips: Sequence[Clip], corpus: Path, rules: Rules) -> dict[str, Work]:
    """Return what is to be done for each clip; changed clips and rules give other names of files."""
    found = {}
    for clip in clips:
        state = clip.video.stat()
        key = [VERSION, clip.video.name, state.st_size, state.st_mtime_ns, rules.min_detected, rules.max_gap]
        digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
        measured = corpus / "measured" / f"{clip.utt}-{digest}.npz"
        found[clip.utt] = Work(clip, corpus / fifty_hours.AUDIO / f"{clip.utt}.wav", measured, rules)
    return found


def write_motion(works: dict[str, Work], train: Sequence[str], corpus: Path, seed: int) -> None:
    """Turn measurements into face codes and head poses.

    Args:
        works: Id -> files of a clip.
        train: Ids to learn the talker from.
        corpus: Gets ``expression_codes``, ``headpose``, ``missing`` and ``face_basis.npz``.
        seed: Of the basis and of the noise of the codes.
    """
    from espnet_av.avgen.face.controls import controls_to_codes, make_basis, pose_to_head, write_basis
    from espnet_av.corpora.face_tracking_codes import CONTROLS, FaceMotion, Talker, lost_frames, to_motion_rate
    from espnet_av.utils.progress import progress

    talker = Talker([FaceMotion.load(works[utt].measured) for utt in train])
    basis = make_basis(seed, num_controls=len(CONTROLS))
    for name in (fifty_hours.FACE, fifty_hours.HEAD, "missing"):
        (corpus / name).mkdir(parents=True, exist_ok=True)
    for utt, work in progress(list(works.items()), title="codes", unit="clip"):
        motion = FaceMotion.load(work.measured)
        num_out = round(len(motion.seen) / motion.fps * MOTION_FPS)
        controls, pose = (
            to_motion_rate(track, motion.fps, MOTION_FPS, num_out)
            for track in (talker.controls(motion), talker.pose(motion))
        )
        rng = np.random.default_rng([seed, 91, zlib.crc32(utt.encode())])
        np.save(corpus / fifty_hours.FACE / f"{utt}.npy", controls_to_codes(controls, basis, rng))
        np.save(corpus / fifty_hours.HEAD / f"{utt}--headpose.npy", pose_to_head(pose))
        lost, path = lost_frames(motion.seen, motion.fps, MOTION_FPS, num_out), corpus / "missing" / f"{utt}.npy"
        if len(lost):
            np.save(path, lost.astype(np.int64))
        else:
            path.unlink(missing_ok=True)
    write_basis(corpus / "face_basis.npz", basis, CONTROLS)


def read_text(clip: Clip) -> str:
    """Return the sentence of a clip, from its alignment or else from its name."""
    words = [word.text for word in read_align(clip.align)] if clip.align else []
    return " ".join(words or spell_out(clip.name))


def write_set(works: Sequence[Work], corpus: Path, folder: Path, description: str) -> None:
    """Write the data folder of a set: ``wav.scp face.scp head.scp text utt2spk``, ``words.ctm``, and ``missing.scp``
    where frames are missing."""
    from espnet_av.data.data_dir import DataDir
    from espnet_av.utils.folders import atomic_folder, remove_leftovers

    corpus = corpus.resolve()
    utts = {work.clip.utt: work for work in works}
    remove_leftovers(folder)
    with atomic_folder(folder) as temporary:
        data = DataDir(temporary)
        data.write("wav.scp", {utt: corpus / fifty_hours.AUDIO / f"{utt}.wav" for utt in utts})
        data.write("face.scp", {utt: corpus / fifty_hours.FACE / f"{utt}.npy" for utt in utts})
        data.write("head.scp", {utt: corpus / fifty_hours.HEAD / f"{utt}--headpose.npy" for utt in utts})
        missing = {utt: corpus / "missing" / f"{utt}.npy" for utt in utts}
        missing = {utt: path for utt, path in missing.items() if path.is_file()}
        if missing:
            data.write("missing.scp", missing)
        data.write("text", {utt: read_text(work.clip) for utt, work in utts.items()})
        data.write("utt2spk", {utt: work.clip.speaker for utt, work in utts.items()})
        with open(data / "words.ctm", "w", encoding="utf-8") as stream:
            for utt, work in sorted(utts.items()):
                for word in read_align(work.clip.align) if work.clip.align else []:
                    length = word.end_sec - word.start_sec
                    stream.write(f"{utt} 1 {word.start_sec:.3f} {length:.3f} {word.text}\n")
        data.write_meta({"motion_fps": MOTION_FPS, "licence": "CC-BY-4.0", "description": description})


def prepare(args: argparse.Namespace) -> dict[str, int]:
    """Make the corpus and the data folders.

    Args:
        args: See :func:`get_parser`.

    Returns:
        The clips of each set.

    Raises:
        MissingDataError, DataError: There is no such corpus, or too many clips cannot be used.
    """
    import shutil

    from espnet_av.data.data_dir import write_scp
    from espnet_av.data.drops import Drops
    from espnet_av.data.parallel import map_items
    from espnet_av.utils.experiment import write_json

    rules = Rules(args.min_detected, args.max_gap, args.max_dropped_share)
    clips = choose_talker(args.grid_root, args.talker)
    sets = split_by_name(clips[: args.max_clips or None], args.num_valid, args.num_test, args.seed)
    corpus = args.corpus_dir
    works = plan([clip for members in sets.values() for clip in members], corpus, rules)
    (corpus / "measured").mkdir(parents=True, exist_ok=True)
    drops = Drops(len(works))
    for outcome in map_items(measure_clip, list(works.values()), args.nj, "measure faces"):
        if outcome.reason:
            drops.add(outcome.utt, outcome.reason, outcome.detail)
            logger.warning("%s is left out: %s", outcome.utt, outcome.detail)
    report = write_json(corpus / "report.json", drops.summary(), sort_keys=True)
    drops.check(rules.max_dropped_share, report)
    kept = {utt: work for utt, work in works.items() if utt not in drops}
    train = [clip.utt for clip in sets["train"] if clip.utt in kept]
    write_motion(kept, train, corpus, args.seed)
    write_scp(corpus / "text", {utt: read_text(work.clip) for utt, work in kept.items()})
    for name, members in sets.items():
        chosen = [kept[clip.utt] for clip in members if clip.utt in kept]
        if not chosen:
            raise DataError(describe(f"no clip of {name} can be used", fix=f"read {report}"))
        write_set(chosen, corpus, args.output_dir / name, f"GRID, talker {clips[0].speaker}, set {name}")
    shutil.copyfile(corpus / "face_basis.npz", args.output_dir / "face_basis.npz")
    logger.info("%s", drops.one_line())
    return {name: sum(clip.utt in kept for clip in members) for name, members in sets.items()}


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Measure face and head of one talker of GRID, for generation.")
    parser.add_argument("--grid_root", type=Path, required=True, help="s<N>/*.mpg + align/, or video/ + align/")
    parser.add_argument("--corpus_dir", type=Path, required=True, help="gets sound and motion")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="gets the data folders")
    parser.add_argument("--talker", help="s1, s2, ... (default: the first one)")
    parser.add_argument("--num_valid", type=int, default=20, help="clips of the validation set")
    parser.add_argument("--num_test", type=int, default=20, help="clips of the test set")
    parser.add_argument("--max_clips", type=int, default=0, help="use so many clips only; 0: all")
    parser.add_argument("--min_detected", type=float, default=Rules.min_detected, help="share of frames with a face")
    parser.add_argument("--max_gap", type=int, default=Rules.max_gap, help="longest run of frames without a face")
    parser.add_argument("--max_dropped_share", type=float, default=Rules.max_dropped_share, help="of the clips")
    parser.add_argument("--seed", type=int, default=0, help="of the division and of the codes")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if min(args.num_valid, args.num_test) < 1 or args.max_clips < 0:
        usage_error(
            "impossible numbers of clips", (args.num_valid, args.num_test, args.max_clips), "1 or more in a set"
        )
    if args.seed < 0:
        usage_error("--seed must not be negative", args.seed)
    counts = prepare(args)
    sys.stdout.write(", ".join(f"{args.output_dir / name}: {count}" for name, count in counts.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generate mini_av, a corpus of talking faces that needs no download.

``python -m espnet_av.corpora.mini_av --output_dir data --corpus_dir data/corpus --nj 2``

Every speaker has a synthetic voice (espeak-ng) and a rendered face whose mouth follows the phones. The same seed and
size give the same samples and frames, whatever ``--nj`` is. A run that was killed goes on where it stopped: speakers
that are complete are kept.

Beside the data folders of speech recognition (``train valid test_seen test_unseen`` and eight interferer sets) there
are silent clips, noise, room impulse responses, lists of two-speaker mixtures, and for each clip the times of words and
phones (``.json``) and the motion of the face (``.npz``), from which its frames can be rendered again.
"""

import argparse
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import espnet_av
from espnet_av.corpora.mini_av_speaker import FORMAT, SPEAKER_FILE, SpeakerJob
from espnet_av.corpora.sentences import CorpusSize, PlannedUtterance, plan_corpus
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import EnvironmentProblem, EspnetAVError, describe, usage_error
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)

CORPUS_FILE = "mini_av.json"
SIZES = {
    "tiny": CorpusSize(2, 1, train=4, valid=1, test=2, test_unseen=2, silent=1),
    "default": CorpusSize(12, 2, train=60, valid=3, test=5, test_unseen=20, silent=2),
    "large": CorpusSize(24, 4, train=120, valid=4, test=6, test_unseen=25, silent=4),
}
_VERSIONED = ("espeakng-loader", "numpy", "opencv-python-headless", "av", "scipy")


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Generate the mini_av corpus of talking faces; nothing is downloaded.")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="where the data folders go")
    parser.add_argument("--corpus_dir", type=Path, help="where the media go; default: <output_dir>/corpus")
    parser.add_argument(
        "--size", default="default", help="tiny, default, large, or a number of training clips per speaker"
    )
    parser.add_argument("--num_speakers", type=int, help="all speakers; one in seven is kept out of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--nj", type=int, default=2, help="speakers made at the same time; the result does not depend on it"
    )
    return parser


def corpus_size(size: str, num_speakers: int | None) -> CorpusSize:
    """Turn the options into numbers.

    Args:
        size: A name of ``SIZES`` or a number of training clips per speaker.
        num_speakers: All speakers, at least 3; None takes those of the named size.

    Raises:
        UsageError: For an unknown size or too few speakers.
    """
    if size in SIZES:
        chosen = SIZES[size]
    elif size.isascii() and size.isdigit() and int(size) > 0:
        chosen = dataclasses.replace(SIZES["default"], train=int(size))
    else:
        usage_error("unknown corpus size", size, [*SIZES, "a number > 0"], "pass --size default")
    if num_speakers is None:
        return chosen
    if num_speakers < 3:
        usage_error("too few speakers", num_speakers, ">= 3", "pass --num_speakers 14")
    unseen = max(1, round(num_speakers / 7))
    return dataclasses.replace(chosen, num_train_speakers=num_speakers - unseen, num_unseen_speakers=unseen)


def speaker_jobs(plan: Sequence[PlannedUtterance], size: CorpusSize, corpus_dir: Path, seed: int) -> list[SpeakerJob]:
    """Return the work of each speaker, in the order of speakers."""
    jobs = []
    for index in range(size.num_train_speakers + size.num_unseen_speakers):
        unseen = index >= size.num_train_speakers
        rank = index - size.num_train_speakers if unseen else index
        utterances = tuple((item.utt_id, item.split, item.text) for item in plan if item.speaker == index)
        jobs.append(SpeakerJob(str(corpus_dir), index, rank, unseen, seed, utterances))
    return jobs


class SpeakerPool:
    """Run jobs in fresh processes, at most ``nj`` at a time; leave no process behind."""

    def __init__(self, jobs: Sequence[SpeakerJob], nj: int) -> None:
        self._pending = deque(jobs)
        self._events: queue.Queue[str | EspnetAVError | None] = queue.Queue()
        self._running: set[subprocess.Popen] = set()
        self._stopped = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(max(1, min(nj, len(jobs))))]

    def clips(self) -> Iterator[str]:
        """Yield the id of each clip as it gets ready.

        Raises:
            EspnetAVError: A job failed; the others are ended.
        """
        for thread in self._threads:
            thread.start()
        try:
            left = len(self._threads)
            while left:
                event = self._events.get()
                if event is None:
                    left -= 1
                elif isinstance(event, EspnetAVError):
                    raise event
                else:
                    yield event
        finally:
            self._stopped = True
            for process in list(self._running):
                process.terminate()
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        try:
            while not self._stopped:
                try:
                    job = self._pending.popleft()
                except IndexError:
                    break
                self._run(job)
        except EspnetAVError as error:
            self._events.put(error)
        finally:
            self._events.put(None)

    def _run(self, job: SpeakerJob) -> None:
        root = str(Path(espnet_av.__file__).resolve().parents[1])
        env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]),
            "OMP_NUM_THREADS": "1",
        }
        command = [sys.executable, "-m", "espnet_av.corpora.mini_av_speaker"]
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=env
            )
            self._running.add(process)
            assert process.stdin is not None and process.stdout is not None  # both are pipes
            try:
                with process.stdin as stdin:
                    json.dump({"parent": os.getpid(), "job": dataclasses.asdict(job)}, stdin)
                for line in process.stdout:
                    self._events.put(line.strip())
                status = process.wait()
            finally:
                process.stdout.close()
                self._running.discard(process)
            if status != 0 and not self._stopped:
                errors.seek(0)
                last = "\n".join(errors.read().strip().splitlines()[-12:])
                raise EspnetAVError(describe(f"making speaker {job.speaker} failed with status {status}:\n{last}\n"))


def collect(jobs: Sequence[SpeakerJob]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Read the records of finished speakers: by speaker, and by utterance."""
    speakers, utterances = {}, {}
    for job in jobs:
        record = json.loads((job.folder / SPEAKER_FILE).read_text(encoding="utf-8"))
        for facts in record.pop("utterances"):
            voice = "high" if record["voice"]["high"] else "low"
            utterances[facts["utt_id"]] = {**facts, "speaker": job.speaker, "voice": voice}
        speakers[job.speaker] = record
    return speakers, utterances


def generate(output_dir: Path, corpus_dir: Path, size: CorpusSize, seed: int, nj: int) -> bool:
    """Make the corpus, or what of it is missing.

    Args:
        output_dir: Where the data folders go.
        corpus_dir: Where the media go.
        size: Speakers and clips.
        seed: Seed of everything.
        nj: Speakers made at the same time.

    Returns:
        False if there was nothing to do.
    """
    from espnet_av.corpora.mini_av_sets import LICENCE, SetWriter, write_corpus_file

    jobs = speaker_jobs(plan_corpus(size, seed), size, corpus_dir, seed)
    missing = [job for job in jobs if not job.is_done()]
    facts = {"output_dir": str(output_dir), "jobs": [job.digest() for job in jobs]}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    if not missing and _is_complete(corpus_dir / CORPUS_FILE, digest, output_dir):
        logger.info("%s is complete, nothing to do", corpus_dir)
        return False
    (corpus_dir / CORPUS_FILE).unlink(missing_ok=True)
    if len(missing) < len(jobs):
        logger.info("%d of %d speakers are complete and kept", len(jobs) - len(missing), len(jobs))
    if missing:
        _check_synthesiser()
        total = sum(len(job.utterances) for job in missing)
        for _ in progress(SpeakerPool(missing, nj).clips(), total, "mini_av"):
            pass
    speakers, utterances = collect(jobs)
    data_dirs = SetWriter(utterances, corpus_dir, output_dir, seed).write()
    versions = {name: _version(name) for name in _VERSIONED}
    about = {"corpus": "mini_av", "format": FORMAT, "seed": seed, "digest": digest, "licence": LICENCE}
    made = {"size": dataclasses.asdict(size), "data_dirs": data_dirs}
    content = {**about, **made, "versions": versions, "speakers": speakers, "utterances": utterances}
    write_corpus_file(corpus_dir / CORPUS_FILE, content)
    seconds = sum(item["num_samples"] for item in utterances.values()) / 16000
    logger.info("%d clips of %d speakers, %.1f min in %s", len(utterances), len(speakers), seconds / 60, corpus_dir)
    return True


def _is_complete(path: Path, digest: str, output_dir: Path) -> bool:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        folders = [output_dir / name / "data.json" for name in record["data_dirs"]]
        return record["digest"] == digest and all(folder.is_file() for folder in folders)
    except (OSError, ValueError, KeyError):
        return False


def _check_synthesiser() -> None:
    """Refuse early, without importing it here."""
    if importlib.util.find_spec("espeakng_loader") is None:
        raise EnvironmentProblem(
            describe("mini_av needs the speech synthesiser of espeakng-loader", fix="pip install 'espnet_av[tts]'")
        )


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if args.nj < 1:
        usage_error("--nj must be at least 1", args.nj)
    if args.seed < 0:
        usage_error("--seed must not be negative", args.seed)
    size = corpus_size(args.size, args.num_speakers)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the workers are ended too
    generate(args.output_dir, args.corpus_dir or args.output_dir / "corpus", size, args.seed, args.nj)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

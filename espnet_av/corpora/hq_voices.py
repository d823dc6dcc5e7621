# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generate the full-band voices of mini_av: speech at 24 kHz that needs no download, for codecs and vocoders.

``python -m espnet_av.corpora.hq_voices --output_dir data --corpus_dir data/corpus_hq --nj 2``

One natural synthetic voice (hibari-tts, whose model is inside its package) reads sentences; the WORLD vocoder turns it
into several speakers by moving pitch and formants. Beside the sets ``train`` and ``valid`` there are tests of other
speakers in clean, noisy and reverberant conditions, and lists of noise and room responses for training an enhancing
codec; those of validation and tests are not heard in training. The same seed and size give the same samples, whatever
``--nj`` is.
"""

import argparse
import dataclasses
import functools
import hashlib
import importlib.metadata
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.corpora import codec_sets
from espnet_av.corpora.codec_sets import SAMPLE_RATE, Recording
from espnet_av.corpora.sentences import SentenceSource
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.drops import write_json
from espnet_av.data.parallel import map_items
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import usage_error
from espnet_av.utils.optional import require

logger = logging.getLogger(__name__)
FORMAT = 1  # raise this when the same seed gives other samples
RECORD = "hq_voices.json"
LICENCE = (
    "Generated from numbers by espnet_av (Apache-2.0) with the voice of hibari-tts (Apache-2.0); no recording of a person "
    "is in it. Use it as you like."
)
_RMS_DB = -26.0
_PAD_SEC = (0.12, 0.25)


@dataclasses.dataclass(frozen=True)
class HQVoice:
    """A speaker: factors of pitch, of the frequencies of formants, and of the speaking rate."""

    pitch: float
    formants: float
    speed: float

    @property
    def gender(self) -> str:
        """``m`` below about 160 Hz (the voice itself speaks at 190 Hz), else ``f``."""
        return "m" if self.pitch < 0.84 else "f"


TRAIN_VOICES = (
    HQVoice(1.00, 1.00, 1.00),
    HQVoice(0.58, 0.86, 0.95),
    HQVoice(1.16, 1.05, 1.08),
    HQVoice(0.68, 0.90, 1.05),
    HQVoice(0.90, 0.97, 0.92),
    HQVoice(0.52, 0.84, 1.00),
    HQVoice(1.28, 1.09, 1.00),
    HQVoice(0.62, 0.92, 1.12),
    HQVoice(1.08, 0.98, 1.15),
    HQVoice(0.74, 0.87, 0.90),
)
VALID_VOICES = (HQVoice(0.64, 0.88, 1.02), HQVoice(1.10, 1.03, 0.96))
TEST_VOICES = (HQVoice(0.55, 0.89, 1.04), HQVoice(1.20, 1.02, 1.00), HQVoice(0.95, 1.04, 1.06))


@dataclasses.dataclass(frozen=True)
class HQSize:
    """Speakers of training, utterances of each speaker by split, seconds of each noise, rooms of training and test."""

    num_train_voices: int
    train: int
    valid: int
    test: int
    noise_sec: float
    rooms: tuple[int, int]


SIZES = {
    "tiny": HQSize(2, 3, 2, 1, 3.0, (2, 1)),
    "default": HQSize(10, 20, 6, 8, 20.0, (12, 4)),
    "large": HQSize(10, 80, 10, 10, 60.0, (30, 8)),
}


@dataclasses.dataclass(frozen=True)
class SpokenItem:
    """One utterance to make: id, split, speaker, voice, text, seed of its chance, and the file."""

    utt: str
    split: str
    speaker: str
    voice: HQVoice
    text: str
    seed: tuple[int, ...]
    path: str


def plan(size: HQSize, seed: int, corpus_dir: Path) -> list[SpokenItem]:
    """Decide every utterance: two sentences each, none twice, read by one speaker."""
    source = SentenceSource(np.random.default_rng([seed, 41]), set())
    groups = (
        ("test", TEST_VOICES, size.test),
        ("valid", VALID_VOICES, size.valid),
        ("train", TRAIN_VOICES[: size.num_train_voices], size.train),
    )
    items = []
    for split, voices, count in groups:
        for rank, voice in enumerate(voices):
            speaker = f"hq-{split}{rank + 1:02d}"
            for number in range(count):
                first = source.free() if number % 4 else source.grid()
                text = f"{first.capitalize()}, and {source.free().lower()}."
                utt = f"{speaker}-{number + 1:03d}"
                place = corpus_dir / "speech" / speaker / f"{utt}.wav"
                items.append(SpokenItem(utt, split, speaker, voice, text, (seed, 42, len(items)), str(place)))
    return items


@functools.lru_cache(maxsize=1)
def _synthesiser() -> Any:
    return require("hibari", "tts-hq").Hibari(threads=1)


def speak(item: SpokenItem) -> int:
    """Make the file of one utterance unless it is there; return its length in samples."""
    path = Path(item.path)
    if path.is_file():
        return len(read_audio(path, SAMPLE_RATE)[0])
    rng = np.random.default_rng(item.seed)
    wave = _synthesiser()(item.text, speed=item.voice.speed, seed=int(rng.integers(2**31)))
    voiced = change_voice(wave, item.voice)
    voiced = voiced * 10 ** (_RMS_DB / 20) / max(float(np.sqrt(np.mean(voiced**2))), 1e-6)
    before, after = (round(rng.uniform(*_PAD_SEC) * SAMPLE_RATE) for _ in range(2))
    padded = np.pad(voiced, (before, after)) + 10 ** (-78 / 20) * rng.standard_normal(len(voiced) + before + after)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_audio(path, padded * min(1.0, 0.95 / float(np.abs(padded).max())), SAMPLE_RATE)
    return len(padded)


def change_voice(wave: np.ndarray, voice: HQVoice) -> np.ndarray:
    """Move pitch and formants with the WORLD vocoder.

    Args:
        wave: ``(N,)`` at 24 kHz.
        voice: Pitch and formants; where both factors are 1 the wave is returned as it is.

    Returns:
        float64 ``(N,)``.
    """
    wave = np.asarray(wave, dtype=np.float64)
    if voice.pitch == 1.0 and voice.formants == 1.0:
        return wave
    pyworld = require("pyworld", "tts-hq")
    pitch, times = pyworld.dio(wave, SAMPLE_RATE)
    pitch = pyworld.stonemask(wave, pitch, times, SAMPLE_RATE)
    envelope = pyworld.cheaptrick(wave, pitch, times, SAMPLE_RATE)
    aperiodicity = pyworld.d4c(wave, pitch, times, SAMPLE_RATE)
    bins = np.arange(envelope.shape[1])
    at = np.minimum(bins / voice.formants, bins[-1])  # where each bin comes from
    low = np.minimum(at.astype(np.int64), bins[-1] - 1)
    part = at - low
    log = np.log(envelope + 1e-16)
    warped = np.ascontiguousarray(np.exp(log[:, low] * (1 - part) + log[:, low + 1] * part))
    changed = pyworld.synthesize(pitch * voice.pitch, warped, aperiodicity, SAMPLE_RATE)
    return (
        np.resize(changed, len(wave)) if len(changed) >= len(wave) else np.pad(changed, (0, len(wave) - len(changed)))
    )


def generate(output_dir: Path, corpus_dir: Path, size: HQSize, seed: int, nj: int) -> bool:
    """Make the corpus, or what of it is missing; return False if there was nothing to do.

    Args:
        output_dir: Where the data folders go.
        corpus_dir: Where the sound goes.
        size: How much of it.
        seed: Seed of everything.
        nj: Processes.
    """
    require("hibari", "tts-hq")
    items = plan(size, seed, corpus_dir)
    versions = {name: importlib.metadata.version(name) for name in ("hibari-tts", "pyworld", "numpy")}
    facts = {"format": FORMAT, "size": dataclasses.asdict(size), "seed": seed, "output_dir": str(output_dir)}
    voices = [dataclasses.asdict(voice) for voice in (*TRAIN_VOICES, *VALID_VOICES, *TEST_VOICES)]
    text = json.dumps([facts, voices, versions, [item.text for item in items]], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    record = corpus_dir / RECORD
    names = ["train", "valid", *(f"test_track{t}_{c}" for t in (1, 2) for c in codec_sets.CONDITIONS)]
    if record.is_file() and all((output_dir / name / "wav.scp").is_file() for name in names):
        if json.loads(record.read_text(encoding="utf-8")).get("digest") == digest:
            logger.info("%s is complete, nothing to do", corpus_dir)
            return False
    stamp = corpus_dir / f".{digest[:16]}"
    if not stamp.exists():  # what is there is of another seed or version
        for path in corpus_dir.glob("speech/*/*.wav"):
            path.unlink()
        corpus_dir.mkdir(parents=True, exist_ok=True)
        for old in corpus_dir.glob(".????????????????"):
            old.unlink()
        stamp.touch()
    lengths = list(map_items(speak, items, nj, "hq voices"))
    _write_sets(output_dir, corpus_dir, size, seed, items, lengths)
    seconds = sum(lengths) / SAMPLE_RATE
    write_json(record, {**facts, "digest": digest, "versions": versions, "licence": LICENCE, "seconds": seconds})
    logger.info("%d utterances, %.1f min in %s", len(items), seconds / 60, corpus_dir)
    return True


def _write_sets(
    output_dir: Path, corpus_dir: Path, size: HQSize, seed: int, items: Sequence[SpokenItem], lengths: Sequence[int]
) -> None:
    meta = {"licence": LICENCE, "description": f"mini_av, full-band generated voices, seed {seed}"}
    by_split: dict[str, dict[str, Recording]] = {}
    for item, length in zip(items, lengths, strict=True):
        recording = Recording(Path(item.path), item.speaker, item.voice.gender, length, item.text)
        by_split.setdefault(item.split, {})[item.utt] = recording
    for split in ("train", "valid"):
        codec_sets.write_speech_set(output_dir / split, by_split[split], meta)
    tables, heard = {}, {}
    for number, (split, name) in enumerate((("train", ""), ("valid", "_val"), ("test", "_test"))):
        rng = np.random.default_rng([seed, 43, number])
        clips = [read_audio(item.path, SAMPLE_RATE)[0] for item in list(by_split[split].values())[:24]]
        noises = codec_sets.make_coloured_noises(size.noise_sec, rng, name)
        noises |= codec_sets.make_babbles(clips, size.noise_sec, rng, name)
        heard[name] = codec_sets.write_noises(corpus_dir / "noise", noises)
        count = size.rooms[0] if split == "train" else size.rooms[1]
        rooms = codec_sets.write_rooms(corpus_dir / "rirs", count, rng, f"rir{name}")
        tables |= {f"noise{name}": heard[name], f"rirs{name}": rooms}
    codec_sets.write_lists(output_dir, tables)
    speech = {utt: item.path for utt, item in by_split["test"].items()}
    noises, rooms = (list(tables[f"{kind}_test"].values()) for kind in ("noise", "rirs"))
    codec_sets.write_tests(output_dir, corpus_dir / "tests", speech, noises, rooms, seed, meta)


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Generate full-band voices; nothing is downloaded.")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="where the data folders go")
    parser.add_argument("--corpus_dir", type=Path, help="where the sound goes; default: <output_dir>/corpus_hq")
    parser.add_argument("--size", default="default", help="tiny, default, large, or a number of utterances per speaker")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nj", type=int, default=1, help="processes; the result does not depend on it")
    return parser


def hq_size(size: str) -> HQSize:
    """Turn the option into numbers.

    Raises:
        UsageError: For an unknown size.
    """
    if size in SIZES:
        return SIZES[size]
    if size.isascii() and size.isdigit() and int(size) > 0:
        return dataclasses.replace(SIZES["default"], train=int(size))
    usage_error("unknown corpus size", size, [*SIZES, "a number > 0"], "pass --size default")


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if args.nj < 1 or args.seed < 0:
        usage_error("--nj starts at 1 and --seed at 0", (args.nj, args.seed))
    corpus_dir = args.corpus_dir or args.output_dir / "corpus_hq"
    generate(args.output_dir, corpus_dir, hq_size(args.size), args.seed, args.nj)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

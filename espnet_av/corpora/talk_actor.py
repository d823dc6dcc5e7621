# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generate an actor who talks with a partner, in the 50h layout; nothing is downloaded.

``python -m espnet_av.corpora.talk_actor --output_dir downloads/actor --size default``

Both have synthetic voices (espeak-ng). The actor's mouth follows the phones, the head sways and nods on the own words;
0.3 s after each word of the partner, who speaks before or after the actor, the actor nods and lifts the brows. Below
``sentences/`` the actor's voice says further sentences, without a face, for a recogniser. The same seed and size give
the same files.

Axes: ``N`` frames of motion at 30 Hz, ``K`` controls, ``M`` samples at 48 kHz.
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.corpora import fifty_hours
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, describe, usage_error

logger = logging.getLogger(__name__)

SIZES = {"tiny": (6, 2, 2), "default": (200, 20, 20), "large": (800, 30, 40)}  # train, valid, test
SENTENCES = {"tiny": 20, "default": 1500, "large": 3000}
DATES = {"train": "20240301--0900", "valid": "20240408--0900", "test": "20240509--1052"}
SAMPLE_RATE, FPS = 48000, 30
RECORD = "talk_actor.json"
SENTENCE_DIR = "sentences"
Named = tuple[str, str]  # name and text
FORMAT = 3  # raise this when the same seed gives other recordings
REPLY_SEC = 0.3
_PER_FRAME = SAMPLE_RATE // FPS
_PAD_SEC = (0.20, 0.35)
_LEVEL_DB, _FLOOR_DB = -26.0, -74.0
_SENTENCE_RATE = 16000
_PARTNER_WORDS = ("PLEASE", "NOW", "AGAIN", "SOON", "RED", "GREEN", "SEVEN", "NINE", "WHITE", "BLUE")


@dataclass
class Turn:
    """What one person says in a recording.

    Attributes:
        wave: ``(M,)``.
        phones: Label, begin and end in seconds; they cover the recording.
        words: The same for words.
    """

    wave: np.ndarray
    phones: list[tuple[str, float, float]]
    words: list[tuple[str, float, float]] = field(default_factory=list)


class ActorMaker:
    """Speak and move the recordings of a corpus, in order.

    Args:
        seed: Seed of everything.
    """

    def __init__(self, seed: int) -> None:
        from espnet_av.avgen.face.controls import make_basis
        from espnet_av.avgen.face.identity import make_identity
        from espnet_av.corpora.espeak import Espeak
        from espnet_av.corpora.voices import TRAINING_VOICES

        self.seed, self.basis = seed, make_basis(seed)
        self._espeak = Espeak()
        self._voice, self._other_voice = TRAINING_VOICES[0], TRAINING_VOICES[2]
        self._face = make_identity(0, seed, high_voice=self._voice.high)

    def make(self, number: int, name: str, text: str, root: Path) -> dict[str, Any]:
        """Write one recording below ``root``; returns what the record lists."""
        import soundfile

        from espnet_av.avgen.face.controls import controls_to_codes, pose_to_head

        rng = np.random.default_rng([self.seed, 91, number])
        actor, partner = self._talk(text, rng)
        num_frames = len(actor.wave) // _PER_FRAME
        controls, pose = self._move(actor, partner, num_frames, rng)
        expression, other_head = self._partner_face(partner, num_frames, rng)
        stereo = np.stack([actor.wave, partner.wave], axis=1)
        soundfile.write(root / fifty_hours.AUDIO / f"{name}.wav", stereo, SAMPLE_RATE, subtype="PCM_16")
        arrays = {
            f"{fifty_hours.FACE}/{name}.npy": controls_to_codes(controls, self.basis, rng),
            f"{fifty_hours.HEAD}/{name}--headpose.npy": pose_to_head(pose),
            f"{fifty_hours.PARTNER}/{name}--expression.npy": expression,
            f"{fifty_hours.PARTNER}/{name}--headpose.npy": other_head,
        }
        for path, values in arrays.items():
            np.save(root / path, values.astype(np.float32))
        facts = {"text": text, "words": actor.words, "phones": actor.phones, "partner_words": partner.words}
        (root / "phones" / f"{name}.json").write_text(json.dumps(facts) + "\n", encoding="utf-8")
        return {"name": name, "text": text, "num_frames": num_frames}

    def say_sentence(self, number: int, path: Path, text: str) -> None:
        """Write one sentence of the actor alone, 16 kHz."""
        import soundfile

        from espnet_av.data.audio_io import resample_audio

        rng = np.random.default_rng([self.seed, 93, number])
        said = self._say(text, self._voice, rng)
        start, after = rng.uniform(*_PAD_SEC, 2)
        frames = int(np.ceil((start + len(said[0]) / SAMPLE_RATE + after) * FPS))
        wave = self._place(said, start, frames, rng).wave
        soundfile.write(path, resample_audio(wave.astype(np.float32), SAMPLE_RATE, _SENTENCE_RATE), _SENTENCE_RATE)

    def _talk(self, text: str, rng: np.random.Generator) -> tuple[Turn, Turn]:
        own = self._say(text, self._voice, rng)
        words = rng.choice(_PARTNER_WORDS, size=int(rng.integers(1, 3)), replace=False)
        other = self._say(" ".join(words), self._other_voice, rng)
        first, second = (other, own) if rng.uniform() < 0.5 else (own, other)
        pads = rng.uniform(*_PAD_SEC, 3)
        starts = pads[0], pads[0] + len(first[0]) / SAMPLE_RATE + pads[1] + REPLY_SEC
        total = starts[1] + len(second[0]) / SAMPLE_RATE + pads[2] + REPLY_SEC
        frames = int(np.ceil(total * FPS))
        begin = dict(zip((id(first), id(second)), starts, strict=True))
        return self._place(own, begin[id(own)], frames, rng), self._place(other, begin[id(other)], frames, rng)

    def _say(self, text: str, voice: Any, rng: np.random.Generator) -> tuple[np.ndarray, Any]:
        from espnet_av.data.audio_io import resample_audio

        rate = round(voice.rate * rng.uniform(0.95, 1.06))
        pitch = int(np.clip(round(voice.pitch + rng.normal(0, 2)), 0, 99))
        speech = self._espeak.say(text, voice.name, rate, pitch, voice.pitch_range)
        wave = resample_audio(speech.pcm.astype(np.float32) / 32768, speech.sample_rate, SAMPLE_RATE)
        active = wave[np.abs(wave) > 0.05 * np.abs(wave).max()]
        level = 10 ** ((_LEVEL_DB + rng.uniform(-1, 1)) / 20) / np.sqrt(np.mean(active**2))
        return wave * min(level, 0.95 / np.abs(wave).max()), speech

    def _place(self, said: tuple[np.ndarray, Any], start: float, frames: int, rng: np.random.Generator) -> Turn:
        from espnet_av.corpora.acoustics import coloured_noise

        wave, speech = said
        floor = 10 ** (_FLOOR_DB / 20) * coloured_noise(frames * _PER_FRAME, "pink", SAMPLE_RATE, rng)
        first = round(start * SAMPLE_RATE)
        floor[first : first + len(wave)] += wave
        words, phones = (
            [(span.label, round(span.start + start, 4), round(span.end + start, 4)) for span in spans]
            for spans in (speech.words, speech.phones)
        )
        spoken = round(start + len(wave) / SAMPLE_RATE, 4)
        silent = ("sil", 0.0, round(start, 4)), ("sil", spoken, round(frames / FPS, 4))
        return Turn(floor, [silent[0], *phones, silent[1]], words)

    def _move(
        self, actor: Turn, partner: Turn, num_frames: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return controls ``(N, K)`` and poses ``(N, 6)``."""
        from espnet_av.avgen.face import motion as face_motion
        from espnet_av.avgen.face.controls import CONTROLS, GAZE_UNIT
        from espnet_av.avgen.face.visemes import articulation_track, viseme_spans

        reply = bumps([(begin + end) / 2 + REPLY_SEC for _, begin, end in partner.words], num_frames)
        stress = bumps([(begin + end) / 2 for _, begin, end in actor.words[::2]], num_frames)
        gaze = face_motion.gaze_track(num_frames, rng, FPS) / GAZE_UNIT
        tracks = {
            "brow": reply + 0.3 * stress,
            "blink": face_motion.blink_track(num_frames, rng, FPS),
            "smile": 0.4 * bumps([rng.uniform(0, num_frames / FPS)], num_frames, 0.8),
            "gaze_x": gaze[:, 0],
            "gaze_y": gaze[:, 1],
        }
        controls = np.zeros((num_frames, len(CONTROLS)))
        mouth = articulation_track(viseme_spans(actor.phones), num_frames, FPS)
        controls[:, : mouth.shape[1]] = mouth
        for name, track in tracks.items():
            controls[:, CONTROLS.index(name)] = track
        pose = face_motion.pose_track(self._face, num_frames, rng, FPS).astype(np.float64)
        pose[:, face_motion.POSE.index("pitch")] += 0.06 * reply + 0.02 * stress
        return controls, pose

    def _partner_face(self, partner: Turn, num_frames: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return expression ``(N, 55)`` (50 of the face, 3 of the jaw, 2 lids) and head ``(N, 3)``."""
        from espnet_av.avgen.face import motion as face_motion
        from espnet_av.avgen.face.visemes import articulation_track, viseme_spans

        mouth = articulation_track(viseme_spans(partner.phones), num_frames, FPS)
        mixing = np.random.default_rng([self.seed, 82]).standard_normal((mouth.shape[1], 50))
        face = mouth @ mixing + 0.05 * rng.standard_normal((num_frames, 50))
        jaw = np.zeros((num_frames, 3))
        jaw[:, 0] = 0.3 * np.maximum(mouth[:, 0], 0)
        jaw[:, 1:] = 0.005 * rng.standard_normal((num_frames, 2))
        lids = np.repeat(face_motion.blink_track(num_frames, rng, FPS)[:, None], 2, axis=1)
        pose = face_motion.pose_track(self._face, num_frames, rng, FPS)
        head = pose[:, [face_motion.POSE.index(name) for name in ("pitch", "yaw", "roll")]]
        return np.concatenate([face, jaw, lids], axis=1), head


def bumps(centres: Sequence[float], num_frames: int, width_sec: float = 0.12) -> np.ndarray:
    """Return smooth bumps of height 1 at times in seconds, ``(N,)``."""
    times = (np.arange(num_frames) + 0.5) / FPS
    away = times[:, None] - np.asarray(centres, dtype=np.float64).reshape(1, -1)
    return np.exp(-0.5 * (away / width_sec) ** 2).max(axis=1, initial=0.0)


def plan(size: tuple[int, int, int], seed: int, num_sentences: int) -> tuple[list[Named], list[Named]]:
    """Return names and texts of the recordings and of the further sentences; no text comes twice."""
    from espnet_av.corpora.sentences import SentenceSource

    taken: set[str] = set()
    found = []
    for number, (subset, count) in enumerate(zip(DATES, size, strict=True)):
        source = SentenceSource(np.random.default_rng([seed, 12, number]), taken)
        for index in range(count):
            text = source.free() if index % 2 else source.grid()
            found.append((f"l--{DATES[subset]}--TOY001--pilot--{index + 1:04d}", text))
    source = SentenceSource(np.random.default_rng([seed, 12, len(DATES)]), taken)
    kinds = (source.grid, source.free, source.code, source.grid, source.free, source.free)
    further = [(f"sentence{index + 1:04d}", kinds[index % len(kinds)]()) for index in range(num_sentences)]
    return found, further


def generate(root: Path, size: tuple[int, int, int], seed: int, num_sentences: int = 0) -> bool:
    """Make the corpus, whole or not at all.

    Args:
        root: The folder.
        size: Recordings to train, to validate and to test.
        seed: Seed of everything.
        num_sentences: Further sentences, sound alone.

    Returns:
        False if it was there already.
    """
    from espnet_av.avgen.face.controls import CONTROLS, write_basis
    from espnet_av.data.data_dir import write_scp
    from espnet_av.utils.folders import atomic_folder
    from espnet_av.utils.progress import progress

    wanted, further = plan(size, seed, num_sentences)
    digest = hashlib.sha256(json.dumps([FORMAT, seed, wanted, further]).encode()).hexdigest()[:16]
    if _is_done(root, digest):
        logger.info("%s is complete, nothing to do", root)
        return False
    maker = ActorMaker(seed)
    with atomic_folder(root) as folder:
        for name in (fifty_hours.AUDIO, fifty_hours.FACE, fifty_hours.HEAD, fifty_hours.PARTNER, "phones"):
            (folder / name).mkdir(parents=True)
        items = progress(list(enumerate(wanted)), title="actor", unit="recording")
        made = [maker.make(number, name, text, folder) for number, (name, text) in items]
        write_scp(folder / "text", {facts["name"]: facts["text"] for facts in made})
        write_basis(folder / "face_basis.npz", maker.basis)
        fifty_hours.write_ranges(folder)
        if further:
            _say_sentences(maker, further, folder / SENTENCE_DIR)
        record = {"digest": digest, "format": FORMAT, "seed": seed, "controls": CONTROLS, "recordings": made}
        (folder / RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    seconds = sum(facts["num_frames"] for facts in made) / FPS
    logger.info("%d recordings, %.1f min in %s", len(made), seconds / 60, root)
    return True


def _say_sentences(maker: ActorMaker, further: Sequence[Named], folder: Path) -> None:
    from espnet_av.data.data_dir import write_scp
    from espnet_av.utils.progress import progress

    (folder / "wav").mkdir(parents=True)
    for number, (name, text) in enumerate(progress(further, title="sentences", unit="sentence")):
        maker.say_sentence(number, folder / "wav" / f"{name}.wav", text)
    write_scp(folder / "text", dict(further))


def write_sentences(root: Path, output_dir: Path, licence: str | None = None) -> int:
    """Write the data folder of the further sentences (``wav.scp``, ``text``, ``utt2spk``); returns their number.

    Raises:
        MissingDataError: There are none below ``root``.
    """
    from espnet_av.data.data_dir import DataDir, read_text

    folder = root.resolve() / SENTENCE_DIR
    if not (folder / "text").is_file():
        raise MissingDataError(describe(f"{root} holds no sentences", fix="generate it anew with --num_sentences"))
    texts = read_text(folder / "text")
    output_dir.mkdir(parents=True, exist_ok=True)
    data = DataDir(output_dir)
    data.write("wav.scp", {name: folder / "wav" / f"{name}.wav" for name in texts})
    data.write("text", texts)
    data.write("utt2spk", dict.fromkeys(texts, "actor"))
    data.write_meta({"sample_rate": _SENTENCE_RATE, "source": str(folder), **({"licence": licence} if licence else {})})
    return len(texts)


def _is_done(root: Path, digest: str) -> bool:
    try:
        return json.loads((root / RECORD).read_text(encoding="utf-8"))["digest"] == digest
    except (OSError, ValueError, KeyError):
        return False


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Generate an actor and a partner in conversation, in the 50h layout.")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to make")
    parser.add_argument("--size", default="default", help="tiny, default, large, or a number of training recordings")
    parser.add_argument("--num_sentences", type=int, help="further sentences, sound alone (default: by the size)")
    parser.add_argument("--sentences_dir", type=Path, help="also write a data folder of those sentences")
    parser.add_argument("--licence", help="of the recordings, for that data folder")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if args.seed < 0:
        usage_error("--seed must not be negative", args.seed)
    if args.size in SIZES:
        size = SIZES[args.size]
    elif args.size.isascii() and args.size.isdigit() and int(args.size) > 0:
        size = (int(args.size), *SIZES["default"][1:])
    else:
        usage_error("unknown corpus size", args.size, [*SIZES, "a number > 0"], "pass --size default")
    count = SENTENCES.get(args.size, SENTENCES["default"]) if args.num_sentences is None else args.num_sentences
    if count < 0:
        usage_error("--num_sentences must not be negative", count)
    generate(args.output_dir, size, args.seed, count)
    if args.sentences_dir is not None:
        write_sentences(args.output_dir, args.sentences_dir, args.licence)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

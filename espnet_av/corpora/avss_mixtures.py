# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Two-speaker mixtures from a set of talking faces, by the level rule of the 2Mix benchmarks.

The first ``mix_sec`` of two clips are brought to the same active speech level (ITU-T P.56, measured at 8 kHz), one is
raised by r dB and the other lowered by as much, r uniform in [0, 5): the louder one is 0 to 10 dB above the other. Both
are cut to the shorter, and one factor brings the largest magnitude of mixture and sources to 0.9. Files have 16 bit,
and in every file ``mix`` is exactly ``s1 + s2``.

Pairs are drawn by kind, each kind about equally often: two clips of the same speaker, of two speakers of the same
gender, and of other speakers. Lips must tell apart what the voices do not.
"""

import argparse
import hashlib
import io
import logging
import shutil
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from espnet_av.corpora.active_level import active_level_db
from espnet_av.data.audio_io import read_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.data.mixture_dir import (
    FPS,
    PAIR_KINDS,
    SAMPLE_RATE,
    SAMPLES_PER_FRAME,
    SPEAKERS,
    Mixture,
    write_mixtures,
)
from espnet_av.data.types import load_video_npy
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)

LEVEL_RANGE_DB = (0.0, 5.0)
PEAK = 0.9
LOUDER = ("first", "random")
MAX_TRIES = 100  # draws before pairs count as used up
CLIPS_IN_MEMORY = 2000


@dataclass(frozen=True)
class Pair:
    """Two clips to be mixed.

    Attributes:
        first: Clip of speaker s1.
        second: Clip of speaker s2.
        gain_db: What s1 is raised and s2 lowered by.
        kind: One of ``PAIR_KINDS``.
    """

    first: str
    second: str
    gain_db: float
    kind: str

    @property
    def utt(self) -> str:
        """The id of the mixture."""
        return f"{self.first}_{self.second}"


def pair_kind(first: str, second: str, speaker_of: Mapping[str, str], gender_of: Mapping[str, str]) -> str:
    """Tell the kind of a pair of clips; speakers of unknown gender count as ``other``."""
    if speaker_of[first] == speaker_of[second]:
        return "same_speaker"
    genders = gender_of.get(first), gender_of.get(second)
    return "same_gender" if genders[0] is not None and genders[0] == genders[1] else "other"


def draw_pairs(
    speaker_of: Mapping[str, str],
    gender_of: Mapping[str, str],
    count: int,
    rng: np.random.Generator,
    kinds: Sequence[str] = PAIR_KINDS,
    louder: str = "random",
) -> list[Pair]:
    """Draw pairs of clips, no two with the same clips.

    Every clip comes first about equally often. Kinds that the speakers do not allow are left out, and so are pairs
    beyond what the clips allow.

    Args:
        speaker_of: Speaker of each clip.
        gender_of: Gender of each clip where it is known.
        count: Number of pairs.
        rng: Source of chance.
        kinds: The kinds to draw.
        louder: ``first``: s1 is always the louder one, as in the published sets; ``random``: either.

    Raises:
        UsageError: For an unknown kind or rule.
        DataError: If the clips allow no pair of these kinds.
    """
    if louder not in LOUDER or not kinds or not set(kinds) <= set(PAIR_KINDS):
        raise UsageError(describe("unknown kinds or rule", [*kinds, louder], [*PAIR_KINDS, *LOUDER]))
    groups = _Groups(speaker_of, gender_of)
    possible = [kind for kind in PAIR_KINDS if kind in kinds and groups.allow(kind)]
    if not possible:
        raise DataError(describe(f"{len(speaker_of)} clip(s) allow no pair", allowed=list(kinds), fix="use more clips"))
    queues: dict[str, list[str]] = {kind: [] for kind in possible}
    used: set[frozenset[str]] = set()
    pairs: list[Pair] = []
    while len(pairs) < count and possible:
        kind = possible[len(pairs) % len(possible)]
        clips = groups.draw(kind, queues[kind], used, rng)
        if clips is None:
            possible.remove(kind)
            continue
        used.add(frozenset(clips))
        gain = float(rng.uniform(*LEVEL_RANGE_DB))
        sign = -1 if louder == "random" and rng.random() < 0.5 else 1
        pairs.append(Pair(*clips, round(sign * gain, 3), kind))
    return pairs


class _Groups:
    """The clips of a set, by speaker and by gender."""

    def __init__(self, speaker_of: Mapping[str, str], gender_of: Mapping[str, str]) -> None:
        self.speaker_of, self.gender_of = speaker_of, gender_of
        self.clips = sorted(speaker_of)
        self.by_speaker: dict[str, list[str]] = {}
        self.by_gender: dict[str, list[str]] = {}
        for clip in self.clips:
            self.by_speaker.setdefault(speaker_of[clip], []).append(clip)
            if clip in gender_of:
                self.by_gender.setdefault(gender_of[clip], []).append(clip)

    def allow(self, kind: str) -> bool:
        """Tell whether there is a pair of this kind."""
        if kind == "same_speaker":
            return any(len(clips) > 1 for clips in self.by_speaker.values())
        firsts = [clips[0] for clips in self.by_speaker.values()]  # one clip tells the gender of its speaker
        return any(
            pair_kind(first, second, self.speaker_of, self.gender_of) == kind
            for index, first in enumerate(firsts)
            for second in firsts[:index]
        )

    def draw(
        self, kind: str, queue: list[str], used: set[frozenset[str]], rng: np.random.Generator
    ) -> tuple[str, str] | None:
        """Take the next first clip of the queue and draw its partner; None where all pairs seem used."""
        for _ in range(MAX_TRIES):
            if not queue:
                queue.extend(self.clips[index] for index in rng.permutation(len(self.clips)))
            first = queue.pop()
            pool = {
                "same_speaker": self.by_speaker[self.speaker_of[first]],
                "same_gender": self.by_gender.get(self.gender_of.get(first, ""), [first]),
                "other": self.clips,
            }[kind]
            for _ in range(MAX_TRIES):
                second = pool[int(rng.integers(len(pool)))]
                if second != first and pair_kind(first, second, self.speaker_of, self.gender_of) == kind:
                    break
            else:
                continue
            if frozenset((first, second)) not in used:
                return first, second
        return None


def mix_pair(first: np.ndarray, second: np.ndarray, first_db: float, second_db: float) -> np.ndarray:
    """Mix two waveforms by the level rule of the module.

    Args:
        first: Waveform of s1 ``(N,)`` at 16 kHz.
        second: Waveform of s2 ``(M,)`` at 16 kHz.
        first_db: Active level of s1, before the common factor.
        second_db: Active level of s2, before the common factor.

    Returns:
        int16 ``(3, min(N, M))``: mixture, s1 and s2; the first row is the sum of the others.

    Raises:
        DataError: If one of them is silent.
    """
    length = min(len(first), len(second))
    sources = []
    for wave, wanted_db in ((first, first_db), (second, second_db)):
        level = active_level_db(wave, SAMPLE_RATE)
        if not np.isfinite(level):
            raise DataError(describe("cannot mix a silent clip", fix="leave it out"))
        sources.append(wave[:length].astype(np.float64) * 10 ** ((wanted_db - level) / 20))
    highest = max(np.abs(sources[0] + sources[1]).max(), *(np.abs(source).max() for source in sources))
    factor = PEAK / highest * 32768
    s1, s2 = (np.rint(source * factor).astype(np.int16) for source in sources)
    return np.stack([s1 + s2, s1, s2])


class MixtureMaker:
    """Make the mixtures of one set.

    Args:
        clips: Data folder of stage 2: ``wav.scp`` (16 kHz), ``mouth.scp`` (npy), ``utt2spk``, maybe ``utt2gender``.
        media_dir: Where the sound goes, in ``mix``, ``s1`` and ``s2``.
        mouth_dir: Where mouth crops go that had to be cut to the length of a mixture; shared by sets.
        mix_sec: Longest part of a clip that is mixed, from its start; 0: all of it.
    """

    def __init__(self, clips: DataDir, media_dir: Path, mouth_dir: Path, mix_sec: float = 2.0) -> None:
        self.waves, self.mouths = clips.read("wav.scp"), clips.read("mouth.scp")
        self.mouth_dir, self.mix_sec = mouth_dir.absolute(), mix_sec
        self.media_dir = media_dir.absolute()
        self._sounds: dict[str, np.ndarray] = {}

    def make(self, pair: Pair, folder: Path) -> Mixture:
        """Write the files of a pair into ``folder``, which will become the media folder.

        Raises:
            DataError: If a file is damaged, or a clip is silent or shorter than a frame.
        """
        clips = (pair.first, pair.second)
        frames = [load_video_npy(self.mouths[clip]) for clip in clips]
        sounds = [self._sound(clip) for clip in clips]
        num_frames = min(len(sound) // SAMPLES_PER_FRAME for sound in sounds)
        num_frames = min(num_frames, *(len(crops) for crops in frames))
        if num_frames == 0:
            raise DataError(describe(f"the clips of {pair.utt} are too short", [len(sound) for sound in sounds]))
        first, second = (sound[: num_frames * SAMPLES_PER_FRAME] for sound in sounds)
        waves = mix_pair(first, second, pair.gain_db, -pair.gain_db)
        paths = write_waves(folder, self.media_dir, pair.utt, waves)
        mouths = tuple(self._cut_mouth(clip, crops, num_frames) for clip, crops in zip(clips, frames, strict=True))
        facts = {"pair_kind": pair.kind, "utt2clips": " ".join(clips), "utt2level": f"{2 * pair.gain_db:.3f}"}
        return Mixture(pair.utt, paths[0], tuple(paths[1:]), mouths, num_frames * SAMPLES_PER_FRAME, num_frames, facts)

    def _sound(self, clip: str) -> np.ndarray:
        if clip not in self._sounds:
            if len(self._sounds) >= CLIPS_IN_MEMORY:
                self._sounds.pop(next(iter(self._sounds)))
            limit = round(self.mix_sec * FPS) * SAMPLES_PER_FRAME if self.mix_sec else None
            self._sounds[clip] = read_audio(self.waves[clip], SAMPLE_RATE, num_samples=limit)[0]
        return self._sounds[clip]

    def _cut_mouth(self, clip: str, crops: np.ndarray, num_frames: int) -> str:
        """Return a file with the first ``num_frames`` crops of a clip; the clip's own where it has no more."""
        if len(crops) == num_frames:
            return self.mouths[clip]
        source = Path(self.mouths[clip])
        place = hashlib.sha256(str(source.absolute()).encode()).hexdigest()[:8]
        path = self.mouth_dir / f"{source.stem}-{place}-{num_frames}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_write(path, "wb") as stream:
                np.save(stream, np.ascontiguousarray(crops[:num_frames]))
        return str(path)


def write_waves(folder: Path, media_dir: Path, utt: str, waves: np.ndarray) -> tuple[str, ...]:
    """Write mixture, s1 and s2 to ``{mix,s1,s2}/<utt>.flac``.

    Args:
        folder: Where to write.
        media_dir: What the folder will be called when it is complete.
        utt: Id of the mixture.
        waves: int16 ``(3, N)`` at 16 kHz.

    Returns:
        The three paths below ``media_dir``.
    """
    import soundfile

    paths = []
    for name, wave in zip(("mix", *SPEAKERS), waves, strict=True):
        encoded = io.BytesIO()  # libsndfile does not tell that a disk is full
        soundfile.write(encoded, wave, SAMPLE_RATE, subtype="PCM_16", format="FLAC")
        (folder / name).mkdir(exist_ok=True)
        (folder / name / f"{utt}.flac").write_bytes(encoded.getbuffer())
        paths.append(str(media_dir.absolute() / name / f"{utt}.flac"))
    return tuple(paths)


def make_set(
    data_dir: str | Path,
    output_dir: str | Path,
    media_dir: str | Path,
    mouth_dir: str | Path,
    *,
    num_mixtures: int,
    mix_sec: float = 2.0,
    kinds: Sequence[str] = PAIR_KINDS,
    louder: str = "random",
    seed: int = 0,
    max_dropped_share: float = 0.2,
) -> str:
    """Draw and make the mixtures of a set; the folder appears when it is complete.

    Args:
        data_dir: Data folder of clips, formatted.
        output_dir: Data folder of mixtures to make.
        media_dir: Folder of their sound.
        mouth_dir: Folder of shortened mouth crops.
        num_mixtures: How many; fewer where the clips do not allow more.
        mix_sec: As in :class:`MixtureMaker`.
        kinds: As in :func:`draw_pairs`.
        louder: As in :func:`draw_pairs`.
        seed: Seed of the draw.
        max_dropped_share: Share of pairs that may be lost to silent or damaged clips.

    Returns:
        One line on what was made.
    """
    clips, output, media = DataDir(data_dir), Path(output_dir), Path(media_dir)
    for name in ("wav.scp", "mouth.scp", "utt2spk"):
        if not clips.has(name):
            raise MissingDataError(describe(f"{clips.path} has no {name}", fix="run stage 2 (format) with mouth crops"))
    speaker_of = clips.read("utt2spk")
    gender_of = clips.read("utt2gender") if clips.has("utt2gender") else {}
    rng = np.random.default_rng([seed, *output.name.encode()])
    pairs = draw_pairs(speaker_of, gender_of, num_mixtures, rng, kinds, louder)
    if len(pairs) < num_mixtures:
        logger.warning("%s: the clips allow %d mixtures, not %d", clips.path, len(pairs), num_mixtures)
    maker, drops, made = MixtureMaker(clips, media, Path(mouth_dir), mix_sec), Drops(len(pairs)), []
    shutil.rmtree(output, ignore_errors=True)  # its sound is about to change
    remove_leftovers(media)
    with atomic_folder(media) as folder:
        for pair in progress(pairs, title=f"mix {output.name}"):
            try:
                made.append(maker.make(pair, folder))
            except DataError as error:
                drops.add(pair.utt, "cannot_mix", str(error))
        if drops.share > max_dropped_share:
            report = output.with_name(output.name + ".mix_report.json")
            write_json(report, drops.summary(), sort_keys=True)
            drops.check(max_dropped_share, report)
    counts = Counter(mixture.facts["pair_kind"] for mixture in made)
    remove_leftovers(output)
    with atomic_folder(output) as folder:
        about = {"description": f"two-speaker mixtures of {clips.path.name}", "mix_sec": mix_sec, "seed": seed}
        write_mixtures(folder, made, {**clips.meta, **about})
        write_json(
            folder / "mix_report.json", {**drops.summary(), "pair_kinds": dict(sorted(counts.items()))}, sort_keys=True
        )
    return f"{drops.one_line()}; " + ", ".join(f"{kind} {counts[kind]}" for kind in PAIR_KINDS if counts[kind])


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avss_mixtures", description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", required=True, metavar="DIR", help="clips: wav.scp, mouth.scp, utt2spk")
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="data folder of mixtures to make")
    parser.add_argument("--media_dir", required=True, metavar="DIR", help="where the sound of this set goes")
    parser.add_argument("--mouth_dir", required=True, metavar="DIR", help="where shortened mouth crops of all sets go")
    parser.add_argument("--num_mixtures", type=int, required=True, help="how many")
    parser.add_argument("--mix_sec", type=float, default=2.0, help="longest part of a clip, from its start; 0: all")
    parser.add_argument("--kinds", nargs="+", choices=PAIR_KINDS, default=list(PAIR_KINDS), help="kinds of pairs")
    parser.add_argument("--louder", choices=LOUDER, default="random", help="which speaker is the louder one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max_dropped_share", type=float, default=0.2, help="more lost mixtures fail the stage")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = vars(get_parser().parse_args(cmd))
    if args["num_mixtures"] < 1 or args["mix_sec"] < 0:
        got = {name: args[name] for name in ("num_mixtures", "mix_sec")}
        raise UsageError(describe("impossible numbers", got, "num_mixtures >= 1, mix_sec >= 0"))
    folders = [args.pop(name) for name in ("data_dir", "output_dir", "media_dir", "mouth_dir")]
    sys.stdout.write(f"{folders[1]}: {make_set(*folders, **args)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

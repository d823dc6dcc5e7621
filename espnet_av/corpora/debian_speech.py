# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""debian_speech: real speech that anyone can fetch, out of the sound packages of Debian 12.

``python -m espnet_av.corpora.debian_speech --output_dir data --cache_dir downloads``

* ``train``, ``valid``, ``test_fullband``: names of pictures from tuxpaint-stamps-default, 44.1 kHz, about one speaker
  per language, other languages in each set; short clips of a speaker are joined;
* ``test_track{1,2}_{clean,noisy,reverb}``: English telephone prompts of a studio voice, 16 kHz (asterisk);
* ``test_fillets``: acted dialogue in Czech and Dutch, 22.05 kHz (fillets-ng).

Everything becomes 24 kHz 16-bit PCM at one level. Noise of training, validation and tests is different: effects and
music of the packages, coloured noise, and babble; rooms are computed.
"""

import argparse
import hashlib
import io
import json
import logging
import re
import sys
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.corpora import codec_sets
from espnet_av.corpora.codec_sets import SAMPLE_RATE, Recording
from espnet_av.corpora.debian_packages import DebPackage, fetch_packages, read_files
from espnet_av.data.audio_io import read_audio, resample_audio, write_audio
from espnet_av.data.drops import Drops
from espnet_av.data.parallel import map_items
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, describe, usage_error
from espnet_av.utils.experiment import write_json
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
FORMAT = 1  # raise this when the same packages and seed give other samples
PACKAGES = (
    DebPackage(
        "tuxpaint-stamps-default",
        "2022.06.04-1",
        "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34",
        160880444,
        "GPL-2",
    ),
    DebPackage(
        "asterisk-core-sounds-en-g722",
        "1.6.1-1",
        "38c5261820b406dcb0ecb37675720da2b0864850690690352ca52707eb623806",
        10565860,
        "CC BY-SA 3.0",
    ),
    DebPackage(
        "fillets-ng-data",
        "1.0.1-1.1",
        "25de89afd8b1adf7bcace8290248a6a22c89cd42300317e69000e162c032cf84",
        70633484,
        "GPL-2",
    ),
    DebPackage(
        "fillets-ng-data-cs",
        "1.0.1-1.1",
        "3ecef99b9456f1c80c9625c6f2418642b52d58e7167a46bad7a412db17991b14",
        39042172,
        "GPL-2",
    ),
    DebPackage(
        "fillets-ng-data-nl",
        "1.0.1-1.1",
        "afb4443fda9ab507dee578b75be857d121718a1cd6017a474f30e0eb13dc9d10",
        32593580,
        "GPL-2",
    ),
)
LICENCE = (
    "Sound out of Debian packages: tuxpaint-stamps-default and fillets-ng-data* GPL-2, asterisk-core-sounds-en "
    "CC BY-SA 3.0 (Digium). Fetched by each user; not passed on with models or code."
)
LANGUAGES = {  # of tuxpaint, by set; about one speaker each
    "train": ("ro", "es", "ru", "el", "be", "bg", "ca"),
    "valid": ("da",),
    "test_fullband": ("fr",),
}
SETS = (
    "train",
    "valid",
    "test_fullband",
    "test_fillets",
    *(f"test_track{t}_{c}" for t in (1, 2) for c in codec_sets.CONDITIONS),
)
FULL_BAND_HZ = 44100
NO_SPEECH = ("beep", "beeperr", "ascending-2tone", "descending-2tone", "tt-monkeys")
_TUXPAINT = r"usr/share/tuxpaint/stamps/.*\.ogg"
_ASTERISK = r"usr/share/asterisk/sounds/en_US_f_Allison/[^/]+\.g722"
_FILLETS = r"usr/share/games/fillets-ng/sound/.*/(?:cs|nl)/[^/]*-[mv]-[^/]*\.ogg"
_EFFECTS = r"usr/share/games/fillets-ng/(?:sound/.*/(?:en|share)/[^/]*|music/[^/]*)\.ogg"
_NAME = re.compile(r"(?P<name>.*)_desc_(?P<language>[a-z]{2})")
_NO_NAMES = ("cs", "nl", "en", "share", "sound", "sounds", "stamps", "en_US_f_Allison", "fillets-ng")  # folders
_MAX_NOISE_SEC = 30
_LEVEL_DB = -24.0  # RMS of every recording; the packages differ by 24 dB
_FLOOR_DB = -75.0  # of the noise added: digital silence, in pauses and gated clips, would rule every spectral loss


@dataclass(frozen=True)
class Clip:
    """A sound of a package: name, speaker (or kind of noise), path there, content, and what its header says."""

    name: str
    speaker: str
    path: str
    content: bytes
    seconds: float
    source_rate: int


@dataclass(frozen=True)
class Amounts:
    """How much to take: clips of each speaker (None: all), recordings of sets, rooms of training, noise seconds."""

    clips: int | None = None
    valid: int = 40
    test: int = 20
    rooms: int = 16
    noise_sec: float = 20.0
    join_sec: float = 4.0


def read_header(content: bytes, name: str) -> tuple[float, int]:
    """Return length in seconds and rate in Hz of ogg, wav or G.722.

    Raises:
        DataError: It cannot be read, or is empty.
    """
    if name.endswith(".g722"):
        return len(content) / 8000, 16000  # 64 kbit/s
    import soundfile

    try:
        info = soundfile.info(io.BytesIO(content))
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise DataError(f"{name}: cannot be read as sound ({error})") from error
    if info.frames <= 0:
        raise DataError(f"{name}: holds no samples")
    return info.frames / info.samplerate, info.samplerate


def decode(clip: Clip, max_sec: float | None = None) -> np.ndarray:
    """Decode a clip, or the middle of it, to ``(N,)`` float32 at 24 kHz.

    Raises:
        DataError: It cannot be decoded, or is empty.
    """
    if clip.path.endswith(".g722"):
        wave = _decode_g722(clip)
    else:
        import soundfile

        start, count = 0, -1
        if max_sec is not None and clip.seconds > max_sec:
            start, count = round((clip.seconds - max_sec) / 2 * clip.source_rate), round(max_sec * clip.source_rate)
        try:
            content = io.BytesIO(clip.content)
            wave, _ = soundfile.read(content, frames=count, start=start, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, TypeError, ValueError) as error:
            raise DataError(f"{clip.path}: cannot be read as sound ({error})") from error
        wave = wave.mean(axis=1)
    if len(wave) == 0 or not np.isfinite(wave).all():
        raise DataError(f"{clip.path}: holds no samples, or some that are not finite")
    return resample_audio(wave, clip.source_rate, SAMPLE_RATE)


def _decode_g722(clip: Clip) -> np.ndarray:
    import av

    try:
        with av.open(io.BytesIO(clip.content), "r", format="g722") as container:
            blocks = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise DataError(f"{clip.path}: cannot be decoded ({error})") from error
    pcm = np.concatenate(blocks) if blocks else np.zeros(0, np.int16)
    return pcm.astype(np.float32) / 32768


class Reader:
    """Reads the clips of packages; equal files count once, and what cannot be used is counted.

    Args:
        debs: Package name to file.
        max_clips: Clips of each speaker; None takes all.
    """

    def __init__(self, debs: Mapping[str, Path], max_clips: int | None = None) -> None:
        self._debs = debs
        self._max_clips = max_clips
        self._seen: set[str] = set()
        self.num_read = 0
        self.bad: dict[str, str] = {}

    def tuxpaint(self) -> tuple[dict[str, list[Clip]], list[Clip]]:
        """Return speech by language, and effects."""
        speech: dict[str, list[Clip]] = {}
        effects: list[Clip] = []
        known = {language for group in LANGUAGES.values() for language in group}
        for path, content in self._files("tuxpaint-stamps-default", _TUXPAINT):
            stem = Path(path).stem
            match = _NAME.fullmatch(stem)
            language = match["language"] if match else ""
            if match and language in known and self._has_room(speech.get(language, ())):
                clip = self._clip(path, content, f"tuxpaint-{language}")
                if clip is not None and clip.source_rate >= FULL_BAND_HZ:
                    speech.setdefault(language, []).append(clip)
            elif "_desc" not in stem and not re.search(r"_[a-z]{2}(_[A-Za-z]{2})?$", stem) and self._has_room(effects):
                clip = self._clip(path, content, "effect")
                if clip is not None and clip.seconds >= 1:
                    effects.append(clip)
        return speech, effects

    def asterisk(self) -> list[Clip]:
        """Return English prompts of 2 to 15 s."""
        clips: list[Clip] = []
        for path, content in self._files("asterisk-core-sounds-en-g722", _ASTERISK):
            if Path(path).stem not in NO_SPEECH and 16000 <= len(content) <= 120000 and self._has_room(clips):
                clip = self._clip(path, content, "asterisk-allison")
                clips += [clip] if clip is not None else []
        return clips

    def fillets(self) -> list[Clip]:
        """Return acted sentences of 2 to 15 s; the two fish are two speakers in each language."""
        clips: list[Clip] = []
        for language in ("cs", "nl"):
            own: list[Clip] = []
            for path, content in self._files(f"fillets-ng-data-{language}", _FILLETS):
                fish = "small" if "-m-" in Path(path).stem else "big"
                clip = self._clip(path, content, f"fillets-{language}-{fish}") if self._has_room(own) else None
                if clip is not None and 2 <= clip.seconds <= 15:
                    own.append(clip)
            clips += own
        return clips

    def noises(self) -> list[Clip]:
        """Return effects and music."""
        clips: list[Clip] = []
        for path, content in self._files("fillets-ng-data", _EFFECTS):
            clip = (
                self._clip(path, content, "music" if "/music/" in path else "effect") if self._has_room(clips) else None
            )
            clips += [clip] if clip is not None and clip.seconds >= 1 else []
        return clips

    def _files(self, package: str, pattern: str) -> Iterable[tuple[str, bytes]]:
        return progress(read_files(self._debs[package], pattern), title=f"read {package}", unit="file")

    def _has_room(self, clips: Sequence[Clip]) -> bool:
        return self._max_clips is None or len(clips) < self._max_clips

    def _clip(self, path: str, content: bytes, speaker: str) -> Clip | None:
        digest = hashlib.sha256(content).hexdigest()
        if digest in self._seen:
            return None
        self._seen.add(digest)
        self.num_read += 1
        try:
            seconds, rate = read_header(content, path)
        except DataError as error:
            self.bad[path] = str(error)
            return None
        parts = [part for part in Path(path).with_suffix("").parts[-3:] if part not in _NO_NAMES]
        name = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(parts)).strip("-").lower()
        return Clip(name, speaker, path, content, seconds, rate)


def trim(wave: np.ndarray, margin_sec: float = 0.08) -> np.ndarray:
    """Cut silence (50 dB below the loudest 20 ms) at both ends, but for a margin."""
    size = SAMPLE_RATE // 50
    frames = wave[: len(wave) // size * size].reshape(-1, size)
    power = np.mean(np.square(frames, dtype=np.float64), axis=1) if len(frames) else np.zeros(0)
    if not len(power) or power.max() == 0:
        return wave
    loud = np.flatnonzero(power > power.max() * 1e-5)
    margin = round(margin_sec * SAMPLE_RATE)
    return wave[max(0, loud[0] * size - margin) : (loud[-1] + 1) * size + margin]


@dataclass(frozen=True)
class JoinedItem:
    """One utterance to write: id, file, its clips, and the pauses between them in seconds."""

    utt: str
    path: Path
    clips: tuple[Clip, ...]
    pauses_sec: tuple[float, ...]


def plan_joins(clips: Sequence[Clip], seconds: float, rng: np.random.Generator, folder: Path) -> list[JoinedItem]:
    """Put short clips of one speaker together, in a drawn order with drawn pauses, to at least ``seconds`` each.

    What is left over at the end joins the last one. ``seconds`` of 0 leaves every clip alone.
    """
    groups: list[list[Clip]] = [[]]
    for index in rng.permutation(len(clips)):
        groups[-1].append(clips[index])
        if sum(clip.seconds for clip in groups[-1]) >= seconds:
            groups.append([])
    rest = groups.pop()
    if groups:
        groups[-1] += rest
    elif rest:
        groups = [rest]
    items = []
    for number, group in enumerate(groups, 1):
        utt = f"{group[0].speaker}-{number:04d}"
        pauses = tuple(rng.uniform(0.1, 0.3, size=len(group)))
        items.append(JoinedItem(utt, folder / group[0].speaker / f"{utt}.wav", tuple(group), pauses))
    return items


def write_joined(item: JoinedItem) -> tuple[int, dict[str, str]]:
    """Write an utterance over a floor of quiet noise.

    Returns:
        Its length in samples, and which clips could not be used, with the reason.
    """
    parts: list[np.ndarray] = []
    bad = {}
    for clip, pause_sec in zip(item.clips, item.pauses_sec, strict=True):
        try:
            wave = decode(clip)
        except DataError as error:
            bad[clip.path] = str(error)
            continue
        parts += [trim(wave) if len(item.clips) > 1 else wave, np.zeros(round(pause_sec * SAMPLE_RATE), np.float32)]
    wave = np.concatenate(parts[:-1]) if parts else np.zeros(0, np.float32)
    if len(wave):
        level = max(float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))), 1e-6)
        gain = min(10 ** (_LEVEL_DB / 20) / level, 0.99 / max(float(np.abs(wave).max()), 1e-9))
        noise = np.random.default_rng(zlib.crc32(item.utt.encode())).standard_normal(len(wave)) * 10 ** (_FLOOR_DB / 20)
        write_audio(item.path, wave * gain + noise.astype(np.float32), SAMPLE_RATE)
    return len(wave), bad


def prepare(
    output_dir: Path, media_dir: Path, debs: Mapping[str, Path], amounts: Amounts, seed: int, nj: int = 1
) -> dict[str, Any]:
    """Make all data folders and lists.

    Args:
        output_dir: Where data folders go.
        media_dir: Where sound goes.
        debs: Package name to file.
        amounts: How much to take.
        seed: Seed of what is drawn.
        nj: Processes.

    Returns:
        Counts, as they stand in ``debian_speech.json``.

    Raises:
        DataError: A package is damaged, or more than 2 % of its sounds cannot be used.
    """
    reader = Reader(debs, amounts.clips)
    by_language, effects = reader.tuxpaint()
    noises = [*effects, *reader.noises()]
    plans = _plan_sets(by_language, reader.asterisk(), reader.fillets(), amounts, seed, media_dir / "speech")
    items = [item for plan in plans.values() for item in plan]
    written = dict(zip((item.utt for item in items), map_items(write_joined, items, nj, "write speech"), strict=True))
    spoken = {name: _recordings(plan, written) for name, plan in plans.items()}
    empty = [name for name, recordings in spoken.items() if not recordings]
    if empty:
        raise DataError(describe("the packages hold no sound for sets", empty, fix="use the versions the recipe names"))
    drops = Drops(reader.num_read)
    for _, bad in written.values():
        reader.bad |= bad
    lists = _make_lists(noises, [item.path for item in spoken["train"].values()], media_dir, amounts, seed, reader.bad)
    for name, why in reader.bad.items():
        drops.add(name, "unreadable", why)
    if len(drops):
        drops.check(0.02, write_json(media_dir / "bad.json", drops.summary(), sort_keys=True), "--max_clips")
    _write_folders(output_dir, media_dir, spoken, lists, seed)
    minutes = {name: sum(r.num_samples for r in items.values()) / SAMPLE_RATE / 60 for name, items in spoken.items()}
    return {
        "minutes": {name: round(value, 2) for name, value in minutes.items()},
        "recordings": {name: len(items) for name, items in spoken.items()},
        "sounds": {name: len(table) for name, table in lists.items()},
        "unreadable": drops.summary(),
    }


def _plan_sets(
    by_language: Mapping[str, list[Clip]],
    prompts: Sequence[Clip],
    sentences: Sequence[Clip],
    amounts: Amounts,
    seed: int,
    folder: Path,
) -> dict[str, list[JoinedItem]]:
    """Decide which clips make which utterance of which set."""
    plans: dict[str, list[JoinedItem]] = {}
    for number, (name, languages) in enumerate(LANGUAGES.items()):
        rng = np.random.default_rng([seed, 61, number])
        plans[name] = []
        for language in languages:
            plans[name] += plan_joins(by_language.get(language, []), amounts.join_sec, rng, folder)
    rng = np.random.default_rng([seed, 62])
    for name, clips in (("test_track", prompts), ("test_fillets", sentences)):
        picked = [clips[k] for k in sorted(rng.permutation(len(clips))[: amounts.test])]
        named = {f"{clip.speaker}-{clip.name}": clip for clip in picked}
        plans[name] = [
            JoinedItem(utt, folder / clip.speaker / f"{utt}.wav", (clip,), (0.0,))
            for utt, clip in sorted(named.items())
        ]
    for name, count in (("valid", amounts.valid), ("test_fullband", amounts.test)):
        plan = plans[name]
        plans[name] = [plan[k * len(plan) // count] for k in range(count)] if len(plan) > count else plan
    return plans


def _recordings(
    plan: Sequence[JoinedItem], written: Mapping[str, tuple[int, Mapping[str, str]]]
) -> dict[str, Recording]:
    recordings = {}
    for item in plan:
        speaker = item.clips[0].speaker
        if written[item.utt][0]:
            gender = "f" if speaker.startswith("asterisk") else "o"
            recordings[item.utt] = Recording(item.path, speaker, gender, written[item.utt][0])
    return recordings


def _write_folders(
    output_dir: Path,
    media_dir: Path,
    spoken: Mapping[str, Mapping[str, Recording]],
    lists: Mapping[str, Mapping[str, Path]],
    seed: int,
) -> None:
    meta = {"licence": LICENCE, "description": f"debian_speech, seed {seed}"}
    for name in ("train", "valid"):
        codec_sets.write_speech_set(output_dir / name, spoken[name], meta)
    for name in ("test_fillets", "test_fullband"):
        paths = {utt: item.path for utt, item in spoken[name].items()}
        codec_sets.write_test_set(output_dir / name, paths, paths, spoken[name], meta)
    codec_sets.write_lists(output_dir, lists)
    noises, rooms = (list(lists[f"{kind}_test"].values()) for kind in ("noise", "rirs"))
    codec_sets.write_tests(output_dir, media_dir / "tests", spoken["test_track"], noises, rooms, seed, meta)


def _make_lists(
    noises: Sequence[Clip],
    speech: Sequence[Path],
    media_dir: Path,
    amounts: Amounts,
    seed: int,
    bad: dict[str, str],
) -> dict[str, dict[str, Path]]:
    """Make noises and rooms for training, validation and tests; none is in two lists. Adds to ``bad`` what failed."""
    shares: dict[str, list[Clip]] = {"": [], "_val": [], "_test": []}
    for clip in noises:  # by name, so that the seed does not move sounds from training to tests
        part = int(hashlib.sha256(clip.name.encode()).hexdigest(), 16) % 10
        shares["_val" if part == 0 else "_test" if part == 1 else ""].append(clip)
    lists = {}
    for number, (suffix, clips) in enumerate(shares.items()):
        rng = np.random.default_rng([seed, 63, number])
        talkers = [read_audio(speech[k])[0] for k in rng.permutation(len(speech))[:24]]
        sounds = {}
        for clip in clips:
            try:
                sounds[f"{clip.speaker}-{clip.name}"] = decode(clip, _MAX_NOISE_SEC)
            except DataError as error:
                bad[clip.path] = str(error)
        sounds |= codec_sets.make_coloured_noises(amounts.noise_sec, rng, suffix)
        sounds |= codec_sets.make_babbles(talkers, amounts.noise_sec, rng, suffix)
        lists[f"noise{suffix}"] = codec_sets.write_noises(media_dir / "noise", sounds)
        rooms = amounts.rooms if not suffix else max(1, amounts.rooms // 4)
        lists[f"rirs{suffix}"] = codec_sets.write_rooms(media_dir / "rirs", rooms, rng, f"rir{suffix}")
    return lists


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Make debian_speech out of Debian packages.", allow_abbrev=False)
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="where the data folders go")
    parser.add_argument("--media_dir", type=Path, help="where the sound goes; default: <output_dir>/corpus")
    parser.add_argument("--cache_dir", type=Path, default=Path("downloads"), help="where downloaded packages are kept")
    parser.add_argument("--deb_dir", type=Path, help="folder with the packages; nothing is downloaded then")
    parser.add_argument(
        "--any_version", choices=("true", "false"), default="false", help="other versions too, unchecked"
    )
    parser.add_argument("--max_clips", type=int, default=0, help="clips of each speaker; 0: all")
    parser.add_argument("--join_sec", type=float, default=4.0, help="short clips are joined to this length; 0: not")
    parser.add_argument("--max_test", type=int, default=20, help="recordings of each test set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nj", type=int, default=1, help="processes; the result does not depend on it")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    if args.max_clips < 0 or args.max_test < 1 or args.join_sec < 0 or args.seed < 0:
        usage_error("--max_clips, --join_sec and --seed start at 0, --max_test at 1")
    media_dir = args.media_dir or args.output_dir / "corpus"
    debs = fetch_packages(PACKAGES, args.cache_dir, deb_dir=args.deb_dir, any_version=args.any_version == "true")
    amounts = Amounts(clips=args.max_clips or None, test=args.max_test, join_sec=args.join_sec)
    if args.max_clips:
        amounts = Amounts(
            args.max_clips, valid=4, test=min(args.max_test, 4), rooms=2, noise_sec=3.0, join_sec=args.join_sec
        )
    record = media_dir / "debian_speech.json"
    files = {name: (path.name, path.stat().st_size) for name, path in sorted(debs.items())}
    facts = json.dumps([FORMAT, files, str(amounts), args.seed, str(args.output_dir.absolute())])
    digest = hashlib.sha256(facts.encode()).hexdigest()
    if record.is_file() and all((args.output_dir / name / "wav.scp").is_file() for name in SETS):
        if json.loads(record.read_text(encoding="utf-8")).get("digest") == digest:
            logger.info("%s is complete, nothing to do", media_dir)
            return 0
    record.unlink(missing_ok=True)
    counts = prepare(args.output_dir, media_dir, debs, amounts, args.seed, args.nj)
    write_json(record, {"digest": digest, "licence": LICENCE, "packages": files, **counts}, sort_keys=True)
    sys.stdout.write("".join(f"{name}: {value:.1f} min\n" for name, value in counts["minutes"].items()))
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

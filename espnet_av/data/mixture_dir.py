# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of two-speaker mixtures.

    mix.scp                       sound of the mixture
    s1.scp s2.scp                 sound of each speaker in it; absent without ground truth
    mouth_s1.scp mouth_s2.scp     mouth crops, uint8 (T, 96, 96), npy or npz; absent in sets of sound alone
    lips_s1.scp lips_s2.scp       lip embeddings, of stage 4
    utt2spk utt2num_samples utt2num_frames streams data.json
    pair_kind                     same_speaker, same_gender, other; where the corpus tells
    utt2clips utt2level           the two clips, and by how many dB the first is louder; where we mixed them

``streams`` names what training reads: the sound, and the lips once they are there; mouth crops are none of it.
All of them go by the id of the mixture, which is also the name of its file and of what is separated from it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, describe

SPEAKERS = ("s1", "s2")
PAIR_KINDS = ("same_speaker", "same_gender", "other")
SAMPLE_RATE = 16000
FPS = 25
SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
OTHER_SUFFIXES = (".json", ".png", ".list", ".csv")  # of files that are no tables
MOUTH_SUFFIXES = (".npy", ".npz")


@dataclass(frozen=True)
class Mixture:
    """One mixture and what is known of it.

    Attributes:
        utt: Its id.
        mix: Sound file.
        sources: Sound files of the two speakers; empty without ground truth.
        mouths: Files of mouth crops of the two speakers; empty for sound alone.
        num_samples: Length at 16 kHz; None where it was not looked up.
        num_frames: Length in video frames; None where it was not looked up.
        facts: Lines of further files of the folder: file name to value, e.g. ``{"pair_kind": "other"}``.
    """

    utt: str
    mix: str
    sources: tuple[str, ...] = ()
    mouths: tuple[str, ...] = ()
    num_samples: int | None = None
    num_frames: int | None = None
    facts: dict[str, str] = field(default_factory=dict)


def write_mixtures(folder: str | Path, mixtures: Iterable[Mixture], meta: dict[str, Any]) -> int:
    """Fill a data folder with mixtures.

    Args:
        folder: An existing folder.
        mixtures: All with or all without sources, and the same for mouths.
        meta: Content of ``data.json`` beside sample rate and frame rate.

    Returns:
        The number of mixtures.

    Raises:
        DataError: If there is none, an id is there twice, or some have what others lack.
    """
    data = DataDir(folder)
    table: dict[str, Mixture] = {}
    for mixture in mixtures:
        if mixture.utt in table:
            got = [table[mixture.utt].mix, mixture.mix]
            raise DataError(describe(f"two mixtures have the id {mixture.utt}", got, fix="rename one of them"))
        table[mixture.utt] = mixture
    if not table:
        raise DataError(describe("no mixtures are left", fix="look at the report of the stage"))
    files = {"mix.scp": {utt: mixture.mix for utt, mixture in table.items()}}
    streams = [("mix.scp", "mix", "sound")]
    for index, speaker in enumerate(SPEAKERS):
        for name, attribute in ((f"{speaker}.scp", "sources"), (f"mouth_{speaker}.scp", "mouths")):
            values = {utt: getattr(mixture, attribute)[index:] for utt, mixture in table.items()}
            lacking = [utt for utt, value in values.items() if not value]
            if lacking and len(lacking) < len(values):
                raise DataError(describe(f"some mixtures have {name} and some have not", lacking[:5]))
            if not lacking:
                files[name] = {utt: value[0] for utt, value in values.items()}
    for name, paths in files.items():
        data.write(name, paths)
    data.write_streams([*streams, *((f"{name}.scp", name, "sound") for name in SPEAKERS if f"{name}.scp" in files)])
    _write_facts(data, table)
    data.write_meta({"sample_rate": SAMPLE_RATE, "fps": FPS, **meta})
    return len(table)


def _write_facts(data: DataDir, table: dict[str, Mixture]) -> None:
    facts: dict[str, dict[str, object]] = {"utt2spk": {utt: utt for utt in table}}
    for name in ("num_samples", "num_frames"):
        lengths = {utt: getattr(mixture, name) for utt, mixture in table.items()}
        if None not in lengths.values():
            facts[f"utt2{name}"] = lengths
    for utt, mixture in table.items():
        for name, value in mixture.facts.items():
            facts.setdefault(name, {})[utt] = value
    for name, values in facts.items():
        if len(values) < len(table):
            raise DataError(describe(f"some mixtures have {name} and some have not", len(values), len(table)))
        data.write(name, values)


def read_mixtures(folder: str | Path) -> list[Mixture]:
    """Read the mixtures of a data folder, sorted by id.

    Raises:
        MissingDataError: If there is no ``mix.scp``.
        DataError: If a file is malformed or does not list the mixtures of ``mix.scp``.
    """
    data = DataDir(folder)
    mix = data.read("mix.scp")
    described = ("mix.scp", "streams", "spk2utt", "utt2num_samples", "utt2num_frames")
    tables = {
        path.name: data.read(path.name)
        for path in sorted(data.path.iterdir())
        if path.is_file() and path.name[0] != "." and path.name not in described and path.suffix not in OTHER_SUFFIXES
    }
    for name, table in tables.items():
        lacking = sorted(set(mix) ^ set(table))
        if lacking:
            raise DataError(describe(f"{data / name} and mix.scp list other mixtures", lacking[:5]))
    samples = data.num_samples() if data.has("utt2num_samples") else {}
    frames = data.num_frames() if data.has("utt2num_frames") else {}
    paths = [f"{prefix}{speaker}.scp" for prefix in ("", "mouth_") for speaker in SPEAKERS]
    return [
        Mixture(
            utt,
            mix[utt],
            tuple(tables[name][utt] for name in paths[:2] if name in tables),
            tuple(tables[name][utt] for name in paths[2:] if name in tables),
            samples.get(utt),
            frames.get(utt),
            {name: table[utt] for name, table in tables.items() if name not in paths},
        )
        for utt in sorted(mix, key=lambda key: key.encode())
    ]

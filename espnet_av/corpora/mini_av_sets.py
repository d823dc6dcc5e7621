# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From finished mini_av speakers to data folders, interferer test sets, noise, rooms and mixture lists."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.corpora import acoustics, mixtures
from espnet_av.corpora.mini_av_speaker import FPS, SAMPLE_RATE
from espnet_av.data.audio_io import read_audio, write_audio
from espnet_av.data.data_dir import DataDir, write_scp
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.progress import progress

LICENCE = (
    "Generated from numbers by espnet_av (Apache-2.0): no recording of a person is in it. The voices were synthesised "
    "with espeak-ng (GPL-3.0-or-later; its output is not covered by that licence). Use it as you like."
)
STREAMS = (("wav.scp", "speech", "sound"), ("video.scp", "video", "video"), ("text", "text", "text"))
SILENT_TEXT = "<unk>"
_NOISE_SEC = 20
_BABBLE_TALKERS = (3, 5, 8)
_NUM_ROOMS = 10
_INTERFERER_BASE = "test_seen"

Utterances = Mapping[str, Mapping[str, Any]]


class SetWriter:
    """Write everything that goes on top of the speakers' clips.

    Args:
        utterances: By utterance id: ``speaker``, ``voice`` (high or low), ``split``, ``text``, ``num_samples``,
            ``num_frames``.
        corpus_dir: Folder of the media, absolute or relative to the recipe.
        output_dir: Where the data folders go.
        seed: Seed of the corpus.
    """

    def __init__(self, utterances: Utterances, corpus_dir: Path, output_dir: Path, seed: int) -> None:
        self._utterances, self._corpus_dir, self._output_dir, self._seed = utterances, corpus_dir, output_dir, seed

    def write(self) -> list[str]:
        """Write data folders, noise, rooms, interferer sets and lists; return the names of the data folders."""
        splits = sorted({facts["split"] for facts in self._utterances.values()})
        for split in splits:
            self._write_data_dir(split, self._ids(split), {})
        self._write_noises()
        self._write_rooms()
        mixed = self._write_interferer_sets()
        self._write_lists()
        return splits + mixed

    def _ids(self, split: str) -> list[str]:
        return sorted(utt for utt, facts in self._utterances.items() if facts["split"] == split)

    def _media(self, utt: str, suffix: str) -> Path:
        return self._corpus_dir / self._utterances[utt]["speaker"] / f"{utt}{suffix}"

    def _rng(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "little")])

    def _speakers(self, utts: Iterable[str]) -> dict[str, str]:
        return {utt: self._utterances[utt]["speaker"] for utt in utts}

    @functools.lru_cache(maxsize=512)  # noqa: B019 (the writer lives as long as the program)
    def _wave(self, utt: str) -> np.ndarray:
        return read_audio(self._media(utt, ".flac"))[0]

    def _write_data_dir(self, name: str, utts: list[str], waves: Mapping[str, Path], about: str = "") -> None:
        """Write the data folder ``name``; ``waves`` replaces the sound of some utterances."""
        facts = {utt: self._utterances[utt] for utt in utts}
        with atomic_folder(self._output_dir / name) as folder:
            data = DataDir(folder)
            data.write("wav.scp", {utt: waves.get(utt, self._media(utt, ".flac")) for utt in utts})
            data.write("video.scp", {utt: self._media(utt, ".mp4") for utt in utts})
            data.write("text", {utt: facts[utt]["text"] or SILENT_TEXT for utt in utts})
            data.write("utt2spk", self._speakers(utts))
            data.write("utt2gender", {utt: self._utterances[utt]["voice"] for utt in utts})
            data.write("utt2num_samples", {utt: facts[utt]["num_samples"] for utt in utts})
            data.write("utt2num_frames", {utt: facts[utt]["num_frames"] for utt in utts})
            data.write_streams(STREAMS)
            description = about or f"mini_av {name}: generated talking faces, seed {self._seed}"
            data.write_meta({"sample_rate": SAMPLE_RATE, "fps": FPS, "licence": LICENCE, "description": description})

    def _write_noises(self) -> None:
        folder, table = self._corpus_dir / "noise", {}
        count = _NOISE_SEC * SAMPLE_RATE
        noises = {
            f"noise-{colour}": acoustics.coloured_noise(count, colour, SAMPLE_RATE, self._rng(colour))
            for colour in acoustics.NOISE_SLOPES
        }
        train = self._ids("train")
        picked = [self._wave(utt) for utt in train[:: max(1, len(train) // 48)]]
        for talkers in _BABBLE_TALKERS:
            noises[f"noise-babble{talkers}"] = acoustics.babble(picked, count, talkers, self._rng(f"babble{talkers}"))
        for key, noise in noises.items():
            table[key] = folder / f"{key}.flac"
            write_audio(table[key], noise * min(0.1, 0.95 / np.abs(noise).max()), SAMPLE_RATE)
        write_scp(self._output_dir / "noise.scp", table)

    def _write_rooms(self) -> None:
        folder, table, rng, rooms = self._corpus_dir / "rir", {}, self._rng("rooms"), {}
        for k in range(_NUM_ROOMS):
            key, room = f"rir-{k + 1:02d}", acoustics.draw_room(rng)
            table[key], rooms[key] = folder / f"{key}.flac", vars(room)
            write_audio(table[key], 0.9 * acoustics.shoebox_rir(room, SAMPLE_RATE), SAMPLE_RATE)
        _write_json(folder / "rooms.json", rooms)
        write_scp(self._output_dir / "rirs.scp", table)

    def _write_interferer_sets(self) -> list[str]:
        targets = self._ids(_INTERFERER_BASE)
        pool = self._speakers(targets + self._ids("test_unseen"))
        numbers = [n for n in (1, 2) if len(set(pool.values())) > n]
        sets = [(snr, n) for snr in mixtures.TEST_SNRS_DB for n in numbers]
        for snr, number in progress(sets, title="interferer sets", unit="set"):
            self._write_interferer_set(targets, pool, snr, number)
        return [mixtures.set_name(_INTERFERER_BASE, snr, number) for snr, number in sets]

    def _write_interferer_set(self, targets: list[str], pool: Mapping[str, str], snr: int, number: int) -> None:
        name = mixtures.set_name(_INTERFERER_BASE, snr, number)
        plans = mixtures.plan_interferers(targets, pool, snr, number, self._rng(name))
        with atomic_folder(self._corpus_dir / "interferers" / name) as folder:
            with atomic_write(folder / "mixtures.jsonl") as stream:
                for plan in plans:
                    mixture, scale = mixtures.mix_plan(plan, self._wave)
                    write_audio(folder / f"{plan.utt_id}.flac", mixture, SAMPLE_RATE)
                    stream.write(json.dumps({**plan.to_json(), "scale": scale}) + "\n")
        waves = {utt: self._corpus_dir / "interferers" / name / f"{utt}.flac" for utt in targets}
        about = f"mini_av {_INTERFERER_BASE} with {number} interfering speaker(s) at {snr} dB, seed {self._seed}"
        self._write_data_dir(name, targets, waves, about)

    def _write_lists(self) -> None:
        """Write the interferer pool of training and the lists of two-speaker mixtures."""
        train = self._ids("train")
        write_scp(self._output_dir / "interferers.scp", {utt: self._media(utt, ".flac") for utt in train})
        for name, split in (
            ("train", "train"),
            ("valid", "valid"),
            ("test", "test_seen"),
            ("test_unseen", "test_unseen"),
        ):
            speakers = self._speakers(self._ids(split))
            pairs = mixtures.two_speaker_pairs(speakers, len(speakers), self._rng(f"mixtures {name}"))
            with atomic_write(self._output_dir / "mixtures" / f"{name}.list") as stream:
                stream.writelines(f"{first} {second} {snr:.2f}\n" for first, second, snr in pairs)


def _write_json(path: Path, content: object) -> None:
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=1, sort_keys=True)
        stream.write("\n")


def write_corpus_file(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``mini_av.json``, the last file of the corpus."""
    _write_json(path, content)

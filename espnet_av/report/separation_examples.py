# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Mixtures that a report shows: which ones, their sounds to listen to, and their spectrograms and masks."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from espnet_av.avss.pair_scores import KIND_TITLES, MAIN_METRIC, SCORES, PairScore, kind_order, read_scores
from espnet_av.data.audio_input import load_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.data.mixture_dir import FPS, SAMPLE_RATE, SPEAKERS
from espnet_av.report.media import data_uri, flac_bytes, mp4_bytes, png_bytes
from espnet_av.report.room import Room
from espnet_av.report.separation_plots import separation_picture
from espnet_av.report.separation_results import SeparatedSet, find_separations, shown
from espnet_av.train.provenance import check_unchanged
from espnet_av.utils.errors import EspnetAVError

logger = logging.getLogger(__name__)
MAIN_LIPS = ("own", "audio")
MAX_SHOWN_SEC = 10.0  # of a mixture


@dataclass(frozen=True)
class Sound:
    """A player of the page: what is heard, and its SI-SNRi as text."""

    title: str
    address: str
    note: str = ""


@dataclass
class MixtureExample:
    """One mixture of the report.

    Attributes:
        mixture: Its id.
        set_name: Test set.
        kind: What the talkers have in common, as text.
        scores: Voice -> scores with the main kind of lips.
        picture: Spectrograms and masks as a ``data:`` address.
        picture_png: The same as PNG.
        sounds: Players.
        faces: Title, clip of the mouth and a still of it, as ``data:`` addresses, of each talker.
    """

    mixture: str
    set_name: str
    kind: str
    scores: Mapping[str, PairScore]
    picture: str | None = None
    picture_png: bytes | None = field(default=None, repr=False)
    sounds: list[Sound] = field(default_factory=list)
    faces: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def improvement(self) -> float:
        """Mean SI-SNRi of the voices in dB."""
        return float(np.mean([item.values[MAIN_METRIC] for item in self.scores.values()]))


class ScoredMixtures:
    """What stages 6 and 7 left of an experiment.

    Args:
        exp_dir: Experiment folder.
    """

    def __init__(self, exp_dir: str | Path) -> None:
        self.sets = find_separations(Path(exp_dir) / "decode")
        self.scores: dict[tuple[str, str], list[PairScore]] = {}
        for found in self.sets:
            if (found.folder / SCORES).is_file():
                self.scores[found.set_name, found.lips] = read_scores(found.folder / SCORES)

    def main(self, set_name: str) -> SeparatedSet | None:
        """Return the voices with the right lips (or of a network without) of a set."""
        return next((item for item in self.sets if item.set_name == set_name and item.lips in MAIN_LIPS), None)

    def of(self, set_name: str, lips: str) -> SeparatedSet | None:
        """Return the voices of a set with one kind of lips."""
        return next((item for item in self.sets if (item.set_name, item.lips) == (set_name, lips)), None)

    def main_scores(self, set_name: str) -> list[PairScore]:
        """Return the scores that belong to :meth:`main`."""
        found = self.main(set_name)
        return self.scores.get((set_name, found.lips), []) if found else []

    @property
    def set_names(self) -> list[str]:
        """Sets that are scored with the right lips."""
        return [name for name in dict.fromkeys(item.set_name for item in self.sets) if self.main_scores(name)]

    def examples(self, set_name: str) -> list[MixtureExample]:
        """Return all mixtures of a set, the worst first; those with a voice that has no score are left out."""
        voices: dict[str, dict[str, PairScore]] = {}
        for item in self.main_scores(set_name):
            voices.setdefault(item.mixture, {})[item.voice] = item
        made = [
            MixtureExample(mixture, set_name, next(iter(scores.values())).kind, scores)
            for mixture, scores in voices.items()
            if all(MAIN_METRIC in item.values for item in scores.values())
        ]
        return sorted(made, key=lambda item: (item.improvement, item.mixture))


def choose_examples(scored: ScoredMixtures, num_worst: int, num_typical: int) -> list[tuple[str, list[MixtureExample]]]:
    """Choose mixtures to show: title and examples of each group.

    Args:
        scored: The experiment.
        num_worst: With the least improvement, of all sets.
        num_typical: Around the median of each kind of pair, of the first set.
    """
    if not scored.set_names:
        return []
    groups = []
    first = scored.examples(scored.set_names[0])
    used: set[tuple[str, str]] = set()
    for kind in sorted({item.kind for item in first}, key=kind_order):
        ranked = [item for item in first if item.kind == kind]
        start = max(0, (len(ranked) - num_typical) // 2)
        chosen = ranked[start : start + num_typical]
        used |= {(item.set_name, item.mixture) for item in chosen}
        title = f"Typical mixtures, {KIND_TITLES.get(kind, kind)}" if kind else "Typical mixtures"
        groups.append((title, chosen))
    everything = [item for name in scored.set_names for item in scored.examples(name)]
    worst = sorted(everything, key=lambda item: (item.improvement, item.set_name, item.mixture))
    worst = [item for item in worst if (item.set_name, item.mixture) not in used][:num_worst]
    return [(title, items) for title, items in (*groups, ("Least improvement", worst)) if items]


class MixtureMedia(Room):
    """Adds sounds, pictures and mouths to examples until the page is full.

    Args:
        scored: The experiment.
        dump_dir: Data folders of stages 3 and 4.
        max_bytes: What all media together may take in the page.
        changed: Sets whose data are not those that were scored; none of them is shown.
    """

    def __init__(
        self, scored: ScoredMixtures, dump_dir: str | Path, max_bytes: int, changed: Collection[str] = ()
    ) -> None:
        super().__init__(max_bytes)
        self.scored, self.dump_dir, self.changed = scored, Path(dump_dir), changed
        self._tables: dict[tuple[str, str], dict[str, str]] = {}

    def fill(self, examples: Sequence[MixtureExample]) -> None:
        """Give each example its media while they fit; what cannot be read is left out with a warning."""
        for example in examples:
            try:
                check_unchanged(example.set_name, self.changed)
                self._fill(example)
            except (EspnetAVError, OSError) as error:
                logger.warning("%s: no media in the report: %s", example.mixture, error)

    def _fill(self, example: MixtureExample) -> None:
        waves = self._read(example)
        limit = round(MAX_SHOWN_SEC * SAMPLE_RATE)
        cut = {name: wave[:limit] for name, wave in waves.items()}
        voices = [name for name in SPEAKERS if f"{name} true" in cut and f"{name} separated" in cut]
        if "mixture" in cut and voices:
            picture = separation_picture(
                cut["mixture"],
                [cut[f"{name} true"] for name in voices],
                [cut[f"{name} separated"] for name in voices],
                SAMPLE_RATE,
                cut.get("swapped"),
            )
            example.picture_png = picture
            example.picture = self.take(data_uri(picture, "image/png"), f"spectrograms of {example.mixture}")
        for name, wave in cut.items():
            title, note = _caption(name, example)
            address = self.take(
                data_uri(flac_bytes(wave, SAMPLE_RATE), "audio/flac"), f"sound '{title}' of {example.mixture}"
            )
            if address:
                example.sounds.append(Sound(title, address, note))
        for number, name in enumerate(SPEAKERS, 1):
            path = self._table(example.set_name, f"mouth_{name}.scp").get(example.mixture)
            if path is not None:
                self._add_face(example, path, f"mouth {number}", cut.get(f"{name} separated"))

    def _add_face(self, example: MixtureExample, path: str, title: str, wave: np.ndarray | None) -> None:
        from espnet_av.avss.lips import read_mouth

        frames = read_mouth(path, min_size=1)[: round(MAX_SHOWN_SEC * FPS)]
        what = f"{title} of {example.mixture}"
        clip = self.take(data_uri(mp4_bytes(frames, wave, SAMPLE_RATE, FPS), "video/mp4"), what)
        if clip:
            still = self.take(data_uri(png_bytes(frames[len(frames) // 2]), "image/png"), f"still of {what}")
            example.faces.append((title, clip, still or ""))

    def _read(self, example: MixtureExample) -> dict[str, np.ndarray]:
        """Return what there is of the mixture, true and separated voices, and voice 1 with swapped lips."""
        estimates, swapped = self.scored.main(example.set_name), self.scored.of(example.set_name, "swapped")
        paths: dict[str, str | Path | None] = {"mixture": self._table(example.set_name, "mix.scp").get(example.mixture)}
        for name in SPEAKERS:
            paths[f"{name} true"] = self._table(example.set_name, f"{name}.scp").get(example.mixture)
            paths[f"{name} separated"] = None if estimates is None else estimates.voice(example.mixture, name)
        paths["swapped"] = None if swapped is None else swapped.voice(example.mixture, SPEAKERS[0])
        return {name: load_audio(path) for name, path in paths.items() if path and Path(path).is_file()}

    def _table(self, set_name: str, name: str) -> dict[str, str]:
        if (set_name, name) not in self._tables:
            data = DataDir(find_set(self.dump_dir, set_name))
            self._tables[set_name, name] = data.read(name) if data.has(name) else {}
        return self._tables[set_name, name]


def find_set(dump_dir: str | Path, set_name: str) -> Path:
    """Return the data folder of a set: with lips (stage 4), else as filtered (stage 3)."""
    for folder in (Path(dump_dir) / set_name, Path(dump_dir) / "filtered" / set_name):
        if (folder / "mix.scp").is_file():
            return folder
    return Path(dump_dir) / set_name


def _caption(name: str, example: MixtureExample) -> tuple[str, str]:
    voice, _, what = name.partition(" ")
    if not what:
        return ("asked for voice 1, lips of 2" if name == "swapped" else name), ""
    title = f"voice {SPEAKERS.index(voice) + 1}, {what}"
    score = example.scores.get(voice)
    if what != "separated" or score is None:
        return title, ""
    return title, f"SI-SNRi {shown(score.values[MAIN_METRIC], 1)} dB"

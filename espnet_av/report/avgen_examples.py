# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Samples that the report of generation shows: which ones, their videos, and mouth against voice."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_av.avgen.score_files import AUDIO, RATE, find_samples
from espnet_av.avgen.scoring import SCORES
from espnet_av.data.audio_io import read_audio
from espnet_av.report.avgen_plots import mouth_curves
from espnet_av.report.avgen_results import is_number, shown, system_title
from espnet_av.report.media import data_uri, flac_bytes
from espnet_av.report.room import Room
from espnet_av.utils.errors import EspnetAVError
from espnet_av.utils.experiment import read_json

logger = logging.getLogger(__name__)
VIDEO = "video.mp4"
REAL_VIDEOS = "real_videos"  # below decode/: what stage 8 drew of the recordings themselves
RANK = ("lip_sync_r", "opening_r", "mcd")
LOWER_IS_BETTER = ("mcd",)
NOTES = (("lip_sync_r", "lip-sync r"), ("opening_r", "opening r"), ("wer", "WER %"))
MAX_SYSTEMS = 4  # shown of one recording


@dataclass(frozen=True)
class SampleView:
    """One system's sample of a recording: address of its video or its sound, scores, curves, words."""

    title: str
    note: str
    address: str | None
    is_video: bool
    curves: str | None
    words: str


@dataclass
class AVGenExample:
    """One recording of the report."""

    uid: str
    set_name: str
    text: str = ""
    samples: list[SampleView] = field(default_factory=list)


class ScoredSamples:
    """What stages 6 to 8 left of an experiment.

    Args:
        exp_dir: Experiment folder with ``decode/``.
    """

    def __init__(self, exp_dir: str | Path) -> None:
        self.real_videos = Path(exp_dir) / "decode" / REAL_VIDEOS
        self.folders: dict[str, list[tuple[str, Path, dict[str, Mapping[str, Any]]]]] = {}
        for item in find_samples(Path(exp_dir) / "decode"):
            content = read_json(item.folder / SCORES)
            if isinstance(content, Mapping):
                scores = {entry["key"]: entry for entry in content.get("utterances") or ()}
                self.folders.setdefault(item.set_name, []).append((item.system, item.folder, scores))

    def ranked(self, set_name: str) -> list[str]:
        """Return the recordings of a set, those whose first system does worst first."""
        _, _, scores = self.folders[set_name][0]
        metric = next((name for name in RANK if any(name in entry["values"] for entry in scores.values())), None)
        if metric is None:
            return sorted(scores)
        sign = -1 if metric in LOWER_IS_BETTER else 1
        known = [(sign * entry["values"][metric], uid) for uid, entry in scores.items() if metric in entry["values"]]
        return [uid for _, uid in sorted(known)]


def choose_examples(scored: ScoredSamples, num_worst: int, num_typical: int) -> list[tuple[str, list[AVGenExample]]]:
    """Choose recordings to show: typical ones of each set, then the worst of all."""
    groups, worst = [], []
    for name in scored.folders:
        ranked = scored.ranked(name)
        start = max(0, (len(ranked) - num_typical) // 2)
        typical = ranked[start : start + num_typical]
        groups.append((f"Typical recordings, {name}", [AVGenExample(uid, name) for uid in typical]))
        worst += [AVGenExample(uid, name) for uid in ranked[:num_worst] if uid not in typical]
    if worst:
        groups.append(("Worst recordings", worst[:num_worst]))
    return [group for group in groups if group[1]]


class AVGenMedia(Room):
    """Adds videos, sounds and curves to examples until the page is full.

    Args:
        scored: All samples.
        max_bytes: What all media together may take in the page.
        changed: Sets whose data are not those that were scored; their real recordings are not shown.
    """

    def __init__(self, scored: ScoredSamples, max_bytes: int, changed: Collection[str] = ()) -> None:
        super().__init__(max_bytes)
        self.scored, self.changed = scored, changed

    def fill(self, examples: Sequence[AVGenExample]) -> None:
        """Give each example its media while they fit; what cannot be read is left out with a warning."""
        for example in examples:
            for system, folder, scores in self.scored.folders[example.set_name][:MAX_SYSTEMS]:
                entry = scores.get(example.uid)
                if entry is None:
                    continue
                example.text = example.text or (entry.get("words") or {}).get("ref", "")
                try:
                    example.samples.append(self._view(system, folder / example.uid, entry))
                except (EspnetAVError, OSError) as error:
                    logger.warning("%s: no media in the report: %s", example.uid, error)
            real = self.scored.real_videos / example.set_name / f"{example.uid}.mp4"
            if real.is_file() and example.set_name not in self.changed:
                address = self.take(data_uri(real.read_bytes(), "video/mp4"), f"real video of {example.uid}")
                example.samples.insert(0, SampleView("real recording", "reference", address, True, None, ""))

    def _view(self, system: str, folder: Path, entry: Mapping[str, Any]) -> SampleView:
        places = sorted(path.parent for path in folder.glob(f"*/{AUDIO}")) or [folder / "0"]
        video, address = places[0] / VIDEO, None
        what = f"of {folder.name}, {system_title(system)}"
        if video.is_file():
            address = self.take(data_uri(video.read_bytes(), "video/mp4"), f"video {what}")
        elif (places[0] / AUDIO).is_file():
            wave, rate = read_audio(places[0] / AUDIO, RATE, resample=True)
            address = self.take(data_uri(flac_bytes(wave, rate), "audio/flac"), f"sound {what}")
        drawn = mouth_curves(entry.get("curves") or {})
        curves = self.take(data_uri(drawn, "image/svg+xml"), f"curves {what}") if drawn else None
        words = (entry.get("words") or {}).get("hyp", "")
        return SampleView(system_title(system), _note(entry["values"]), address, video.is_file(), curves, words)


def _note(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{title} {shown(name, values[name])}" for name, title in NOTES if is_number(values.get(name)))

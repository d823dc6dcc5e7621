# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Utterances that the report shows: which ones, what each modality recognised, and their sound and pictures."""

import functools
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_av.avsr.metrics import AlignedWord, score_utterance
from espnet_av.report.clips import Clip, ClipReader
from espnet_av.report.media import data_uri, flac_bytes, log_mel, mp4_bytes, png_bytes
from espnet_av.report.plots import spectrogram
from espnet_av.report.room import Room
from espnet_av.train.provenance import check_unchanged
from espnet_av.utils.errors import EspnetAVError
from espnet_av.utils.experiment import find_decodes, modality_order, noise_condition, read_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hypothesis:
    """What one modality made of an utterance: its WER (None for a silent face) and the aligned words."""

    modality: str
    wer: float | None
    errors: int
    words: tuple[AlignedWord, ...]


@dataclass
class Example:
    """One utterance of the report.

    Attributes:
        uid: Utterance id.
        set_name: Test set.
        reference: Normalised transcript.
        hypotheses: One per modality, the main one first.
        media: ``audio``, ``video``, ``spectrogram`` as ``data:`` addresses; what is absent has no entry.
    """

    uid: str
    set_name: str
    reference: str
    hypotheses: list[Hypothesis]
    media: dict[str, str] = field(default_factory=dict)


class ScoredUtterances:
    """The per-utterance results that stage 7 wrote into ``wer.json``.

    Args:
        exp_dir: Experiment folder.
    """

    def __init__(self, exp_dir: str | Path) -> None:
        self._tables: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {}
        for decode in find_decodes(Path(exp_dir) / "decode"):
            content = read_json(decode.folder / "wer.json")
            if isinstance(content, Mapping):
                utterances = {item["id"]: item for item in content.get("utterances", ())}
                self._tables[decode.set_name, decode.modality] = utterances

    @property
    def main_modality(self) -> str | None:
        """The modality whose errors are shown: audio-visual where there is one."""
        return min((modality for _, modality in self._tables), key=modality_order, default=None)

    @property
    def sets(self) -> list[str]:
        """Sets decoded in the main modality."""
        return list(dict.fromkeys(name for name, modality in self._tables if modality == self.main_modality))

    def ranked(self, sets: Sequence[str]) -> list[tuple[str, Mapping[str, Any]]]:
        """Return (set, utterance) of these sets, most word errors first."""
        main = {name: table for (name, modality), table in self._tables.items() if modality == self.main_modality}
        pairs = [(name, item) for name in sets for item in main.get(name, {}).values()]
        return sorted(pairs, key=lambda pair: (-_errors(pair[1]), -(pair[1].get("wer") or 0.0), pair[0], pair[1]["id"]))

    def example(self, set_name: str, uid: str) -> Example:
        """Return one utterance with the hypotheses of all modalities, still without media."""
        found = []
        for modality in sorted((m for name, m in self._tables if name == set_name), key=modality_order):
            item = self._tables[set_name, modality].get(uid)
            if item is not None:
                words = score_utterance(uid, item["ref"], item["hyp"]).alignment
                found.append((item["ref"], Hypothesis(modality, item.get("wer"), _errors(item), words)))
        return Example(uid, set_name, found[0][0] if found else "", [hypothesis for _, hypothesis in found])


def worst_examples(scored: ScoredUtterances, count: int) -> list[Example]:
    """Return the utterances with the most errors, of the clean sets where there are any."""
    clean = [name for name in scored.sets if noise_condition(name) is None] or scored.sets
    return [scored.example(name, item["id"]) for name, item in scored.ranked(clean)[:count] if _errors(item)]


def noisy_examples(scored: ScoredUtterances, count: int) -> list[Example]:
    """Return utterances around the median number of errors of the noisiest set; empty without noisy sets."""
    noisy = {name: noise for name in scored.sets if (noise := noise_condition(name)) is not None}
    if not noisy:
        return []
    hardest = min(noisy, key=lambda name: (noisy[name].snr_db, noisy[name].num_interferers, name))
    ranked = scored.ranked([hardest])
    start = max(0, (len(ranked) - count) // 2)
    return [scored.example(name, item["id"]) for name, item in ranked[start : start + count]]


class MediaBudget(Room):
    """Adds sound and pictures to examples until the page is full.

    Args:
        dump_dir: Folder of the data sets.
        max_bytes: What all media together may take in the page.
        changed: Sets whose data are not those that were scored; none of them is shown.
    """

    def __init__(self, dump_dir: str | Path, max_bytes: int, changed: Collection[str] = ()) -> None:
        super().__init__(max_bytes)
        self.dump_dir, self.changed = Path(dump_dir), changed

    @functools.lru_cache(maxsize=16)  # noqa: B019  one short-lived object per report
    def _reader(self, set_name: str) -> ClipReader:
        check_unchanged(set_name, self.changed)
        return ClipReader(self.dump_dir / set_name)

    def fill(self, examples: Sequence[Example]) -> None:
        """Give each example its media while they fit; the spectrogram goes first, being the smallest."""
        for example in examples:
            try:
                clip = self._reader(example.set_name).read(example.uid)
            except EspnetAVError as error:
                logger.warning("%s: no media in the report: %s", example.set_name, error)
                continue
            for name, address in make_media(clip).items():
                if self.take(address, f"{name} of {example.uid}"):
                    example.media[name] = address


def make_media(clip: Clip) -> dict[str, str]:
    """Return ``spectrogram``, ``audio``, ``video`` and ``still`` of a clip as ``data:`` addresses."""
    media: dict[str, str] = {}
    if clip.wave is not None and len(clip.wave):
        duration_sec = len(clip.wave) / clip.sample_rate
        picture = spectrogram(log_mel(clip.wave, clip.sample_rate), duration_sec, clip.sample_rate / 2)
        media["spectrogram"] = data_uri(picture, "image/png")
        media["audio"] = data_uri(flac_bytes(clip.wave, clip.sample_rate), "audio/flac")
    if clip.frames is not None:
        middle = clip.frames[len(clip.frames) // 2]
        media["still"] = data_uri(png_bytes(middle), "image/png")
        media["video"] = data_uri(mp4_bytes(clip.frames, clip.wave, clip.sample_rate, clip.fps), "video/mp4")
    return media


def _errors(item: Mapping[str, Any]) -> int:
    return int(item.get("sub", 0)) + int(item.get("del", 0)) + int(item.get("ins", 0))

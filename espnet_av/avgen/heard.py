# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Word errors of generated speech, heard by a recogniser of this toolkit."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from espnet_av.avgen.metrics import word_errors
from espnet_av.avgen.score_files import AUDIO, RATE, Truth, load_truth
from espnet_av.data.audio_io import read_audio, resample_audio

if TYPE_CHECKING:
    from espnet_av.avgen.sample_scores import ScoredUtterance

RECOGNISER_RATE = 16000
CTC = "ctc:"

#: Turns sound ``(N,)`` at 16 kHz into text.
Recogniser = Callable[[np.ndarray], str]


def load_recogniser(source: str) -> Recogniser:
    """Load a recogniser.

    Args:
        source: A folder that ``AVSR.from_pretrained`` loads, of which only the sound half is used; or ``ctc:SOURCE``,
            the best path of what ``TokenExtractor.from_pretrained`` loads.

    Raises:
        MissingDataError, CheckpointError: As those say.
    """
    if source.startswith(CTC):
        from espnet_av.avgen.tokens import TokenExtractor

        extractor = TokenExtractor.from_pretrained(source.removeprefix(CTC))
        return lambda wave: " ".join(extractor.transcribe(wave[None])[:1])
    from espnet_av.avsr.inference import AVSR

    recogniser = AVSR.from_pretrained(source)
    return lambda wave: recogniser(wave, None, modality="audio").text


def hear(
    items: Sequence[tuple[Truth, Sequence[Path] | None]], scored: Sequence["ScoredUtterance"], source: str
) -> list["ScoredUtterance"]:
    """Recognise every sample and add ``wer`` and ``cer`` to the scores of its recording.

    Args:
        items: The recordings and the folders of their samples; None hears the recording itself.
        scored: Their scores, in the same order.
        source: See :func:`load_recogniser`.
    """
    from espnet_av.utils.progress import progress

    recognise = load_recogniser(source)
    done = []
    pairs = zip(items, scored, strict=True)
    for (truth, paths), item in progress(pairs, len(scored), "recognise"):
        texts = [recognise(wave) for wave in _waves(truth, paths)]
        ratios, words = dict(item.ratios), {}
        if texts:
            names = [str(number) for number in range(len(texts))]
            counts = word_errors(dict.fromkeys(names, truth.text or ""), dict(zip(names, texts, strict=True)))
            ratios["wer"] = (float(counts.words.errors), float(counts.words.num_reference))
            ratios["cer"] = (float(counts.chars.errors), float(counts.chars.num_reference))
            words = {"ref": counts.utterances[0].reference, "hyp": counts.utterances[0].hypothesis}
        done.append(dataclasses.replace(item, ratios=ratios, words=words))
    return done


def _waves(truth: Truth, paths: Sequence[Path] | None) -> list[np.ndarray]:
    if paths is None:
        wave = load_truth(truth).wav
        return [] if wave is None else [resample_audio(wave, RATE, RECOGNISER_RATE)]
    files = [path / AUDIO for path in paths if (path / AUDIO).is_file()]
    return [read_audio(path, RECOGNISER_RATE, resample=True)[0] for path in files]

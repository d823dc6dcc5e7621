# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Word and character error rates of decoded sound, heard by a recogniser of this toolkit."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from espnet_av.avsr.metrics import score_utterance
from espnet_av.data.audio_io import read_audio
from espnet_av.utils.bootstrap import bootstrap_interval


def recognise(paths: Sequence[str], texts: Sequence[str], model: str) -> list[dict[str, Any]]:
    """Recognise recordings and count the errors.

    Args:
        paths: Sound files of any rate.
        texts: What is said in each.
        model: Folder that ``AVSR.from_pretrained`` loads; only its sound half is used.

    Returns:
        Of each recording ``wer`` and ``cer`` (NaN for an empty text), the counts behind them, ``ref`` and ``hyp``.
    """
    from espnet_av.avsr.inference import AVSR
    from espnet_av.avsr.inference import SAMPLE_RATE as rate
    from espnet_av.avsr.text import normalize_text

    recogniser = AVSR.from_pretrained(model)
    done = []
    for path, text in zip(paths, texts, strict=True):
        wave, _ = read_audio(path, rate, resample=True)
        heard = recogniser(wave, None, modality="audio").text
        found = score_utterance(path, normalize_text(text), normalize_text(heard))
        words = {
            "wer": found.wer,
            "cer": found.chars.rate,
            "errors": found.words.errors,
            "num_words": found.words.num_reference,
            "char_errors": found.chars.errors,
            "num_chars": found.chars.num_reference,
            "ref": found.reference,
            "hyp": found.hypothesis,
        }
        done.append(words)
    return done


def word_row(
    words: Sequence[Mapping[str, Any]], num_resamples: int, seed: int
) -> tuple[dict[str, Any], dict[str, tuple[float, float]]]:
    """Return ``n_words``, ``wer`` and ``cer`` over all recordings, and their bootstrap intervals."""
    row: dict[str, Any] = {"n_words": sum(item["num_words"] for item in words)}
    intervals = {}
    for name, errors, total in (("wer", "errors", "num_words"), ("cer", "char_errors", "num_chars")):
        above, below = (np.array([item[key] for item in words], dtype=float) for key in (errors, total))
        row[name] = float(above.sum() / below.sum()) if below.sum() else None
        if len(words) > 1 and below.sum():
            found = bootstrap_interval(above, below, num_resamples=num_resamples, seed=seed)
            intervals[name] = (float(found.low), float(found.high))
    return row, intervals

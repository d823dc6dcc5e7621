# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where in time a trained recogniser finds the tokens of one test utterance: CTC posteriors and decoder attention.

Axes: ``T`` video frames (the encoder's rate), ``L`` tokens, ``H`` heads, ``V`` vocabulary.
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_av.report.clips import Clip, ClipReader
from espnet_av.report.examples import ScoredUtterances
from espnet_av.report.results import RESULTS_JSON
from espnet_av.train.provenance import changed_sets, check_unchanged
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import noise_condition, read_json

if TYPE_CHECKING:
    import torch

    from espnet_av.avsr.decoder import Attention, TransformerDecoder
    from espnet_av.avsr.inference import AVSR

logger = logging.getLogger(__name__)
END = "end"  # how the row of <eos> is called


@dataclass(frozen=True)
class Span:
    """A token or word and the time that it takes, in seconds from the start of the clip."""

    text: str
    start_sec: float
    end_sec: float


@dataclass(frozen=True)
class Alignment:
    """What the recogniser looked at.

    Attributes:
        uid: Utterance id.
        set_name: Test set.
        modality: ``av``, ``audio`` or ``video``.
        clip: The sound and the mouth crops that the recogniser received.
        frame_sec: Seconds of one encoder frame.
        reference: Transcript.
        hypothesis: What was recognised.
        tokens: Its tokens, and ``end``, ``L`` in all.
        attention: Weights of the decoder over time, ``(L, T)``, rows summing to 1; see :func:`sharpest_layer`.
        layer: Number of the decoder layer, from 1.
        posteriors: CTC probability over time of each token that is recognised or is the most probable somewhere,
            each ``(T,)``.
        blank: CTC probability of the blank, ``(T,)``.
        greedy: Runs of the most probable CTC token, blanks left out.
        words: Spoken words with their times, from ``words.ctm`` of the data folder; may be empty.
    """

    uid: str
    set_name: str
    modality: str
    clip: Clip
    frame_sec: float
    reference: str
    hypothesis: str
    tokens: tuple[str, ...]
    attention: np.ndarray
    layer: int
    posteriors: dict[str, np.ndarray]
    blank: np.ndarray
    greedy: tuple[Span, ...]
    words: tuple[Span, ...]


def align_experiment(
    exp_dir: str | Path, dump_dir: str | Path, *, set_name: str | None = None, uid: str | None = None
) -> Alignment:
    """Decode one scored utterance again with the experiment's weights and options, and keep where it looked.

    Args:
        exp_dir: Experiment folder with weights and scored hypotheses.
        dump_dir: Data folders of stage 3.
        set_name: Test set; None takes the first clean one, or the set that has ``uid``.
        uid: Utterance id; None takes the utterance of the set with the median number of errors.

    Raises:
        DataError: Utterance, clip or weights are missing or damaged, or the data are not those that were scored.
        CheckpointError: The weights do not fit the configuration.
    """
    from espnet_av.avsr.inference import AVSR

    start = time.perf_counter()
    exp_dir, scored = Path(exp_dir), ScoredUtterances(exp_dir)
    set_name, item = _pick(scored, set_name, uid)
    check_unchanged(set_name, changed_sets(read_json(exp_dir / RESULTS_JSON), dump_dir))
    modality = str(scored.main_modality)
    reader = ClipReader(Path(dump_dir) / set_name)
    clip = reader.read(item["id"])
    facts = read_json(exp_dir / "decode" / modality / set_name / "infer.json", {})
    options = {key: facts[key] for key in ("beam_size", "ctc_weight") if facts.get(key) is not None}
    checkpoint = facts.get("checkpoint")
    weights = checkpoint if checkpoint and (exp_dir / checkpoint).is_file() else None
    recogniser = AVSR.from_pretrained(exp_dir, weights=weights, **options)
    words = read_word_times(reader.folder.path / "words.ctm", item["id"])
    found = align_clip(recogniser, clip, modality)
    logger.info("%s: aligned in %.1f s", item["id"], time.perf_counter() - start)
    return Alignment(uid=item["id"], set_name=set_name, clip=clip, reference=item["ref"], words=words, **found)


def align_clip(recogniser: "AVSR", clip: Clip, modality: str = "av") -> dict[str, Any]:
    """Recognise a clip and return the fields of :class:`Alignment` that come from the recogniser.

    Args:
        recogniser: The trained model with its search options.
        clip: Sound and mouth crops.
        modality: What the model may use.

    Raises:
        DataError: The clip lacks a stream that the modality needs.
    """
    import torch

    from espnet_av.avsr.inference import load_audio, load_mouth_video

    needed = {"speech": modality != "video", "video": modality != "audio"}
    given = {"speech": clip.wave, "video": clip.frames}
    absent = [name for name in needed if needed[name] and given[name] is None]
    if absent:
        raise DataError(describe("the clip lacks a stream", got=absent, fix="run stages 2 and 3 again"))
    wave = load_audio(clip.wave) if needed["speech"] and clip.wave is not None else None
    frames = load_mouth_video(clip.frames) if needed["video"] and clip.frames is not None else None
    best = recogniser(wave, frames, modality)
    ids = best.nbest[0].ids
    with torch.inference_mode():
        streams = (None if wave is None else [wave], None if frames is None else [frames])
        encoded, _ = recogniser.encode(*streams, modality)
        log_probs = recogniser.model.ctc.log_softmax(encoded)[0]
        memory = recogniser.model.decoder_memory(encoded)
        attention = cross_attention(recogniser.model.decoder, memory, ids[:-1])
    layer, weights = sharpest_layer(attention)
    names, posteriors = recogniser.tokenizer.tokens, log_probs.exp().cpu().numpy()
    blank = recogniser.model.ctc.blank
    frame_sec = 1.0 / clip.fps
    if clip.frames is None and wave is not None:
        frame_sec = len(wave) / clip.sample_rate / len(posteriors)
    runs = greedy_runs(posteriors.argmax(axis=1), blank)
    shown = dict.fromkeys([*ids[1:-1], *(index for index, _, _ in runs)])
    return {
        "modality": modality,
        "frame_sec": frame_sec,
        "hypothesis": best.text,
        "tokens": tuple([*(names[index] for index in ids[1:-1]), END]),
        "attention": weights,
        "layer": layer,
        "posteriors": {names[index]: posteriors[:, index] for index in shown if index != blank},
        "blank": posteriors[:, blank],
        "greedy": tuple(Span(names[index], start * frame_sec, stop * frame_sec) for index, start, stop in runs),
    }


def cross_attention(decoder: "TransformerDecoder", memory: "torch.Tensor", ids: Sequence[int]) -> np.ndarray:
    """Return the attention of every decoder layer to the encoder output, ``(layers, H, L, T)``.

    Args:
        decoder: The decoder.
        memory: ``(1, T, D)`` encoder output at the decoder's width.
        ids: The ``L`` token ids that are fed in, ``<sos>`` first; row ``l`` belongs to the token that follows.
    """
    import torch

    seen: list[torch.Tensor] = []

    def keep(module: "Attention", inputs: tuple["torch.Tensor", ...]) -> None:
        query, keys = module.heads(module.linear_q(inputs[0])), inputs[1]
        seen.append((query @ keys.transpose(2, 3) / keys.shape[3] ** 0.5).softmax(dim=-1)[0])

    attentions = [decoder.get_submodule(f"decoders.{number}.src_attn") for number in range(len(decoder.decoders))]
    hooks = [attention.register_forward_pre_hook(keep) for attention in attentions]
    try:
        with torch.inference_mode():
            tokens = torch.tensor([list(ids)], device=memory.device)
            decoder(memory, None, tokens, torch.tensor([len(ids)], device=memory.device))
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(seen).float().cpu().numpy()


def sharpest_layer(attention: np.ndarray) -> tuple[int, np.ndarray]:
    """Return the number (from 1) and the head average ``(L, T)`` of the layer whose rows have the highest peaks.

    The mean peak is the focus rate of FastSpeech (Ren et al., NeurIPS 2019); it is low where a layer looks everywhere.

    Args:
        attention: ``(layers, H, L, T)``.
    """
    means = attention.mean(axis=1)
    best = int(means.max(axis=2).mean(axis=1).argmax())
    return best + 1, means[best]


def greedy_runs(best: np.ndarray, blank: int) -> list[tuple[int, int, int]]:
    """Return (id, first frame, frame after the last) of each run of one id in ``(T,)``, blanks left out.

    >>> greedy_runs(np.array([0, 3, 3, 0, 3, 5]), blank=0)
    [(3, 1, 3), (3, 4, 5), (5, 5, 6)]
    """
    edges = [0, *(np.flatnonzero(np.diff(best)) + 1).tolist(), len(best)]
    pairs = zip(edges[:-1], edges[1:], strict=True)
    return [(int(best[start]), start, stop) for start, stop in pairs if stop > start and best[start] != blank]


def read_word_times(path: str | Path, uid: str) -> tuple[Span, ...]:
    """Read the words of an utterance from a NIST CTM file (lines ``id channel start duration word``).

    Returns:
        The words in the order of the file; empty where there is no file, a line has another form, or no word.
    """
    path = Path(path)
    if not path.is_file():
        return ()
    words = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        parts = line.split()
        if parts[:1] != [uid]:
            continue
        try:
            start, length, word = float(parts[2]), float(parts[3]), parts[4]
        except (ValueError, IndexError):
            logger.warning("%s has a line of another form, word times are not shown: %s", path, line)
            return ()
        words.append(Span(word, start, start + length))
    return tuple(words)


def _pick(scored: ScoredUtterances, set_name: str | None, uid: str | None) -> tuple[str, Any]:
    sets = scored.sets
    if not sets:
        raise MissingDataError(describe("no scored utterances", fix="bash run.sh --stage 7 --stop_stage 7"))
    if set_name is not None and set_name not in sets:
        raise MissingDataError(describe("the test set was not scored", got=set_name, allowed=sets))
    clean = [name for name in sets if noise_condition(name) is None]
    chosen = [set_name] if set_name else sets if uid else (clean or sets)[:1]
    ranked = scored.ranked(chosen)
    if uid is not None:
        ranked = [pair for pair in ranked if pair[1]["id"] == uid]
        if not ranked:
            raise MissingDataError(describe("the utterance was not scored", got=uid, allowed=f"those of {chosen}"))
        return ranked[0]
    spoken = [pair for pair in ranked if pair[1]["ref"]] or ranked
    if not spoken:
        raise MissingDataError(describe("the test set is empty", got=chosen[0]))
    return spoken[len(spoken) // 2]

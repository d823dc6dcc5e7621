# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Beam search with an attention decoder and CTC prefix scores.

Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition" (IEEE JSTSP 2017), with the
pre-beam of Seki et al. (Interspeech 2019). Hypotheses and scores are those of ESPnet's ``BatchBeamSearch`` with
``CTCPrefixScorer``. What differs is the cost: keys and values are kept, the CTC recursion over frames is one cumulative
sum instead of a loop, and several utterances share a step.

Axes: ``U`` utterances, ``W`` beams per utterance, ``S`` scored tokens, ``T`` frames, ``V`` vocabulary.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from espnet_av.avsr.ctc import CTC
from espnet_av.avsr.decoder import DecoderCache, TransformerDecoder
from espnet_av.utils.errors import usage_error

LOG_ZERO = -10000000000.0
END_WINDOW = 3  # lengths looked at by the end detection
END_THRESHOLD = -10.0  # log ratio to the best ended hypothesis


@dataclass
class Hypothesis:
    """One result of the search.

    Attributes:
        ids: Token ids with the leading ``<sos>`` and the closing ``<eos>``. A hypothesis cut at the length limit can
            end in two ``<eos>``.
        score: Weighted log probability, higher is better; near -1e9 where CTC cannot realise the tokens.
        scores: Unweighted log probability of each scorer.
    """

    ids: list[int]
    score: float
    scores: dict[str, float] = field(default_factory=dict)


class CTCPrefixScores:
    """Log probabilities of label prefixes under CTC, for all beams of several utterances at once.

    For a prefix ``g`` and a token ``c`` the forward variables of ``g + c`` follow
    ``r_n[t] = (r_n[t-1] + phi[t-1]) * p_c[t]`` and ``r_b[t] = (r_n[t-1] + r_b[t-1]) * p_blank[t]``. Divided by the
    running product of the emission they are cumulative sums, which is how they are computed here, in float64.

    Args:
        log_probs: ``(U, T, V)`` frame-wise log probabilities.
        lengths: ``(U,)`` valid frames.
        blank: Id of the blank.
        eos: Id of the end.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor, *, blank: int, eos: int) -> None:
        self.blank, self.eos = blank, eos
        inside = torch.arange(log_probs.shape[1], device=log_probs.device) < lengths.unsqueeze(1)
        self.log_probs = log_probs.double().masked_fill(~inside.unsqueeze(2), 0.0)
        self.lengths = lengths
        self.inside = inside
        blank_sum = self.log_probs[:, :, blank].cumsum(1)  # (U, T)
        # State of the beams: (U, 1, T) forward variables ending in a label and in a blank, (U, 1) prefix scores.
        self.label = torch.full_like(blank_sum, LOG_ZERO).unsqueeze(1)
        self.ending_blank = blank_sum.unsqueeze(1)
        self.prefix_score = torch.zeros(len(lengths), 1, device=log_probs.device)

    def score(self, last: Tensor, tokens: Tensor, num_labels: int) -> Tensor:
        """Score one more token.

        Args:
            last: ``(U, W)`` last token of each prefix.
            tokens: ``(U, W, S)`` candidates.
            num_labels: Labels in each prefix, ``<sos>`` not counted.

        Returns:
            ``(U, W, V)`` float32: what the token adds to the prefix's score. Tokens other than the candidates and
            ``<eos>`` get ``LOG_ZERO`` less the prefix's score.
        """
        num_frames, vocabulary = self.log_probs.shape[1:]
        beams = last.shape[1]
        emission = self.log_probs.unsqueeze(1).expand(-1, beams, -1, -1)
        emission = emission.gather(3, tokens.unsqueeze(2).expand(-1, -1, num_frames, -1)).transpose(2, 3)  # (U,W,S,T)
        total = torch.logaddexp(self.label, self.ending_blank)  # (U, W, T)
        repeated = (tokens == last.unsqueeze(2)).unsqueeze(3)
        phi = torch.where(repeated, self.ending_blank.unsqueeze(2), total.unsqueeze(2))  # (U, W, S, T)

        start = max(num_labels, 1)
        arriving = torch.full_like(phi, LOG_ZERO)  # probability of being about to emit the token at t
        arriving[..., start:] = phi[..., start - 1 : -1] if start < num_frames else phi[..., :0]
        if num_labels == 0:
            arriving[..., 0] = 0.0
        emitted = arriving + emission
        label, ending_blank = self._forward(arriving, emission)
        self._candidates = (tokens, label, ending_blank)

        inside = self.inside[:, None, None, :]
        psi = torch.logsumexp(emitted.masked_fill(~inside, LOG_ZERO), dim=3).float()  # (U, W, S)
        psi = torch.where(psi < LOG_ZERO / 2, LOG_ZERO, psi)
        scores = torch.full((*last.shape, vocabulary), LOG_ZERO, device=psi.device)
        scores.scatter_(2, tokens, psi)
        final = total.gather(2, (self.lengths - 1)[:, None, None].expand(-1, beams, 1)).squeeze(2)
        scores[:, :, self.eos] = final.float()
        scores[:, :, self.blank] = LOG_ZERO
        self._scores = scores
        return scores - self.prefix_score.unsqueeze(2)

    def _forward(self, arriving: Tensor, emission: Tensor) -> tuple[Tensor, Tensor]:
        """Forward variables ``(U, W, S, T)`` of the extended prefixes, ending in the token and in a blank."""
        label_sum = emission.cumsum(3)
        before = label_sum - emission
        label = label_sum + torch.logcumsumexp(arriving - before, dim=3)
        label = torch.where(label < LOG_ZERO / 2, LOG_ZERO, label)
        blank_emission = self.log_probs[:, None, None, :, self.blank]  # (U, 1, 1, T)
        blank_sum = blank_emission.cumsum(3)
        left = torch.full_like(label, LOG_ZERO)
        left[..., 1:] = label[..., :-1] - blank_sum[..., :-1]
        ending_blank = blank_sum + torch.logcumsumexp(left, dim=3)
        return label, torch.where(ending_blank < LOG_ZERO / 2, LOG_ZERO, ending_blank)

    def advance(self, utterances: Tensor | None, beams: Tensor, tokens: Tensor) -> None:
        """Move on to the chosen extensions.

        Args:
            utterances: ``(U',)`` utterances that go on; None: all.
            beams: ``(U', W')`` which prefix each new one extends.
            tokens: ``(U', W')`` by which token.
        """
        candidates, label, ending_blank = self._candidates
        scores = self._scores
        if utterances is not None:
            candidates, label, ending_blank, scores, self.log_probs, self.lengths, self.inside = (
                x[utterances]
                for x in (candidates, label, ending_blank, scores, self.log_probs, self.lengths, self.inside)
            )
        rows = torch.arange(len(beams), device=beams.device).unsqueeze(1)
        match = candidates[rows, beams] == tokens.unsqueeze(2)  # (U', W', S)
        slot = torch.where(match.any(2), match.int().argmax(2), candidates.shape[2] - 1)
        self.label, self.ending_blank = label[rows, beams, slot], ending_blank[rows, beams, slot]
        self.prefix_score = scores[rows, beams, tokens]


class BeamSearch:
    """Search the best token sequence for encoder output.

    Args:
        decoder: Attention decoder.
        ctc: CTC layer; None needs ``ctc_weight=0``.
        sos: Id put in front.
        eos: Id of the end.
        beam_size: Hypotheses kept per step.
        ctc_weight: Weight of the CTC prefix score; the decoder gets the rest.
        length_bonus: Added per token.
        pre_beam_ratio: ``pre_beam_ratio * beam_size`` tokens, chosen by the decoder, are scored by CTC.
        max_len_ratio: Maximum tokens per frame; 0: as many as frames, with end detection; negative: a fixed number.
        min_len_ratio: Minimum tokens per frame; negative: a fixed number.
        bridge: Maps encoder output to the decoder's width.

    Raises:
        UsageError: A weight or size out of range.
    """

    def __init__(
        self,
        decoder: TransformerDecoder,
        ctc: CTC | None,
        *,
        sos: int,
        eos: int,
        beam_size: int = 3,
        ctc_weight: float = 0.1,
        length_bonus: float = 0.0,
        pre_beam_ratio: float = 1.5,
        max_len_ratio: float = 0.0,
        min_len_ratio: float = 0.0,
        bridge: torch.nn.Module | None = None,
    ) -> None:
        if not 0.0 <= ctc_weight <= 1.0:
            usage_error("ctc_weight is out of range", got=ctc_weight, allowed="0 to 1")
        if ctc is None and ctc_weight > 0:
            usage_error("ctc_weight needs a CTC layer", got=ctc_weight, fix="set ctc_weight to 0")
        if not 1 <= beam_size <= decoder.vocab_size:
            usage_error("beam_size is out of range", got=beam_size, allowed=f"1 to {decoder.vocab_size}")
        self.decoder, self.ctc, self.bridge = decoder, ctc, bridge
        self.sos, self.eos = sos, eos
        self.beam_size = beam_size
        self.ctc_weight = ctc_weight
        self.length_bonus = length_bonus
        self.pre_beam_size = max(1, int(pre_beam_ratio * beam_size))
        self.max_len_ratio = max_len_ratio
        self.min_len_ratio = min_len_ratio

    def __call__(self, encoded: Tensor) -> list[Hypothesis]:
        """Decode one utterance ``(T, D)``; hypotheses come best first."""
        lengths = torch.tensor([encoded.shape[0]], device=encoded.device)
        return self.search(encoded.unsqueeze(0), lengths)[0]

    @torch.inference_mode()
    def search(self, encoded: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode a batch; each utterance gives what it gives alone.

        Args:
            encoded: ``(U, T, D)`` padded encoder output.
            lengths: ``(U,)`` valid frames, at least 1.

        Returns:
            Per utterance its ended hypotheses, best first.
        """
        results = self._search(encoded, lengths, self.min_len_ratio)
        for index, found in enumerate(results):
            ratio = self.min_len_ratio
            while not found and ratio >= 0.1:  # nothing ended: allow shorter ones, as ESPnet does
                ratio = max(0.0, ratio - 0.1)
                length = lengths[index : index + 1]
                found = self._search(encoded[index : index + 1, : int(length)], length, ratio)[0]
            results[index] = found
        return results

    def _search(self, encoded: Tensor, lengths: Tensor, min_len_ratio: float) -> list[list[Hypothesis]]:
        state = _SearchState(self, encoded, lengths, min_len_ratio)
        while state.utterances:
            state.step()
        return [sorted(ended, key=lambda h: h.score, reverse=True) for ended in state.ended]


class _SearchState:
    """The running beams of a batch of utterances."""

    def __init__(self, search: BeamSearch, encoded: Tensor, lengths: Tensor, min_len_ratio: float) -> None:
        self.search = search
        self.device = encoded.device
        frames = lengths.tolist()
        self.max_len = [_limit(search.max_len_ratio, n, default=n) for n in frames]
        self.min_len = [_limit(min_len_ratio, n, default=0) for n in frames]
        self.utterances = list(range(len(frames)))  # those that still run, in the order of the tensors
        self.ended: list[list[Hypothesis]] = [[] for _ in frames]
        self.position = 0
        # Running hypotheses per utterance; the tensors below hold them padded to the same number of beams.
        self.running = [[Hypothesis([search.sos], 0.0, self._no_scores())] for _ in frames]
        mask = torch.arange(encoded.shape[1], device=self.device) < lengths.to(self.device).unsqueeze(1)
        memory = encoded if search.bridge is None else search.bridge(encoded)
        uniform = bool(mask.all())
        self.cache: DecoderCache = search.decoder.start(memory, None if uniform else mask)
        self.ctc = None
        if search.ctc is not None and search.ctc_weight > 0:
            log_probs = search.ctc.log_softmax(encoded)
            self.ctc = CTCPrefixScores(log_probs, lengths.to(self.device), blank=search.ctc.blank, eos=search.eos)
        self.last = torch.full((len(frames), 1), search.sos, device=self.device)
        self.totals = torch.zeros(len(frames), 1, device=self.device)  # -inf marks an empty beam

    def _no_scores(self) -> dict[str, float]:
        names = [name for name, weight in self._weights() if weight != 0]
        return dict.fromkeys(names, 0.0)

    def _weights(self) -> tuple[tuple[str, float], ...]:
        search = self.search
        return (
            ("decoder", 1.0 - search.ctc_weight),
            ("ctc", search.ctc_weight),
            ("length_bonus", search.length_bonus),
        )

    def step(self) -> None:
        """Extend all running hypotheses by one token and move the ended ones out."""
        search = self.search
        weighted, parts = self._score()
        top, flat = weighted.flatten(1).topk(search.beam_size, dim=1)
        beams, tokens = flat // search.decoder.vocab_size, flat % search.decoder.vocab_size
        rows = torch.arange(len(flat), device=self.device).unsqueeze(1)
        gains = {name: part[rows, beams, tokens].tolist() for name, part in parts.items()}
        self._collect(top.tolist(), beams.tolist(), tokens.tolist(), gains)
        self.position += 1
        self._keep_running(beams, tokens, top)

    def _score(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted totals ``(U, W, V)`` and the unweighted gains of every scorer."""
        search, (num_utterances, num_beams) = self.search, self.last.shape
        log_probs = search.decoder.step(self.last.flatten(), self.cache)
        log_probs = log_probs.unflatten(0, (num_utterances, num_beams))
        parts: dict[str, Tensor] = {}
        weighted = torch.zeros_like(log_probs)
        if search.ctc_weight < 1:
            parts["decoder"] = log_probs
            weighted += (1.0 - search.ctc_weight) * log_probs
        if search.length_bonus != 0:
            parts["length_bonus"] = torch.ones_like(log_probs)
            weighted += search.length_bonus
        if self.ctc is not None:
            candidates = self._candidates(log_probs)
            parts["ctc"] = self.ctc.score(self.last, candidates, self.position)
            weighted += search.ctc_weight * parts["ctc"]
        weighted += self.totals.unsqueeze(2)
        return weighted, parts

    def _candidates(self, log_probs: Tensor) -> Tensor:
        vocabulary = log_probs.shape[-1]
        if self.search.ctc_weight < 1 and self.search.pre_beam_size < vocabulary:
            return log_probs.topk(self.search.pre_beam_size, dim=-1)[1]
        return torch.arange(vocabulary, device=self.device).expand_as(log_probs)

    def _collect(
        self, totals: list[list[float]], beams: list[list[int]], tokens: list[list[int]], gains: dict[str, list]
    ) -> None:
        """Make the new hypotheses; the ended ones go to the results, the others stay in ``running``.

        ``kept`` remembers, per utterance, which of the new hypotheses stay.
        """
        self.kept: list[list[int]] = []
        for row, utterance in enumerate(self.utterances):
            at_limit = self.position == self.max_len[utterance] - 1
            new, kept = [], []
            for slot, (total, beam, token) in enumerate(zip(totals[row], beams[row], tokens[row], strict=True)):
                old = self.running[row][beam]
                scores = {name: value + gains[name][row][slot] for name, value in old.scores.items()}
                hypothesis = Hypothesis([*old.ids, token, *([self.search.eos] if at_limit else [])], total, scores)
                if hypothesis.ids[-1] != self.search.eos:
                    new.append(hypothesis)
                    kept.append(slot)
                elif self.position >= self.min_len[utterance]:
                    self.ended[utterance].append(hypothesis)
            self.running[row] = new
            self.kept.append(kept)

    def _keep_running(self, beams: Tensor, tokens: Tensor, totals: Tensor) -> None:
        """Drop finished utterances and ended beams from the tensors."""
        alive = [row for row, utterance in enumerate(self.utterances) if not self._finished(row, utterance)]
        old_beams = self.last.shape[1]
        self.utterances = [self.utterances[row] for row in alive]
        if not alive:
            return
        width = max(len(self.kept[row]) for row in alive)
        slots = [self.kept[row] + self.kept[row][:1] * (width - len(self.kept[row])) for row in alive]
        empty = [[slot >= len(self.kept[row]) for slot in range(width)] for row in alive]
        rows = torch.tensor(alive, device=self.device)
        picked = torch.tensor(slots, device=self.device)
        beams, tokens, totals = (x[rows].gather(1, picked) for x in (beams, tokens, totals))
        selection = None if len(alive) == len(self.running) else rows
        self.running = [self.running[row] for row in alive]
        self.cache.select(selection, (rows.unsqueeze(1) * old_beams + beams).flatten())
        if self.ctc is not None:
            self.ctc.advance(selection, beams, tokens)
        self.last = tokens
        self.totals = totals.masked_fill(torch.tensor(empty, device=self.device), -math.inf)

    def _finished(self, row: int, utterance: int) -> bool:
        if not self.running[row] or self.position >= self.max_len[utterance]:
            return True
        return self.search.max_len_ratio == 0 and end_detected(self.ended[utterance], self.position - 1)


def _limit(ratio: float, num_frames: int, *, default: int) -> int:
    if ratio == 0:
        return default
    return -int(ratio) if ratio < 0 else max(1 if default else 0, int(ratio * num_frames))


def end_detected(ended: list[Hypothesis], position: int) -> bool:
    """Tell whether longer hypotheses have become hopeless (equation 50 of Watanabe et al. 2017).

    Args:
        ended: Ended hypotheses.
        position: Index of the step just done.

    Returns:
        True if for each of the last three lengths the best ended hypothesis is ``exp(-10)`` times worse than the best.
    """
    if not ended:
        return False
    best = max(h.score for h in ended)
    for length in range(position, position - END_WINDOW, -1):
        same = [h.score for h in ended if len(h.ids) == length]
        if not same or max(same) - best >= END_THRESHOLD:
            return False
    return True

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import itertools
import math

import pytest
import torch

from espnet_av.avsr.beam_search import LOG_ZERO, BeamSearch, CTCPrefixScores, Hypothesis, end_detected
from espnet_av.avsr.ctc import CTC
from espnet_av.avsr.decoder import TransformerDecoder
from espnet_av.utils.errors import UsageError

VOCABULARY, DIM = 13, 12
EOS = VOCABULARY - 1


@pytest.fixture
def parts() -> tuple[TransformerDecoder, CTC]:
    torch.manual_seed(0)
    decoder = TransformerDecoder(VOCABULARY, dim=DIM, num_layers=2, num_heads=2, ffn_dim=20).eval()
    ctc = CTC(VOCABULARY, DIM).eval()
    with torch.no_grad():  # decided opinions, so that searches end at different lengths
        decoder.output_layer.weight.mul_(4)
        decoder.output_layer.bias[EOS] += 1.5
        ctc.ctc_lo.weight.mul_(3)
    return decoder, ctc


def make_search(parts, **keywords) -> BeamSearch:
    return BeamSearch(*parts, sos=EOS, eos=EOS, **keywords)


def prefix_probability(probabilities: torch.Tensor, prefix: list[int], *, ended: bool) -> float:
    """Sum over all frame labellings, by brute force."""
    frames, vocabulary = probabilities.shape
    total = 0.0
    for path in itertools.product(range(vocabulary), repeat=frames):
        labels = [label for label, _ in itertools.groupby(path) if label != 0]
        if labels == prefix if ended else labels[: len(prefix)] == prefix:
            total += math.prod(probabilities[frame, label].item() for frame, label in enumerate(path))
    return total


def test_ctc_scores_equal_the_sum_over_all_paths():
    torch.manual_seed(0)
    probabilities = torch.rand(2, 5, 4).softmax(dim=-1)
    lengths = torch.tensor([5, 3])
    eos = 3
    scorer = CTCPrefixScores(probabilities.log(), lengths, blank=0, eos=eos)
    prefix, total = [[], []], torch.zeros(2)
    last = torch.full((2, 1), eos)
    for num_labels, token in enumerate([1, 1, 2]):
        tokens = torch.tensor([1, 2]).expand(2, 1, 2)
        scores = scorer.score(last, tokens, num_labels)
        for item, length in enumerate(lengths.tolist()):
            frames = probabilities[item, :length]
            for candidate in (1, 2):
                expected = prefix_probability(frames, prefix[item] + [candidate], ended=False)
                actual = (total[item] + scores[item, 0, candidate]).exp().item()
                assert actual == pytest.approx(expected, abs=1e-6)
            expected = prefix_probability(frames, prefix[item], ended=True)
            assert (total[item] + scores[item, 0, eos]).exp().item() == pytest.approx(expected, abs=1e-6)
            assert scores[item, 0, 0] < LOG_ZERO / 2
        total += scores[:, 0, token]
        prefix = [labels + [token] for labels in prefix]
        last = torch.full((2, 1), token)
        scorer.advance(None, torch.zeros(2, 1, dtype=torch.long), last)


def equal(ours: list[Hypothesis], others: list[Hypothesis]) -> None:
    assert [h.ids for h in ours] == [h.ids for h in others]
    for one, other in zip(ours, others, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-3)
        assert one.scores == pytest.approx(other.scores, abs=1e-2)


def possible(hypotheses: list[Hypothesis]) -> list[Hypothesis]:
    return [h for h in hypotheses if h.score > -1e8]


@pytest.mark.parametrize("keywords", [{}, {"beam_size": 5, "ctc_weight": 0.3}, {"beam_size": 1, "ctc_weight": 0.0}])
def test_a_batch_gives_what_single_utterances_give(parts, keywords):
    torch.manual_seed(1)
    lengths = torch.tensor([20, 9, 14, 1])
    encoded = torch.randn(4, 20, DIM)
    search = make_search(parts, **keywords)
    together = search.search(encoded, lengths)
    assert len(together) == len(lengths) and all(possible(found) for found in together)
    for index, length in enumerate(lengths.tolist()):
        equal(possible(together[index]), possible(search(encoded[index, :length])))


def test_scores_add_up(parts):
    torch.manual_seed(2)
    for hypothesis in possible(make_search(parts, ctc_weight=0.3, length_bonus=0.2)(torch.randn(12, DIM))):
        weights = {"decoder": 0.7, "ctc": 0.3, "length_bonus": 0.2}
        total = sum(weights[name] * value for name, value in hypothesis.scores.items())
        assert hypothesis.score == pytest.approx(total, abs=1e-3)
        assert hypothesis.ids[0] == hypothesis.ids[-1] == EOS


def test_length_limits(parts):
    encoded = torch.randn(12, DIM)
    for hypothesis in make_search(parts, max_len_ratio=-3)(encoded):
        assert len(hypothesis.ids) <= 3 + 2
    for hypothesis in make_search(parts, min_len_ratio=0.5)(encoded):
        assert len(hypothesis.ids) >= 6 + 2
    ended_twice = [h for h in make_search(parts, max_len_ratio=-1, beam_size=13)(encoded) if h.ids[-2:] == [EOS, EOS]]
    assert ended_twice  # <eos> is appended at the limit even where a hypothesis has just ended


def test_greedy_search_follows_the_decoder(parts):
    decoder, _ = parts
    encoded = torch.randn(10, DIM)
    best = make_search(parts, beam_size=1, ctc_weight=0.0)(encoded)[0]
    prefix = [EOS]
    while len(prefix) < 11:
        with torch.no_grad():
            logits = decoder(encoded[None], None, torch.tensor([prefix]), torch.tensor([len(prefix)]))
        prefix.append(int(logits[0, -1].argmax()))
        if prefix[-1] == EOS:
            break
    assert best.ids[: len(prefix)] == prefix


def test_ctc_alone(parts):
    best = make_search(parts, ctc_weight=1.0, beam_size=4)(torch.randn(10, DIM))[0]
    assert set(best.scores) == {"ctc"}
    assert best.score == pytest.approx(best.scores["ctc"], abs=1e-3)


def test_end_detection():
    def ended(length: int, score: float) -> Hypothesis:
        return Hypothesis([0] * length, score)

    assert not end_detected([], 5)
    assert end_detected([ended(2, 0.0), ended(5, -11.0), ended(4, -12.0), ended(3, -10.5)], 5)
    assert not end_detected([ended(2, 0.0), ended(5, -11.0), ended(3, -10.5)], 5)
    assert not end_detected([ended(2, 0.0), ended(5, -11.0), ended(4, -9.0), ended(3, -10.5)], 5)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [({"ctc_weight": 2.0}, "0 to 1"), ({"beam_size": 0}, "beam_size"), ({"beam_size": 99}, "beam")],
)
def test_wrong_options_are_refused(parts, keywords, message):
    with pytest.raises(UsageError, match=message):
        make_search(parts, **keywords)
    with pytest.raises(UsageError, match="needs a CTC layer"):
        BeamSearch(parts[0], None, sos=EOS, eos=EOS)


@pytest.mark.parametrize("beam_size", [1, 3, 6])
@pytest.mark.parametrize("ctc_weight", [0.0, 0.1, 0.4])
@torch.no_grad()
def test_same_results_as_espnet(parts, beam_size, ctc_weight):
    from espnet_av import _espnet

    decoder, ctc = parts
    theirs = _espnet.TransformerDecoder(VOCABULARY, DIM, attention_heads=2, linear_units=20, num_blocks=2).eval()
    theirs.load_state_dict(decoder.state_dict(), strict=True)
    their_ctc = _espnet.CTC(VOCABULARY, DIM, dropout_rate=0.0).eval()
    their_ctc.load_state_dict(ctc.state_dict(), strict=True)
    stock = _espnet.BatchBeamSearch(
        scorers={"decoder": theirs, "ctc": _espnet.CTCPrefixScorer(their_ctc, EOS)},
        weights={"decoder": 1 - ctc_weight, "ctc": ctc_weight},
        beam_size=beam_size,
        vocab_size=VOCABULARY,
        sos=EOS,
        eos=EOS,
        pre_beam_score_key="decoder" if ctc_weight else None,
    ).eval()
    torch.manual_seed(beam_size)
    for num_frames in (1, 5, 12, 30):
        encoded = torch.randn(num_frames, DIM)
        expected = [
            Hypothesis(h.yseq.tolist(), float(h.score), {name: float(value) for name, value in h.scores.items()})
            for h in stock(encoded)
        ]
        ours = make_search(parts, beam_size=beam_size, ctc_weight=ctc_weight)(encoded)
        equal(possible(ours), possible(expected))
        assert len(ours) == len(expected)

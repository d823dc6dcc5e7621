# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import torch

from espnet_av.avsr.decoder import TransformerDecoder
from espnet_av.utils.errors import UsageError

SIZES = {"dim": 12, "num_layers": 2, "num_heads": 2, "ffn_dim": 20}


@pytest.fixture
def decoder() -> TransformerDecoder:
    torch.manual_seed(0)
    return TransformerDecoder(11, **SIZES).eval()


@torch.no_grad()
def test_steps_equal_the_whole_sequence(decoder):
    memory, mask = torch.randn(2, 6, 12), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
    tokens = torch.tensor([[10, 3, 4, 5], [10, 3, 6, 7], [10, 8, 9, 2], [10, 8, 8, 8]])  # two beams per utterance
    cache = decoder.start(memory, mask)
    steps = torch.stack([decoder.step(tokens[:, index], cache) for index in range(4)], dim=1)
    rows = torch.tensor([0, 0, 1, 1])
    whole = decoder(memory[rows], mask[rows], tokens, torch.full((4,), 4)).log_softmax(dim=-1)
    torch.testing.assert_close(steps, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_cache_follows_the_chosen_beams(decoder):
    memory = torch.randn(2, 6, 12)
    cache = decoder.start(memory)
    decoder.step(torch.tensor([10, 10, 10, 10]), cache)
    decoder.step(torch.tensor([2, 3, 4, 5]), cache)
    cache.select(torch.tensor([1]), torch.tensor([3, 2, 2]))  # utterance 0 has ended
    actual = decoder.step(torch.tensor([6, 7, 8]), cache)
    prefixes = torch.tensor([[10, 5, 6], [10, 4, 7], [10, 4, 8]])
    expected = decoder(memory[[1, 1, 1]], None, prefixes, torch.full((3,), 3))[:, -1].log_softmax(dim=-1)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_later_and_padded_tokens_do_not_matter(decoder):
    memory = torch.randn(1, 6, 12)
    one = decoder(memory, None, torch.tensor([[10, 3, 4, 9]]), torch.tensor([3]))
    two = decoder(memory, None, torch.tensor([[10, 3, 5, 1]]), torch.tensor([3]))
    torch.testing.assert_close(one[:, :2], two[:, :2])
    assert not torch.allclose(one[:, 2], two[:, 2])


def test_heads_must_divide_the_width():
    with pytest.raises(UsageError, match="num_heads"):
        TransformerDecoder(11, dim=12, num_heads=5)


@torch.no_grad()
def test_same_numbers_as_espnet(decoder):
    from espnet_av import _espnet

    theirs = _espnet.TransformerDecoder(11, 12, attention_heads=2, linear_units=20, num_blocks=2).eval()
    theirs.load_state_dict(decoder.state_dict(), strict=True)
    memory, lengths = torch.randn(2, 6, 12), torch.tensor([6, 4])
    tokens, token_lengths = torch.tensor([[10, 3, 4, 5], [10, 3, 10, 10]]), torch.tensor([4, 2])
    expected, _ = theirs(memory, lengths, tokens, token_lengths)
    actual = decoder(memory, torch.arange(6) < lengths[:, None], tokens, token_lengths)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)

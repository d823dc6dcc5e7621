# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest
import trainer_toy

from espnet_av.train.feed import Feed
from espnet_av.utils.errors import DataError


def names(feed):
    return [clips for clips, _ in feed]


@pytest.mark.parametrize("factory", [trainer_toy.ToyFactory(), trainer_toy.OldFactory()])
def test_the_rest_of_an_epoch_is_what_it_would_have_been(factory):
    whole = Feed(factory, 2)
    expected = names(whole)
    rest = Feed(factory, 2, 3)
    assert (rest.total, rest.taken, rest.is_last) == (10, 3, False)
    assert names(rest) == expected[3:]
    assert rest.is_last and rest.wait_sec > 0
    assert names(Feed(factory, 2, 10)) == []


def test_a_loader_of_unknown_length_and_one_that_ends_early():
    class Generated:
        def build_iter(self, epoch):
            return (([f"c{i}"], {}) for i in range(4))

    feed = Feed(Generated(), 1, 1)
    assert feed.total is None and names(feed) == [["c1"], ["c2"], ["c3"]] and not feed.is_last

    class Short(Generated):
        def num_batches(self, epoch):
            return 5

    with pytest.raises(DataError, match="ended after 4 of 5 batches"):
        names(Feed(Short(), 1))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Counting of what a stage leaves out."""

import pytest

from espnet_av.data.drops import Drops, TooManyDropped


def test_summary_counts_each_utterance_once():
    drops = Drops(4)
    drops.add("b", "no_face", "0 of 75")
    drops.add("a", "no_face")
    drops.add("a", "no_text")
    assert "a" in drops
    assert drops.share == 0.5
    assert drops.summary()["reasons"] == {"no_face": {"count": 2, "utterances": {"a": "", "b": "0 of 75"}}}
    assert drops.one_line() == "2 of 4 kept; dropped: no_face 2"
    drops.check(0.5, "report.json")
    with pytest.raises(TooManyDropped, match=r"read report\.json") as raised:
        drops.check(0.4, "report.json")
    assert raised.value.exit_code == 5


def test_nothing_left_always_fails():
    drops = Drops(1)
    drops.add("a", "no_face")
    with pytest.raises(TooManyDropped):
        drops.check(1.0, "report.json")
    with pytest.raises(TooManyDropped, match="no utterances"):
        Drops(0).check(1.0, "report.json")

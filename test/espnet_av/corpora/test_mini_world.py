# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The generated world of mini_av: which voices sound in it, and what its sets of clips hold."""

import dataclasses

import numpy as np
import pytest

from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.corpora import mini_world
from espnet_av.corpora.voices import voice_of
from espnet_av.utils.errors import UsageError


def test_voices_of_the_usual_world_are_far_apart():
    low, high = mini_world.SIZES["default"].voices
    assert (voice_of(low, unseen=False).high, voice_of(high, unseen=False).high) == (False, True)
    assert all(len(set(size.voices)) == len(size.voices) for size in mini_world.SIZES.values())


def test_sets_of_clips(tmp_path):
    size = dataclasses.replace(mini_world.SIZES["default"], clips=(2, 1, 1))
    table = mini_world.make_sounds(tmp_path, size, seed=3, nj=1, formula=True)
    assert set(table.labels) == {"voice01", "voice03", "music", "esc"} and table.never_target == {"esc"}
    counts, first = {}, {}
    for split in mini_world.SPLITS:
        clips = ClipLibrary(tmp_path / "min20s_clips" / f"{split}_preprocessed", classes=table)
        counts[split] = {name: len(files) for name, files in clips.by_class().items()}
        first[split] = {name: clips[files[0]][:16000] for name, files in clips.by_class().items()}
    assert counts == {split: dict.fromkeys(table.labels, 2 if split == "train" else 1) for split in mini_world.SPLITS}
    for name in table.labels:  # no clip is heard in two splits
        sounds = [first[split][name] for split in mini_world.SPLITS]
        assert not any(np.array_equal(sounds[a], sounds[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--corpus_size", "huge"], "tiny, default, large|'tiny', 'default', 'large'"),
        (["--num_houses", "0"], "start at 1"),
    ],
)
def test_wrong_options(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        mini_world.main(["--output_dir", str(tmp_path), *options])
    assert not list(tmp_path.iterdir())

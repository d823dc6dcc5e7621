# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The licence that a recipe gives its models unless the user says otherwise goes with the data it is made for."""

import re

import pytest

from espnet_av.corpora import debian_speech, lrs2, lrs3, mcorec_sets, soundspaces, two_mix, vox2
from espnet_av.report.licences import DEFAULT_LICENCE, find_conflicts, read_terms

DATA = {
    "lrs2/avsr": [lrs2.LICENCE, vox2.LICENCE],
    "lrs3/avsr": [lrs3.LICENCE, vox2.LICENCE],
    "mcorec/avsr": [mcorec_sets.LICENCE],
    "avyt/avsr": [lrs2.LICENCE, vox2.LICENCE, mcorec_sets.LICENCE],
    "lrs2/avss": [two_mix.LICENCES["lrs2"]],
    "lrs3/avss": [two_mix.LICENCES["lrs3"]],
    "vox2/avss": [two_mix.LICENCES["vox2"]],
    "debian_speech/codec": [debian_speech.LICENCE],
    "mp3d/activesep": [soundspaces.LICENCE],
    "av50h/avgen": ["CC-BY-NC-4.0"],
    "audio2photoreal/avgen": ["CC-BY-NC-4.0"],
}
#: Data that come without a stated licence.
UNSTATED = ("lrac_track1/codec", "lrac_track2/codec")


def default_licence(repo_root, recipe):
    found = re.search(r'--model_licence (?:"([^"]+)"|(\S+))', (repo_root / "egs" / recipe / "run.sh").read_text())
    return (found[1] or found[2]) if found else DEFAULT_LICENCE


@pytest.mark.parametrize("recipe", DATA)
def test_default_goes_with_the_data(repo_root, recipe):
    assert find_conflicts(DATA[recipe], DEFAULT_LICENCE)  # so that a forgotten default is seen
    assert find_conflicts(DATA[recipe], default_licence(repo_root, recipe)) == []


@pytest.mark.parametrize("recipe", UNSTATED)
def test_models_of_data_without_a_licence_stay_here(repo_root, recipe):
    assert read_terms(default_licence(repo_root, recipe)).forbids_sharing

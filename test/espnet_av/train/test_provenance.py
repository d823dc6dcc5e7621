# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where numbers come from, and what must not be published."""

import os

from espnet_av.train.provenance import (
    config_digest,
    is_secret,
    machine,
    package_versions,
    scrub,
    source_commit,
    utc_now,
    without_paths,
)


def test_digest_counts_what_matters():
    base = {"seed": 1, "model_conf": {"a": 1}, "ngpu": 0, "output_dir": "x"}
    assert config_digest(base) == config_digest({**base, "ngpu": 4, "output_dir": "y", "num_workers": 8})
    assert config_digest(base) == config_digest(dict(reversed(base.items())))
    assert config_digest(base) != config_digest({**base, "seed": 2})
    assert config_digest(None) is None


def test_secrets_are_scrubbed():
    text = "hf_abcdefghijklmnopqrstuv ghp_abcdefghijklmnop1234 wandb_api_key: xyz 'password': 'pw' HF_TOKEN=abc"
    shown = scrub(text)
    for secret in ("abcdefgh", "xyz", "pw'", "abc"):
        assert secret not in shown.replace("password", "")
    for text in ("token_list: [a, b]", "tokens 5", "the secretary", "batch_frames: 10"):
        assert scrub(text) == text
    assert is_secret("wandb_api_key") and not is_secret("token_type")


def test_paths_are_shortened():
    inside = f"{os.getcwd()}/exp/a"
    assert scrub(f"--exp_dir {inside}") == "--exp_dir exp/a"
    text = "--dump /data/x/dump 1/2 a/b https://host.org/a/b '/nas/y' and / or"
    assert without_paths(text) == "--dump dump 1/2 a/b https://host.org/a/b 'y' and / or"


def test_facts(monkeypatch):
    assert {"python", "espnet_av", "torch", "numpy"} <= set(package_versions())
    assert machine()["cores"].endswith("cores")
    assert source_commit() is None or len(source_commit().split("-")[0]) == 12
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    assert utc_now() == "1970-01-01T00:00:00Z"
    monkeypatch.setenv("PATH", "")
    assert source_commit() is None  # no git

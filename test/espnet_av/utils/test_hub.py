# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Errors of the hub, with classes of the names that ``huggingface_hub`` has."""

import errno
import types

import pytest

from espnet_av.utils import hub
from espnet_av.utils.errors import EnvironmentProblem, MissingDataError, UsageError


class RepositoryNotFoundError(Exception):
    pass


class GatedRepoError(RepositoryNotFoundError):
    pass


class EntryNotFoundError(Exception):
    pass


class LocalEntryNotFoundError(EntryNotFoundError):
    pass


class RevisionNotFoundError(Exception):
    pass


class HFValidationError(ValueError):
    pass


@pytest.mark.parametrize(
    ("raised", "kind", "message"),
    [
        (RepositoryNotFoundError("404"), MissingDataError, "no such repository, or it is private; got 'org/model'"),
        (HFValidationError("bad name"), MissingDataError, "no such repository"),
        (GatedRepoError("403"), MissingDataError, "is gated.*accept the conditions.*hf auth login"),
        (RevisionNotFoundError("no main"), MissingDataError, "lacks what is needed"),
        (
            LocalEntryNotFoundError("offline"),
            EnvironmentProblem,
            "reached and kept does not hold 'org/model'",
        ),
        (ConnectionError("no route"), EnvironmentProblem, r"no route.*hf download org/model"),
        (OSError(errno.ENOSPC, "No space left"), OSError, "No space left"),
    ],
)
def test_errors_say_what_to_do(monkeypatch, raised, kind, message):
    def snapshot_download(*_, **__):
        raise raised

    monkeypatch.setattr(hub, "require", lambda *_: types.SimpleNamespace(snapshot_download=snapshot_download))
    with pytest.raises(kind, match=message):
        hub.fetch_repository("org/model", "kept")


def test_a_repository_becomes_a_folder(monkeypatch, tmp_path):
    asked = {}

    def snapshot_download(name, **options):
        asked.update(options, name=name)
        return str(tmp_path)

    monkeypatch.setattr(hub, "require", lambda *_: types.SimpleNamespace(snapshot_download=snapshot_download))
    assert hub.fetch_repository("org/model", "kept", patterns=["*.json"]) == tmp_path
    named = {"name": "org/model", "cache_dir": "kept", "repo_type": "model", "revision": None}
    assert asked == {**named, "allow_patterns": ["*.json"]}


def test_names():
    assert [hub.is_hub_name(name) for name in ("a/b", "a", "/a/b", "a/b/c", "./a", "a/b c")] == [True] + [False] * 5


@pytest.mark.parametrize(
    ("source", "name", "revision"),
    [
        ("org/model", "org/model", None),
        ("org/model@v1.0", "org/model", "v1.0"),
        ("hf://org/model", "org/model", None),
        ("hf://org/model@refs/pr/1", "org/model", "refs/pr/1"),
    ],
)
def test_addresses(monkeypatch, tmp_path, source, name, revision):
    asked = []

    def snapshot_download(*names, **options):
        asked.append((*names, options["revision"], options.get("token")))
        return str(tmp_path)

    monkeypatch.setattr(hub, "require", lambda *_: types.SimpleNamespace(snapshot_download=snapshot_download))
    hub.fetch_repository(source, token="hf_secret")
    assert asked == [(name, revision, "hf_secret")]
    if revision:
        with pytest.raises(UsageError, match="two revisions of 'org/model'"):
            hub.fetch_repository(source, revision="v2")


@pytest.mark.parametrize("source", ["model", "hf://model", "hf://a/b/c", "./org/model", "org/model@", "org/model@a b"])
def test_what_is_no_address(source):
    assert hub.split_source(source) is None
    with pytest.raises(UsageError, match="not a name of the hub"):
        hub.fetch_repository(source)

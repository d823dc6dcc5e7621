# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Models of the Hugging Face hub: downloaded once into a cache folder, uploaded, with errors that say what to do."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.errors import EnvironmentProblem, MissingDataError, describe, usage_error
from espnet_av.utils.files import is_disk_full
from espnet_av.utils.optional import require

MODEL_FILES = ("*.safetensors", "*.pth", "*.bin", "*.json", "*.yaml", "*.txt", "*.model", "*.npy", "*.npz", "*.md")
MAIN = "main"
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_SOURCE = re.compile(rf"(?:hf:/{{1,2}})?({_HUB_NAME.pattern})(?:@([\w./-]+))?")  # a Path has one slash
_LOGIN = "accept the conditions on the web page of the repository, then run: hf auth login"


def is_hub_name(name: str) -> bool:
    """Tell whether a text has the form ``organisation/name``.

    >>> is_hub_name("org/model"), is_hub_name("./org/model"), is_hub_name("a/b/c")
    (True, False, False)
    """
    return _HUB_NAME.fullmatch(name) is not None


def split_source(source: str | os.PathLike) -> tuple[str, str | None] | None:
    """Return name and revision of ``organisation/name``, with ``hf://`` before or ``@revision`` behind it; else None.

    >>> split_source("hf://org/model@v1.0"), split_source("org/model"), split_source("./org/model")
    (('org/model', 'v1.0'), ('org/model', None), None)
    """
    found = _SOURCE.fullmatch(os.fspath(source))
    return (found[1], found[2]) if found else None


def is_hub_address(source: str | os.PathLike) -> bool:
    """Tell whether a source begins with ``hf:/``, so that it is no path."""
    return os.fspath(source).startswith("hf:/")


def fetch_repository(
    name: str,
    cache_dir: str | os.PathLike | None = None,
    *,
    patterns: Sequence[str] | None = MODEL_FILES,
    repo_type: str = "model",
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """Download a repository, or take it from the cache; without network the cache must hold it.

    A connection that breaks is taken up where it broke; after an end by force, whole files are not fetched again.

    Args:
        name: ``organisation/name``, or what else :func:`split_source` reads.
        cache_dir: Where files are kept; None takes the hub library's own folder.
        patterns: Files to download; None: all.
        repo_type: ``model`` or ``dataset``.
        revision: Branch, tag or commit; None: that of ``name``, else the newest of ``main``.
        token: Access token; None: that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The folder with the files.

    Raises:
        UsageError: ``name`` is none, or has another revision.
        MissingDataError: There is no such repository or revision, or it is private or gated and the account may not
            read it.
        EnvironmentProblem: The package ``huggingface_hub`` is missing, or the hub cannot be reached.
        OSError: The disk is full.
    """
    named = split_source(name)
    if named is None:
        usage_error("not a name of the hub", got=name, allowed="organisation/name, hf://organisation/name[@revision]")
    name, at = named
    if None not in (revision, at) and revision != at:
        usage_error(f"two revisions of '{name}'", got=f"{revision} and {at}", fix="pass one")
    hub = require("huggingface_hub", "hub")
    try:
        folder = hub.snapshot_download(
            name,
            repo_type=repo_type,
            revision=revision or at,
            cache_dir=cache_dir,
            **({} if token is None else {"token": token}),
            allow_patterns=None if patterns is None else list(patterns),
        )
    except Exception as error:  # the library raises its own, those of the HTTP client, OSError and ValueError
        if is_disk_full(error):  # the command line tells what to do
            raise
        raise explain_hub_error(error, name, cache_dir) from error
    return Path(folder)


def explain_hub_error(
    error: Exception, name: str, cache_dir: str | os.PathLike | None = None
) -> MissingDataError | EnvironmentProblem:
    """Turn an error of ``huggingface_hub`` into one of ours.

    Args:
        error: What was raised.
        name: The repository that was asked for.
        cache_dir: The cache folder, for the message.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if "GatedRepoError" in kinds:
        return MissingDataError(describe(f"the hub's '{name}' is gated: this account may not read it", fix=_LOGIN))
    if kinds & {"RepositoryNotFoundError", "HFValidationError"}:
        fix = "check the spelling, and run 'hf auth login' where it is private"
        return MissingDataError(describe("the hub has no such repository, or it is private", got=name, fix=fix))
    if kinds & {"RevisionNotFoundError", "EntryNotFoundError"} and "LocalEntryNotFoundError" not in kinds:
        return MissingDataError(describe(f"the hub's '{name}' lacks what is needed ({first})", fix="check the name"))
    where = f"{cache_dir or 'the cache'} does not hold '{name}'"
    fix = f"connect this machine, or download elsewhere (hf download {name}) and pass the folder"
    return EnvironmentProblem(describe(f"the hub cannot be reached and {where} ({first})", fix=fix))


def upload_folder(
    folder: str | os.PathLike,
    name: str,
    *,
    revision: str | None = None,
    private: bool | None = None,
    message: str = "Upload the model",
    token: str | None = None,
) -> str:
    """Upload a folder as one commit of a repository, which is made where there is none.

    Args:
        folder: Its files, hidden ones left out.
        name: ``organisation/name``.
        revision: Branch, made where there is none; None: ``main``.
        private: Of a new repository: whether only its owners see it. None: what the account says.
        message: Title of the commit.
        token: Access token; None: that of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The commit, which ``revision`` of :func:`fetch_repository` takes.

    Raises:
        UsageError: The name has another form.
        EnvironmentProblem: The package ``huggingface_hub`` is missing, the hub cannot be reached, or the account may
            not write there.
    """
    if not is_hub_name(name):
        usage_error("not a name of the hub", got=name, allowed="organisation/name")
    client = require("huggingface_hub", "hub").HfApi(token=token)
    try:
        client.create_repo(name, private=private, exist_ok=True)
        if revision not in (None, MAIN):
            client.create_branch(name, branch=revision, exist_ok=True)
        commit = client.upload_folder(
            folder_path=folder, repo_id=name, revision=revision, commit_message=message, ignore_patterns=[".*"]
        )
    except Exception as error:  # the library raises its own, those of the HTTP client, OSError and ValueError
        raise explain_upload_error(error, name) from error
    return str(commit.oid)


def explain_upload_error(error: Exception, name: str) -> EnvironmentProblem:
    """Turn an error of an upload into one of ours.

    Args:
        error: What was raised.
        name: The repository that was to be written.
    """
    status = getattr(getattr(error, "response", None), "status_code", None)
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    if status in (401, 403) or type(error).__name__ == "LocalTokenNotFoundError":
        fix = "run 'hf auth login' with a token that may write, or pass token"
        return EnvironmentProblem(describe(f"the hub does not let this account write to '{name}' ({first})", fix=fix))
    if status is not None:
        return EnvironmentProblem(describe(f"the hub did not take the upload to '{name}' ({first})", got=status))
    fix = "connect this machine and try again; what has been uploaded is not sent again"
    return EnvironmentProblem(describe(f"'{name}' could not be uploaded ({first})", fix=fix))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Where a number comes from: source commit, versions, machine, date and a digest of the configuration."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from espnet_av.data.data_record import data_record
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.source import PACKAGE_ROOT, source_commit

DISTRIBUTIONS = ("torch", "torchaudio", "espnet", "numpy", "jiwer", "av", "soundfile", "sentencepiece")
# Keys of a training configuration that say where and how fast a run was, not what it computed.
_UNCOUNTED = """
config dry_run print_config log_level log_interval output_dir ngpu num_workers iterator_type num_att_plot resume
resume_mode dist_backend dist_init_method dist_world_size dist_rank local_rank dist_master_addr dist_master_port
dist_launcher multiprocessing_distributed unused_parameters sharded_ddp use_tensorboard use_wandb wandb_project
wandb_id wandb_entity wandb_name wandb_model_log_interval distributed create_graph_in_tensorboard version
max_train_sec save_every_steps prefetch_factor git_commit data_digests espnet_av_version
"""
SET_PLACES = ("", "raw", "filtered", "episodes/v1")  # below the folder of stage 3
UNCOUNTED_KEYS = frozenset(_UNCOUNTED.split())
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/~])(?:~|file:/)?/(?:[\w.+@%~-]+/)+(?=[\w.+@%~-])")
_SECRET_VALUE = re.compile(r"\b(hf_\w{16,}|gh[pousr]_\w{16,}|github_pat_\w{16,}|sk-[\w-]{16,}|AKIA[0-9A-Z]{12,})")
_SECRET_FIELD = re.compile(
    r"(?i)\b((?:\w*_)?(?:api_key|apikey|password|passwd|secret|access_token|auth_token|hf_token))"
    r"(['\"]?\s*[:= ]\s*)(\S+)"
)


def utc_now() -> str:
    """Return the time as ``YYYY-MM-DDTHH:MM:SSZ``; ``SOURCE_DATE_EPOCH`` (seconds) overrides the clock."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH")
    utc = datetime.timezone.utc
    moment = datetime.datetime.fromtimestamp(int(fixed), utc) if fixed else datetime.datetime.now(utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def package_versions() -> dict[str, str]:
    """Return the versions of Python, this package and the packages that can move a number."""
    versions = {"python": platform.python_version(), "espnet_av": package_version()}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def package_version() -> str:
    """Return the version of this package (``espnet_av/version.txt``)."""
    path = PACKAGE_ROOT / "version.txt"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else "unknown"


def machine() -> dict[str, str]:
    """Return the operating system, the processor, the number of cores and the memory of this machine."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0
    found = {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _cpu_model(),
        "cores": f"{num_cores} cores",
    }
    if hasattr(os, "sysconf"):
        total_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        found["memory"] = f"{total_bytes / 2**30:.0f} GiB"
    return found


def without_paths(text: str) -> str:
    """Scrub a text and shorten every absolute path that is left to its last part."""
    return _ABSOLUTE_PATH.sub("", scrub(text))


def is_secret(name: str) -> bool:
    """Tell whether a setting of this name holds a key or password."""
    return _SECRET_FIELD.fullmatch(f"{name}: value") is not None


def config_digest(config: Mapping[str, Any] | None) -> str | None:
    """Return 12 hex digits that are equal for equal experiments, whatever the folder, devices and log settings.

    Args:
        config: The resolved training configuration; None gives None.
    """
    if config is None:
        return None
    counted = {key: value for key, value in config.items() if key not in UNCOUNTED_KEYS}
    text = json.dumps(counted, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def origin_of(config: Mapping[str, Any] | None, program: str, words: Sequence[str]) -> dict[str, Any]:
    """Return where the numbers of a program come from: what each row of ``results.json`` says of it.

    Args:
        config: The resolved training configuration, where there is one.
        program: Module that was run.
        words: Its arguments.
    """
    trained = config or {}
    return {
        "config_digest": config_digest(config),
        "commit": source_commit(),
        "train_commit": trained.get("git_commit"),
        "seed": trained.get("seed"),
        "command": shlex.join(["python", "-m", program, *words]),
    }


def note_references(rows: Iterable[dict[str, Any]], data_dirs: Iterable[str | Path]) -> None:
    """Note in each row of ``results.json`` a digest of the data folder of its set: what it was scored against."""
    digests = {Path(place).name: data_record([place]).get("tables") for place in data_dirs}
    for row in rows:
        row["data_digest"] = digests.get(row["set"])


def changed_sets(results: Mapping[str, Any] | None, dump_dir: str | Path) -> list[str]:
    """Return the sets whose data folder is no longer, or never was, the one that the results were scored against.

    Args:
        results: Content of ``results.json``; rows without ``data_digest`` cannot be told.
        dump_dir: Data folders of stage 3; sets that are not there are not named.
    """
    found = []
    digests = {row["set"]: row["data_digest"] for row in (results or {}).get("rows") or () if row.get("data_digest")}
    for name, digest in digests.items():
        folders = [Path(dump_dir, part, name) for part in SET_PLACES if Path(dump_dir, part, name).is_dir()]
        texts = [folder / "text" for folder in folders if (folder / "text").is_file()]
        now = {data_record([folder]).get("tables") for folder in folders}
        now |= {hashlib.sha256(path.read_bytes()).hexdigest()[:12] for path in texts}
        if folders and digest not in now:
            found.append(name)
    return found


def check_unchanged(set_name: str, changed: Collection[str]) -> None:
    """Refuse to show the data of a set beside results of other data.

    Raises:
        DataError: The set is among those of :func:`changed_sets`.
    """
    if set_name in changed:
        raise DataError(
            describe(
                f"the data folder of {set_name} is not what was scored",
                fix="run stages 6 and 7 again, or pass the folder with --dump_dir",
            )
        )


def scrub(text: str) -> str:
    """Take secrets and the paths of this machine out of a text that will be published.

    Known key formats and values of fields such as ``api_key`` become ``***``; the working folder is dropped from
    paths, and the home folder becomes ``~``.
    """
    text = _SECRET_FIELD.sub(r"\1\2***", _SECRET_VALUE.sub("***", text))
    for folder, short in ((os.getcwd(), ""), (os.path.expanduser("~"), "~/")):
        if len(folder) > 1:
            text = text.replace(folder.rstrip("/") + "/", short)
    return text


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The file of ``--train_stream``: which shards a training reads, and with which probabilities.

Example::

    sources:
      lrs2: {source: DIR or ORG/NAME, config: lrs2, split: train+pretrain}
      vox2: {source: DIR or ORG/NAME, config: vox2, split: dev}
    probabilities: {lrs2: 0.6, vox2: 0.4}
    max_frames: 375

Other keys: those of :class:`~espnet_av.data.stream.StreamPlan`, and ``streaming`` and ``cache_dir`` of
:class:`~espnet_av.data.av_shards.AVShards` for sources on the hub.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.data.av_shards import AVShards, decode_sample
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import UsageError, describe
from espnet_av.utils.files import atomic_write

if TYPE_CHECKING:
    from espnet_av.data.stream import StreamPlan

PLAN_KEYS = (
    "probabilities",
    "seed",
    "shuffle_buffer",
    "legacy",
    "num_streams",
    "pool_batches",
    "min_frames",
    "max_frames",
    "max_bad_share",
)
SOURCE_KEYS = ("source", "config", "split")
HUB_KEYS = ("streaming", "cache_dir")


def read_stream_plan(path: str | os.PathLike, num_streams: int = 1) -> "StreamPlan":
    """Read the file and open its sources.

    Args:
        path: The YAML file.
        num_streams: Streams per process where the file does not say it.

    Raises:
        UsageError: An unknown or missing key.
        MissingDataError, EnvironmentProblem: The file, a folder or a data set of the hub cannot be reached.
    """
    from espnet_av.data.stream import StreamPlan

    given = load_yaml(os.fspath(path))
    unknown = sorted(set(given) - {"sources", *PLAN_KEYS, *HUB_KEYS})
    if unknown:
        raise UsageError(describe(f"{path}: unknown key", unknown[0], ["sources", *PLAN_KEYS, *HUB_KEYS]))
    listed = given.get("sources")
    if not isinstance(listed, Mapping) or not listed:
        raise UsageError(describe(f"{path}: 'sources' must name at least one source", listed))
    hub = {key: given[key] for key in HUB_KEYS if key in given}
    share = {"max_bad_share": given["max_bad_share"]} if "max_bad_share" in given else {}
    sources = {}
    for name, entry in listed.items():
        if not isinstance(entry, Mapping) or sorted(entry) != sorted(SOURCE_KEYS):
            raise UsageError(describe(f"{path}: source '{name}'", entry, SOURCE_KEYS))
        sources[str(name)] = AVShards(entry["source"], entry["config"], entry["split"], **hub, **share)
    options = {"num_streams": num_streams, **{key: given[key] for key in PLAN_KEYS if key in given}}
    return StreamPlan(sources, decode_sample, **options)


def write_stream_plan(path: str | os.PathLike, sources: Mapping[str, Mapping[str, str]], **options: Any) -> Path:
    """Write the file.

    Args:
        path: The file.
        sources: Name to ``source``, ``config`` and ``split``.
        **options: Other keys.
    """
    import yaml

    content = {"sources": {name: dict(entry) for name, entry in sources.items()}, **options}
    with atomic_write(path) as stream:
        yaml.safe_dump(content, stream, sort_keys=False)
    return Path(path)

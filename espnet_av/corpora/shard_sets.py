# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders out of shards: every clip becomes a file, every label a line of ``text``."""

import logging
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from espnet_av.data.av_shards import AVShards, ShardSample
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import Drops
from espnet_av.utils.experiment import write_json
from espnet_av.utils.folders import atomic_folder, remove_leftovers
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)


@dataclass
class _Unpacked:
    """What came out of one shard."""

    video: dict[str, Path] = field(default_factory=dict)
    text: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, tuple[str, str]] = field(default_factory=dict)


def utterance_id(source: str, sample_id: str) -> str:
    """Return the id of a clip in a data folder.

    >>> utterance_id("lrs2", "main/6330/00001")
    'lrs2-main_6330_00001'
    """
    return f"{source}-{re.sub(r'[^A-Za-z0-9.-]+', '_', sample_id).strip('_')}"


def write_shard_set(
    sources: Mapping[str, AVShards],
    folder: str | os.PathLike,
    clips_dir: str | os.PathLike,
    *,
    description: str,
    max_clips: int | None = None,
    max_dropped_share: float = 0.01,
    nj: int = 1,
) -> str:
    """Write the data folder of one set: ``video.scp``, ``text``, ``utt2spk``, ``data.json``, ``shard_report.json``.

    Clips are mouth crops already; stage 2 takes them as they are (``--roi center``). A clip that an earlier run wrote
    whole is kept. Speakers are not known: each clip is its own.

    Args:
        sources: Name, which begins the ids, to shards.
        folder: The folder to make; it appears when it is whole.
        clips_dir: Where the clips go, a folder per shard.
        description: For ``data.json``.
        max_clips: Take this many clips, the first ones, at most.
        max_dropped_share: More clips without use (damaged, without label, twice) than this are an error.
        nj: Shards that are read side by side.

    Returns:
        One line on what was kept.

    Raises:
        DataError: Too many clips are of no use; the reasons lie in ``<folder>.shard_report.json``.
    """
    folder = Path(folder)
    video: dict[str, Path] = {}
    text: dict[str, str] = {}
    dropped: dict[str, tuple[str, str]] = {}
    for name, shards in sources.items():
        left = None if max_clips is None else max_clips - len(video)
        for unpacked in _unpack_all(name, shards, Path(clips_dir), left, nj):
            dropped |= unpacked.dropped
            for utt, path in unpacked.video.items():
                if max_clips is not None and len(video) >= max_clips:
                    break
                if utt in video:
                    dropped[f"{utt} ({path.parent.name})"] = ("duplicate", f"also in {video[utt].parent.name}")
                    continue
                video[utt], text[utt] = path, unpacked.text[utt]
        dropped |= {f"{name}-{bad}": ("damaged", reason) for bad, reason in shards.skipped.items()}
    drops = Drops(len(video) + len(dropped))
    for utt, (reason, detail) in dropped.items():
        drops.add(utt, reason, detail)
    failed_report = folder.with_name(folder.name + ".shard_report.json")
    failed_report.unlink(missing_ok=True)
    if drops.share > max_dropped_share or not video:
        write_json(failed_report, drops.summary(), sort_keys=True)
        drops.check(max_dropped_share, failed_report)
    remove_leftovers(folder)
    with atomic_folder(folder) as temporary:
        data = DataDir(temporary)
        data.write("video.scp", {utt: path.resolve() for utt, path in video.items()})
        data.write("text", text)
        data.write("utt2spk", {utt: utt for utt in video})
        data.write_streams([("video.scp", "mouth", "video_rgb"), ("text", "text", "text")])
        data.write_meta({"fps": 25, "licence": "of the data set", "description": description})
        write_json(temporary / "shard_report.json", drops.summary(), sort_keys=True)
    return drops.one_line()


def _unpack_all(name: str, shards: AVShards, clips_dir: Path, limit: int | None, nj: int) -> list[_Unpacked]:
    """Unpack shards in their order, as many as are needed for ``limit`` clips."""
    total = len(shards.shards)
    title = f"unpack {name} {shards.split}"
    if limit is not None:
        found: list[_Unpacked] = []
        for index in range(total):
            have = sum(len(each.video) for each in found)
            if have >= limit:
                break
            found.append(_unpack(name, shards, index, clips_dir, limit - have))
        return found
    with ThreadPoolExecutor(max(1, nj)) as pool:
        jobs = pool.map(lambda index: _unpack(name, shards, index, clips_dir, None), range(total))
        return list(progress(jobs, total, title, unit="shard"))


def _unpack(name: str, shards: AVShards, index: int, clips_dir: Path, limit: int | None) -> _Unpacked:
    shard = re.sub(r"\.(tar(\.gz)?|tgz|parquet|arrow)$", "", shards.shards[index]).replace("/", "_")
    unpacked = _Unpacked()
    for sample, _ in shards.read_shard(index):
        utt = utterance_id(name, sample.sample_id)
        if not sample.video or not sample.label.split():
            unpacked.dropped[utt] = ("no_label" if sample.video else "no_clip", f"in {shards.shards[index]}")
        elif utt in unpacked.video:
            unpacked.dropped[f"{utt} (again)"] = ("duplicate", f"in {shards.shards[index]}")
        else:
            unpacked.video[utt] = _write_clip(clips_dir / name / shard / f"{utt}.mp4", sample)
            unpacked.text[utt] = " ".join(sample.label.split())
        if limit is not None and len(unpacked.video) >= limit:
            break
    return unpacked


def _write_clip(path: Path, sample: ShardSample) -> Path:
    """Write the bytes of a clip, whole or not at all; without a sync for each of a million files."""
    if path.is_file() and path.stat().st_size == len(sample.video):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(sample.video)
    os.replace(temporary, path)
    return path

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What a codec is compared with: the sound that was encoded, as it is, and the same recordings through Opus.

Both depend on the test set alone, so that all experiments of a recipe share them: ``<cache>/<set>/input`` and
``<cache>/<set>/opus_<rate>kbps`` hold sound and scores with a digest of all that they were made from, and are made
again when any of it changes.
"""

import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from espnet_av.codec.metrics import PLCMOS_SEED
from espnet_av.codec.opus import SYSTEM, has_opus, opus_version, write_opus_set
from espnet_av.codec.scoring import (
    ScoredSet,
    ScoreItem,
    ScoreOptions,
    read_references,
    read_set,
    read_texts,
    score_files,
    set_row,
    spread,
    write_set,
)
from espnet_av.data.data_dir import DataDir, write_scp
from espnet_av.utils.folders import atomic_folder

logger = logging.getLogger(__name__)
INPUT = "input"
FORMAT = 1  # of the cache; another number makes everything again
PACKAGES = (
    "numpy",
    "scipy",
    "pesq",
    "pystoi",
    "speechmos",
    "onnxruntime",
    "visqol-python",
    "ai-edge-litert",
    "librosa",
)


def score_anchors(
    data_dir: str | Path, options: ScoreOptions, cache_dir: str | Path, *, nj: int = 1
) -> list[ScoredSet]:
    """Score the input of a test set and what Opus makes of it.

    Args:
        data_dir: Data folder with ``wav.scp`` (what is encoded) and maybe ``reference.scp``.
        options: How to score, and which anchors.
        cache_dir: Where sound and scores are kept.
        nj: Number of processes.

    Returns:
        The sets, the input first, then Opus by rising bit rate. Without libopus there are none of it, with a warning.
    """
    data = DataDir(data_dir)
    references = read_references(data_dir)
    inputs = data.read("wav.scp") if data.has("wav.scp") else references
    uids = spread(sorted(references), options.max_utts)
    cache = Path(cache_dir) / Path(data_dir).name
    found = []
    if options.score_input:
        items = [ScoreItem(uid, inputs[uid], references[uid]) for uid in uids if uid in inputs]
        found.append(_score(items, data_dir, cache / INPUT, options, INPUT, None, nj))
    if options.opus_kbps and not has_opus():
        logger.warning("no Opus anchor: PyAV was built without libopus")
        return found
    for kbps in options.opus_kbps:
        folder = cache / f"opus_{kbps:g}kbps"
        sources = [(uid, inputs[uid]) for uid in uids if uid in inputs]
        paths, measured = _opus_files(sources, folder, options.sample_rate, kbps)
        items = [ScoreItem(uid, paths[uid], references[uid]) for uid in paths]
        scored = _score(items, data_dir, folder, options, SYSTEM, kbps, nj)
        scored.row["measured_kbps"] = measured
        found.append(scored)
    return found


def _opus_files(
    sources: Sequence[tuple[str, str]], folder: Path, sample_rate: int, kbps: float
) -> tuple[dict[str, str], float]:
    """Return id -> decoded file and the measured bit rate; encodes again only when something changed."""
    digest = digest_of(
        {"sources": [_stamp(path) for item in sources for path in item], "rate": sample_rate, "kbps": kbps}
    )
    facts_path = folder / "opus.json"
    facts = json.loads(facts_path.read_text(encoding="utf-8")) if facts_path.is_file() else {}
    if facts.get("digest") != digest:
        with atomic_folder(folder) as filled:
            made = write_opus_set(sources, filled, sample_rate, kbps)
            facts = {"digest": digest, "kbps": made["kbps"], "wanted_kbps": kbps, "encoder": opus_version()}
            write_scp(filled / "wav" / "wav.scp", {uid: str(folder / "wav" / f"{uid}.wav") for uid, _ in sources})
            (filled / "opus.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    return {uid: str(folder / "wav" / f"{uid}.wav") for uid, _ in sources}, float(facts["kbps"])


def _score(
    items: Sequence[ScoreItem],
    data_dir: str | Path,
    folder: Path,
    options: ScoreOptions,
    system: str,
    kbps: float | None,
    nj: int,
) -> ScoredSet:
    texts = read_texts(data_dir)
    settings = {
        "files": [[item.uid, _stamp(item.estimate), _stamp(item.reference)] for item in items],
        "metrics": list(options.metrics),
        "versa": [dict(entry) for entry in options.versa_metrics] if options.versa != "off" else None,
        "asr": [options.asr, [texts.get(item.uid) for item in items]] if options.asr else None,
        "draws": [options.num_resamples, options.seed],
        "sample_rate": options.sample_rate,
    }
    digest = digest_of(settings)
    name = Path(data_dir).name
    kept = read_set(folder)
    if kept is not None and kept[1] == digest:
        logger.info("%s, %s: scores taken from %s", name, system, folder)
        return kept[0]
    title = f"{name}, {system}" + (f" {kbps:g} kbps" if kbps is not None else "")
    utterances, skipped = score_files(items, options, texts=texts, title=title, nj=nj)
    row = {"set": name, "system": system, "bitrate_kbps": kbps, "n_missing": 0}
    row |= set_row(utterances, options, skipped)
    scored = ScoredSet(row, utterances)
    write_set(scored, folder, digest)
    return scored


def digest_of(content: Mapping[str, object]) -> str:
    """Return 16 hex digits of settings, together with the versions of what scores and encodes."""
    versions = {name: _version(name) for name in PACKAGES}
    whole = {**content, "format": FORMAT, "versions": versions, "opus": opus_version(), "raters": PLCMOS_SEED}
    return hashlib.sha256(json.dumps(whole, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _stamp(path: str | None) -> list[object] | None:
    """Return what changes when a file does; of what is no file its text."""
    if path is None or not Path(path).is_file():
        return [path]
    state = Path(path).stat()
    return [str(path), state.st_size, state.st_mtime_ns]

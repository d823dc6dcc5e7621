# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What an experiment folder records about how its numbers came about: data, code, configuration, training, seed, ...

Only what was recorded when the experiment ran counts, apart from transcripts, which are read where the data folder is
still there. What is not recorded has no fact, and a comparison says so.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from espnet_av.report.results import RESULTS_JSON, read_results
from espnet_av.report.systems import System, system_of
from espnet_av.train.provenance import UNCOUNTED_KEYS, is_secret, scrub
from espnet_av.utils.errors import MissingDataError, describe
from espnet_av.utils.experiment import read_config, read_json, read_json_lines, read_stages

logger = logging.getLogger(__name__)
AREAS = ("data", "code", "config", "training", "seed", "decoding", "scoring", "environment")
#: Keys of the configuration that are compared elsewhere or name folders of the run itself.
ELSEWHERE = frozenset({"seed", "train_shape_file", "valid_shape_file", "output_dir", "separators"})
DATA_KEYS = ("train_data_path_and_name_and_type", "valid_data_path_and_name_and_type")
#: What is measured, where something lies, or how it is told; everything else of ``infer.json`` is a setting.
MEASURED = frozenset(
    "decode_sec audio_sec rtf peak_rss_mb command commit num_utterances num_seams mean_seam_db worst_seam_db device "
    "set num_over date versions seconds n_utts num_mixtures num_done checkpoint_digest compute_sec wall_sec".split()
)
SCORING_KEYS = (
    *("normalization", "metrics", "sample_rate", "max_utts", "silent_estimate_db", "options", "dataset", "bootstrap"),
    "model",
)
LONG_LIST = 20  # entries of a value that are compared by digest


@dataclass(frozen=True)
class Fact:
    """One thing that is recorded.

    Attributes:
        area: One of :data:`AREAS`.
        name: What it is, e.g. ``optim_conf.lr``.
        value: Plain value; equal values mean that nothing differs.
        shown: The same for people.
        ids: Utterances behind a digest, to tell how many two runs share.
    """

    area: str
    name: str
    value: Any
    shown: str
    ids: frozenset[str] | None = field(default=None, repr=False, compare=False)


class Run:
    """An experiment to compare.

    Args:
        exp_dir: Experiment folder.

    Raises:
        MissingDataError: It is not a folder, or neither trained nor scored.
        DataError: A file that is there is broken.
    """

    def __init__(self, exp_dir: str | Path) -> None:
        self.exp_dir = Path(exp_dir)
        if not self.exp_dir.is_dir():
            raise MissingDataError(describe(f"no experiment: {exp_dir} is not a folder", fix="pass folders of stage 5"))
        self.config = read_config(self.exp_dir)
        self.results = read_results(self.exp_dir) if (self.exp_dir / RESULTS_JSON).is_file() else None
        if self.config is None and self.results is None:
            raise MissingDataError(
                describe(f"{exp_dir} has neither config.yaml nor {RESULTS_JSON}", fix="pass folders of stage 5")
            )
        self.history = read_json_lines(self.exp_dir / "history.jsonl")

    @property
    def name(self) -> str:
        """Name of the experiment folder."""
        return self.exp_dir.resolve().name

    @cached_property
    def system(self) -> System:
        """The task."""
        return system_of(self.config, self.results)

    @cached_property
    def facts(self) -> dict[tuple[str, str], Fact]:
        """Everything that is recorded, by area and name."""
        parts = (self._data(), self._code(), self._config(), self._training(), self._decoding(), self._scoring())
        found = [fact for part in (*parts, self._environment()) for fact in part]
        return {(fact.area, fact.name): fact for fact in found}

    def _data(self) -> Iterator[Fact]:
        for part in ("train", "valid"):
            files = sorted((self.exp_dir / "stats" / part).glob("*_shape"))
            if files:
                tables = [dict(line.split(maxsplit=1) for line in _lines(path)) for path in files]
                yield _ids_fact(f"{part}: clips", set(tables[0]))
                yield Fact("data", f"{part}: lengths", _digest(tables), f"digest {_digest(tables)}")
            digests = (self.config or {}).get("data_digests")
            read = dict(flatten(digests) if isinstance(digests, Mapping) else ()).get
            if read(f"{part}.ids") and not files:
                shown = f"{read(f'{part}.clips')}, digest {read(f'{part}.ids')}"
                yield Fact("data", f"{part}: clips", read(f"{part}.ids"), shown)
            if read(f"{part}.tables"):
                yield Fact("data", f"{part}: data read", read(f"{part}.tables"), f"digest {read(f'{part}.tables')}")
        for key in DATA_KEYS:
            for path, name, kind in (self.config or {}).get(key) or ():
                place = self._find(path) if kind == "text" else None
                if place is not None:
                    value = _digest(_lines(place))
                    yield Fact(
                        "data", f"{key.split('_')[0]}: {name} now in {Path(path).name}", value, f"digest {value}"
                    )
        for row in (self.results or {}).get("rows") or ():
            if row.get("data_digest"):
                yield Fact("data", f"{row['set']}: references", row["data_digest"], f"digest {row['data_digest']}")
            count = next((row[name] for name in ("n_utts", "n_mixtures", "num_episodes") if row.get(name)), None)
            if count is not None:
                yield Fact("data", f"{row['set']}: scored items", count, str(count))
        sets = sorted({row["set"] for row in (self.results or {}).get("rows") or ()})
        if sets:
            yield Fact("data", "test sets", sets, ", ".join(sets))

    def _code(self) -> Iterator[Fact]:
        trained = (self.config or {}).get("git_commit") or (self.results or {}).get("train_commit")
        versions = (self.results or {}).get("versions") or {}
        for name, value in (
            ("commit of the training", trained),
            ("commit of the scoring", (self.results or {}).get("commit")),
            ("version of the training", (self.config or {}).get("espnet_av_version")),
            ("version of the scoring", versions.get("espnet_av")),
        ):
            if value:
                yield Fact("code", name, value, str(value))

    def _config(self) -> Iterator[Fact]:
        counted = {key: value for key, value in (self.config or {}).items() if key not in UNCOUNTED_KEYS | ELSEWHERE}
        for name, value in flatten(counted):
            plain = self._without_places(value)
            yield Fact("config", name, plain, "***" if is_secret(name.rpartition(".")[2]) else _short(plain))
        if self.config and "seed" in self.config:
            yield Fact("seed", "seed", self.config["seed"], str(self.config["seed"]))

    def _training(self) -> Iterator[Fact]:
        epochs = {item["epoch"] for item in self.history if "epoch" in item}
        if epochs:
            yield Fact("training", "epochs done", len(epochs), str(len(epochs)))
            steps = self.history[-1].get("steps")
            if isinstance(steps, int):
                yield Fact("training", "steps done", steps, str(steps))
        for policy in sorted(self.exp_dir.glob("policy/*_seed*/history.jsonl")):
            rows = read_json_lines(policy)
            if rows:
                updates = rows[-1].get("update")
                yield Fact("training", f"{policy.parent.name}: updates", updates, str(updates))

    def _decoding(self) -> Iterator[Fact]:
        settings: dict[str, set[str]] = {}
        for path in sorted({*self.exp_dir.glob("decode/*/*/infer.json"), *self.exp_dir.glob("*/*/infer.json")}):
            content = read_json(path)
            for name, value in content.items() if isinstance(content, Mapping) else ():
                if name not in MEASURED and isinstance(value, (str, int, float, bool)):
                    settings.setdefault(name, set()).add(str(self._without_places(value)))
        for name, values in sorted(settings.items()):
            yield Fact("decoding", name, sorted(values), ", ".join(sorted(values)))

    def _scoring(self) -> Iterator[Fact]:
        results = self.results or {}
        for name, value in flatten({key: results[key] for key in SCORING_KEYS if key in results}):
            yield Fact("scoring", name, value, _short(value))
        rows = results.get("rows") or ()
        if rows:
            missing = sum(row.get("n_missing") or 0 for row in rows)
            yield Fact("scoring", "missing results", missing, str(missing))
        permutations = sorted({str(row["permutation"]) for row in rows if row.get("permutation")})
        if permutations:
            yield Fact("scoring", "order of voices", permutations, ", ".join(permutations))

    def _environment(self) -> Iterator[Fact]:
        for name, value in ((self.results or {}).get("versions") or {}).items():
            if name != "espnet_av":
                yield Fact("environment", name, value, str(value))
        devices = {row.get("device") for row in (self.results or {}).get("rows") or () if row.get("device")}
        if devices:
            yield Fact("environment", "device of the decoding", sorted(devices), ", ".join(sorted(devices)))
        if self.config and "ngpu" in self.config:
            yield Fact("environment", "GPUs of the training", self.config["ngpu"], str(self.config["ngpu"]))
        asked = dict(line.partition("=")[::2] for line in _lines(self.exp_dir / "recipe.txt"))
        if "nproc" in asked:
            yield Fact("environment", "training processes", asked["nproc"], asked["nproc"])
        hosts = sorted({str(item["host"]) for item in read_stages(self.exp_dir) if item.get("host")})
        if hosts:
            yield Fact("environment", "hosts", hosts, ", ".join(hosts))

    def _find(self, path: str) -> Path | None:
        """Find a file that the configuration names relative to the recipe."""
        places = (Path(path), *(parent / path for parent in list(self.exp_dir.resolve().parents)[:3]))
        return next((place for place in places[1:] if place.is_file()), places[0] if places[0].is_file() else None)

    def _without_places(self, value: Any) -> Any:
        """Take the folder of this experiment out of a value, so that only what else differs is left."""
        if isinstance(value, str):
            place = str((self.config or {}).get("output_dir") or "")
            text = value.replace(place, "<exp>") if place else value
            return scrub(text.replace(str(self.exp_dir.resolve()), "<exp>"))
        if isinstance(value, (list, tuple)):
            return [self._without_places(item) for item in value]
        return value


def flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with dotted names; lists are leaves, empty mappings too.

    >>> dict(flatten({"a": 1, "b": {"c": [2], "d": {}}}))
    {'a': 1, 'b.c': [2], 'b.d': {}}
    """
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{name}.")
        else:
            yield name, list(value) if isinstance(value, tuple) else value


def default_place(exp_dir: str | Path, name: str) -> Path:
    """Return the file or folder of a recipe that belongs to an experiment, e.g. ``dump`` or ``conf/published.yaml``.

    Args:
        exp_dir: ``<recipe>/exp/<tag>`` or ``<recipe>/debug/exp/<tag>``.
        name: Path below the recipe.

    Returns:
        The nearest one; the path below the working folder where there is none.
    """
    above = list(Path(exp_dir).resolve().parents)[1:3]
    found = next((folder / name for folder in above if (folder / name).exists()), Path(name))
    return found.relative_to(Path.cwd()) if found.is_relative_to(Path.cwd()) else found


def _ids_fact(name: str, ids: Iterable[str]) -> Fact:
    kept = frozenset(ids)
    value = _digest(sorted(kept))
    return Fact("data", name, value, f"{len(kept)}, digest {value}", kept)


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > LONG_LIST:
        return f"{len(value)} entries, digest {_digest(value)}"
    return scrub(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))

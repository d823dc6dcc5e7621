# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What lies in an experiment folder: hypotheses, configuration, training history, stage times, JSON files."""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.untrusted import parse_json, read_yaml

logger = logging.getLogger(__name__)
MODALITY_ORDER = ("av", "audio", "video")
_PARTS = (("train",), ("valid", "dev"))  # first parts of the names of data sets, in reading order


@dataclass(frozen=True)
class Decode:
    """Hypotheses of one test set in one modality; ``text`` is the file that holds them."""

    modality: str
    set_name: str
    text: Path

    @property
    def folder(self) -> Path:
        """Folder of the hypotheses, where ``infer.json`` may lie too."""
        return self.text.parent


def read_json(path: str | Path, default: Any = None) -> Any:
    """Read a JSON file; ``default`` where it is absent.

    Raises:
        DataError: The file is no JSON.
    """
    path = Path(path)
    if not path.is_file():
        return default
    try:
        return parse_json(path.read_bytes())
    except ValueError as error:
        raise DataError(
            describe(f"{path} is not valid JSON ({error})", fix="run the stage that writes it again")
        ) from error


def write_json(path: str | Path, content: Any, *, sort_keys: bool = False) -> Path:
    """Write JSON, whole or not at all, and return where; NaN and infinity become null."""
    with atomic_write(path) as stream:
        json.dump(without_nan(content), stream, indent=2, sort_keys=sort_keys, ensure_ascii=False, allow_nan=False)
        stream.write("\n")
    return Path(path)


def without_nan(content: Any) -> Any:
    """Return ``content`` with every float that JSON cannot hold replaced by None."""
    if isinstance(content, Mapping):
        return {str(key): without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def recipe_path(path: str | Path, exp_dir: str | Path | None) -> Path:
    """Return a file or folder that a configuration names relative to its recipe, whatever the working folder is.

    Args:
        path: As the configuration has it.
        exp_dir: Experiment folder, which lies below the recipe; None: only the working folder is looked at.
    """
    above = list(Path(exp_dir).resolve().parents)[:4] if exp_dir is not None else []
    return next((place for folder in above if (place := folder / path).exists()), Path(path))


def read_json_lines(path: str | Path) -> list[dict[str, Any]]:
    """Read one JSON object per line; an unfinished last line of a killed run is left out with a warning."""
    path = Path(path)
    if not path.is_file():
        return []
    items = []
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            item = parse_json(line)
        except ValueError as error:
            if number < len(lines):
                raise DataError(describe(f"{path} line {number} is not valid JSON ({error})")) from error
            logger.warning("%s: the last line is unfinished and left out", path)
            continue
        if isinstance(item, dict):
            items.append(item)
    return items


def read_config(exp_dir: str | Path) -> dict[str, Any] | None:
    """Read ``config.yaml`` of an experiment; None where there is none.

    Raises:
        DataError: The file is no YAML mapping of plain values.
    """
    path = Path(exp_dir) / "config.yaml"
    if not path.is_file():
        return None
    try:
        config = read_yaml(path)
    except yaml.YAMLError as error:
        raise DataError(describe(f"{path} is not plain YAML ({error})")) from error
    if not isinstance(config, dict):
        raise DataError(describe(f"{path} holds no mapping", got=type(config).__name__, allowed="key: value"))
    return config


def find_decodes(decode_dir: str | Path) -> list[Decode]:
    """Find ``<modality>/<set>/text`` below a decode folder, sets in reading order, av before audio before video."""
    found = [
        Decode(modality=path.parts[-3], set_name=path.parts[-2], text=path)
        for path in Path(decode_dir).glob("*/*/text")
    ]
    return sorted(found, key=lambda item: (set_order(item.set_name), modality_order(item.modality)))


def read_stages(exp_dir: str | Path) -> list[dict[str, Any]]:
    """Read ``stages.jsonl``: the last line of each stage, ordered by stage number."""
    last = {str(item.get("stage")): item for item in read_json_lines(Path(exp_dir) / "stages.jsonl")}
    return [last[key] for key in sorted(last, key=_stage_key)]


def modality_order(modality: str) -> tuple[int, str]:
    """Sort key of a modality: av, audio, video, then others by name."""
    known = modality in MODALITY_ORDER
    return (MODALITY_ORDER.index(modality) if known else len(MODALITY_ORDER), modality)


@dataclass(frozen=True)
class NoiseCondition:
    """What the name of a noisy test set says: the clean set, the number of interferers and the ratio in dB."""

    base: str
    num_interferers: int
    snr_db: float


def noise_condition(set_name: str) -> NoiseCondition | None:
    """Read ``<base>_snr_<n5|0|5|..>_interferer_<n>``; None for other names.

    >>> noise_condition("test_seen_snr_n5_interferer_1")
    NoiseCondition(base='test_seen', num_interferers=1, snr_db=-5.0)
    """
    head, found, tail = set_name.rpartition("_snr_")
    level, with_interferers, count = tail.partition("_interferer_")
    if not (found and with_interferers and count.isdigit()):
        return None
    sign, digits = (-1.0, level[1:]) if level[:1] in ("n", "-") else (1.0, level)
    return NoiseCondition(head, int(count), sign * float(digits)) if digits.isdigit() else None


def set_order(set_name: str) -> tuple[Any, ...]:
    """Sort key of a data set: training, validation, test; the clean set first, then interferers, then falling noise."""
    noise = noise_condition(set_name)
    base = noise.base if noise else set_name
    part = next((number for number, names in enumerate(_PARTS) if base.startswith(names)), len(_PARTS))
    if noise is None:
        return (part, base, 0, -math.inf, set_name)
    return (part, base, noise.num_interferers, noise.snr_db, set_name)


def iterate_data_json(dump_dir: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (set name, content of ``data.json``) of the data folders below ``dump_dir``."""
    for path in sorted(Path(dump_dir).glob("*/data.json")):
        content = read_json(path)
        if isinstance(content, dict):
            yield path.parent.name, content


def _stage_key(stage: str) -> tuple[int, str]:
    digits = "".join(character for character in stage if character.isdigit())
    return (int(digits) if digits else 10**6, stage)

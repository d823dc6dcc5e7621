# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Any recogniser by its path or hub name: our packed models and experiments, and published checkpoints as they are.

Published checkpoints hold no tokens. The SentencePiece model and its unit list (``unigram5000.model``,
``unigram5000_units.txt`` of the auto_avsr repository) are looked for beside the checkpoint and in the cache folder.
"""

import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.avsr.presets import refuse_model
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import sha256_file
from espnet_av.utils.hub import fetch_repository, split_source

if TYPE_CHECKING:
    from espnet_av.avsr.inference import AVSR

logger = logging.getLogger(__name__)
MODEL_TYPES = ("avsr_cocktail", "auto_avsr", "muavic_en")
KINDS = {"avsr_cocktail": "avsrcocktail", "auto_avsr": "auto_avsr"}  # names of the converter
MODEL_NAMES = {"avsr_cocktail": "avsr", "auto_avsr": "auto_avsr"}  # what ``model:`` of a configuration calls them
HUB_CHECKPOINTS = {"avsr_cocktail": "nguyenvulebinh/AVSRCocktail"}
LOCAL_CHECKPOINTS = {"auto_avsr": "auto_avsr/avsr_trlrwlrs2lrs3vox2avsp_base.pth"}  # below the cache folder
UNIGRAM_MODEL = "unigram5000.model"
UNIT_LIST = "unigram5000_units.txt"
TOKEN_MD5 = {UNIGRAM_MODEL: "f2f6e8407b86538cf0c635a534eda799", UNIT_LIST: "e652da86609085b8f77e5cffcd1943bd"}


@dataclass(frozen=True)
class RecogniserSpec:
    """A recogniser that can be loaded, here or in another process: calling it with a device does so.

    Attributes:
        folder: Folder with ``config.yaml``; None for a published checkpoint.
        weights: Weights file; None takes the best of the folder.
        model_type: ``avsr_cocktail`` or ``auto_avsr``.
        unigram_model: SentencePiece model of a published checkpoint.
        units: Unit list of a published checkpoint.
        beam_size: Hypotheses kept per step.
        ctc_weight: Weight of the CTC score, 0 to 1.
    """

    folder: Path | None
    weights: Path | None
    model_type: str
    unigram_model: Path | None = None
    units: Path | None = None
    beam_size: int = 3
    ctc_weight: float = 0.1

    def __call__(self, device: str = "auto") -> "AVSR":
        """Load it.

        Raises:
            DataError: A file is missing or damaged.
            CheckpointError: The weights are of another model.
        """
        from espnet_av.avsr.inference import AVSR

        options: dict[str, Any] = {"device": device, "beam_size": self.beam_size, "ctc_weight": self.ctc_weight}
        if self.folder is not None:
            return AVSR.from_pretrained(self.folder, weights=self.weights, **options)
        from espnet_av.avsr.published import load_recogniser

        kind = KINDS[self.model_type]
        return load_recogniser(kind, self.weights_file(), unigram_model=self.unigram_model, units=self.units, **options)

    def weights_file(self) -> Path:
        """Return the file that the weights are read from.

        Raises:
            UsageError: Neither a folder nor a file is named.
        """
        if self.folder is None:
            if self.weights is None:
                usage_error("a recogniser needs a folder or a weights file", got=None)
            return self.weights
        from espnet_av.avsr.inference import find_weights
        from espnet_av.utils.experiment import read_config

        return find_weights(self.folder, self.weights, (read_config(self.folder) or {}).get("best_model_criterion"))

    def describe(self) -> dict[str, Any]:
        """Return what identifies the model in reports: type, weights file and its digest."""
        path = self.weights_file()
        return {"model_type": self.model_type, "checkpoint": str(path), "checkpoint_sha256": sha256_file(path)}


def find_recogniser(
    source: str | os.PathLike | None,
    *,
    model_type: str = "avsr_cocktail",
    cache_dir: str | os.PathLike = "model-bin",
    unigram_model: str | os.PathLike | None = None,
    units: str | os.PathLike | None = None,
    beam_size: int = 3,
    ctc_weight: float = 0.1,
) -> RecogniserSpec:
    """Find a recogniser; downloads it where it is on the hub.

    Args:
        source: Folder of a packed model, an experiment or a download; a weights file; or ``organisation/name`` on the
            hub. None takes the published checkpoint of the model type.
        model_type: ``avsr_cocktail`` or ``auto_avsr``.
        cache_dir: Where models of the hub are kept, and where tokens and default checkpoints are looked for.
        unigram_model: SentencePiece model, for published checkpoints.
        units: Unit list, for published checkpoints.
        beam_size: Hypotheses kept per step.
        ctc_weight: Weight of the CTC score, 0 to 1.

    Raises:
        UsageError: The model type is unknown or cannot be evaluated, or the folder holds one of another type.
        MissingDataError: There is no such path and no such repository, or weights or tokens are missing.
        EnvironmentProblem: The hub cannot be reached.
    """
    check_model_type(model_type)
    options: dict[str, Any] = {"beam_size": beam_size, "ctc_weight": ctc_weight}
    path = locate(source, model_type, Path(cache_dir))
    folder = path if path.is_dir() else path.parent
    if (folder / "config.yaml").is_file():
        _check_configuration(folder / "config.yaml", model_type)
        return RecogniserSpec(folder, None if path.is_dir() else path, model_type, **options)
    from espnet_av.train.conversion import find_checkpoint

    weights = find_checkpoint(path)
    places = (folder, Path(cache_dir))
    model_path = _find_tokens("--unigram_model", UNIGRAM_MODEL, unigram_model, places)
    units_path = _find_tokens("--units", UNIT_LIST, units, places)
    return RecogniserSpec(None, weights, model_type, model_path, units_path, **options)


def check_model_type(model_type: str) -> None:
    """Refuse model types that cannot be evaluated.

    Raises:
        UsageError: With the reason.
    """
    if model_type == "muavic_en":
        refuse_model(model_type)
    if model_type not in KINDS:
        usage_error("unknown model type", got=model_type, allowed=MODEL_TYPES)


def locate(source: str | os.PathLike | None, model_type: str, cache_dir: Path) -> Path:
    """Return the local file or folder that a source means; arguments and errors as in :func:`find_recogniser`."""
    if source is None and model_type in LOCAL_CHECKPOINTS:
        path = cache_dir / LOCAL_CHECKPOINTS[model_type]
        if not path.is_file():
            fix = f"put it there, or pass --checkpoint_path; see the model zoo of {model_type}"
            raise MissingDataError(describe("no checkpoint", got=str(path), fix=fix))
        return path
    source = HUB_CHECKPOINTS[model_type] if source is None else os.fspath(source)
    path = Path(source).expanduser()
    if path.exists():
        return path
    if split_source(source) is None:
        allowed = "a folder, a weights file, or organisation/name on the hub"
        raise MissingDataError(describe("--checkpoint_path: no such file or folder", got=source, allowed=allowed))
    try:
        return fetch_repository(source, cache_dir)
    except DataError as error:
        raise MissingDataError(f"--checkpoint_path {source}: there is no such path here, and {error}") from error


def _check_configuration(path: Path, model_type: str) -> None:
    from espnet_av.utils.experiment import read_config

    name = (read_config(path.parent) or {}).get("model") or "avsr"
    if name in MODEL_NAMES.values() and name != MODEL_NAMES[model_type]:
        right = next(key for key, value in MODEL_NAMES.items() if value == name)
        usage_error(f"{path} describes another model", got=f"--model_type {model_type}", fix=f"--model_type {right}")


def _find_tokens(option: str, name: str, given: str | os.PathLike | None, places: tuple[Path, ...]) -> Path:
    if given is not None:
        if not Path(given).is_file():
            raise MissingDataError(describe(f"{option}: no such file", got=os.fspath(given)))
        return Path(given)
    beside = sorted(places[0].glob(f"*{'.model' if name == UNIGRAM_MODEL else 'units.txt'}"))
    if len(beside) == 1:
        return beside[0]
    for place in places:
        found = sorted(place.rglob(name)) if place.is_dir() else []
        if found:
            digest = hashlib.md5(found[0].read_bytes(), usedforsecurity=False).hexdigest()
            if digest != TOKEN_MD5[name]:
                logger.warning("%s is not the published file (md5 %s, not %s)", found[0], digest, TOKEN_MD5[name])
            return found[0]
    looked = ", ".join(map(str, places))
    fix = f"take {name} from the auto_avsr repository (folder spm) and pass {option} FILE, or put it beside the weights"
    raise MissingDataError(describe(f"the checkpoint needs {name}", got=f"not in {looked}", fix=fix))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Packing of a trained model into a folder that can be given away: weights, configuration, tokens, card, digests."""

import gzip
import json
import logging
import shutil
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import yaml

from espnet_av.report.licences import (
    DEFAULT_LICENCE,
    LedgerEntry,
    find_conflicts,
    ledger,
    trained_licences,
    unknown_licences,
    unknown_sets,
)
from espnet_av.report.model_card import model_card
from espnet_av.report.parts import part_licences, write_parts
from espnet_av.report.results import read_results
from espnet_av.report.sections import complexity_of_experiment
from espnet_av.report.systems import System, system_of
from espnet_av.train.loading import load_weights
from espnet_av.train.provenance import config_digest, package_versions, source_commit, utc_now, without_paths
from espnet_av.utils.errors import (
    CheckpointError,
    DataError,
    EnvironmentProblem,
    EspnetAVError,
    MissingDataError,
    UsageError,
    describe,
    usage_error,
)
from espnet_av.utils.experiment import read_config, read_json, without_nan, write_json
from espnet_av.utils.files import atomic_path, sha256_file
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.untrusted import parse_json

if TYPE_CHECKING:
    import torch

logger = logging.getLogger(__name__)
WEIGHTS, CONFIG, META, CARD, TOKENS, BPE_MODEL = (
    "model.safetensors",
    "config.yaml",
    "meta.json",
    "README.md",
    "tokens.txt",
    "bpe.model",
)
LIP_FRONT_END = "lip_front_end.safetensors"
# What is worth knowing of the training. Nothing else is packed beside what builds the model and prepares its input.
TRAINING_KEYS = (
    *("seed", "max_epoch", "max_steps", "batch_frames", "batch_size", "accum_grad", "grad_clip", "ema_decay"),
    *("amp_dtype", "optim", "optim_conf", "scheduler", "scheduler_conf", "best_model_criterion", "keep_nbest_models"),
)


class LicenceConflict(DataError):
    """The licences of the training data forbid what was asked for."""


@dataclass(frozen=True)
class PackOptions:
    """How to pack.

    Attributes:
        checkpoint: ``ave`` (average of the best epochs), ``best`` (best epoch) or the name of a file.
        licence: Licence of the packed weights; None takes ``Apache-2.0`` where the licences of all training data are
            known.
        name: Name of the model; None takes that of the experiment folder.
        archive: Also write ``<output_dir>.tar.gz``.
        lip_frontend: Of a separator: the lip-reading front end that goes into the pack, as
            :meth:`espnet_av.avss.lip_embedding.LipEmbedder.from_pretrained` takes it; None: users bring it.
        parts: Of a generator: folders of the further models that go into the pack, by the name of their folder there:
            ``vocoder``, ``text_to_tokens``, ``tokens``.
        extras: Small files that belong to it, by the name that they get there.
        facts: What ``meta.json`` says beside.
    """

    checkpoint: str = "ave"
    licence: str | None = None
    name: str | None = None
    archive: bool = False
    lip_frontend: str | None = None
    parts: Mapping[str, Path] = field(default_factory=dict)
    extras: Mapping[str, Path] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)


def pack_experiment(
    exp_dir: str | Path, output_dir: str | Path, dump_dir: str | Path | None = None, options: PackOptions | None = None
) -> Path:
    """Pack an experiment; the folder appears only when it is complete, and replaces an earlier pack.

    Args:
        exp_dir: Experiment folder of stages 5-7.
        output_dir: Folder to make.
        dump_dir: Data folders, for their licences where the configuration does not name them.
        options: How to pack.

    Returns:
        The folder.

    Raises:
        MissingDataError: There is no configuration or no checkpoint.
        LicenceConflict: The licences of the training data forbid it, or are not known and none was given.
        UsageError: ``output_dir`` holds something that is no pack, or the licence has no name.
        CheckpointError: The checkpoint is damaged or unsafe, or of another model.
    """
    exp_dir, output_dir, options = Path(exp_dir), Path(output_dir), options or PackOptions()
    config = read_config(exp_dir)
    if config is None:
        raise MissingDataError(describe(f"no {exp_dir / CONFIG}", fix="bash run.sh --stage 5 --stop_stage 5"))
    system = system_of(config, read_results(exp_dir) if (exp_dir / "results.json").is_file() else None)
    entries = [*ledger(config, dump_dir, exp_dir), *part_licences(options.parts)]
    options = replace(options, licence=choose_licence(entries, options.licence))
    refuse_foreign_folder(output_dir)
    checkpoint = choose_checkpoint(exp_dir, config, options.checkpoint)
    _warn_about_other_weights(exp_dir, checkpoint)
    with atomic_folder(output_dir) as folder:
        fill_pack(folder, exp_dir, config, checkpoint, entries, options, system)
        _refuse_other_weights(folder, system, checkpoint, exp_dir)
    if options.archive:
        write_archive(output_dir, output_dir.with_name(output_dir.name + ".tar.gz"))
    return output_dir


def fill_pack(
    folder: Path,
    exp_dir: Path,
    config: Mapping[str, Any],
    checkpoint: Path,
    entries: Sequence[LedgerEntry],
    options: PackOptions,
    system: System,
) -> dict[str, Any]:
    """Write all files of a pack into an empty folder and return what ``meta.json`` holds.

    Args:
        folder: The folder.
        exp_dir: Experiment folder, or that of a converted model.
        config: Its configuration.
        checkpoint: Its weights.
        entries: What it was trained on.
        options: How to pack.
        system: What it is.
    """
    weights = write_weights(load_weights(checkpoint), folder, checkpoint.name)
    _write_config(config, exp_dir, folder, system)
    meta = {
        **_describe(exp_dir, config, options, system),
        **_write_lip_front_end(config, options, folder),
        **write_parts(options.parts, options.extras, folder),
        **options.facts,
        "weights": weights,
        "licences": [asdict(entry) for entry in entries],
        "unknown_licences": unknown_licences(trained_licences(entries)),
    }
    return write_meta(folder, meta)


def write_meta(folder: Path, meta: Mapping[str, Any]) -> dict[str, Any]:
    """Write the card and ``meta.json`` with the digests of all files of a pack; return what it holds."""
    facts = {key: value for key, value in meta.items() if key != "files"}
    facts = json.loads(without_paths(json.dumps(without_nan(facts))))
    (folder / CARD).write_text(model_card(facts), encoding="utf-8")
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / META)
    facts["files"] = {path.relative_to(folder).as_posix(): sha256_file(path) for path in paths}
    write_json(folder / META, facts)
    return facts


def choose_checkpoint(exp_dir: Path, config: Mapping[str, Any], choice: str) -> Path:
    """Return the checkpoint to pack.

    ``ave`` is the average of the most epochs by the first criterion of the training, else the best epoch by it;
    ``best`` is the best epoch; anything else is the name of a file in the folder or a path.

    Raises:
        MissingDataError: There is none.
    """
    if system_of(config).name == "activesep" and choice in ("ave", "best"):
        choice = WEIGHTS  # those of the checkpoint that the search chose
    if choice not in ("ave", "best"):
        for path in (exp_dir / choice, Path(choice)):
            if path.is_file():
                return path
        raise MissingDataError(describe("no such checkpoint", got=choice, allowed=_checkpoint_names(exp_dir)))
    criteria = [".".join(map(str, item[:2])) for item in config.get("best_model_criterion") or ()]
    for prefix in (*criteria, "valid.*"):
        averages = sorted(exp_dir.glob(f"{prefix}.ave_*best.pth"), key=_average_size)
        best = sorted(exp_dir.glob(f"{prefix}.best.pth"))
        wanted = [*averages[-1:], *best] if choice == "ave" else best
        if wanted:
            if choice == "ave" and not averages:
                logger.warning("no averaged checkpoint in %s; packing %s", exp_dir, wanted[0].name)
            return wanted[0]
    raise MissingDataError(
        describe(
            f"no checkpoint to pack in {exp_dir}",
            got=_checkpoint_names(exp_dir) or "no .pth file",
            allowed="valid.*.ave_*best.pth or valid.*.best.pth",
            fix="bash run.sh --stage 5 --stop_stage 5",
        )
    )


def portable_config(
    config: Mapping[str, Any], token_list: Sequence[str] | None = None, system: System | None = None
) -> dict[str, Any]:
    """Return the part of a training configuration that goes with the weights, without paths of this machine.

    Args:
        config: The training configuration.
        token_list: The tokens, in the order of their ids, of a model that writes text.
        system: What it is; None: what the configuration tells.

    Raises:
        DataError: A value that must be kept is a path of this machine.
    """
    system = system or system_of(config)
    kept = {key: config[key] for key in (*system.model_keys, *TRAINING_KEYS) if config.get(key) is not None}
    if system.has_tokens:
        kept["token_list"] = list(token_list or ())
        kept["bpemodel"] = BPE_MODEL if config.get("bpemodel") else None
    preprocess = kept.get("preprocessor_conf")
    if isinstance(preprocess, Mapping):
        kept["preprocessor_conf"] = {key: value for key, value in preprocess.items() if key not in system.training_only}
    for key, value in kept.items():
        if key != "token_list":
            _refuse_paths(key, value)
    return kept


def read_meta(folder: str | Path) -> dict[str, Any]:
    """Return ``meta.json`` of a folder; empty where there is none or it holds no mapping.

    Raises:
        DataError: It is damaged.
    """
    path = Path(folder) / META
    try:
        meta = parse_json(path.read_bytes()) if path.is_file() else None
    except ValueError as error:
        raise DataError(
            describe(f"{path} is not valid JSON ({error})", fix="pack or download the model again")
        ) from error
    return dict(meta) if isinstance(meta, Mapping) else {}


def verify_pack(folder: str | Path, *, weights_only: bool = False) -> dict[str, Any]:
    """Check the files of a pack against their digests and return ``meta.json``.

    Args:
        folder: The pack.
        weights_only: Only weights, not the texts beside them, which their owner may edit.

    Raises:
        MissingDataError: It is no pack, or a file is absent.
        DataError: A file is not what was packed, or ``meta.json`` is damaged.
    """
    folder = Path(folder)
    meta = read_meta(folder)
    if not isinstance(meta.get("files"), Mapping):
        raise MissingDataError(describe(f"{folder} is no packed model: it has no usable {META}"))
    for name, digest in meta["files"].items():
        if weights_only and not str(name).endswith(Path(WEIGHTS).suffix):
            continue
        path = folder / _name_inside(str(name), folder)
        if not path.is_file():
            raise MissingDataError(describe(f"{path} is missing", fix="pack or download the model again"))
        if sha256_file(path) != digest:
            raise DataError(describe(f"{path} is not what was packed", fix="pack or download the model again"))
    return meta


def write_archive(folder: str | Path, archive: str | Path) -> Path:
    """Write a folder as ``.tar.gz``; equal folders give equal bytes (sorted names, no times, no owners)."""
    folder = Path(folder)
    with atomic_path(archive) as temporary:
        with (
            open(temporary, "wb") as raw,
            gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for path in sorted(path for path in folder.rglob("*") if path.is_file()):
                entry = tarfile.TarInfo(f"{folder.name}/{path.relative_to(folder).as_posix()}")
                entry.size, entry.mode = path.stat().st_size, 0o644
                with path.open("rb") as stream:
                    tar.addfile(entry, stream)
    return Path(archive)


def choose_licence(entries: Sequence[LedgerEntry], licence: str | None) -> str:
    """Return the licence of weights: the one that was asked for, else ``Apache-2.0``.

    Args:
        entries: What the weights were trained on.
        licence: The one asked for.

    Raises:
        UsageError: It has no name.
        LicenceConflict: The data forbid it, or none was asked for and what the data allow is not known.
    """
    require_name(licence)
    unknown = unknown_sets(entries)
    if licence is None and (unknown or not trained_licences(entries)):
        raise LicenceConflict(
            describe(
                "the licence of the training data is not known, and none was given for the weights",
                got="; ".join(unknown) or "no training data",
                fix="state it in data.json, or pass --licence NAME ('not redistributable': for own use)",
            )
        )
    refuse_conflicts(trained_licences(entries), licence or DEFAULT_LICENCE)
    for text in unknown:
        logger.warning("the licence of training data is not known: %s; check it before you pass the model on", text)
    return licence or DEFAULT_LICENCE


def require_name(licence: str | None) -> None:
    """Raise :class:`UsageError` where a licence is given without a name."""
    if licence is not None and not licence.strip():
        usage_error("a licence needs a name", got=licence, allowed="e.g. Apache-2.0, CC-BY-NC-4.0, not redistributable")


def refuse_conflicts(licences: Sequence[str], model_licence: str) -> None:
    """Raise :class:`LicenceConflict` where weights of data with these licences may not have that licence."""
    conflicts = find_conflicts(licences, model_licence)
    if conflicts:
        raise LicenceConflict(
            describe(
                f"the model cannot be packed under {model_licence}: {'; '.join(conflicts)}",
                fix="pass a --licence that the data allow ('not redistributable': for own use), or train on other data",
            )
        )


def refuse_foreign_folder(output_dir: Path) -> None:
    """Raise :class:`UsageError` where a folder holds something that is no pack."""
    if output_dir.exists() and (
        not output_dir.is_dir() or (any(output_dir.iterdir()) and not (output_dir / META).is_file())
    ):
        raise UsageError(
            describe(f"{output_dir} holds something that is no packed model", fix="pass another --output_dir")
        )


def _warn_about_other_weights(exp_dir: Path, checkpoint: Path) -> None:
    for path in sorted((exp_dir / "decode").glob("*/*/infer.json")):
        used = (read_json(path) or {}).get("checkpoint")
        if used and not _same_weights(exp_dir / Path(str(used)).name, checkpoint):
            name = path.parent.relative_to(exp_dir / "decode").as_posix()
            logger.warning("packing %s, but %s was decoded with %s", checkpoint.name, name, used)
            return


def _refuse_other_weights(folder: Path, system: System, checkpoint: Path, exp_dir: Path) -> None:
    """Load a pack that was just written; raise :class:`CheckpointError` where its weights are of another model."""
    try:
        system.load_model_class().from_pretrained(folder)
    except CheckpointError as error:
        what = f"{checkpoint} is of another model than {exp_dir / CONFIG}: {str(error).replace(f'{folder}/', '')}"
        raise CheckpointError(describe(what, fix="pass a --checkpoint of this experiment")) from error
    except (ImportError, EnvironmentProblem) as error:
        logger.warning("the pack was not tried out: %s", error)


def _same_weights(used: Path, checkpoint: Path) -> bool:
    """Tell whether two files are one, or hold the same: the average of the best epochs has two names."""
    if used.name == checkpoint.name:
        return True
    if not used.is_file() or used.stat().st_size != checkpoint.stat().st_size:
        return False
    return used.samefile(checkpoint) or sha256_file(used) == sha256_file(checkpoint)


def write_weights(state: Mapping[str, "torch.Tensor"], folder: Path, source: str) -> dict[str, Any]:
    """Write the weights of a pack and return what ``meta.json`` says of them; ``source`` is where they come from."""
    from safetensors.torch import save_file

    state = _unshared(state)
    path = folder / WEIGHTS
    path.touch()  # with the usual permissions, which the library would make private
    mode = path.stat().st_mode
    save_file(state, str(path), metadata={"format": "pt"})  # one entry: the library shuffles several
    path.chmod(mode)
    return {
        "file": WEIGHTS,
        "source": source,
        "sha256": sha256_file(path),
        "bytes": path.stat().st_size,
        "num_tensors": len(state),
        "num_values": sum(value.numel() for value in state.values()),
    }


def _unshared(state: Mapping[str, "torch.Tensor"]) -> dict[str, "torch.Tensor"]:
    """Give every tensor memory of its own, which the file format asks for."""
    seen: set[int] = set()
    own = {}
    for key, value in sorted(state.items()):
        value = value.detach().contiguous()
        pointer = value.untyped_storage().data_ptr()
        whole = value.untyped_storage().nbytes() == value.numel() * value.element_size()
        own[key] = value if whole and pointer not in seen else value.clone()
        seen.add(pointer)
    return own


def _write_config(config: Mapping[str, Any], exp_dir: Path, folder: Path, system: System) -> None:
    tokens = _write_tokens(config, exp_dir, folder) if system.has_tokens else None
    text = yaml.safe_dump(portable_config(config, tokens, system), sort_keys=True, allow_unicode=True)
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _write_tokens(config: Mapping[str, Any], exp_dir: Path, folder: Path) -> list[str]:
    tokens = config.get("token_list")
    if isinstance(tokens, str):
        tokens = _asset(tokens, exp_dir, "token_list").read_text(encoding="utf-8").removesuffix("\n").split("\n")
    if not tokens:
        raise DataError(describe(f"{exp_dir / CONFIG} has no token_list", fix="train the model again"))
    (folder / TOKENS).write_text("".join(f"{token}\n" for token in tokens), encoding="utf-8")
    if config.get("bpemodel"):
        shutil.copyfile(_asset(config["bpemodel"], exp_dir, "bpemodel"), folder / BPE_MODEL)
    return list(tokens)


def _write_lip_front_end(config: Mapping[str, Any], options: PackOptions, folder: Path) -> dict[str, Any]:
    """Return what the model says of its lips, and put the front end into the pack where one is given."""
    if not config.get("lips"):
        if options.lip_frontend:
            raise UsageError(describe("--lip_frontend: the model does not look at lips", got=options.lip_frontend))
        return {}
    if not options.lip_frontend:
        return {"lips": config["lips"]}
    from espnet_av.avss.lip_embedding import LipEmbedder
    from espnet_av.avss.lips import LipDescription, require_same_front_end

    source = options.lip_frontend
    above = Path(source.partition(":")[2] or source)
    for path in (above / META, above / "pack" / META, above.parent / META):  # a pack of ours names its licence
        licence = (read_json(path) or {}).get("licence")
        if licence:
            refuse_conflicts([licence], str(options.licence))
            break
    embedder = LipEmbedder.from_pretrained(source)
    require_same_front_end(LipDescription.from_dict(config["lips"], CONFIG), embedder.describe(), source)
    embedder.save(folder / LIP_FRONT_END)
    return {"lips": config["lips"], "lip_front_end": LIP_FRONT_END}


def _asset(path: str, exp_dir: Path, key: str) -> Path:
    """Find a file that the configuration names: from the working folder (the recipe), or in the experiment folder."""
    for candidate in (Path(path), exp_dir / path, exp_dir / Path(path).name):
        if candidate.is_file():
            return candidate
    raise MissingDataError(
        describe(f"{key} of {exp_dir / CONFIG} not found", got=path, fix="run pack in the recipe folder")
    )


def _describe(exp_dir: Path, config: Mapping[str, Any], options: PackOptions, system: System) -> dict[str, Any]:
    results = read_results(exp_dir) if (exp_dir / "results.json").is_file() else None
    try:
        complexity = complexity_of_experiment(exp_dir, config)
    except EspnetAVError as error:
        logger.warning("the card has no complexity figures: %s", error)
        complexity = None
    return {
        "format": 1,
        "name": options.name or exp_dir.resolve().name,
        "class": system.model_class,
        "task": system.name,
        "licence": options.licence,
        "date": utc_now(),
        "commit": source_commit(),
        "train_commit": config.get("git_commit"),
        "seed": config.get("seed"),
        "config_digest": config_digest(config),
        "versions": package_versions(),
        "results": results,
        "complexity": complexity.to_dict() if hasattr(complexity, "to_dict") else complexity,
    }


def _refuse_paths(key: str, value: Any) -> None:
    path = _find_path(value)
    if path is not None:
        fix = f"train with a {key} without absolute paths"
        raise DataError(describe(f"{key} holds a path of this machine, which a pack cannot keep", path, fix=fix))


def _name_inside(name: str, folder: Path) -> PurePosixPath:
    """Return a name of ``meta.json`` as a path; it is not trusted."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(describe(f"{folder / META} names a file outside of the pack", got=name))
    return path


def _find_path(value: Any) -> str | None:
    """Return the first string inside ``value`` that is an absolute path or one of a home folder."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        return next((found for item in value if (found := _find_path(item)) is not None), None)
    if isinstance(value, str) and (value.startswith(("/", "~", "file:")) or PureWindowsPath(value).drive):
        return value
    return None


def _average_size(path: Path) -> int:
    digits = path.name.rpartition(".ave_")[2].removesuffix("best.pth")
    return int(digits) if digits.isdigit() else 0


def _checkpoint_names(exp_dir: Path) -> list[str]:
    return sorted(path.name for path in exp_dir.glob("*.pth"))

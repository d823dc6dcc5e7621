# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 9 of generation: a pack of the generator with the models that its inputs and its sound need.

    pack/{config.yaml,model.safetensors,meta.json,README.md}    the generator
    pack/{vocoder,text_to_tokens,tokens}/                       where they are given
    pack/face_basis.npz                                         what face codes mean, where that is known

``meta.json`` holds under ``parts`` where each came from and the digests of its files.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from espnet_av.avgen.generator_parts import SILENCE, TEXT, TOKENS, VOCODER
from espnet_av.avgen.score_files import BASIS
from espnet_av.report.packing import META, WEIGHTS, PackOptions, pack_experiment, verify_pack
from espnet_av.report.results import write_json
from espnet_av.train.loading import load_weights
from espnet_av.train.pretrained import find_weights
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import sha256_file
from espnet_av.utils.folders import atomic_folder

CONFIG = "config.yaml"
#: What of the configuration of a training builds its model again.
MODEL_KEYS = ("model", "model_conf", "mel_conf", "preprocessor_conf")
PUBLISHED = {  # files of published models, by part; the first group that is there is taken
    VOCODER: (("config.json", "bigvgan_generator.pt"), ("config.json", "*generator*"), ("config.json", "g_*")),
    TEXT: (("*.pth",),),
    TOKENS: (("*.pth",), ("*.pt",), ("*.safetensors",)),
}


@dataclass(frozen=True)
class Parts:
    """The models beside a generator; None: there is none.

    Attributes:
        vocoder: A training of ``avgen_vocoder_train``, or a folder of a published vocoder.
        text_to_tokens: A training of ``avgen_text_train``, or a published file.
        tokens: A training of ``avgen_tokens_train``, or a file of wav2vec 2.0.
        silence: ``.npy`` file of the tokens of silence.
        face_basis: ``.npz`` that tells what face codes mean.
    """

    vocoder: Path | None = None
    text_to_tokens: Path | None = None
    tokens: Path | None = None
    silence: Path | None = None
    face_basis: Path | None = None


def pack_generator(
    exp_dir: Path, output_dir: Path, parts: Parts, dump_dir: Path | None = None, options: PackOptions | None = None
) -> Path:
    """Pack a generator with its parts; the folder appears only when it is complete, and replaces an earlier pack.

    Args:
        exp_dir: Experiment of ``avgen_train``.
        output_dir: Folder to make.
        parts: What goes with it.
        dump_dir: Data folders, for their licences.
        options: How to pack.

    Returns:
        The folder.

    Raises:
        MissingDataError: A model is not there.
        DataError: A part is none.
        UsageError: ``output_dir`` holds something that is no pack.
    """
    output_dir = Path(output_dir)
    made = pack_experiment(exp_dir, output_dir.with_name(f"{output_dir.name}.alone"), dump_dir, options)
    try:
        refuse_foreign(output_dir)
        with atomic_folder(output_dir) as folder:
            shutil.copytree(made, folder, dirs_exist_ok=True)
            meta = verify_pack(folder)
            found = {
                name: add_part(folder / name, source, name)
                for name, source in ((VOCODER, parts.vocoder), (TEXT, parts.text_to_tokens), (TOKENS, parts.tokens))
                if source is not None
            }
            if parts.silence is not None and TOKENS in found:
                shutil.copyfile(parts.silence, folder / TOKENS / SILENCE)
                found[TOKENS]["files"][SILENCE] = sha256_file(folder / TOKENS / SILENCE)
            if parts.face_basis is not None:
                shutil.copyfile(parts.face_basis, folder / BASIS)
                meta["files"][BASIS] = sha256_file(folder / BASIS)
            write_json(folder / META, {**meta, "parts": found})
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return output_dir


def refuse_foreign(folder: Path) -> None:
    """Refuse to replace a folder that is no pack.

    Raises:
        UsageError: It holds something else.
    """
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / META).is_file())):
        usage_error("the folder holds something that is no packed model", str(folder), fix="pass another --output_dir")


def add_part(target: Path, source: Path, name: str) -> dict[str, Any]:
    """Write one model into a pack.

    Args:
        target: Its folder.
        source: A training, a folder of published files, or one file.
        name: What it is. Of a vocoder the discriminator stays behind.

    Returns:
        Where it came from, and digests of its files.

    Raises:
        MissingDataError: It is not there.
        DataError: It holds no such model.
    """
    source = Path(source)
    if not source.exists():
        raise MissingDataError(describe(f"no {name}", str(source), fix="train it in stage 4, or name another"))
    target.mkdir()
    if (source / CONFIG).is_file():
        origin = _write_training(target, source, own_weights(name))
    else:
        origin = _copy_published(target, source, name)
    files = {path.name: sha256_file(path) for path in sorted(target.iterdir())}
    return {"source": source.name, "weights": origin, "files": files}


def _write_training(target: Path, source: Path, prefix: str) -> str:
    from safetensors.torch import save_file

    config = load_yaml(source / CONFIG)
    weights = find_weights(source, None, config.get("best_model_criterion"))
    own = {key: value for key, value in load_weights(weights).items() if key.startswith(prefix)}
    state = {key: value.detach().clone().contiguous() for key, value in own.items()}
    save_file(state, str(target / WEIGHTS), metadata={"format": "pt"})
    (target / WEIGHTS).chmod(0o644)
    portable = {key: config[key] for key in MODEL_KEYS if config.get(key) is not None}
    (target / CONFIG).write_text(yaml.safe_dump(portable, sort_keys=True, allow_unicode=True), encoding="utf-8")
    return weights.name


def _copy_published(target: Path, source: Path, name: str) -> str:
    if source.is_file():
        files = [source, *([source.parent / "config.json"] if (source.parent / "config.json").is_file() else [])]
    else:
        files = next((found for group in PUBLISHED[name] if (found := _match(source, group))), [])
    if not files:
        allowed = [" and ".join(group) for group in PUBLISHED[name]]
        raise DataError(describe(f"{source} holds no {name}", sorted(path.name for path in source.iterdir()), allowed))
    for path in files:
        shutil.copyfile(path, target / path.name)
    return files[-1].name


def _match(folder: Path, group: tuple[str, ...]) -> list[Path]:
    found = [sorted(folder.glob(pattern)) for pattern in group]
    return [paths[0] for paths in found] if all(found) else []


def own_weights(name: str) -> str:
    """Return how the names of weights begin that belong to a part; the others only trained it."""
    from espnet_av.avgen.vocoder import GENERATOR_PREFIX

    return GENERATOR_PREFIX if name == VOCODER else ""

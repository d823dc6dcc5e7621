# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 9 of generation: a pack of the generator with the models that its inputs and its sound need.

    pack/{config.yaml,model.safetensors,meta.json,README.md}    the generator
    pack/{vocoder,text_to_tokens,tokens}/                       where they are given
    pack/face_basis.npz                                         what face codes mean, where that is known

``meta.json`` holds under ``parts`` where each came from and the digests of its files, and under ``vad`` how silence was
put into the tokens; the vector is ``tokens/silence.npy``, or ``silence.npy`` where the token model is not packed.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from espnet_av.avgen.generator_parts import SILENCE, TEXT, TOKENS, VAD, VOCODER
from espnet_av.avgen.score_files import BASIS
from espnet_av.avgen.token_files import SETTINGS_FILE
from espnet_av.avgen.vad import RULES
from espnet_av.report.packing import PackOptions, pack_experiment
from espnet_av.utils.experiment import read_json


@dataclass(frozen=True)
class Parts:
    """The models beside a generator; None: there is none.

    Attributes:
        vocoder: A training of ``avgen_vocoder_train``, or a folder of a published vocoder.
        text_to_tokens: A training of ``avgen_text_train``, or a published file.
        tokens: A training of ``avgen_tokens_train``, or a file of wav2vec 2.0.
        silence: ``.npy`` file of the tokens of silence.
        vad: How it was put into the tokens of the training: ``none`` or ``energy``; None: as ``tokens.json`` beside
            ``silence`` says, if it is there.
        face_basis: ``.npz`` that tells what face codes mean.
    """

    vocoder: Path | None = None
    text_to_tokens: Path | None = None
    tokens: Path | None = None
    silence: Path | None = None
    face_basis: Path | None = None
    vad: str | None = None


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
        LicenceConflict: The licences of the data of the generator or of a part forbid it.
        UsageError: ``output_dir`` holds something that is no pack.
    """
    models = {VOCODER: parts.vocoder, TEXT: parts.text_to_tokens, TOKENS: parts.tokens}
    extras = {BASIS: parts.face_basis}
    extras[SILENCE if parts.tokens is None else f"{TOKENS}/{SILENCE}"] = parts.silence
    mode = parts.vad or _mode_beside(parts.silence)
    facts = {} if mode is None else {VAD: {"mode": mode, **RULES}}
    options = dataclasses.replace(
        options or PackOptions(),
        parts={name: Path(source) for name, source in models.items() if source is not None},
        extras={name: Path(source) for name, source in extras.items() if source is not None},
        facts=facts,
    )
    return pack_experiment(exp_dir, output_dir, dump_dir, options)


def _mode_beside(silence: Path | None) -> str | None:
    settings = None if silence is None else read_json(silence.parent / SETTINGS_FILE)
    return settings.get("vad") if isinstance(settings, dict) else None

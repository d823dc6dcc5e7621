# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How good a generator could be: real mel spectrograms through the vocoder, real poses through the head VAE.

What comes out has the form of generated samples and is scored as they are, under the name ``resynthesis``. The gap
between it and the real recordings belongs to vocoder and head VAE, the gap below it to the generator.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from espnet_av.avgen.clock import mel_frames
from espnet_av.avgen.generator_parts import model_digest
from espnet_av.avgen.score_files import AUDIO, MEL, MOTION, RATE, SampleFolder, Take, Truth, load_truth
from espnet_av.avgen.scoring import RESYNTHESIS
from espnet_av.data.audio_io import write_audio
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write, sha256_file
from espnet_av.utils.progress import progress

if TYPE_CHECKING:
    from espnet_av.avgen.head_vae import HeadStatistics, HeadVAE

logger = logging.getLogger(__name__)
PEAK = 0.999
STATE = ".state.json"


def resynthesise(
    truths: Mapping[str, Truth],
    folder: str | Path,
    set_name: str,
    *,
    vocoder: str | None = None,
    head_vae: str | None = None,
) -> SampleFolder:
    """Write the upper bound of a test set; what was made of the same files by the same models is kept.

    Args:
        truths: The real recordings.
        folder: Receives ``<utterance>/0/``, ``infer.json`` and ``.state.json``, what it was made of.
        set_name: Name of the set, for the row.
        vocoder: What ``load_vocoder`` loads; None leaves the real sound.
        head_vae: What ``load_head_vae`` loads; None leaves the real poses.

    Raises:
        MissingDataError, CheckpointError: A model is missing or unusable.
    """
    from espnet_av.utils.experiment import read_json

    folder = Path(folder)
    facts: dict[str, Any] = {"vocoder": vocoder, "head_vae": head_vae, "source": "real mel and real motion"}
    named = {"vocoder": vocoder, "head_vae": head_vae}
    digests = {name: model_digest(name, source) for name, source in named.items() if source}
    state = {"facts": facts, "models": digests, "recordings": {uid: _content(truth) for uid, truth in truths.items()}}
    before = read_json(folder / STATE)
    before = before if isinstance(before, dict) else {}
    same = all(before.get(name) == state[name] for name in ("facts", "models"))
    kept = before.get("recordings", {}) if same else {}
    missing = [
        uid
        for uid, content in state["recordings"].items()
        if kept.get(uid) != content or not (folder / uid / "0" / MOTION).is_file()
    ]
    if missing:
        (folder / STATE).unlink(missing_ok=True)  # until all are of these models
        bound = UpperBound(vocoder, head_vae)
        for uid in progress(missing, len(missing), f"resynthesise {set_name}"):
            write_take(bound(load_truth(truths[uid])), folder / uid / "0")
        write_json(folder / "infer.json", facts)
    write_json(folder / STATE, state)
    return SampleFolder(RESYNTHESIS, set_name, folder, facts)


def _content(truth: Truth) -> str:
    """Return a digest of a recording: its entry in the tables and what lies in its files."""
    files = (truth.wav, truth.face, truth.head)
    return " ".join([repr(truth), *(sha256_file(file) for file in files if file and Path(file).is_file())])


class UpperBound:
    """Callable ``take -> take`` that sends sound through the vocoder and poses through the head VAE.

    Args:
        vocoder: See :func:`resynthesise`.
        head_vae: See there.
    """

    def __init__(self, vocoder: str | None = None, head_vae: str | None = None) -> None:
        from espnet_av.avgen.head_vae import load_head_vae
        from espnet_av.avgen.vocoder import load_vocoder

        self.vocoder = load_vocoder(vocoder) if vocoder else None
        self._poses: tuple[HeadVAE, HeadStatistics] | None = None
        if head_vae:
            vae, statistics = load_head_vae(head_vae)
            if statistics is None:
                logger.warning("%s holds no statistics of poses: the real poses stand in the upper bound", head_vae)
            else:
                self._poses = vae, statistics

    @torch.inference_mode()
    def __call__(self, take: Take) -> Take:
        """Return the same recording after both models."""
        from espnet_av.avgen.sample_scores import log_mel

        wav, mel, head = take.wav, None, take.head
        if self.vocoder is not None and wav is not None:
            mel = log_mel(wav)
            wav = self.vocoder(torch.from_numpy(mel.T[None].copy()))[0].cpu().numpy()
        if self._poses is not None and head is not None:
            head = _through(*self._poses, head, mel_frames(round(len(head) * RATE / take.fps)))
        return Take(wav, take.face, head, mel, take.partner, take.fps)


def _through(vae: "HeadVAE", statistics: "HeadStatistics", head: np.ndarray, num_mel: int) -> np.ndarray:
    """Send poses through the head VAE."""
    from espnet_av.avgen.output import resample_head

    vector = resample_head(torch.from_numpy(head).float()[None], max(1, num_mel))
    if vector.shape[-1] == 7 and (vector[0, 0, :4] * statistics.mean[:4]).sum() < 0:
        vector[..., :4] *= -1
    decoded = statistics.restore(vae.decode(vae.encode(statistics.standardise(vector))))
    return resample_head(decoded, len(head))[0].numpy().astype(np.float64)


def write_take(take: Take, folder: str | Path) -> None:
    """Write a take as generated samples are written.

    Args:
        take: What to write.
        folder: ``<utterance>/<number>``.
    """
    from espnet_av.avgen.pose import POSE_DIM, vector_to_pose

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if take.wav is not None:
        write_audio(folder / AUDIO, np.clip(take.wav, -PEAK, PEAK), RATE)
    if take.mel is not None:
        with atomic_write(folder / MEL, "wb") as stream:
            np.save(stream, take.mel.astype(np.float32))
    arrays: dict[str, Any] = {"face": take.face.astype(np.float32), "fps": np.float64(take.fps)}
    if take.head is not None and take.head.shape[1] == POSE_DIM:
        rotation, translation = vector_to_pose(torch.from_numpy(take.head))
        arrays |= {"head_R": rotation.numpy().astype(np.float32), "head_t": translation.numpy().astype(np.float32)}
    elif take.head is not None:
        arrays["head"] = take.head.astype(np.float32)
    with atomic_write(folder / MOTION, "wb") as stream:
        np.savez(stream, **arrays)

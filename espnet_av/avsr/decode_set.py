# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Decoding of whole test sets: batches of like length, hypotheses in files, and what it cost."""

import json
import logging
import os
import resource
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_av.avsr.inference import AVSR, Hypotheses
from espnet_av.avsr.preprocess import AVSRPreprocessor, build_transform
from espnet_av.data.data_dir import DataDir, write_scp
from espnet_av.data.dataset import AVDataset
from espnet_av.data.samplers import BucketBatchSampler
from espnet_av.utils.errors import DataError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.progress import progress

logger = logging.getLogger(__name__)
FPS = 25


@dataclass(frozen=True)
class DecodeOptions:
    """How sets are decoded; the keys of ``conf/infer.yaml``.

    Attributes:
        beam_size: Hypotheses kept per step.
        ctc_weight: Weight of the CTC score, 0 to 1.
        batch_size: Most utterances decoded together.
        batch_frames: Most padded frames decoded together.
        nbest: Hypotheses kept in ``hypotheses.jsonl``.
        weights: Weights file in the experiment folder; None takes the best average.
        search_options: Further keywords of :class:`~espnet_av.avsr.beam_search.BeamSearch`.
    """

    beam_size: int = 3
    ctc_weight: float = 0.1
    batch_size: int = 8
    batch_frames: int = 3000
    nbest: int = 1
    weights: str | None = None
    search_options: dict[str, Any] = field(default_factory=dict)


class SetDecoder:
    """Decodes data folders with one recogniser.

    Args:
        recogniser: The model.
        options: See :class:`DecodeOptions`.
        command: The command line, noted in ``infer.json`` for whoever wants the figures again.
    """

    def __init__(self, recogniser: AVSR, options: DecodeOptions, command: str | None = None) -> None:
        self.recogniser = recogniser
        self.options = options
        self.command = command

    def decode(
        self, data_dir: Path, modality: str, output_dir: Path, keys: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Decode one folder and write ``text``, ``score``, ``hypotheses.jsonl`` and ``infer.json``.

        The folder appears under its name when all of it is written.

        Args:
            data_dir: Folder of stage 3.
            modality: ``av``, ``audio`` or ``video``.
            output_dir: Folder to write.
            keys: Only these utterances; None takes all.

        Returns:
            What went into ``infer.json``: utterances, seconds of audio and of computing, real-time factor, memory,
            and where known the name of the weights file and the command.
        """
        folder = DataDir(data_dir)
        start = time.perf_counter()
        found = dict(self._hypotheses(folder, modality, keys))
        seconds = time.perf_counter() - start
        frames = folder.num_frames()
        facts = self._facts(modality, found, sum(frames[uid] for uid in found) / FPS, seconds)
        self._write(output_dir, {uid: found[uid] for uid in sorted(found)}, facts)
        return facts

    def _hypotheses(
        self, folder: DataDir, modality: str, keys: Sequence[str] | None
    ) -> Iterator[tuple[str, Hypotheses]]:
        names = {"av": ("speech", "video"), "audio": ("speech",), "video": ("video",)}[modality]
        preprocess = AVSRPreprocessor(build_transform(False, {}))
        # both streams are read whatever the modality: the video's length says where the sound ends
        dataset = AVDataset(folder.path_name_type_list(("speech", "video")), preprocess=preprocess, keys=keys)
        lengths = folder.num_frames()
        missing = [uid for uid in dataset.keys if uid not in lengths]
        if missing:
            path = folder.path / "utt2num_frames"
            raise DataError(describe(f"{path} lacks utterances", got=missing[:3], fix="run stage 2"))
        sampler = BucketBatchSampler(
            {uid: lengths[uid] for uid in dataset.keys},
            batch_frames=max(self.options.batch_frames, max(lengths[uid] for uid in dataset.keys)),
            batch_size=self.options.batch_size,
            shuffle=False,
        )
        for batch in progress(sampler.batches(0), title=f"decode {folder.path.name} ({modality})", unit="batch"):
            items = [dataset.load(uid, dataset.epoch) for uid in batch]
            streams: dict[str, list[np.ndarray] | None] = {
                name: [item[name] for item in items] if name in names else None for name in ("speech", "video")
            }
            yield from zip(
                batch, self.recogniser.decode_batch(streams["speech"], streams["video"], modality), strict=True
            )

    def _facts(self, modality: str, found: dict[str, Hypotheses], audio_sec: float, seconds: float) -> dict[str, Any]:
        checkpoint = self.recogniser.checkpoint
        facts = {
            "modality": modality,
            "num_utterances": len(found),
            "audio_sec": round(audio_sec, 3),
            "decode_sec": round(seconds, 3),
            "rtf": round(seconds / max(audio_sec, 1e-9), 4),
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            "device": str(self.recogniser.device),
            "beam_size": self.options.beam_size,
            "ctc_weight": self.options.ctc_weight,
            "checkpoint": None if checkpoint is None else checkpoint.name,
            "command": self.command,
        }
        return {name: value for name, value in facts.items() if value is not None}

    def _write(self, output_dir: Path, found: dict[str, Hypotheses], facts: dict[str, Any]) -> None:
        temporary = output_dir.with_name(f".{output_dir.name}.{os.getpid()}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with atomic_write(temporary / "text") as stream:  # an empty hypothesis is a line with the id alone
            stream.writelines(f"{uid} {result.text}".rstrip() + "\n" for uid, result in found.items())
        write_scp(temporary / "score", {uid: f"{result.score:.6f}" for uid, result in found.items()})
        with atomic_write(temporary / "hypotheses.jsonl") as stream:
            for uid, result in found.items():
                pairs = list(zip(result.texts, result.scores, strict=True))[: self.options.nbest]
                nbest = [{"text": text, "score": score} for text, score in pairs]
                stream.write(json.dumps({"id": uid, "nbest": nbest}, ensure_ascii=False) + "\n")
        with atomic_write(temporary / "infer.json") as stream:
            json.dump(facts, stream, indent=2)
        shutil.rmtree(output_dir, ignore_errors=True)
        os.replace(temporary, output_dir)

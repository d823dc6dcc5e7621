# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generation for whole test sets: samples of every recording in files, and what they cost.

    <output>/<utterance>/<number>/{audio.wav,motion.npz,mel.npy[,video.mp4]}
    <output>/utterances.jsonl   a line per recording: frames, seconds of computing
    <output>/bad.json           recordings that could not be used, with the reason
    <output>/infer.json         everything else; it is there when the set is complete

A run that was stopped goes on where it was, if models, data and options are the same; otherwise it begins anew. Files
count by their content: a recording whose tokens were made again is generated again.
"""

import json
import logging
import math
import os
import resource
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from espnet_av.avgen.output import Generated
from espnet_av.avgen.sampler import ChunkRules, SolverRules
from espnet_av.avgen.score_files import AUDIO, MEL, MOTION
from espnet_av.avgen.set_input import PARTNERS, TASKS, SetInput, Told
from espnet_av.avgen.solvers import evaluations
from espnet_av.data.drops import Drops
from espnet_av.utils.errors import DataError, UsageError, describe, usage_error
from espnet_av.utils.experiment import write_json
from espnet_av.utils.files import atomic_write
from espnet_av.utils.folders import atomic_folder
from espnet_av.utils.progress import progress

if TYPE_CHECKING:
    from espnet_av.avgen.inference import AVGenerator
    from espnet_av.avgen.render import Renderer

logger = logging.getLogger(__name__)
STATE, ROWS, FACTS, BAD, VIDEO = ".state.json", "utterances.jsonl", "infer.json", "bad.json", "video.mp4"


@dataclass(frozen=True)
class GenerateOptions:
    """How sets are generated; the keys of ``conf/infer_*.yaml``.

    Attributes:
        task: What the model is told: ``audio`` (stored tokens of the recordings, else tokens of their sound),
            ``tokens`` (stored tokens alone) or ``text`` (tokens that the model of texts makes of the transcripts).
        partner: Of a model of conversations: ``own`` (that of the recording), ``none`` or ``other`` (of another
            recording, for comparison).
        num_samples: Samples of each recording.
        seed: Of the noise.
        nfe: Steps of the solver.
        solver: ``euler``, ``midpoint`` or ``heun``.
        time_grid: ``uniform`` or ``sway``.
        temperature: Factor on the noise.
        cfg: Guidance by all conditions; 0: none.
        partner_cfg: Guidance by the partner alone.
        speed: Of texts; 2 is twice as fast.
        max_seconds: Cut longer recordings; 0: never.
        chunk_frames: Frames that go through the network together; 0: all, up to 95 s.
        chunk_history: Of these, finished ones before the new ones.
        chunk_future: And a look ahead.
        chunk_kind: How finished frames are told; see :mod:`espnet_av.avgen.sampler`.
        batch_size: Recordings of equal length computed together; helps on GPUs.
        max_utts: Recordings taken, the first by name; 0: all.
        max_bad_share: Share of recordings that may be unusable; they are listed in ``bad.json``.
    """

    task: str = "audio"
    partner: str = "own"
    num_samples: int = 1
    seed: int = 0
    nfe: int = 16
    solver: str = "euler"
    time_grid: str = "uniform"
    temperature: float = 1.0
    cfg: float = 0.0
    partner_cfg: float = 0.0
    speed: float = 1.0
    max_seconds: float = 0.0
    chunk_frames: int = 0
    chunk_history: int = 128
    chunk_future: int = 64
    chunk_kind: str = "states"
    batch_size: int = 1
    max_utts: int = 0
    max_bad_share: float = 0.01

    def __post_init__(self) -> None:
        for name, allowed in (("task", TASKS), ("partner", PARTNERS)):
            if getattr(self, name) not in allowed:
                usage_error(f"unknown {name}", getattr(self, name), allowed)
        for name, least in (("num_samples", 1), ("batch_size", 1), ("max_utts", 0), ("max_seconds", 0), ("cfg", 0)):
            if not least <= getattr(self, name) < math.inf:
                usage_error(f"{name} is out of range", getattr(self, name), f"{least} or more")
        if not 0 <= self.max_bad_share <= 1:
            usage_error("max_bad_share is out of range", self.max_bad_share, "0 to 1")
        self.rules()
        self.chunks()

    def rules(self) -> SolverRules:
        """Return how the flow is followed."""
        return SolverRules(self.nfe, self.solver, self.time_grid, self.temperature)

    def chunks(self) -> ChunkRules | None:
        """Return how recordings are cut."""
        if not self.chunk_frames:
            return None
        return ChunkRules(self.chunk_frames, self.chunk_history, self.chunk_future, self.chunk_kind)


class SetGenerator:
    """Generates for data folders with one model.

    Args:
        generator: The model.
        options: See :class:`GenerateOptions`.
        renderer: Draws a video of each sample; None: no videos.
        command: The command line, noted in ``infer.json`` for whoever wants the figures again.
        origin: Further facts for ``infer.json``; what the samples depend on: weights, vocoder, text model, ...
    """

    def __init__(
        self,
        generator: "AVGenerator",
        options: GenerateOptions,
        *,
        renderer: "Renderer | None" = None,
        command: str | None = None,
        origin: Mapping[str, Any] | None = None,
    ) -> None:
        self.generator, self.options, self.renderer = generator, options, renderer
        self.command, self.origin = command, dict(origin or {})
        self.timed = None if generator.vocoder is None else _Timed(generator.vocoder)

    def generate(
        self, data_dir: str | os.PathLike, output_dir: Path, keys: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Generate for one folder.

        Args:
            data_dir: A data folder, or a folder in a published layout.
            output_dir: Receives ``<utterance>/<number>/`` and ``infer.json``.
            keys: Only these recordings; None takes all.

        Returns:
            What went into ``infer.json``.

        Raises:
            DataError: More recordings than ``max_bad_share`` cannot be used.
        """
        source = SetInput(data_dir, self.generator, self.options)
        wanted = _select(source, keys, self.options.max_utts)
        rows = self._begin(output_dir, source)
        work = [uid for uid in wanted if not self._is_done(uid, rows, output_dir, source)]
        bad = Drops(len(wanted))
        with open(output_dir / ROWS, "a", encoding="utf-8") as stream:
            groups = list(_groups(source.by_length(work), source, self.options.batch_size))
            unit = "recording" if self.options.batch_size == 1 else "batch"
            for group in progress(groups, title=f"generate {source.name}", unit=unit):
                for row in self._do(group, source, output_dir, bad):
                    rows[row["id"]] = row
                    stream.write(json.dumps(row) + "\n")
                    stream.flush()
        logger.info("%s: %d recordings, %d of them now", output_dir, len(wanted) - len(bad), len(work) - len(bad))
        if len(bad):
            bad.check(
                self.options.max_bad_share, write_json(output_dir / BAD, bad.summary(), sort_keys=True), "max_bad_share"
            )
        return self._finish({uid: rows[uid] for uid in wanted if uid in rows}, len(bad), output_dir, source)

    # ---------------------------------------------------------------- one group

    def _do(self, uids: Sequence[str], source: SetInput, folder: Path, bad: Drops) -> Iterator[dict[str, Any]]:
        """Write the samples of recordings of equal length; a bad one does not spoil the others."""
        told: list[Told] = []
        for uid in uids:
            try:
                told.append(source.read(uid))
            except (DataError, UsageError) as error:
                logger.warning("%s cannot be generated: %s", uid, error)
                bad.add(uid, "unusable", str(error))
        for same in _equal(told):
            samples, seconds = self._run(same, source.fps)
            count = self.options.num_samples
            for number, each in enumerate(same):
                own = samples[number * count : (number + 1) * count]
                self._write(folder / each.uid, own)
                yield {
                    "id": each.uid,
                    "content": source.content(each.uid),
                    "num_frames": len(each.tokens),
                    "num_samples": count,
                    **{name: round(value / len(same), 4) for name, value in seconds.items()},
                }

    def _run(self, told: Sequence[Told], fps: float) -> tuple[list[Generated], dict[str, float]]:
        options = self.options
        tokens = torch.stack([each.tokens for each in told])
        partner = None
        partners = [each.partner for each in told if each.partner is not None]
        if partners:
            partner = {name: torch.stack([each[name] for each in partners]) for name in partners[0]}
        first: list[float] = []
        start = time.perf_counter()
        if self.timed is not None:
            self.timed.seconds = 0.0
        samples = self.generator.model.generate(
            tokens,
            partner,
            num_samples=options.num_samples,
            seed=options.seed,
            solver=options.rules(),
            cfg=options.cfg,
            partner_cfg=options.partner_cfg,
            chunks=options.chunks(),
            fps=fps,
            vocoder=self.timed,
            progress=lambda _: first.append(time.perf_counter() - start),
        )
        total = time.perf_counter() - start
        vocoder = 0.0 if self.timed is None else self.timed.seconds
        seconds = {"compute_sec": total - vocoder, "vocoder_sec": vocoder, "input_sec": _total(told)}
        if options.chunk_frames:
            seconds["first_chunk_sec"] = first[0] * len(told)  # each of them waits for it
        return samples, seconds

    def _write(self, folder: Path, samples: Sequence[Generated]) -> None:
        from espnet_av.avgen.render.video import write_sample

        for number, sample in enumerate(samples):
            with atomic_folder(folder / str(number)) as made:
                write_sample(made, sample, self.renderer)

    # ---------------------------------------------------------------- the set

    def _begin(self, folder: Path, source: SetInput) -> dict[str, dict[str, Any]]:
        """Return the recordings that an earlier run of the same kind did; removes what another kind left."""
        loose = ("batch_size", "max_utts", "max_bad_share")
        kept = {name: value for name, value in asdict(self.options).items() if name not in loose}
        origin = {name: value for name, value in self.origin.items() if name != "system"}
        state = {"options": kept, "origin": origin, "data": source.digest()}
        if _read_json(folder / STATE) != json.loads(json.dumps(state)):
            if (folder / STATE).exists():
                logger.info("%s is of another model, data or options: generating anew", folder)
                for row in _read_rows(folder / ROWS):
                    shutil.rmtree(folder / row, ignore_errors=True)
            for name in (STATE, ROWS):
                (folder / name).unlink(missing_ok=True)
            folder.mkdir(parents=True, exist_ok=True)
            write_json(folder / STATE, state, sort_keys=True)
        for name in (FACTS, BAD):
            (folder / name).unlink(missing_ok=True)
        rows = _read_rows(folder / ROWS)
        with atomic_write(folder / ROWS) as stream:  # without a half-written last line
            stream.writelines(json.dumps(row) + "\n" for row in rows.values())
        return rows

    def _is_done(self, uid: str, rows: Mapping[str, Any], folder: Path, source: SetInput) -> bool:
        names = [MOTION, MEL, *([AUDIO] if self.timed else []), *([VIDEO] if self.renderer else [])]
        samples = [folder / uid / str(number) for number in range(self.options.num_samples)]
        there = uid in rows and all((sample / name).is_file() for sample in samples for name in names)
        return there and rows[uid].get("content") == source.content(uid)

    def _finish(
        self, rows: Mapping[str, Mapping[str, Any]], num_bad: int, folder: Path, source: SetInput
    ) -> dict[str, Any]:
        with atomic_write(folder / ROWS) as stream:
            stream.writelines(json.dumps(rows[uid]) + "\n" for uid in sorted(rows))
        config, options = self.generator.mel_config, asdict(self.options)
        audio_sec = sum(row["num_frames"] * row["num_samples"] for row in rows.values()) * config.hop_length
        audio_sec = audio_sec / config.sample_rate
        took = {
            name: sum(row.get(name, 0) for row in rows.values()) for name in ("compute_sec", "vocoder_sec", "input_sec")
        }
        firsts = [row["first_chunk_sec"] for row in rows.values() if "first_chunk_sec" in row]
        facts = {
            "task": "avgen",
            **{("input" if name == "task" else name): value for name, value in options.items() if name != "nfe"},
            "steps": self.options.nfe,
            "nfe": evaluations(self.options.nfe, self.options.solver),
            "set": source.name,
            "fps": source.fps,
            "num_utterances": len(rows),
            "num_bad": num_bad,
            "audio_sec": round(audio_sec, 3),
            **{name: round(value, 3) for name, value in took.items()},
            "rtf": round(took["compute_sec"] / max(audio_sec, 1e-9), 4),
            "vocoder_rtf": round(took["vocoder_sec"] / max(audio_sec, 1e-9), 4) if self.timed else None,
            "first_chunk_sec": round(float(np.median(firsts)), 4) if firsts else None,
            "peak_memory_mb": round(_peak_memory_mb(self.generator.device), 1),
            "device": _device_name(self.generator.device),
            "threads": torch.get_num_threads(),
            **self.origin,
            "command": self.command,
        }
        facts = {name: value for name, value in facts.items() if value is not None}
        write_json(folder / FACTS, facts, sort_keys=True)
        return facts


class _Timed:
    """A vocoder whose seconds are counted."""

    def __init__(self, vocoder: Any) -> None:
        self.vocoder, self.seconds = vocoder, 0.0

    def __call__(self, mel: Tensor) -> Tensor:
        start = time.perf_counter()
        sound = self.vocoder(mel).cpu()
        self.seconds += time.perf_counter() - start
        return sound


def _total(told: Sequence[Told]) -> float:
    return sum(each.seconds for each in told)


def _select(source: SetInput, keys: Sequence[str] | None, most: int) -> list[str]:
    missing = [uid for uid in keys or () if uid not in source.keys]
    if missing:
        raise DataError(describe(f"{source.folder} lacks recordings", missing[:3], fix="correct the list of keys"))
    wanted = sorted(source.keys if keys is None else dict.fromkeys(keys))
    bad = next((uid for uid in wanted if "/" in uid or uid.startswith(".")), None)
    if bad is not None:
        raise DataError(describe("the id of a recording is the name of its folder", bad, "no /, no leading dot"))
    if not wanted:
        raise DataError(describe(f"{source.folder} has no recordings", fix="run stages 1 to 3 again"))
    return wanted[:most] if most else wanted


def _groups(uids: Sequence[str], source: SetInput, size: int) -> Iterator[list[str]]:
    """Put neighbours of equal length together."""
    group: list[str] = []
    for uid in uids:
        if group and (len(group) == size or source.length(uid) != source.length(group[0])):
            yield group
            group = []
        group.append(uid)
    if group:
        yield group


def _equal(told: Sequence[Told]) -> list[list[Told]]:
    groups: dict[int, list[Told]] = {}
    for each in told:
        groups.setdefault(len(each.tokens), []).append(each)
    return list(groups.values())


def _peak_memory_mb(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def _read_rows(path: Path) -> dict[str, dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return rows
    for line in lines:
        try:
            row = json.loads(line)
            rows[row["id"]] = row
        except (ValueError, KeyError, TypeError):
            logger.warning("%s: a damaged line is left out", path)
    return rows


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None

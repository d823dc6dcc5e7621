# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Small sets for the trainings beside the generator: heads that nod, and tokens of texts spelled in time."""

from pathlib import Path

import numpy as np
import yaml

from espnet_av.avgen.text import TextFrontEnd
from espnet_av.avgen.token_labels import text_to_labels
from espnet_av.data.data_dir import write_scp

WORDS = "BE THE CAT SAT ON A RED MAT AND RAN TO SEE HIM".split()


def spelled(text: str, rng: np.random.Generator, frames: int = 3) -> np.ndarray:
    """Logits ``(M, 29)`` as a recogniser might give: each letter a frame or two, then blanks."""
    labels: list[int] = [0, 0]
    for label in text_to_labels(TextFrontEnd().clean(text)):
        labels += [label] + [0] * (frames - 1 + int(rng.integers(2)))
    logits = rng.normal(-4.0, 0.3, (len(labels), 29))
    logits[np.arange(len(labels)), labels] = 8.0
    return logits.astype(np.float32)


def make_token_set(folder: Path, count: int = 8, words: int = 3, seed: int = 0) -> dict[str, str]:
    """Write ``text`` and ``tokens.scp`` of random sentences; returns the texts."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    texts, files = {}, {}
    for number in range(count):
        uid = f"u{number:03d}"
        texts[uid] = " ".join(rng.choice(WORDS, words))
        tokens = spelled(texts[uid], rng)
        files[uid] = folder / f"{uid}.npy"
        np.save(files[uid], tokens if number % 2 else np.stack([tokens, -tokens]))  # with and without a partner
    write_scp(folder / "text", texts)
    write_scp(folder / "tokens.scp", files)
    return texts


def make_head_set(folder: Path, count: int = 6, frames: int = 80, seed: int = 0) -> None:
    """Write ``head.scp`` of poses ``(N, 3, 4)`` that nod about an upside-down axis."""
    import torch

    from espnet_av.avgen.pose import quaternion_to_matrix

    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    files = {}
    for number in range(count):
        time = np.arange(frames) / 30
        nod, turn = (0.1 * np.sin(2 * np.pi * rng.uniform(0.3, 1.5) * time + rng.uniform(0, 6)) for _ in range(2))
        quaternion = np.stack([nod, np.ones(frames), turn, 0.02 * turn], axis=-1)
        rotation = quaternion_to_matrix(torch.from_numpy(quaternion)).numpy()
        translation = np.stack([30 * turn, 20 * nod, 1000 + 40 * nod], axis=-1)
        files[f"u{number:03d}"] = folder / f"u{number:03d}.npy"
        np.save(files[f"u{number:03d}"], np.concatenate([rotation, translation[..., None]], -1).astype(np.float32))
    write_scp(folder / "head.scp", files)


def train_command(root: Path, streams: list[tuple[str, str, str]], config: dict, name: str = "exp") -> list[str]:
    """Options of a training on ``root/train`` and ``root/valid``."""
    path = root / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"num_workers": 0, "use_matplotlib": False, "batch_size": 4, **config}))
    command = ["--config", str(path), "--output_dir", str(root / name)]
    for part in ("train", "valid"):
        for file, stream, kind in streams:
            command += [f"--{part}_data_path_and_name_and_type", f"{root / part / file},{stream},{kind}"]
    return command

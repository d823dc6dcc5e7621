# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A data folder of random clips and the smallest recogniser, for tests of the task and its command lines."""

from pathlib import Path

import numpy as np
import yaml

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir, write_scp

WORDS = ("BIN", "LAY", "BLUE", "RED", "NOW", "SOON")
CONFIG = {
    "model_conf": {
        "ctc_weight": 0.3,
        "encoder_conf": {
            "dim": 16,
            "num_layers": 1,
            "num_heads": 2,
            "ffn_dim": 32,
            "conv_pos": 8,
            "conv_pos_groups": 4,
            "stem_channels": 4,
            "resnet_planes": [4, 4, 8, 8],
            "video_pool": 4,
            "num_classes": 0,
        },
        "decoder_conf": {"num_layers": 1, "num_heads": 2, "ffn_dim": 32},
    },
    "preprocessor_conf": {"interferers": {}},
    "batch_size": 2,
    "max_epoch": 2,
    "optim": "adamw",
    "optim_conf": {"lr": 1e-3},
    "best_model_criterion": [["valid", "wer_ctc", "min"]],
    "num_workers": 0,
    "use_matplotlib": False,
}


def make_data_dir(folder: Path, num_clips: int = 6, seed: int = 0) -> DataDir:
    """Write clips of 52 frames and more with speech-like lengths, two to four words each."""
    rng = np.random.default_rng(seed)
    media = folder / "media"
    media.mkdir(parents=True)
    wav, mouth, text, frames, samples = {}, {}, {}, {}, {}
    for number in range(num_clips):
        uid = f"s1-{number:03d}"
        num_frames = 52 + 2 * number
        write_audio(media / f"{uid}.flac", 0.1 * rng.standard_normal(640 * num_frames).astype(np.float32), 16000)
        np.save(media / f"{uid}.npy", rng.integers(0, 256, (num_frames, 96, 96), dtype=np.uint8))
        wav[uid], mouth[uid] = media / f"{uid}.flac", media / f"{uid}.npy"
        text[uid] = " ".join(rng.choice(WORDS, size=int(rng.integers(2, 5))))
        frames[uid], samples[uid] = num_frames, 640 * num_frames
    tables = {"wav.scp": wav, "mouth.scp": mouth, "text": text, "utt2num_frames": frames, "utt2num_samples": samples}
    for name, table in {**tables, "utt2spk": dict.fromkeys(wav, "s1"), "spk2utt": {"s1": " ".join(wav)}}.items():
        write_scp(folder / name, table)
    data = DataDir(folder)
    data.write_streams([("wav.scp", "speech", "sound"), ("mouth.scp", "video", "video_npy"), ("text", "text", "text")])
    data.write_meta({"sample_rate": 16000, "fps": 25, "licence": "CC0-1.0", "description": "random clips"})
    return data


def train_command(root: Path, output_dir: Path, config: dict | None = None) -> list[str]:
    """Prepare data, tokens and shapes below ``root`` and return the options of a training."""
    from espnet_av.bin import shapes, tokens

    command = ["--output_dir", str(output_dir), "--token_type", "char"]
    for kind, clips, seed in (("train", 6, 0), ("valid", 2, 1)):
        folder = root / kind
        if not folder.exists():
            make_data_dir(folder, clips, seed)
            shapes.main(["--data_dir", str(folder), "--output_dir", str(root / "stats" / kind)])
        for name, stream, kind_of in (
            ("wav.scp", "speech", "sound"),
            ("mouth.scp", "video", "video_npy"),
            ("text",) * 3,
        ):
            command += [f"--{kind}_data_path_and_name_and_type", f"{folder / name},{stream},{kind_of}"]
        command += [f"--{kind}_shape_file", str(root / "stats" / kind / "video_shape")]
    tokens.main(["--text", str(root / "train" / "text"), "--token_type", "char", "--output_dir", str(root / "tokens")])
    path = root / "train.yaml"
    path.write_text(yaml.safe_dump(config or CONFIG), encoding="utf-8")
    return [*command, "--config", str(path), "--token_list", str(root / "tokens" / "tokens.txt")]

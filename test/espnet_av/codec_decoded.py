# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small decoded codec experiment, as stages 2 to 6 leave it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir, write_scp

RATE = 24000
UIDS = ("a", "b", "c")
NOISE = {1: 1.0, 6: 0.1}  # kbit/s -> level of what the codec gets wrong
QUICK = ("snr", "si_sdr", "stft_distance")


@dataclass(frozen=True)
class DecodedCodec:
    """Folders of the experiment."""

    root: Path

    @property
    def exp_dir(self) -> Path:
        """Experiment folder."""
        return self.root / "exp" / "codec_looks"

    @property
    def dump_dir(self) -> Path:
        """Data folders."""
        return self.root / "dump"

    @property
    def data_dir(self) -> Path:
        """The test set."""
        return self.dump_dir / "raw" / "test"

    def decoded(self, kbps: int, tag: str = "decode_best") -> Path:
        """Return the folder of the decoded test set."""
        return self.exp_dir / f"{tag}_{kbps}kbps" / "test"

    def decode(self, kbps: int, noise: float, tag: str = "decode_best") -> None:
        """Write the test set as a codec that adds noise gives it back."""
        rng = np.random.default_rng(kbps)
        folder = self.decoded(kbps, tag)
        for name in ("wav", "codec"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for uid, wave in waves().items():
            wrong = noise * np.abs(wave).mean() * rng.standard_normal(len(wave))
            write_audio(folder / "wav" / f"{uid}.wav", (wave + wrong).astype(np.float32), RATE)
            np.save(folder / "codec" / f"{uid}.npy", rng.integers(0, 100, (kbps, -(-len(wave) // 240))))
        for name, suffix in (("wav/wav.scp", "wav"), ("codec/codec.scp", "npy")):
            place = folder / name.split("/")[0]
            write_scp(folder / name, {uid: str(place / f"{uid}.{suffix}") for uid in UIDS})
        facts = {"task": "codec", "bitrate_kbps": kbps, "audio_sec": 1.5, "decode_sec": 0.03, "command": "infer"}
        (folder / "infer.json").write_text(json.dumps({**facts, "measured_kbps": kbps, "checkpoint": "best.pth"}))

    def score(self, *options: str) -> None:
        """Run stage 7 with the metrics that are quick."""
        from espnet_av.bin import codec_score

        codec_score.main(
            [
                *("--exp_dir", str(self.exp_dir), "--data_dirs", str(self.data_dir), "--num_resamples", "50"),
                *("--metrics", *QUICK, "--opus_kbps", "6", *options),
            ]
        )


def waves() -> dict[str, np.ndarray]:
    """Return the sound of the test set."""
    rng = np.random.default_rng(0)
    return {uid: 0.1 * rng.standard_normal(12000).astype(np.float32) for uid in UIDS}


def make_decoded(root: Path) -> DecodedCodec:
    """Write data, training and two decoded bit rates below a folder."""
    made = DecodedCodec(root)
    data = DataDir(made.data_dir)
    (root / "media").mkdir(parents=True)
    made.data_dir.mkdir(parents=True)
    for uid, wave in waves().items():
        write_audio(root / "media" / f"{uid}.wav", wave, RATE)
    paths = {uid: str(root / "media" / f"{uid}.wav") for uid in UIDS}
    for name in ("wav.scp", "reference.scp"):
        data.write(name, paths)
    data.write("utt2num_samples", dict.fromkeys(UIDS, 12000))
    data.write_meta({"sample_rate": RATE, "licence": "CC-BY-4.0", "description": "made by a test"})
    for kbps, noise in NOISE.items():
        made.decode(kbps, noise)
    config = {
        "model": "lrac",
        "model_conf": {"preset": "track1"},
        "discriminator_conf": {},
        "loss_conf": {},
        "seed": 17,
        "max_epoch": 2,
        "best_model_criterion": [["valid", "mel_loss", "min"]],
        "output_dir": str(made.exp_dir),
        "train_data_path_and_name_and_type": [[str(data / "wav.scp"), "audio", "sound"]],
    }
    (made.exp_dir / "config.yaml").write_text(yaml.safe_dump(config))
    epochs = [
        {
            "epoch": epoch,
            "train": {"loss": 20.0 / epoch, "mel_loss": 9.0 / epoch, "discriminator_loss": 2.0, "adv_loss": 0.1},
            "valid": {"mel_loss": 8.0 / epoch, "mel_loss_1kbps": 9.0 / epoch, "mel_loss_6kbps": 7.0 / epoch},
            "time_sec": 3.0,
            "lr": 3e-4,
        }
        for epoch in (1, 2)
    ]
    (made.exp_dir / "history.jsonl").write_text("".join(json.dumps(item) + "\n" for item in epochs))
    return made

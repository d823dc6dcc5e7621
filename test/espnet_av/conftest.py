# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small decoded and scored experiment, as stages 2-7 leave it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

SAMPLE_RATE_HZ, FPS, NUM_FRAMES, SIZE = 16000, 25, 10, 48
NOISY = "test_snr_n5_interferer_1"
TRANSCRIPTS = {"s1-a": "BIN BLUE AT A ONE", "s1-b": "SET RED BY Z TWO", "s2-c": "<unk>"}
HYPOTHESES = {
    "av": {"s1-a": "BIN BLUE AT ONE", "s1-b": "SET RED BY Z TWO", "s2-c": ""},
    "audio": {"s1-a": "BIN", "s1-b": "SET RED BY V TWO NOW", "s2-c": "AH"},
}
MODEL_CONF = {
    "encoder_conf": {
        "dim": 16,
        "num_layers": 1,
        "num_heads": 2,
        "ffn_dim": 16,
        "conv_pos": 8,
        "conv_pos_groups": 2,
        "stem_channels": 4,
        "resnet_planes": [4, 4, 4, 4],
    },
    "decoder_conf": {"num_layers": 1, "num_heads": 2, "ffn_dim": 16},
}


@dataclass(frozen=True)
class Experiment:
    """Folders of the experiment, and how to write its parts."""

    exp_dir: Path
    dump_dir: Path

    def config(self) -> dict:
        """Return the training configuration."""
        return yaml.safe_load((self.exp_dir / "config.yaml").read_text())

    def write_config(self, **changes: object) -> None:
        """Change keys of the training configuration."""
        (self.exp_dir / "config.yaml").write_text(yaml.safe_dump({**self.config(), **changes}))

    def write_meta(self, set_name: str, **changes: object) -> None:
        """Change keys of a set's data.json."""
        path = self.dump_dir / set_name / "data.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def score(self) -> None:
        """Run stage 7."""
        from espnet_av.bin import avsr_score

        avsr_score.main(["--exp_dir", str(self.exp_dir), "--dump_dir", str(self.dump_dir), "--normalize", "none"])


def write_table(path: Path, table: dict) -> None:
    """Write a ``key value`` file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{key} {value}\n" for key, value in table.items()), encoding="utf-8")


@pytest.fixture
def experiment(tmp_path, monkeypatch) -> Experiment:
    """Make a scored experiment with one clean and one noisy test set, sound and mouth crops."""
    made = Experiment(tmp_path / "exp" / "small", tmp_path / "dump")
    rng = np.random.default_rng(0)
    for name in ("train", "test", NOISY):
        _write_data(made.dump_dir / name, rng)
    _write_experiment(made.exp_dir, made.dump_dir)
    monkeypatch.setattr("espnet_av.report.sections.default_settings", lambda names: {"seed": 0, "max_epoch": 40})
    made.score()
    return made


def _write_data(folder: Path, rng: np.random.Generator) -> None:
    import soundfile

    media = folder.parent / "media"
    media.mkdir(parents=True, exist_ok=True)
    for uid in TRANSCRIPTS:
        np.save(media / f"{uid}.npy", rng.integers(0, 255, (NUM_FRAMES, SIZE, SIZE), dtype=np.uint8))
        soundfile.write(media / f"{uid}.flac", 0.1 * rng.standard_normal(640 * NUM_FRAMES), SAMPLE_RATE_HZ)
    write_table(folder / "text", TRANSCRIPTS)
    write_table(folder / "utt2spk", {uid: uid[:2] for uid in TRANSCRIPTS})
    write_table(folder / "wav.scp", {uid: media / f"{uid}.flac" for uid in TRANSCRIPTS})
    write_table(folder / "mouth.scp", {uid: media / f"{uid}.npy" for uid in TRANSCRIPTS})
    write_table(folder / "utt2num_samples", dict.fromkeys(TRANSCRIPTS, 640 * NUM_FRAMES))
    (folder / "streams").write_text("wav.scp speech sound\nmouth.scp video video_npy\ntext text text\n")
    meta = {"sample_rate": SAMPLE_RATE_HZ, "fps": FPS, "licence": "CC-BY-4.0", "description": "made by a test"}
    (folder / "data.json").write_text(json.dumps(meta))
    dropped = {"num_in": 4, "reasons": {"too_short": {"count": 1, "utterances": {"s9-x": "0.1 s"}}}}
    (folder / "filter_report.json").write_text(json.dumps(dropped))


def _write_experiment(folder: Path, dump_dir: Path) -> None:
    for modality, hypotheses in HYPOTHESES.items():
        for name in ("test", NOISY):
            write_table(folder / "decode" / modality / name / "text", hypotheses)
            report = {
                "rtf": 0.5,
                "decode_sec": 2.0,
                "audio_sec": 4.0,
                "peak_rss_mb": 300.0,
                "command": "python -m espnet_av.bin.avsr_infer",
            }
            (folder / "decode" / modality / name / "infer.json").write_text(json.dumps(report))
    config = {
        "seed": 17,
        "max_epoch": 2,
        "model": "avsr",
        "model_conf": MODEL_CONF,
        "token_type": "char",
        "token_list": ["<blank>", "<unk>", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ", "<space>", "<eos>"],
        "bpemodel": None,
        "best_model_criterion": [["valid", "acc", "max"]],
        "output_dir": str(folder),
        "train_data_path_and_name_and_type": [[str(dump_dir / "train" / "wav.scp"), "speech", "sound"]],
        "wandb_api_key": "do-not-show-me",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    epochs = [
        {
            "epoch": epoch,
            "train": {"loss": 9.0 / epoch, "acc": 0.3 * epoch},
            "valid": {"loss": 9.5 / epoch, "acc": 0.29 * epoch},
            "time_sec": 3.0,
            "data_wait_share": 0.1,
            "lr": 1e-3,
            "steps": 10 * epoch,
            "peak_rss_mb": 400,
        }
        for epoch in (1, 2)
    ]
    (folder / "history.jsonl").write_text("".join(json.dumps(item) + "\n" for item in epochs))
    (folder / "stages.jsonl").write_text(
        '{"stage": 5, "name": "train", "wall_s": 61, "cpu_s": 99, "max_rss_mb": 400}\n'
    )

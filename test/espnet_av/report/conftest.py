# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A small separated and scored experiment, as stages 2-7 of speech separation leave it."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

KINDS = {"a_b": "same_speaker", "c_d": "same_gender", "e_f": "other"}
LEAK = {"a_b": 0.5, "c_d": 0.25, "e_f": 0.1}  # how much of the other voice is left
NUM_SAMPLES, NUM_FRAMES, DIM = 6400, 10, 16
LIPS = {"front_end": "lips of a test", "digest": "ab" * 32, "dim": DIM, "variants": 1, "seed": 0}
MODEL_CONF = {
    "repeats": 2,
    "channels": 8,
    "hidden": 4,
    "rnn_hidden": 2,
    "rnn_layers": 1,
    "attn_heads": 2,
    "video_dim": DIM,
    "video_hidden": 4,
    "video_depth": 2,
    "video_heads": 2,
    "video_ffn": 8,
    "caf_heads": 2,
}


@dataclass(frozen=True)
class Separated:
    """Folders of the experiment."""

    exp_dir: Path
    dump_dir: Path

    def config(self) -> dict:
        """Return the training configuration."""
        return yaml.safe_load((self.exp_dir / "config.yaml").read_text())

    def write_config(self, **changes: object) -> None:
        """Change keys of the training configuration; None removes one."""
        config = {**self.config(), **changes}
        (self.exp_dir / "config.yaml").write_text(yaml.safe_dump({k: v for k, v in config.items() if v is not None}))

    def score(self) -> None:
        """Run stage 7 with the metrics that are quick."""
        from espnet_av.bin import avss_score

        avss_score.main(
            [
                *("--exp_dir", str(self.exp_dir), "--data_dirs", str(self.dump_dir / "test")),
                *("--metrics", "si_snr", "si_snri", "snri", "--num_resamples", "50"),
            ]
        )


@pytest.fixture
def separated(tmp_path, monkeypatch) -> Separated:
    """Make a scored experiment: two kinds of lips, three mixtures that differ in quality, sound and mouth crops."""
    made = Separated(tmp_path / "exp" / "looks", tmp_path / "dump")
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        _write_set(made, name, rng)
    _write_training(made)
    monkeypatch.setattr("espnet_av.report.sections.default_settings", lambda names: {"seed": 0, "max_epoch": 40})
    made.score()
    return made


def _write_set(made: Separated, name: str, rng: np.random.Generator) -> None:
    from espnet_av.avss.separate_set import write_voice
    from espnet_av.data.audio_io import write_audio
    from espnet_av.data.mixture_dir import Mixture, write_mixtures

    folder, media = made.dump_dir / name, made.dump_dir.parent / "media" / name
    folder.mkdir(parents=True)
    media.mkdir(parents=True)
    mixtures = []
    for uid, kind in KINDS.items():
        voices = 0.1 * rng.standard_normal((2, NUM_SAMPLES)).astype(np.float32)
        files = {"mix": voices.sum(axis=0), "s1": voices[0], "s2": voices[1]}
        paths = {key: media / f"{uid}.{key}.wav" for key in files}
        for key, wave in files.items():
            write_audio(paths[key], wave, 16000)
        mouths = [media / f"{uid}.{number}.npy" for number in (1, 2)]
        for path in mouths:
            np.save(path, rng.integers(0, 255, (NUM_FRAMES, 48, 48), dtype=np.uint8))
        sources, crops = (str(paths["s1"]), str(paths["s2"])), tuple(map(str, mouths))
        facts = {"pair_kind": kind}
        mixtures.append(Mixture(uid, str(paths["mix"]), sources, crops, NUM_SAMPLES, NUM_FRAMES, facts))
        for mode in ("own", "swapped") if name == "test" else ():
            ordered = voices if mode == "own" else voices[::-1]
            for index, voice in enumerate(("s1", "s2")):
                wave = ordered[index] + LEAK[uid] * ordered[1 - index]
                target = made.exp_dir / "decode" / mode / name / voice / f"{uid}.wav"
                target.parent.mkdir(parents=True, exist_ok=True)
                write_voice(target, wave)
    write_mixtures(folder, mixtures, {"licence": "CC-BY-4.0", "description": "made by a test", "lips": LIPS})
    dropped = {"num_in": 4, "reasons": {"too_short": {"count": 1, "utterances": {"g_h": "0.1 s"}}}}
    (folder / "filter_report.json").write_text(json.dumps(dropped))


def _write_training(made: Separated) -> None:
    for mode in ("own", "swapped"):
        facts = {
            "task": "avss",
            "lips_mode": mode,
            "decode_sec": 0.6,
            "audio_sec": 1.2,
            "peak_rss_mb": 300.0,
            "num_seams": 2,
            "mean_seam_db": -20.5,
            "worst_seam_db": -10.25,
            "checkpoint": "valid.si_snri.ave_2best.pth",
            "command": f"python -m espnet_av.bin.avss_infer --lips_mode {mode}",
        }
        (made.exp_dir / "decode" / mode / "test" / "infer.json").write_text(json.dumps(facts))
    config = {
        "model": "rtfsnet",
        "model_conf": MODEL_CONF,
        "loss_conf": {},
        "lips": LIPS,
        "preprocessor_conf": {"peak": 0.9, "segment_sec": 2.0, "noise": {"scp": "/data/noise.scp"}},
        "seed": 17,
        "max_epoch": 2,
        "best_model_criterion": [["valid", "si_snri", "max"]],
        "output_dir": str(made.exp_dir),
        "train_data_path_and_name_and_type": [[str(made.dump_dir / "train" / "mix.scp"), "mix", "sound"]],
    }
    (made.exp_dir / "config.yaml").write_text(yaml.safe_dump(config))
    epochs = [
        {
            "epoch": epoch,
            "train": {"loss": -3.0 * epoch, "loss_snr": -3.0 * epoch, "loss_mse": 0.1},
            "valid": {"loss": -2.0 * epoch, "loss_snr": -2.0 * epoch, "loss_mse": 0.2, "si_snri": 2.5 * epoch},
            "time_sec": 3.0,
            "lr": 1e-3,
            "steps": 10 * epoch,
        }
        for epoch in (1, 2)
    ]
    (made.exp_dir / "history.jsonl").write_text("".join(json.dumps(item) + "\n" for item in epochs))

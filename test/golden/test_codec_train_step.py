# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One batch of the reference's training: losses, gradients, codebooks after it, and validation, reproduced."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from codec_formula import BUFFER_ABS, GRAD_REL, LOSS_REL, assert_close, fill, find_seed, read
from torch import Tensor

from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.model import CodecModel


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("codec")


@pytest.fixture(scope="module")
def values(folder) -> dict[str, Any]:
    return json.loads((folder / "values.json").read_text())


def make(folder: Path, track: int, **options: Any) -> CodecModel:
    return fill(CodecModel(CodecGenerator.from_preset(f"track{track}"), **options), find_seed(folder))


def batch(folder: Path, track: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    path = folder / f"track{track}_train_step.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    golden = read(path)
    return golden, {"audio": golden["audio"], "speech_ref1": golden["ref"]}


def rates(values: dict[str, Any], track: int) -> list[int]:
    found = [int(match[1]) for key in values if (match := re.fullmatch(rf"track{track}_train_bw(\d+)", key))]
    assert found
    return found


def check_stats(found: dict[str, Tensor], wanted: dict[str, float], suffix: str = "") -> None:
    for name, value in wanted.items():
        assert float(found[name + suffix]) == pytest.approx(value, rel=LOSS_REL, abs=1e-9), name


def check_gradients(model: CodecModel, wanted: dict[str, float | None], only: str = "") -> None:
    """Compare the norms of all gradients; ``only`` names the part whose parameters may have some."""
    for name, parameter in model.named_parameters():
        norm = wanted.get(name) if name.startswith(only) else None
        if norm is None:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert float(parameter.grad.norm()) == pytest.approx(norm, rel=GRAD_REL, abs=1e-7), name


def check_codebooks(model: CodecModel, golden: dict[str, Tensor], prefix: str) -> None:
    for number, layer in enumerate(model.generator.quantizer.layers):
        name = f"{prefix}.cb{number}"
        sizes, head = golden[f"{name}.cluster_size"], golden[f"{name}.embed_head"]
        torch.testing.assert_close(layer._codebook.cluster_size, sizes, atol=BUFFER_ABS, rtol=1e-5)
        torch.testing.assert_close(layer.codebook[: len(head)], head, atol=BUFFER_ABS, rtol=0)
        total = float(golden[f"{name}.embed_abs_sum"])
        assert float(layer.codebook.double().abs().sum()) == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("track", "compat"), [(1, False), (2, False), (1, True)])
def test_both_turns(folder, values, track, compat):
    golden, inputs = batch(folder, track)
    for number in rates(values, track)[compat:]:
        wanted = values[f"track{track}_train_bw{number}"]
        model = make(folder, track, reference_compat=compat).train()
        model.generator.register_forward_hook(
            lambda _, __, output, name=f"bw{number}": assert_close(output.wav[:, 0], golden[f"{name}.audio_hat"], name)
        )
        result = model(**inputs, num_quantizers=model.generator.codebooks_for(number))
        result["loss"].backward()
        check_stats(result["stats"], wanted["gen_stats"])
        check_gradients(model, wanted["gen_turn_grad_norms"], "" if compat else "generator.")
        model.zero_grad()
        result = model(**inputs, forward_generator=False)
        result["loss"].backward()
        check_stats(result["stats"], wanted["disc_stats"])
        check_gradients(model, wanted["disc_turn_grad_norms"])
        check_codebooks(model, golden, f"bw{number}")


@pytest.mark.parametrize("track", [1, 2])
@torch.no_grad()
def test_validation(folder, values, track):
    _, inputs = batch(folder, track)
    model = make(folder, track).eval()
    generator, discriminator = model(**inputs), model(**inputs, forward_generator=False)
    numbers = rates(values, track)
    for number in numbers:
        wanted = values[f"track{track}_eval_bw{number}"]
        check_stats(generator["stats"], wanted["gen_stats"], f"_{number}kbps")
        check_stats(discriminator["stats"], wanted["disc_stats"], f"_{number}kbps")
    mean = sum(values[f"track{track}_eval_bw{number}"]["gen_stats"]["mel_loss"] for number in numbers) / len(numbers)
    assert float(generator["stats"]["mel_loss"]) == pytest.approx(mean, rel=LOSS_REL)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A keyword that no class takes: the message names the block it stands in, what may stand there, and the nearest."""

from argparse import Namespace
from collections.abc import Callable
from typing import Any

import pytest
import torch

from espnet_av.avgen.choices import build_model
from espnet_av.avgen.vocoder_model import build_discriminator
from espnet_av.avss.model import build_network
from espnet_av.codec.choices import build_generator
from espnet_av.codec.generator import CodecGenerator
from espnet_av.codec.model import CodecModel
from espnet_av.layers.stft_discriminator import MultiScaleSTFTDiscriminator
from espnet_av.tasks.avsr import AVSRTask
from espnet_av.tasks.codec import CodecTask
from espnet_av.utils.config import does_not_fit
from espnet_av.utils.errors import UsageError


def recogniser(**conf: Any) -> Any:
    """Build a recogniser as training does."""
    tokens = ["<blank>", "<unk>", "A", "<eos>"]
    args = Namespace(model="avsr", model_conf=conf, token_list=tokens, token_type="word", bpemodel=None)  # noqa: S106
    return AVSRTask.build_network(args)


def codec_losses(**conf: Any) -> Any:
    """Put a codec and its losses together."""
    return CodecModel(CodecGenerator.from_preset("tiny"), MultiScaleSTFTDiscriminator(), **conf)


def optimizers(task: type, **conf: Any) -> Any:
    """Build the optimizers of a task over a layer, or over two."""
    layer = torch.nn.Linear(2, 2)
    names = Namespace(optim="adamw", optim_conf={"lr": 0.1}, optim2="adam", optim2_conf={}, freeze_param=[])
    args = Namespace(exclude_weight_decay=False, layer_lr_decay=1, sharded_ddp=False, **(vars(names) | conf))
    codec = torch.nn.ModuleDict({"generator": layer, "discriminator": layer})
    return task.build_optimizers(args, torch.nn.ModuleDict({"codec": codec}) if task is CodecTask else layer)


CASES: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: recogniser(ctc_wieght=0.3), "model_conf", "ctc_weight"),
    (lambda: recogniser(encoder_conf={"layerdropp": 0.1}), "model_conf.encoder_conf", "layerdrop"),
    (lambda: recogniser(decoder_conf={"num_hedas": 4}), "model_conf.decoder_conf", "num_heads"),
    (lambda: build_network("rtfsnet", {"repeets": 4}), "model_conf", "repeats"),
    (
        lambda: build_generator("lrac", {"preset": "tiny", "encoder_conf": {"chanels": [8]}}),
        "model_conf.encoder_conf",
        "channels",
    ),
    (lambda: CodecGenerator(quantizer_conf={"codebook_sise": 8}), "model_conf.quantizer_conf", "codebook_size"),
    (lambda: codec_losses(mel_loss_conf={"num_mel": [6]}), "loss_conf.mel_loss_conf", "num_mels"),
    (lambda: build_model(None, {"token_dims": 5}), "model_conf", "token_dim"),
    (lambda: optimizers(AVSRTask, optim_conf={"lrr": 0.1}), "optim_conf", "lr"),
    (lambda: optimizers(CodecTask, optim2_conf={"beta": (0, 0)}), "optim2_conf", "betas"),
    (lambda: build_discriminator("stft", {"chanels": 4}), "discriminator_conf", "channels"),
]


@pytest.mark.parametrize(("build", "where", "near"), CASES)
def test_keyword_that_is_unknown(build: Callable[[], Any], where: str, near: str) -> None:
    with pytest.raises(UsageError) as error:
        build()
    said = str(error.value)
    assert said.startswith(f"{where} does not fit ") and f"did you mean '{near}'?" in said, said
    listed = said.split("allowed: ")[1].split("; fix")[0].split(", ")
    assert near in listed and len(listed) > 2


def test_other_mistakes() -> None:
    """What is no unknown keyword, or of a function that is not found, is told as Python does."""
    for said in ("Net.__init__() missing 1 required argument", "f.<locals>.g() got an unexpected keyword argument 'x'"):
        error = does_not_fit(TypeError(said), "model_conf", {"x": 1, "part": {"x": 2}})
        assert isinstance(error, UsageError) and str(error) == f"model_conf does not fit: {said}; got ['part', 'x']"


def test_block_of_a_keyword_that_stands_in_two() -> None:
    """The block is the one whose other keywords the class takes."""

    class Part:
        def __init__(self, width: int = 1, depth: int = 1) -> None:
            """Take two keywords."""

    Part.__init__.__qualname__ = "Part.__init__"
    conf = {"a_conf": {"dim": 1, "heads": 2}, "b_conf": {"dim": 1, "depth": 2}}
    with pytest.raises(TypeError) as error:
        Part(**conf["b_conf"])  # type: ignore[arg-type]
    said = "model_conf.b_conf does not fit Part: unknown keyword 'dim'; allowed: width, depth"
    assert str(does_not_fit(error.value, "model_conf", conf)) == said

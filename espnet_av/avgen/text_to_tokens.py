# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Text to tokens: the logits of letters in time that a recogniser would give for the text spoken aloud.

The model is Matcha-TTS with 29 features in place of mel bands: a text encoder says what each symbol looks like and how
long it lasts, a flow makes frames of it. What comes out is at the rate of the mel, ready for the generator.

    model = load_text_to_tokens("exp/text_to_tokens")
    tokens = model.generate("HELLO THERE", speed=1.1, seed=3)  # (T, 29) at 86.13 Hz

Axes: ``B`` batch, ``L`` symbols, ``T`` frames at the mel rate, ``D`` features of a frame (29).
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from espnet_av.avgen.alignment import log_prior, maximum_path, prior_loss
from espnet_av.avgen.durations import (
    ROUNDINGS,
    duration_loss,
    duration_path,
    expand,
    frame_counts,
    round_up,
    sequence_mask,
    total_frames,
)
from espnet_av.avgen.flow import FlowMatching, masked_mean
from espnet_av.avgen.matcha_blocks import TextEncoder, VelocityUNet
from espnet_av.avgen.noise import FrameNoise
from espnet_av.avgen.solvers import integrate
from espnet_av.avgen.text import TABLES, TextFrontEnd
from espnet_av.train.loading import load_into, load_weights
from espnet_av.train.pretrained import find_weights, resolve_device
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import CheckpointError, DataError, UsageError, describe, usage_error

TOKEN_DIM = 29
REFERENCE_MEAN, REFERENCE_STD = -2.8461, 4.5255  # of the tokens the published model was trained on
FRAME_FACTOR = 4  # lengths are rounded up to a multiple of it
TEMPERATURE, STEPS = 0.667, 10
LONGEST_PIECE = 300  # characters that are spoken in one go
SMALLEST_DURATION = 0.5  # frames; of a symbol that CTC gives no frame
VALIDATION_SEED = 20
TASK_PREFIX = "text_to_tokens."  # of names in a training of :class:`espnet_av.tasks.avgen_aux.TextToTokensTask`

#: Sizes that train on two CPU cores within minutes.
SMALL: dict[str, Any] = {
    "encoder": {"channels": 96, "filter_channels": 256, "duration_channels": 96, "layers": 3},
    "decoder": {"channels": [96, 96], "head_dim": 32, "mid_blocks": 1},
}
#: For tests.
TINY: dict[str, Any] = {
    "encoder": {"channels": 32, "filter_channels": 48, "duration_channels": 24, "layers": 2},
    "decoder": {"channels": [32, 32], "head_dim": 16, "mid_blocks": 1},
}
PRESETS: dict[str, dict[str, Any]] = {"base": {}, "small": SMALL, "tiny": TINY}


class _Decoder(nn.Module):
    """Holds the velocity; the published names have this level."""

    def __init__(self, estimator: VelocityUNet) -> None:
        super().__init__()
        self.estimator = estimator


class TextToTokens(nn.Module):
    """The model.

    Args:
        symbols: Table of symbols, see :class:`~espnet_av.avgen.text.TextFrontEnd`.
        n_vocab: Number of symbols; None: those of the table.
        n_feats: Features of a frame ``D``.
        encoder: Keywords of :class:`~espnet_av.avgen.matcha_blocks.TextEncoder`.
        decoder: Keywords of :class:`~espnet_av.avgen.matcha_blocks.VelocityUNet`.
        preset: ``base`` (the published sizes), ``small`` or ``tiny``; encoder and decoder keywords beside it stand.
        sigma_min: Noise that is left at the end of the flow.
        mean: Of all values of the tokens.
        std: Their standard deviation.
        rounding: Of durations, see :func:`~espnet_av.avgen.durations.frame_counts`.

    Raises:
        UsageError: A value is unknown or out of range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        symbols: str = "characters",
        n_vocab: int | None = None,
        n_feats: int = TOKEN_DIM,
        *,
        encoder: Mapping[str, Any] | None = None,
        decoder: Mapping[str, Any] | None = None,
        preset: str = "base",
        sigma_min: float = 1e-4,
        mean: float = REFERENCE_MEAN,
        std: float = REFERENCE_STD,
        rounding: str = "cumulative",
    ) -> None:
        super().__init__()
        for what, value, allowed in (("symbols", symbols, TABLES), ("preset", preset, PRESETS)):
            if value not in allowed:
                usage_error(f"unknown {what} of the text-to-tokens model", value, list(allowed))
        if rounding not in ROUNDINGS:
            usage_error("unknown rounding of durations", rounding, ROUNDINGS)
        if not std > 0:
            usage_error("the standard deviation of tokens is out of range", std, "above 0")
        sizes = PRESETS[preset]
        self.symbols, self.n_feats, self.rounding = symbols, n_feats, rounding
        self.n_vocab = len(TABLES[symbols]) if n_vocab is None else n_vocab
        self.encoder = TextEncoder(self.n_vocab, n_feats, **{**sizes.get("encoder", {}), **(encoder or {})})
        self.decoder = _Decoder(VelocityUNet(n_feats, **{**sizes.get("decoder", {}), **(decoder or {})}))
        self.flow = FlowMatching(sigma_min, "l2")
        self.register_buffer("mean", torch.tensor(float(mean)))
        self.register_buffer("std", torch.tensor(float(std)))

    def forward(
        self,
        ids: Tensor,
        ids_lengths: Tensor,
        tokens: Tensor,
        tokens_lengths: Tensor,
        durations: Tensor | None = None,
        noise: Tensor | None = None,
        t: Tensor | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the training loss, the sum of three terms, and the terms.

        * ``loss_duration``: squared error of log-durations;
        * ``loss_prior``: negative log-density of frames under their symbol;
        * ``loss_flow``: squared error of the velocity.

        In evaluation mode noise and time are drawn from a fixed seed.

        Args:
            ids: ``(B, L)``.
            ids_lengths: ``(B,)``.
            tokens: Logits at the mel rate ``(B, T, D)``.
            tokens_lengths: ``(B,)``.
            durations: Frames of each symbol ``(B, L)``; None: found by monotonic alignment search.
            noise: Standard normal ``(B, D, T')`` with ``T`` rounded up to a multiple of 4; None: drawn.
            t: Times of the flow ``(B,)``; None: drawn.
        """
        y = self.normalise(tokens).transpose(1, 2)  # (B, T, D) -> (B, D, T)
        y = nn.functional.pad(y, (0, round_up(y.shape[-1], FRAME_FACTOR) - y.shape[-1]))
        ids_mask = sequence_mask(ids_lengths, ids.shape[1]).unsqueeze(1).to(y.dtype)
        frame_mask = sequence_mask(tokens_lengths, y.shape[-1]).unsqueeze(1).to(y.dtype)
        y = y * frame_mask
        mu_symbols, log_durations = self.encoder(ids.clamp_min(0), ids_mask)
        both = ids_mask.transpose(1, 2) * frame_mask
        if durations is None:
            with torch.no_grad():
                path = maximum_path(log_prior(mu_symbols, y) * both, ids_lengths, tokens_lengths)
            smallest = 0.0
        else:
            path, smallest = duration_path(durations.to(y.dtype), both), SMALLEST_DURATION
        mu = expand(mu_symbols, path)
        generator = None if self.training else torch.Generator().manual_seed(VALIDATION_SEED)
        if noise is None:
            noise = torch.randn(y.shape, generator=generator).to(y)
        if t is None:
            t = torch.rand(len(y), generator=generator).to(y)
        velocity = self.decoder.estimator(self.flow.path(noise, y, t), frame_mask, mu, t)
        error = self.flow.error(velocity, noise, y).transpose(1, 2)
        terms = {
            "loss_duration": duration_loss(log_durations, path.sum(dim=-1), ids_mask, smallest),
            "loss_prior": prior_loss(y, mu, frame_mask),
            "loss_flow": masked_mean(error, frame_mask.squeeze(1)),
        }
        loss = terms["loss_duration"] + terms["loss_prior"] + terms["loss_flow"]
        return loss, {name: value.detach() for name, value in terms.items()}

    def normalise(self, tokens: Tensor) -> Tensor:
        """Return tokens with mean 0 and deviation 1."""
        return (tokens - self.mean) / self.std

    def denormalise(self, tokens: Tensor) -> Tensor:
        """Undo :meth:`normalise`."""
        return tokens * self.std + self.mean

    @torch.inference_mode()
    def generate(
        self,
        text: str | Sequence[int],
        *,
        speed: float = 1.0,
        temperature: float = TEMPERATURE,
        steps: int = STEPS,
        seed: int = 0,
        g2p: str | None = None,
        solver: str = "euler",
    ) -> Tensor:
        """Return the tokens of a text.

        Args:
            text: Text, or numbers of symbols with their blanks.
            speed: 2 is twice as fast.
            temperature: Factor on the noise; 0 gives the same tokens for every seed.
            steps: Of the solver.
            seed: Of the noise.
            g2p: See :class:`~espnet_av.avgen.text.TextFrontEnd`.
            solver: See :func:`~espnet_av.avgen.solvers.integrate`.

        Returns:
            float32 ``(T, D)`` at the mel rate, on the CPU.

        Raises:
            UsageError: The text is empty or cannot be spoken, or a value is out of range.
        """
        if not speed > 0:
            usage_error("the speed is out of range", speed, "above 0")
        if not temperature >= 0:
            usage_error("the temperature is out of range", temperature, "0 or more")
        noise, made, start = FrameNoise(seed), [], 0
        for ids in self._pieces(text, g2p):
            numbers = torch.tensor([ids], device=self.mean.device)
            mu, mask, length = self.expand_text(numbers, torch.tensor([len(ids)]).to(numbers), 1 / speed)
            drawn = noise(start, mu.shape[-1], self.n_feats).t().unsqueeze(0).to(mu)
            frames = self.decode(mu, mask, drawn * temperature, steps, solver)
            made.append(self.denormalise(frames)[0, :, : int(length)].t().float().cpu())
            start += int(length)
        return torch.cat(made).contiguous()

    def _pieces(self, text: str | Sequence[int], g2p: str | None) -> list[list[int]]:
        if isinstance(text, str):
            front_end = TextFrontEnd(self.symbols, g2p)
            if self.n_vocab < len(front_end):
                what = f"the text model knows fewer symbols than the table {self.symbols}"
                fix = "convert it again with --model_conf symbols=..., or give numbers of symbols"
                usage_error(what, self.n_vocab, f"{len(front_end)} or more", fix)
            front_end.clean(text)  # complain about the whole text, not about a piece
            return [front_end.encode(piece) for piece in front_end.pieces(text, LONGEST_PIECE)]
        ids = [int(number) for number in text]
        if not ids or min(ids) < 0 or max(ids) >= self.n_vocab:
            usage_error("these are no numbers of symbols", ids[:10], f"one or more of 0 to {self.n_vocab - 1}")
        return [ids]

    def expand_text(self, ids: Tensor, ids_lengths: Tensor, length_scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor]:
        """Encode symbols and repeat each for its frames.

        Args:
            ids: ``(B, L)``.
            ids_lengths: ``(B,)``.
            length_scale: Factor on durations.

        Returns:
            ``mu (B, D, T)``, its mask ``(B, 1, T)`` and the frames of each ``(B,)``; ``T`` is a multiple of 4.
        """
        ids_mask = sequence_mask(ids_lengths, ids.shape[1]).unsqueeze(1).to(self.mean.dtype)
        mu, log_durations = self.encoder(ids, ids_mask)
        counts = frame_counts(log_durations, ids_mask, length_scale, self.rounding)
        lengths = total_frames(counts)
        mask = sequence_mask(lengths, round_up(int(lengths.max()), FRAME_FACTOR)).unsqueeze(1).to(mu.dtype)
        path = duration_path(counts.squeeze(1), ids_mask.transpose(1, 2) * mask)
        return expand(mu, path), mask, lengths

    def decode(self, mu: Tensor, mask: Tensor, x0: Tensor, steps: int = STEPS, solver: str = "euler") -> Tensor:
        """Follow the flow from noise.

        Args:
            mu: ``(B, D, T)``.
            mask: ``(B, 1, T)``.
            x0: Noise times temperature ``(B, D, T)``.
            steps: Of the solver.
            solver: Its name.

        Returns:
            Normalised tokens ``(B, D, T)``.
        """

        def field(x: Tensor, t: float) -> Tensor:
            return self.decoder.estimator(x, mask, mu, torch.full((len(x),), t, dtype=x.dtype, device=x.device))

        return integrate(field, x0, steps, solver)


def reference_conf(config: Mapping[str, Any]) -> dict[str, Any]:
    """Turn the nested configuration of a published model into keywords of :class:`TextToTokens`.

    Raises:
        UsageError: A key is missing.
    """
    try:
        encoder, duration = config["encoder"]["encoder_params"], config["encoder"]["duration_predictor_params"]
        decoder, statistics = config["decoder"], config["data_statistics"]
        conf: dict[str, Any] = {
            "symbols": "matcha",
            "n_vocab": config["n_vocab"],
            "n_feats": config["n_feats"],
            "encoder": {
                "channels": encoder["n_channels"],
                "filter_channels": encoder["filter_channels"],
                "duration_channels": duration["filter_channels_dp"],
                "heads": encoder["n_heads"],
                "layers": encoder["n_layers"],
                "kernel_size": encoder["kernel_size"],
                "dropout": encoder["p_dropout"],
                "duration_dropout": duration["p_dropout"],
                "prenet": encoder.get("prenet", True),
            },
            "decoder": {
                "channels": list(decoder["channels"]),
                "heads": decoder["num_heads"],
                "head_dim": decoder["attention_head_dim"],
                "blocks": decoder["n_blocks"],
                "mid_blocks": decoder["num_mid_blocks"],
                "dropout": decoder["dropout"],
                "additive_mask_quirk": True,
            },
            "mean": statistics["mean"],
            "std": statistics["std"],
            "rounding": "ceil",
        }
    except KeyError as error:
        raise UsageError(describe(f"the configuration of a text-to-tokens model lacks {error}")) from error
    flow = config.get("cfm", config)
    return {**conf, "sigma_min": flow["sigma_min"]} if "sigma_min" in flow else conf


def conf_from_state(state: Mapping[str, Tensor], heads: int = 2) -> dict[str, Any]:
    """Read the keywords of :class:`TextToTokens` off the shapes of a published state dict.

    Args:
        state: A bare state dict.
        heads: Of attention in both networks; they leave no trace in the tensors.

    A model with as many symbols as there are characters is one of ours, which counts frames in another way.

    Raises:
        CheckpointError: It is of another network.
    """

    def count(prefix: str, place: int) -> int:
        return len({name.split(".")[place] for name in state if name.startswith(prefix)})

    unet = "decoder.estimator."
    try:
        ours = state["encoder.emb.weight"].shape[0] == len(TABLES["characters"])
        first = state["encoder.encoder.ffn_layers.0.conv_1.weight"]
        width = state[f"{unet}down_blocks.0.1.0.attn1.to_q.weight"].shape[0]
        stages = count(f"{unet}down_blocks.", 3)
        conf: dict[str, Any] = {
            "symbols": "characters" if ours else "matcha",
            "n_vocab": state["encoder.emb.weight"].shape[0],
            "n_feats": state["encoder.proj_m.weight"].shape[0],
            "encoder": {
                "channels": first.shape[1],
                "filter_channels": first.shape[0],
                "duration_channels": state["encoder.proj_w.conv_1.weight"].shape[0],
                "heads": heads,
                "layers": count("encoder.encoder.attn_layers.", 3),
                "kernel_size": first.shape[2],
                "prenet": "encoder.prenet.proj.weight" in state,
            },
            "decoder": {
                "channels": [state[f"{unet}down_blocks.{k}.0.res_conv.weight"].shape[0] for k in range(stages)],
                "heads": heads,
                "head_dim": width // heads,
                "blocks": count(f"{unet}down_blocks.0.1.", 5),
                "mid_blocks": count(f"{unet}mid_blocks.", 3),
                "additive_mask_quirk": not ours,
            },
            "rounding": "cumulative" if ours else "ceil",
        }
    except KeyError as error:
        raise CheckpointError(describe(f"these are no weights of a text-to-tokens model: no {error}")) from error
    return conf


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the model out of a training, a bare state dict, or a checkpoint of Matcha-TTS."""
    renamed = {"mel_mean": "mean", "mel_std": "std"}
    names = {name: name.removeprefix(TASK_PREFIX) for name in state}
    return {renamed.get(names[name], names[name]): value for name, value in state.items()}


def load_text_to_tokens(
    path: str | os.PathLike, device: str | torch.device = "cpu", weights: str | os.PathLike | None = None
) -> TextToTokens:
    """Load a model in evaluation mode.

    Args:
        path: A published file (``text_to_tokens.pth``), or the folder of a training or pack.
        device: Where to compute.
        weights: A file of the training; None: the best.

    Raises:
        MissingDataError: Nothing is there.
        CheckpointError: The weights are damaged or belong to something else.
    """
    path, conf = Path(path), None
    if path.is_dir():
        config = load_yaml(path / "config.yaml") if (path / "config.yaml").is_file() else {}
        conf = config.get("model_conf")
        path = find_weights(path, weights, config.get("best_model_criterion"))
    state = network_state(load_weights(path))
    try:
        model = TextToTokens(**(conf_from_state(state) if conf is None else conf))
    except TypeError as error:
        raise CheckpointError(describe(f"{path}: the configuration does not fit: {error}")) from error
    load_into(model, state, source=str(path))
    return model.to(resolve_device(device)).eval()


def mel_rate_length(num_tokens: int) -> int:
    """Return the mel frames that so many token frames (50 Hz) last, where the length of the sound is not known.

    Raises:
        DataError: There are no frames.
    """
    if num_tokens < 1:
        raise DataError(describe("there are no token frames", num_tokens, "1 or more"))
    from espnet_av.avgen.clock import TOKEN_HOP, TOKEN_SAMPLE_RATE, TOKEN_WINDOW, mel_frames

    samples = (num_tokens - 1) * TOKEN_HOP + TOKEN_WINDOW + TOKEN_HOP // 2  # half a hop is cut off on average
    return max(1, mel_frames(samples, TOKEN_SAMPLE_RATE))

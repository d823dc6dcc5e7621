# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The generator as one object: text, sound or tokens in, speech and a moving face out.

    generator = AVGenerator.from_pretrained("exp/avgen/pack")
    sample = generator("HELLO THERE")[0]                   # .wav .face .head .mel
    again = generator(audio="speech.wav", num_samples=3)   # the same words in the voice of the model

No data set is needed: statistics, head VAE and sizes lie in the checkpoint. What only some inputs need lies in folders
below that of the model, or is named: ``vocoder``, ``text_to_tokens`` (for text) and ``tokens`` (for sound).

Axes: ``C`` channels, ``N`` samples, ``T`` frames at the mel rate, ``M`` token frames.
"""

import functools
import logging
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from espnet_av.avgen.clock import MEL_RATE, MOTION_RATE, TOKEN_SAMPLE_RATE, mel_frames, resample_linear
from espnet_av.avgen.generator_parts import (
    AUTO,
    SILENCE,
    TEXT,
    TOKENS,
    VAD,
    VOCODER,
    choose_vocoder,
    find_checkpoint,
    find_part,
    load_extractor,
    load_model,
    load_text,
    mel_config,
    model_digest,
    packed_vad,
    read_array,
    vocoder_source,
)
from espnet_av.avgen.mel import MelConfig
from espnet_av.avgen.output import Generated
from espnet_av.avgen.participant import PARTNER_DRIFT_SEC
from espnet_av.avgen.presets import PARTNER_DIMS
from espnet_av.avgen.sampler import DEFAULT_SOLVER, ChunkRules, SolverRules
from espnet_av.avgen.sound_files import read_channels
from espnet_av.avgen.vad import RULES
from espnet_av.avgen.vocoder import Vocoder
from espnet_av.hub import Origin, Pretrained, locate_model
from espnet_av.train.pretrained import resolve_device
from espnet_av.utils.errors import DataError, MissingDataError, describe, usage_error
from espnet_av.utils.files import sha256_file

if TYPE_CHECKING:
    from espnet_av.avgen.model import AVGenModel
    from espnet_av.avgen.text_to_tokens import TextToTokens
    from espnet_av.avgen.tokens import TokenExtractor

logger = logging.getLogger(__name__)
RATES = ("token", "mel")
MOST_CHANNELS = 2  # actor and partner

#: A file, or sound in [-1, 1] at 16 kHz ``(N,)`` or ``(C, N)``.
SoundLike = str | os.PathLike | np.ndarray | Tensor
#: A ``.npy`` file, or an array ``(M, 29)`` or ``(C, M, 29)``.
TokensLike = str | os.PathLike | np.ndarray | Tensor


@dataclass(frozen=True)
class Partner:
    """What is known of the other person of a conversation; what is not, is taken as neutral.

    Attributes:
        audio: The voice; of two channels, actor and partner, the second.
        tokens: Tokens of it, instead; of two channels likewise.
        expression: ``(F, 55)`` at 30 Hz, or a ``.npy`` file of them.
        head: ``(F, 3)``, likewise.
        pad: Let a partner who ends before the actor be silent and keep still; otherwise that is an error.
        tokens_rate: Of ``tokens``: see :meth:`AVGenerator.read_tokens`.
    """

    audio: SoundLike | None = None
    tokens: TokensLike | None = None
    expression: str | os.PathLike | np.ndarray | None = None
    head: str | os.PathLike | np.ndarray | None = None
    pad: bool = False
    tokens_rate: str = "token"


class AVGenerator(Pretrained):
    """Generate speech and motion.

    Args:
        model: The generator.
        device: Where to compute: ``cpu``, ``cuda``, ``cuda:1``; ``auto`` takes a GPU where there is one.
        vocoder: Turns its mel into sound; None: no sound.
        text_to_tokens: Loads the model of texts when one comes; None: no texts.
        extractor: Loads the recogniser of sound when some comes; None: no sound.

    Attributes:
        model: In evaluation mode.
        folder: Where :meth:`from_pretrained` found the model; else None.
        checkpoint: The file of its weights, likewise.

    Raises:
        CheckpointError: The vocoder was made for other spectrograms.
        EnvironmentProblem: There is no such device.
    """

    system_name = "avgen"
    weight_prefix = "avgen."

    def __init__(
        self,
        model: "AVGenModel",
        *,
        device: str | torch.device = "cpu",
        vocoder: Vocoder | None = None,
        text_to_tokens: Callable[[], "TextToTokens"] | None = None,
        extractor: Callable[[], "TokenExtractor"] | None = None,
    ) -> None:
        self.device = resolve_device(device)
        self.model = model.to(self.device).eval()
        if vocoder is not None:
            vocoder.check(self.mel_config)
        self.vocoder = vocoder
        self._load_text, self._load_extractor = text_to_tokens, extractor
        self.folder: Path | None = None
        self.checkpoint: Path | None = None
        self._parts: dict[str, str] = {}
        self._sources: dict[str, str | os.PathLike] = {}

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        device: str | torch.device = "cpu",
        *,
        weights: str | os.PathLike | None = None,
        vocoder: str | os.PathLike = AUTO,
        text_to_tokens: str | os.PathLike | None = None,
        tokens: str | os.PathLike | None = None,
        vad: str | None = None,
        silence: str | os.PathLike | None = None,
        head_vae: str | os.PathLike | None = None,
        statistics: str | os.PathLike | None = None,
        model_conf: Mapping[str, Any] | None = None,
        revision: str | None = None,
        cache_dir: str | os.PathLike | None = None,
        token: str | None = None,
    ) -> "AVGenerator":
        """Load a generator.

        Args:
            source: An experiment, a pack or a converted model (a folder, or the file of its weights); a checkpoint of
                AV-Flow as it is published; or, where no such path is, ``organisation/name[@revision]`` of the
                Hugging Face hub.
            device: Where to compute.
            weights: A file of an experiment; None: the best.
            vocoder: ``auto`` (the one beside the model, else Griffin-Lim), ``griffinlim``, ``none``, ``bigvgan`` or
                ``hifigan`` (the one beside the model, if it is that), or what
                :func:`~espnet_av.avgen.vocoder.load_vocoder` loads.
            text_to_tokens: For texts: see :func:`~espnet_av.avgen.text_to_tokens.load_text_to_tokens`. None: the one
                beside the model.
            tokens: For sound: see :meth:`~espnet_av.avgen.tokens.TokenExtractor.from_pretrained`. None: the one beside
                the model.
            vad: See :class:`~espnet_av.avgen.tokens.TokenExtractor`; as in training. None: as the pack says, else
                ``none``.
            silence: ``.npy`` file with the vector of silence. None: that of the pack, if it says how silence was put
                in; else ``silence.npy`` beside the recogniser, if any.
            head_vae: Of a published checkpoint, which has none; without it, latents are given as head poses.
            statistics: The same for the statistics of its data, a ``.npz`` file or a folder in the 50h layout; in
                models of ours they replace those of training.
            model_conf: The same for what its tensors do not tell, e.g. ``{transformer_conf: {window_per_layer: ...}}``.
            revision: Branch, tag or commit of the hub.
            cache_dir: Where files of the hub are kept; None: where its own programs keep them.
            token: Access token of the hub; None: that of ``hf auth login`` or ``HF_TOKEN``.

        Raises:
            MissingDataError: A file is missing.
            CheckpointError: The weights do not fit, or are damaged.
            EnvironmentProblem: The hub cannot be reached.
        """
        path = locate_model(source, revision, cache_dir, token)
        device = resolve_device(device)
        model = load_model(path, weights, head_vae=head_vae, statistics=statistics, model_conf=model_conf)
        folder = path if path.is_dir() else path.parent
        text_source = find_part(folder, TEXT, text_to_tokens)
        sound_source = find_part(folder, TOKENS, tokens)
        rule = packed_vad(folder)
        if rule and silence is None:
            places = (folder / TOKENS / SILENCE, folder / SILENCE)
            silence = next((place for place in places if place.is_file()), None)
        if vad is not None and vad != rule.get("mode"):
            rule = {}
        rule = rule or {"mode": vad or "none", **RULES}
        generator = cls(
            model,
            device=device,
            vocoder=choose_vocoder(vocoder, folder, mel_config(model), device),
            text_to_tokens=functools.partial(load_text, text_source, device) if text_source else None,
            extractor=functools.partial(load_extractor, sound_source, rule, silence, device) if sound_source else None,
        )
        generator.folder, generator.checkpoint = folder, find_checkpoint(path, weights)
        named = {"text_to_tokens": text_source, "token_model": sound_source, VAD: rule["mode"], "silence": silence}
        named |= {"head_vae": head_vae, "statistics": statistics}
        generator._parts = {name: str(value) for name, value in named.items() if value not in (None, "none")}
        parts = {VOCODER: vocoder_source(vocoder, folder), TEXT: text_source, TOKENS: sound_source}
        sources = {**named, VOCODER: parts[VOCODER], VAD: None}
        generator._sources = {name: source for name, source in sources.items() if source is not None}
        packed = {name: Path(part) for name, part in parts.items() if part is not None and Path(part).exists()}
        extras = {} if silence is None else {f"{TOKENS}/{SILENCE}" if TOKENS in packed else SILENCE: Path(silence)}
        facts = {} if rule["mode"] == "none" else {VAD: rule}
        generator.origin = Origin(folder, generator.checkpoint, packed, extras if facts else {}, facts)
        return generator

    def trained_network(self) -> torch.nn.Module:
        """Return the network whose weights are saved; the further models go along as they were loaded."""
        return self.model

    def describe(self) -> dict[str, str]:
        """Return what samples depend on: the weights, the vocoder, the further models, and digests of their files."""
        found = {} if self.vocoder is None else {"vocoder": self.vocoder.name}
        if self.checkpoint is not None:
            found |= {"checkpoint": self.checkpoint.name, "checkpoint_sha256": sha256_file(self.checkpoint)}
        digests = {name: model_digest(name, source) for name, source in self._sources.items()}
        return {**found, **self._parts, **{f"{name}_sha256": digest for name, digest in digests.items() if digest}}

    @property
    def mel_config(self) -> MelConfig:
        """The spectrograms of the model."""
        return mel_config(self.model)

    @property
    def sample_rate(self) -> int:
        """Of the sound that is generated, in Hz."""
        return self.mel_config.sample_rate

    @property
    def in_conversation(self) -> bool:
        """Whether the model looks at a partner."""
        return self.model.participant_cond

    @functools.cached_property
    def text_to_tokens(self) -> "TextToTokens":
        """The model of texts, loaded when first asked for.

        Raises:
            MissingDataError: There is none.
        """
        if self._load_text is None:
            fix = f"pass text_to_tokens (stage 4d), or put it into {self.folder or 'the folder of the model'}/{TEXT}"
            raise MissingDataError(describe("text needs a text-to-tokens model, and there is none", fix=fix))
        return self._load_text()

    @functools.cached_property
    def extractor(self) -> "TokenExtractor":
        """The recogniser that makes tokens of sound, loaded when first asked for.

        Raises:
            MissingDataError: There is none.
        """
        if self._load_extractor is None:
            fix = f"pass tokens (stage 4), or put it into {self.folder or 'the folder of the model'}/{TOKENS}"
            raise MissingDataError(describe("sound needs a token model, and there is none", fix=fix))
        return self._load_extractor()

    # ---------------------------------------------------------------- what the model is told

    def read_text(self, text: str, **options: Any) -> Tensor:
        """Return the tokens of a text ``(1, T, 29)``; options are those of ``TextToTokens.generate``."""
        return self.text_to_tokens.generate(text, **options).unsqueeze(0)

    def read_sound(self, audio: SoundLike) -> Tensor:
        """Return the tokens of sound ``(C, T, 29)``, as many as it has mel frames.

        Raises:
            DataError: The sound is too short, has another shape or too many channels.
        """
        if isinstance(audio, (str, os.PathLike)):
            wave, _ = read_channels(audio, TOKEN_SAMPLE_RATE)
        else:
            wave = np.atleast_2d(np.asarray(audio, dtype=np.float32))
        _check_channels(audio if isinstance(audio, (str, os.PathLike)) else "the sound", len(wave))
        tokens = torch.from_numpy(self.extractor.extract(wave))
        return resample_linear(tokens, max(1, mel_frames(wave.shape[1], TOKEN_SAMPLE_RATE)), 1)

    def read_tokens(self, tokens: TokensLike, rate: str = "token") -> Tensor:
        """Return stored tokens as ``(C, T, 29)``.

        Args:
            tokens: The tokens.
            rate: ``token`` (50 Hz, as extractors write them) or ``mel`` (as the model of texts writes them).

        Raises:
            DataError: They have another shape, or values that are not finite.
        """
        if rate not in RATES:
            usage_error("unknown rate of tokens", rate, RATES)
        source = tokens if isinstance(tokens, (str, os.PathLike)) else "tokens"
        array = read_array(tokens, (2, 3), self.model.token_dim)
        frames = torch.from_numpy(array if array.ndim == 3 else array[None])
        _check_channels(source, len(frames))
        if not frames.shape[1]:
            raise DataError(describe(f"{source}: there are no token frames", tuple(frames.shape)))
        if rate == "mel":
            return frames
        from espnet_av.avgen.text_to_tokens import mel_rate_length

        return resample_linear(frames, mel_rate_length(frames.shape[1]), 1)

    def read_partner(self, partner: Partner, num_frames: int, tokens_rate: str | None = None) -> dict[str, Tensor]:
        """Return the partner's streams ``(num_frames, ...)``: cut where they are longer.

        Args:
            partner: What is known.
            num_frames: Frames at the mel rate.
            tokens_rate: Of the tokens; None: as the partner says.

        Raises:
            UsageError: Nothing of the partner is given.
            DataError: A stream has another shape, or ends before the actor.
        """
        if all(value is None for value in (partner.audio, partner.tokens, partner.expression, partner.head)):
            usage_error("nothing of the partner is given", fix="give the voice, tokens of it or features of the face")
        if partner.audio is not None:
            tokens = _second(self.read_sound(partner.audio), partner.audio)
        elif partner.tokens is not None:
            tokens = _second(self.read_tokens(partner.tokens, tokens_rate or partner.tokens_rate), partner.tokens)
        else:
            tokens = torch.from_numpy(self.extractor.silence).expand(num_frames, -1)
        self._check_partner_length(
            partner, partner.tokens if partner.audio is None else partner.audio, tokens, num_frames
        )
        tokens = tokens[:num_frames]
        if len(tokens) < num_frames:
            rest = tokens[-1] if self._load_extractor is None else torch.from_numpy(self.extractor.silence)
            tokens = torch.cat((tokens, rest.expand(num_frames - len(tokens), -1)))
        middle = (0.5 * (self.model.partner_min + self.model.partner_max)).cpu()
        streams = {"other_tokens": tokens}
        sizes = (PARTNER_DIMS["expression"], PARTNER_DIMS["head"])
        features = zip(("expression", "head"), (partner.expression, partner.head), middle.split(sizes), strict=True)
        for name, given, neutral in features:
            stream = neutral.expand(num_frames, -1)
            if given is not None:
                array = torch.from_numpy(read_array(given, (2,), PARTNER_DIMS[name]))
                stream = resample_linear(array, max(1, round(len(array) / MOTION_RATE * MEL_RATE)), 0)
                self._check_partner_length(partner, given, stream, num_frames)
                stream = torch.cat((stream, stream[-1:].expand(max(0, num_frames - len(stream)), -1)))[:num_frames]
            streams[f"other_{name}"] = stream
        return streams

    @staticmethod
    def _check_partner_length(partner: Partner, given: Any, stream: Tensor, num_frames: int) -> None:
        """Refuse a stream of the partner that ends before the actor, but for what clocks and rounding lose."""
        if partner.pad or num_frames - len(stream) <= PARTNER_DRIFT_SEC * MEL_RATE:
            return
        source = f"'{given}'" if isinstance(given, (str, os.PathLike)) else "what is given"
        got, allowed = f"{len(stream) / MEL_RATE:.2f} s", f"{num_frames / MEL_RATE:.2f} s or more"
        fix = "give as much of the partner, cut the actor (max_seconds), or pass --pad_partner (pad=True): silence then"
        raise DataError(describe(f"the partner is shorter than the actor: {source}", got, allowed, fix))

    # ---------------------------------------------------------------- generation

    def __call__(
        self,
        text: str | None = None,
        *,
        audio: SoundLike | None = None,
        tokens: TokensLike | None = None,
        tokens_rate: str = "token",
        partner: Partner | None = None,
        text_options: Mapping[str, Any] | None = None,
        max_seconds: float = 0.0,
        num_samples: int = 1,
        seed: int = 0,
        solver: SolverRules = DEFAULT_SOLVER,
        cfg: float = 0.0,
        partner_cfg: float = 0.0,
        chunks: ChunkRules | None = None,
        fps: float = MOTION_RATE,
        progress: Callable[[int], None] | None = None,
    ) -> list[Generated]:
        """Generate samples of one input: ``audio`` if it is given, else ``text``, else ``tokens``.

        Of input with two channels the first is the actor; in a model of conversations the second is the partner, where
        none is given.

        Args:
            text: What to say.
            audio: Speech to say again.
            tokens: Stored tokens.
            tokens_rate: See :meth:`read_tokens`.
            partner: The other person of a conversation.
            text_options: See :meth:`read_text`: ``speed``, ``temperature``, ``steps``; the seed is ``seed``.
            max_seconds: Cut longer input; 0: never.
            num_samples: Samples, each with noise of its own.
            seed: Of the noise; the same gives the same samples.
            solver: Steps, solver, time grid and temperature.
            cfg: Guidance by all conditions; 0: none.
            partner_cfg: Guidance by the partner alone.
            chunks: How long sequences are cut; see :meth:`~espnet_av.avgen.generation.Generation.generate`.
            fps: Rate of the motion.
            progress: Called with the number of finished frames after each chunk.

        Raises:
            UsageError: Nothing is given, or an option is out of range.
            DataError: The input cannot be used.
        """
        if not 0 <= max_seconds < math.inf:
            usage_error("max_seconds is out of range", max_seconds, "0 or more")
        if not 0 < fps < math.inf:
            usage_error("the rate of the motion is out of range", fps, "fps above 0")
        if audio is not None:
            channels = self.read_sound(audio)
        elif text is not None:
            channels = self.read_text(text, **{"seed": seed, **(text_options or {})})
        elif tokens is not None:
            channels = self.read_tokens(tokens, tokens_rate)
        else:
            usage_error("there is nothing to say", fix="give text, audio or tokens")
        longest = round(max_seconds * MEL_RATE) if max_seconds else channels.shape[1]
        if channels.shape[1] > longest:
            logger.warning("the input lasts %.1f s and is cut to %g s", channels.shape[1] / MEL_RATE, max_seconds)
            channels = channels[:, : max(1, longest)]
        return self.model.generate(
            channels[0],
            self._partner_of(partner, channels),
            num_samples=num_samples,
            seed=seed,
            solver=solver,
            cfg=cfg,
            partner_cfg=partner_cfg,
            chunks=chunks,
            fps=fps,
            vocoder=self.vocoder,
            progress=progress,
        )

    def _partner_of(self, partner: Partner | None, channels: Tensor) -> dict[str, Tensor] | None:
        if not self.in_conversation:
            if partner is not None:
                fix = "train with model_conf.participant_cond: true, or leave the partner out"
                usage_error("this model knows no partner", fix=fix)
            return None
        if partner is None and len(channels) > 1:
            return self.read_partner(Partner(tokens=channels[1]), channels.shape[1], "mel")
        return None if partner is None else self.read_partner(partner, channels.shape[1])


def _check_channels(source: str | os.PathLike, count: int) -> None:
    if count > MOST_CHANNELS:
        fix = "leave out the others"
        raise DataError(describe(f"{source}: too many channels", count, "1 or 2: actor, partner", fix))


def _second(channels: Tensor, source: Any) -> Tensor:
    """Return the partner's tokens out of ``(C, T, K)``: of actor and partner those of the partner."""
    if len(channels) > 1:
        name = source if isinstance(source, (str, os.PathLike)) else "what is given"
        logger.info("the partner is the second channel of %s; the first is an actor's", name)
    return channels[-1]

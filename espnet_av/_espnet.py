# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The gateway to ESPnet: the only file of the package that imports ``espnet`` or ``espnet2``.

Every upstream name that the package uses stands in :data:`UPSTREAM`; ``from espnet_av._espnet import AbsTask`` imports
it on first use. Nothing of ESPnet, and no torch, is imported with this module itself.

What the gateway does while ESPnet modules are imported, and undoes afterwards:

* ``typeguard.typechecked`` is the identity. The real decorator parses the source of every decorated function again and
  costs about 5 CPU seconds per process and 1 ms per training step. ``ESPNET_AV_TYPECHECK=1`` keeps it.
* ``g2p_en`` is a stand-in that loads the real package on first use: the real one looks for nltk corpora on the network
  when it is imported.
* Known notices (missing flash attention, nltk downloads) are dropped; every other line is passed on.
"""

import contextlib
import importlib
import os
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any, TextIO

from espnet_av.utils.errors import EnvironmentProblem, describe

ESPNET_VERSION = "202511"

#: Name in this module -> ``"module:attribute"`` upstream; an empty attribute means the module itself.
UPSTREAM: dict[str, str] = {
    # tasks and configuration
    "ASRTask": "espnet2.tasks.asr:ASRTask",
    "AbsTask": "espnet2.tasks.abs_task:AbsTask",
    "IteratorOptions": "espnet2.tasks.abs_task:IteratorOptions",
    "optim_classes": "espnet2.tasks.abs_task:optim_classes",
    "scheduler_classes": "espnet2.tasks.abs_task:scheduler_classes",
    "ClassChoices": "espnet2.train.class_choices:ClassChoices",
    "NestedDictAction": "espnet2.utils.nested_dict_action:NestedDictAction",
    "build_dataclass": "espnet2.utils.build_dataclass:build_dataclass",
    "config_argparse": "espnet2.utils.config_argparse:",
    "float_or_none": "espnet2.utils.types:float_or_none",
    "get_commandline_args": "espnet.utils.cli_utils:get_commandline_args",
    "get_default_kwargs": "espnet2.utils.get_default_kwargs:get_default_kwargs",
    "int_or_none": "espnet2.utils.types:int_or_none",
    "str2bool": "espnet2.utils.types:str2bool",
    "str2triple_str": "espnet2.utils.types:str2triple_str",
    "str_or_int": "espnet2.utils.types:str_or_int",
    "str_or_none": "espnet2.utils.types:str_or_none",
    "yaml_no_alias_safe_dump": "espnet2.utils.yaml_no_alias_safe_dump:yaml_no_alias_safe_dump",
    # data
    "AbsDataset": "espnet2.train.dataset:AbsDataset",
    "AbsIterFactory": "espnet2.iterators.abs_iter_factory:AbsIterFactory",
    "AbsPreprocessor": "espnet2.train.preprocessor:AbsPreprocessor",
    "AbsSampler": "espnet2.samplers.abs_sampler:AbsSampler",
    "CommonCollateFn": "espnet2.train.collate_fn:CommonCollateFn",
    "CommonPreprocessor": "espnet2.train.preprocessor:CommonPreprocessor",
    "ESPnetDataset": "espnet2.train.dataset:ESPnetDataset",
    "ITERABLE_DATA_TYPES": "espnet2.train.iterable_dataset:DATA_TYPES",
    "IterableESPnetDataset": "espnet2.train.iterable_dataset:IterableESPnetDataset",
    "MAP_DATA_TYPES": "espnet2.train.dataset:DATA_TYPES",
    "SequenceIterFactory": "espnet2.iterators.sequence_iter_factory:SequenceIterFactory",
    # training
    "AbsESPnetModel": "espnet2.train.abs_espnet_model:AbsESPnetModel",
    "DistributedOption": "espnet2.train.distributed_utils:DistributedOption",
    "Reporter": "espnet2.train.reporter:Reporter",
    "SubReporter": "espnet2.train.reporter:SubReporter",
    "Trainer": "espnet2.train.trainer:Trainer",
    "TrainerOptions": "espnet2.train.trainer:TrainerOptions",
    "force_gatherable": "espnet2.torch_utils.device_funcs:force_gatherable",
    "free_port": "espnet2.train.distributed_utils:free_port",
    "initialize": "espnet2.torch_utils.initialize:initialize",
    "model_summary": "espnet2.torch_utils.model_summary:model_summary",
    "pytorch_cudnn_version": "espnet2.torch_utils.pytorch_version:pytorch_cudnn_version",
    "resolve_distributed_mode": "espnet2.train.distributed_utils:resolve_distributed_mode",
    "set_all_random_seed": "espnet2.torch_utils.set_all_random_seed:set_all_random_seed",
    "to_device": "espnet2.torch_utils.device_funcs:to_device",
    # vocoders
    "HiFiGANMultiScaleMultiPeriodDiscriminator": "espnet2.gan_tts.hifigan:HiFiGANMultiScaleMultiPeriodDiscriminator",
    # text
    "AbsTokenizer": "espnet2.text.abs_tokenizer:AbsTokenizer",
    "TextCleaner": "espnet2.text.cleaner:TextCleaner",
    "TokenIDConverter": "espnet2.text.token_id_converter:TokenIDConverter",
    "build_tokenizer": "espnet2.text.build_tokenizer:build_tokenizer",
    # recognition: parts of the network
    "AbsDecoder": "espnet2.asr.decoder.abs_decoder:AbsDecoder",
    "AbsEncoder": "espnet2.asr.encoder.abs_encoder:AbsEncoder",
    "CTC": "espnet2.asr.ctc:CTC",
    "LabelSmoothingLoss": "espnet.nets.pytorch_backend.transformer.label_smoothing_loss:LabelSmoothingLoss",
    "SpecAug": "espnet2.asr.specaug.specaug:SpecAug",
    "TransformerDecoder": "espnet2.asr.decoder.transformer_decoder:TransformerDecoder",
    "add_sos_eos": "espnet.nets.pytorch_backend.transformer.add_sos_eos:add_sos_eos",
    "make_pad_mask": "espnet.nets.pytorch_backend.nets_utils:make_pad_mask",
    "pad_list": "espnet.nets.pytorch_backend.nets_utils:pad_list",
    "subsequent_mask": "espnet.nets.pytorch_backend.transformer.mask:subsequent_mask",
    "th_accuracy": "espnet.nets.pytorch_backend.nets_utils:th_accuracy",
    # recognition: search
    "BatchBeamSearch": "espnet.nets.batch_beam_search:BatchBeamSearch",
    "BatchHypothesis": "espnet.nets.batch_beam_search:BatchHypothesis",
    "BatchPartialScorerInterface": "espnet.nets.scorer_interface:BatchPartialScorerInterface",
    "BatchScorerInterface": "espnet.nets.scorer_interface:BatchScorerInterface",
    "BeamSearch": "espnet.nets.beam_search:BeamSearch",
    "CTCPrefixScore": "espnet.nets.ctc_prefix_score:CTCPrefixScore",
    "CTCPrefixScoreTH": "espnet.nets.ctc_prefix_score:CTCPrefixScoreTH",
    "CTCPrefixScorer": "espnet.nets.scorers.ctc:CTCPrefixScorer",
    "Hypothesis": "espnet.nets.beam_search:Hypothesis",
    "LengthBonus": "espnet.nets.scorers.length_bonus:LengthBonus",
    "PartialScorerInterface": "espnet.nets.scorer_interface:PartialScorerInterface",
    "ScorerInterface": "espnet.nets.scorer_interface:ScorerInterface",
}

_NOISE = (
    "Failed to import Flash Attention",
    "[nltk_data]",
)
_INSTALL = "bash tools/install.sh"
_lock = threading.RLock()


class _LazyModule(types.ModuleType):
    """A stand-in that imports the real module when something is asked of it."""

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), attribute)


class _NoiseFilter:
    """A text stream that passes complete lines on, except for the known notices."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.rest = ""

    def write(self, text: str) -> int:
        """Pass on the complete lines of ``text`` that are no noise; keep an unfinished line for later."""
        *lines, self.rest = (self.rest + text).split("\n")
        for line in lines:
            if not line.lstrip().startswith(_NOISE):
                self.stream.write(line + "\n")
        return len(text)

    def flush(self) -> None:
        """Flush the stream behind the filter."""
        self.stream.flush()

    def close_line(self) -> None:
        """Pass on what was written without a newline at its end."""
        if self.rest and not self.rest.lstrip().startswith(_NOISE):
            self.stream.write(self.rest)
        self.rest = ""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self.stream, attribute)


def _identity(target: Any = None, **_: Any) -> Any:
    """Stand in for ``typeguard.typechecked``, bare or with options."""
    return target if target is not None else _identity


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    """Make ``typeguard.typechecked`` the identity for a while."""
    if os.environ.get("ESPNET_AV_TYPECHECK") == "1":
        yield
        return
    try:
        import typeguard
    except ImportError:
        yield
        return
    original = typeguard.typechecked
    typeguard.typechecked = _identity
    try:
        yield
    finally:
        typeguard.typechecked = original


@contextlib.contextmanager
def _lazy_g2p() -> Iterator[None]:
    """Put a stand-in for ``g2p_en`` in place for a while."""
    if "g2p_en" in sys.modules:
        yield
        return
    stand_in = _LazyModule("g2p_en")
    sys.modules["g2p_en"] = stand_in
    try:
        yield
    finally:
        if sys.modules.get("g2p_en") is stand_in:
            del sys.modules["g2p_en"]


@contextlib.contextmanager
def _filtered_output() -> Iterator[None]:
    """Drop the known notices from standard output and error for a while."""
    filters = []
    with contextlib.ExitStack() as stack:
        for redirect, stream in ((contextlib.redirect_stdout, sys.stdout), (contextlib.redirect_stderr, sys.stderr)):
            if stream is None:  # a process without a console
                continue
            filters.append(_NoiseFilter(stream))
            stack.enter_context(redirect(filters[-1]))
        try:
            yield
        finally:
            for each in filters:
                each.close_line()


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Import ESPnet modules inside this context: fast, without network look-ups and without known notices.

    Everything it replaces is put back when the block ends, also after an error.
    """
    with _lock, _unchecked(), _lazy_g2p(), _filtered_output():
        yield


def check_version() -> str:
    """Return the version of the installed ESPnet.

    Raises:
        EnvironmentProblem: When ESPnet is not installed, or is another version than :data:`ESPNET_VERSION` and
            ``ESPNET_AV_ANY_ESPNET=1`` is not set.
    """
    try:
        with quiet_import():
            from espnet import __version__ as version
    except ImportError as error:
        what = f"ESPnet cannot be imported by {sys.executable} ({error})"
        raise EnvironmentProblem(describe(what, allowed=f"espnet=={ESPNET_VERSION}", fix=_INSTALL)) from error
    if str(version) != ESPNET_VERSION and os.environ.get("ESPNET_AV_ANY_ESPNET") != "1":
        raise EnvironmentProblem(
            describe(
                "this ESPnet has not been tested with espnet_av",
                got=str(version),
                allowed=ESPNET_VERSION,
                fix=f"pip install espnet=={ESPNET_VERSION}, or set ESPNET_AV_ANY_ESPNET=1 to try it",
            )
        )
    return str(version)


def load(name: str) -> Any:
    """Import the upstream object behind ``name``.

    Args:
        name: A key of :data:`UPSTREAM`.

    Raises:
        AttributeError: When ``name`` is not listed.
        EnvironmentProblem: When ESPnet is missing, of the wrong version or without that name.
    """
    if name not in UPSTREAM:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; upstream names are listed in UPSTREAM")
    check_version()
    module_name, _, attribute = UPSTREAM[name].partition(":")
    try:
        with quiet_import():
            module = importlib.import_module(module_name)
        return getattr(module, attribute) if attribute else module
    except (ImportError, AttributeError) as error:
        what = f"'{UPSTREAM[name]}' cannot be loaded from ESPnet ({error})"
        raise EnvironmentProblem(describe(what, fix=f"{_INSTALL} --force, then espnet-av doctor")) from error


def __getattr__(name: str) -> Any:
    value = load(name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *UPSTREAM})

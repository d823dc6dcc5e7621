# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Names and the classes behind them, alone and as class choices of an ESPnet task."""

import argparse
import importlib.metadata
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Iterator

import pytest

from espnet_av import registry
from espnet_av.registry import LazyChoices
from espnet_av.utils.errors import EnvironmentProblem, UsageError

GROUP = "demo.encoder"
BROKEN = "a_package_that_is_not_there:Encoder"


@pytest.fixture(autouse=True)
def clean_registry() -> Iterator[None]:
    """Take away what a test registers."""
    yield
    registry._registered.pop(GROUP, None)
    registry._plugins = None


def test_register_and_get() -> None:
    """A registered name gives its class, in any case; the class itself may be registered too."""
    registry.register(GROUP, "Ordered", "collections:OrderedDict")
    registry.register(GROUP, "plain", dict)
    assert registry.get_class(GROUP, "ORDERED") is OrderedDict
    assert registry.get_class(GROUP, "plain") is dict
    assert sorted(registry.choices(GROUP)) == ["ordered", "plain"]
    registry.unregister(GROUP, "plain")
    assert sorted(registry.choices(GROUP)) == ["ordered"]


def test_a_taken_name_needs_replace() -> None:
    """The same entry twice is fine; another class under the name only with ``replace``."""
    registry.register(GROUP, "a", "collections:OrderedDict")
    registry.register(GROUP, "a", "collections:OrderedDict")
    with pytest.raises(UsageError, match="replace=True"):
        registry.register(GROUP, "a", "collections:Counter")
    registry.register(GROUP, "a", "collections:Counter", replace=True)
    assert registry.get_class(GROUP, "a").__name__ == "Counter"


@pytest.mark.parametrize(("name", "target"), [("", "a:B"), ("none", "a:B"), ("x", "a.B"), ("x", ":B"), ("x", "a:")])
def test_malformed_entries(name: str, target: str) -> None:
    """Empty and reserved names and malformed targets are refused at once."""
    with pytest.raises(UsageError):
        registry.register(GROUP, name, target)


def test_unknown_name_lists_choices_and_nearest() -> None:
    """The message for an unknown name holds the choices and the nearest one."""
    registry.register(GROUP, "conformer", "collections:OrderedDict")
    registry.register(GROUP, "transformer", "collections:OrderedDict")
    with pytest.raises(UsageError, match=r"'confromer'.*conformer, transformer.*did you mean 'conformer'"):
        registry.get_class(GROUP, "confromer")
    with pytest.raises(UsageError, match="nothing is registered"):
        registry.get_class("demo.nothing", "x")


def test_broken_targets() -> None:
    """A class that cannot be loaded, or is of the wrong kind, is named in the error."""
    for target in (BROKEN, "collections:NoSuchClass"):
        registry.register(GROUP, "bad", target, replace=True)
        with pytest.raises(EnvironmentProblem, match=target):
            registry.get_class(GROUP, "bad")
    registry.register(GROUP, "bad", "collections:namedtuple", replace=True)
    with pytest.raises(UsageError, match="wrong type"):
        registry.get_class(GROUP, "bad")


def test_plugins_come_from_entry_points(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Entry points add choices without being imported; a malformed one is reported and left out."""
    entries = [
        importlib.metadata.EntryPoint(f"{GROUP}.mine", "collections:Counter", registry.ENTRY_POINT_GROUP),
        importlib.metadata.EntryPoint(f"{GROUP}.broken", BROKEN, registry.ENTRY_POINT_GROUP),
        importlib.metadata.EntryPoint("nogroup", "a:B", registry.ENTRY_POINT_GROUP),
    ]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: entries)
    registry._plugins = None
    assert sorted(registry.choices(GROUP)) == ["broken", "mine"]
    assert registry.get_class(GROUP, "mine").__name__ == "Counter"
    assert "nogroup" in caplog.text


def test_registry_does_not_import_espnet() -> None:
    """Registering and looking up works without ESPnet and torch."""
    code = "import sys; from espnet_av import registry as r; r.register('a.b', 'c', 'collections:Counter');"
    code += "r.get_class('a.b', 'c'); assert not {'torch', 'espnet', 'espnet2'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_lazy_choices_in_a_parser() -> None:
    """The option takes built in and registered names, in any case, and the help imports none of them."""
    choices = LazyChoices(GROUP, {"Broken": BROKEN, "ordered": "collections:OrderedDict"}, default="ordered")
    registry.register(GROUP, "mine", "collections:Counter")
    parser = argparse.ArgumentParser()
    choices.add_arguments(parser)
    assert "{broken,ordered,mine}" in parser.format_help()
    args = parser.parse_args(["--encoder", "Mine", "--encoder_conf", "size=3"])
    assert (args.encoder, args.encoder_conf) == ("mine", {"size": 3})
    assert parser.parse_args([]).encoder == "ordered"
    assert choices.choices() == ("broken", "ordered", "mine")
    assert choices.get_class("MINE").__name__ == "Counter"


def test_lazy_choices_refuse_unknown_names(capsys: pytest.CaptureFixture) -> None:
    """An unknown name ends the program with exit code 2 and the nearest name, from the command line or a default."""
    choices = LazyChoices(GROUP, {"conformer": BROKEN}, default="conformer")
    parser = argparse.ArgumentParser()
    choices.add_arguments(parser)
    for set_default, command in ((False, ["--encoder", "conformr"]), (True, [])):
        if set_default:
            parser.set_defaults(encoder="conformr")  # as a YAML file does
        with pytest.raises(SystemExit) as end:
            parser.parse_args(command)
        assert end.value.code == 2
        assert "did you mean 'conformer'?" in capsys.readouterr().err
    with pytest.raises(UsageError, match="default"):
        LazyChoices(GROUP, {"conformer": BROKEN}, default="missing")


@pytest.mark.parametrize(("optional", "expected"), [(True, (None, "none")), (False, ("ordered", "ordered"))])
def test_optional_choices(optional: bool, expected: tuple) -> None:
    """Without a default the part may be left out, and ``none`` leaves it out."""
    choices = LazyChoices(GROUP, {"ordered": "collections:OrderedDict"}, default=None if optional else "ordered")
    parser = argparse.ArgumentParser()
    choices.add_arguments(parser)
    assert choices.optional is optional
    assert parser.parse_args([]).encoder == expected[0]
    if optional:
        assert parser.parse_args(["--encoder", "none"]).encoder is None
        assert choices.get_class(None) is None
        assert choices.choices()[-1] is None
    else:
        with pytest.raises(SystemExit):
            parser.parse_args(["--encoder", "none"])


def test_base_class_is_checked() -> None:
    """A class that does not derive from the base is refused by name."""
    choices = LazyChoices(GROUP, {"list": "builtins:list"}, type_check="collections:OrderedDict", default="list")
    with pytest.raises(UsageError, match="OrderedDict"):
        choices.get_class("list")


def test_choices_work_inside_a_task(tmp_path: object) -> None:
    """A task of ESPnet builds its parser and its defaults from lazy choices, with a broken class among them."""
    from espnet_av._espnet import AbsESPnetModel, AbsTask, ClassChoices

    encoder_choices = LazyChoices(GROUP, {"bad": BROKEN, "good": "fractions:Fraction"}, default="good")
    assert isinstance(encoder_choices, ClassChoices)

    class Task(AbsTask):
        class_choices_list = [encoder_choices]

        @classmethod
        def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
            for choices in cls.class_choices_list:
                choices.add_arguments(parser.add_argument_group("Task"))

        @classmethod
        def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> None: ...

        @classmethod
        def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> None: ...

        @classmethod
        def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple:
            return ()

        @classmethod
        def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple:
            return ()

        @classmethod
        def build_model(cls, args: argparse.Namespace) -> AbsESPnetModel: ...

    assert "--encoder {bad,good}" in Task.get_parser().format_help()
    assert Task.get_default_config()["encoder"] == "good"
    args = Task.get_parser().parse_args(["--encoder", "BAD", "--output_dir", str(tmp_path)])
    assert args.encoder == "bad"
    with pytest.raises(EnvironmentProblem):
        encoder_choices.get_class(args.encoder)

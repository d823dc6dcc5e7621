# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The gateway to ESPnet: what it imports, what it leaves behind, and the pinned upstream names and signatures.

After a wanted change of upstream names: ``ESPNET_AV_UPDATE_SIGNATURES=1 pytest test/espnet_av/test_espnet_gateway.py``.
"""

import hashlib
import inspect
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from espnet_av import _espnet
from espnet_av.utils.errors import EnvironmentProblem

PINNED = Path(__file__).with_name("espnet_signatures.json")


def _signature(function: object) -> str:
    """Return names, kinds and defaults of the arguments, without annotations and addresses."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "?"
    parts = [f"{p.kind.name} {p.name}={'-' if p.default is p.empty else repr(p.default)}" for p in parameters]
    return re.sub(r" at 0x[0-9a-f]+", "", ", ".join(parts))


def _describe(upstream: object) -> str:
    """Return a text that changes when the interface of an upstream object does."""
    if isinstance(upstream, type):
        lines = []
        for base in upstream.__mro__:
            if not base.__module__.startswith("espnet"):
                continue
            for name, member in sorted(vars(base).items()):
                function = getattr(member, "__func__", member)
                if isinstance(function, types.FunctionType) and (name == "__init__" or not name.startswith("_")):
                    lines.append(f"{base.__name__}.{name}({_signature(function)})")
        return "\n".join(lines)
    if isinstance(upstream, types.ModuleType):
        return "\n".join(sorted(name for name in vars(upstream) if not name.startswith("_")))
    if isinstance(upstream, dict):
        return "\n".join(sorted(upstream))
    return _signature(upstream)


def test_upstream_names_and_signatures() -> None:
    """Every name in the table exists in ESPnet and has the pinned interface."""
    current = {
        name: hashlib.sha256(_describe(getattr(_espnet, name)).encode()).hexdigest()[:16] for name in _espnet.UPSTREAM
    }
    if os.environ.get("ESPNET_AV_UPDATE_SIGNATURES") == "1":
        PINNED.write_text(json.dumps(current, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    pinned = json.loads(PINNED.read_text(encoding="utf-8"))
    assert sorted(current) == sorted(pinned), "a name was added or removed; see the head of this file"
    changed = sorted(name for name in current if current[name] != pinned[name])
    assert not changed, f"ESPnet changed the interface of {changed}"


def test_interface_text_sees_a_new_argument() -> None:
    """The pinned text depends on names and defaults of arguments."""

    def old(a: int, b: int = 1) -> None: ...

    def new(a: int, b: int = 2) -> None: ...

    assert _describe(old) != _describe(new)


def test_import_leaves_no_trace() -> None:
    """After ASRTask is imported typeguard is itself again, g2p_en can be imported, and nothing was printed."""
    code = """
import sys, typeguard
before = typeguard.typechecked
from espnet_av._espnet import ASRTask
assert typeguard.typechecked is before
assert "g2p_en" not in sys.modules and "nltk" not in sys.modules
from espnet2.text import phoneme_tokenizer
assert type(phoneme_tokenizer.g2p_en).__name__ == "_LazyModule"
import logging
assert not logging.getLogger().handlers
"""
    environment = {**os.environ, "ESPNET_AV_TYPECHECK": "0"}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.parametrize(("switch", "expected"), [("1", "TypeCheckError"), ("0", "nothing")])
def test_typecheck_switch(switch: str, expected: str) -> None:
    """``ESPNET_AV_TYPECHECK=1`` keeps ESPnet's run time type checks, which are off otherwise."""
    code = """
from espnet_av._espnet import ClassChoices
try:
    ClassChoices("part", classes={}, optional="not a bool", default="x")
    print("nothing")
except Exception as error:
    print(type(error).__name__)
"""
    environment = {**os.environ, "ESPNET_AV_TYPECHECK": switch}
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert answer.stdout.strip() == expected, answer.stderr


def test_everything_is_put_back_after_an_error() -> None:
    """An import that fails inside of the quiet context leaves nothing replaced."""
    import typeguard

    before = (typeguard.typechecked, sys.stdout, sys.stderr, sys.modules.get("g2p_en"))
    with pytest.raises(ImportError), _espnet.quiet_import():
        import a_package_that_is_not_there  # noqa: F401
    assert (typeguard.typechecked, sys.stdout, sys.stderr, sys.modules.get("g2p_en")) == before


def test_stand_in_loads_the_real_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in for a package imports it when something is asked of it, and only then."""
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    stand_in = _espnet._LazyModule("colorsys")
    sys.modules["colorsys"] = stand_in
    assert stand_in.rgb_to_hsv(0.0, 0.0, 0.0) == (0.0, 0.0, 0.0)
    assert sys.modules["colorsys"] is not stand_in


def test_decorator_forms() -> None:
    """The stand-in for typeguard's decorator works bare and with options."""

    def function() -> int:
        return 1

    assert _espnet._identity(function) is function
    assert _espnet._identity(forward_refs_policy=None)(function) is function


def test_known_notices_are_dropped_and_others_pass(capsys: pytest.CaptureFixture) -> None:
    """Only the known notices vanish; a line written in parts and one without its end come through."""
    with _espnet.quiet_import():
        sys.stdout.write("Failed to import Flash Attention, using ESPnet default\nfirst ")
        sys.stdout.write("line\n[nltk_data] Downloading\nlast")
        sys.stderr.write("[nltk_data] Error loading\na real problem\n")
    out, err = capsys.readouterr()
    assert (out, err) == ("first line\nlast", "a real problem\n")


def test_other_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another ESPnet is refused with both versions and the fix, unless the user insists."""
    import espnet

    monkeypatch.setattr(espnet, "__version__", "202402")
    with pytest.raises(EnvironmentProblem, match=r"202402.*202511.*pip install espnet==202511"):
        _espnet.load("str2bool")
    monkeypatch.setenv("ESPNET_AV_ANY_ESPNET", "1")
    assert _espnet.load("str2bool")("yes") is True


def test_missing_espnet_names_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ESPnet the message says how to install it."""
    monkeypatch.setitem(sys.modules, "espnet", None)
    with pytest.raises(EnvironmentProblem, match=r"tools/install\.sh"):
        _espnet.load("str2bool")


def test_unknown_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is not listed is an AttributeError; one that upstream lost is an environment problem."""
    with pytest.raises(AttributeError, match="UPSTREAM"):
        _ = _espnet.no_such_name
    monkeypatch.setitem(_espnet.UPSTREAM, "gone", "espnet2.utils.types:gone")
    with pytest.raises(EnvironmentProblem, match="espnet2.utils.types:gone"):
        _espnet.load("gone")
    assert "AbsTask" in dir(_espnet)

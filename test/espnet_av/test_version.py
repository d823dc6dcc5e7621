# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The version and the public names of the package."""

import re
import subprocess
from pathlib import Path

import pytest

import espnet_av
from espnet_av import _version


def test_version_and_public_names() -> None:
    """The version is that of version.txt; unknown attributes list the public ones."""
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+|rc\d+)?", espnet_av.__version__)
    assert set(espnet_av.__all__) <= set(dir(espnet_av))
    assert espnet_av.register is espnet_av.registry.register
    with pytest.raises(AttributeError, match="AVSR"):
        _ = espnet_av.AVRS


def test_source_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """In a git checkout the commit follows, and a change of tracked files; elsewhere the plain version stands."""
    place = tmp_path / "espnet_av" / "_version.py"
    monkeypatch.setattr(_version, "__file__", str(place))
    assert _version.source_version() == espnet_av.__version__
    place.parent.mkdir()
    place.write_text("1")
    for command in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "x"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    clean = _version.source_version()
    assert re.fullmatch(re.escape(espnet_av.__version__) + r"\+git\.[0-9a-f]{9}", clean)
    place.write_text("2")
    assert _version.source_version() == f"{clean}.dirty"

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The doctor finds what is wrong, says the fix, and works where nothing is installed."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_av import _espnet
from espnet_av.bin import doctor
from espnet_av.utils import errors

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "espnet_av" / "bin" / "doctor.py"


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Return versions of distributions that the doctor is made to see."""
    seen = {"pip": "25.0", "torch": "2.11.0+cpu", "torchaudio": "2.11.0", "espnet": "202511", "numpy": "2.4.6"}
    seen |= {"setuptools": "65.5.0", "importlib-metadata": "4.13.0"}
    monkeypatch.setattr(doctor, "version_of", seen.get)
    return seen


@pytest.mark.parametrize(
    ("name", "version", "check", "status", "words"),
    [
        ("pip", "26.2.1", doctor.check_pip, "ok", ""),
        ("pip", "26.3", doctor.check_pip, "warn", "ci_sdr"),
        ("pip", None, doctor.check_pip, "warn", "uv"),
        ("torch", "2.11.0", doctor.check_torch, "ok", "2.11.0"),
        ("torch", "2.12.1", doctor.check_torch, "FAIL", "not a pair"),
        ("torchaudio", None, doctor.check_torch, "FAIL", "torchaudio not installed"),
        ("espnet", "202402", doctor.check_espnet, "FAIL", "202511"),
        ("espnet", "202511", doctor.check_espnet, "ok", ""),
        ("numpy", "1.26.4", doctor.check_numpy, "warn", ">=2.2"),
        ("setuptools", "80.0", doctor.check_setuptools, "FAIL", "<74"),
        ("importlib-metadata", "8.0", doctor.check_importlib_metadata, "warn", "<5"),
    ],
)
def test_versions(versions: dict, name: str, version: str | None, check: object, status: str, words: str) -> None:
    """Each version check knows good, doubtful and wrong versions, and names a fix for what is not good."""
    versions[name] = version
    found = check()
    assert found.status == status and words in found.detail
    assert bool(found.fix) == (status != "ok")


def test_untested_pair(versions: dict) -> None:
    """A pair of another version is doubtful, not wrong."""
    versions.update(torch="2.12.0", torchaudio="2.12.0")
    assert doctor.check_torch().status == "warn"


def test_python_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python outside of 3.10 to 3.12 fails, with the option that names another one."""
    monkeypatch.setattr(doctor, "PYTHON_VERSIONS", ((3, 4), (3, 5)))
    found = doctor.check_python()
    assert found.status == "FAIL" and "3.4 to 3.5" in found.detail and "--python" in found.fix


def test_two_opencv_packages(versions: dict) -> None:
    """Several OpenCV packages in one environment are noted, with the command that removes the others."""
    versions.update({"opencv-python-headless": "5.0", "opencv-contrib-python": "4.13"})
    found = doctor.check_opencv()
    assert found.status == "warn" and "uninstall -y opencv-contrib-python" in found.fix


def test_missing_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A PyAV without the H.264 encoder fails by the name of the codec."""
    av = importlib.import_module("av")
    real = av.codec.Codec

    def codec(name: str, mode: str) -> object:
        if name == "libx264":
            raise ValueError(name)
        return real(name, mode)

    monkeypatch.setattr(av.codec, "Codec", codec)
    found = doctor.check_av()
    assert found.status == "FAIL" and "libx264 encoder" in found.detail
    monkeypatch.undo()
    assert doctor.check_av().status == "ok"


def test_little_room(monkeypatch: pytest.MonkeyPatch, versions: dict, tmp_path: Path) -> None:
    """Too little disk fails before the installation and is noted after it; the place need not exist yet."""
    usage = type("Usage", (), {"free": 2 * doctor.GIB, "total": doctor.GIB // 16})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: usage)
    assert doctor.check_disk(tmp_path / "not" / "there").status == "warn"
    versions["espnet"] = None
    assert doctor.check_disk().status == "FAIL"
    assert doctor.check_shm().status == "warn"


def test_a_check_that_breaks_is_a_line() -> None:
    """A check that raises becomes a FAIL line and the others still run."""

    def check_nonsense() -> doctor.Check:
        raise OSError("bad library")

    first, second = doctor.run_checks([check_nonsense, doctor.check_python])
    assert (first.name, first.status) == ("nonsense", "FAIL") and "bad library" in first.detail
    assert second.name == "python"


def test_output_and_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    """One FAIL gives exit code 4; the lines carry status and fix; --problems_only leaves the rest out."""
    checks = [doctor.Check("good", "ok", "1.0"), doctor.Check("bad", "FAIL", "broken", "mend it")]
    monkeypatch.setattr(doctor, "CHECKS", (lambda: checks[0], lambda: checks[1]))
    assert doctor.main([]) == 4
    shown = capsys.readouterr().out
    assert "ok   good" in shown and "fix: mend it" in shown and "1 to fix" in shown
    assert doctor.main(["--problems_only"]) == 4
    assert "good" not in capsys.readouterr().out
    assert doctor.main(["--json"]) == 4
    report = json.loads(capsys.readouterr().out)
    assert report["exit_code"] == 4
    assert report["checks"][1] == {"name": "bad", "status": "FAIL", "detail": "broken", "fix": "mend it"}
    checks[1].status = "warn"
    assert doctor.main([]) == 0


def test_environment_of_the_tests_is_sound() -> None:
    """The environment that runs the tests has nothing to fix."""
    answer = subprocess.run([sys.executable, str(FILE), "--json"], capture_output=True, text=True)
    report = json.loads(answer.stdout)
    assert answer.returncode == 0, [check for check in report["checks"] if check["status"] == "FAIL"]
    assert {"python", "torch", "espnet", "video (PyAV)", "gpu", "/dev/shm"} <= {c["name"] for c in report["checks"]}


def test_runs_without_any_package(tmp_path: Path) -> None:
    """With no package installed it still runs, fails, and names the installer."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    python = str(tmp_path / "bare" / "bin" / "python")
    answer = subprocess.run([python, "-I", str(FILE)], capture_output=True, text=True, cwd=tmp_path)
    assert answer.returncode == 4, answer.stderr
    assert "FAIL espnet" in answer.stdout and "tools/install.sh" in answer.stdout
    ready = subprocess.run([python, str(FILE), "--before_install", "--path", str(tmp_path / "x")], capture_output=True)
    assert ready.returncode == 0, ready.stdout


def test_only_the_standard_library_at_the_top() -> None:
    """The file imports the standard library only and has the syntax of Python 3.8."""
    tree = ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 8))
    for node in tree.body:
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert all(name.split(".")[0] in sys.stdlib_module_names for name in names), names


def test_same_facts_as_the_package() -> None:
    """Exit codes, versions and extras agree with the places that they come from."""
    assert (doctor.EXIT_OK, doctor.EXIT_BAD_ENVIRONMENT) == (errors.EXIT_OK, errors.EXIT_BAD_ENVIRONMENT)
    assert doctor.ESPNET_VERSION == _espnet.ESPNET_VERSION
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    assert f'"espnet=={doctor.ESPNET_VERSION}"' in setup and f'"torch=={doctor.TORCH_VERSION}.*"' in setup
    value = next(
        node.value
        for node in ast.parse(setup).body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "EXTRAS"
    )
    extras = {key.value for key in value.keys}
    assert extras == set(doctor.DEFAULT_EXTRAS) | set(doctor.OTHER_EXTRAS)

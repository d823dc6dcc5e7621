# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``tools/install.sh`` with a stand-in for pip: options, the stamp, and what it says when something fails."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("tools/install.sh", "tools/constraints.txt", "utils/parse_options.sh", "setup.py")
FAKE_PIP = """
import os, sys
with open(os.environ["FAKE_CALLS"], "a") as stream:
    stream.write(" ".join(sys.argv[1:]) + "\\n")
print("WARNING: Location '/nowhere' is ignored: it is either a non-existing path or lacks a specific scheme.")
print("Collecting torch==2.11.0")
print("  Downloading torch-2.11.0.whl (530.6 MB)")
if os.environ.get("FAKE_ERROR"):
    sys.exit("ERROR: " + os.environ["FAKE_ERROR"])
print("Installing collected packages: a, b, c")
"""
FAKE_DOCTOR = "import os, sys; sys.exit(4 if os.environ.get('FAKE_DOCTOR') in sys.argv else 0)"


class Checkout:
    """A copy of the installer with an environment whose pip only takes notes."""

    def __init__(self, folder: Path, venv: Path) -> None:
        self.root, self.venv, self.calls = folder, venv, folder / "calls"
        for name in COPIED:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        doctor = folder / "espnet_av" / "bin" / "doctor.py"
        doctor.parent.mkdir(parents=True)
        doctor.write_text(FAKE_DOCTOR)

    def make_venv(self, pip_version: str = "25.0") -> None:
        """Make the environment, with a pip of the given version."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(self.venv)], check=True)
        package = next(self.venv.glob("lib/python3*/site-packages")) / "pip"
        package.mkdir()
        (package / "__init__.py").write_text(f"__version__ = {pip_version!r}\n")
        (package / "__main__.py").write_text(FAKE_PIP)

    def install(self, *options: str, **environment: str) -> subprocess.CompletedProcess:
        """Run the installer; the options name the environment unless they choose conda."""
        where = [] if "--conda" in options else ["--venv", str(self.venv)]
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("ESPNET_AV", "CONDA", "FAKE"))}
        return subprocess.run(
            ["bash", str(self.root / "tools" / "install.sh"), *where, *options],
            capture_output=True,
            text=True,
            env={**clean, "FAKE_CALLS": str(self.calls), **environment},
        )

    def pip_calls(self) -> list[str]:
        """Return the arguments of all calls of pip."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    @property
    def stamp(self) -> Path:
        """Return the file that says what was installed."""
        return self.venv / ".espnet_av_stamp"


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    """Return a checkout whose environment exists and is empty."""
    made = Checkout(tmp_path / "checkout", tmp_path / "venv")
    made.make_venv()
    return made


def test_help_and_dry_run(tmp_path: Path) -> None:
    """Help and dry run work before anything exists and leave nothing behind."""
    bare = Checkout(tmp_path / "checkout", tmp_path / "deep" / "venv")
    shown = bare.install("--help")
    assert shown.returncode == 0
    for option in ("--venv", "--python", "--extras", "--conda", "--uv", "--cpu", "--index-url", "--force", "--dry_run"):
        assert option in shown.stdout
    planned = bare.install("--dry_run", "--extras", "avsr,align")
    assert planned.returncode == 0
    assert "avsr,align" in planned.stdout and str(bare.venv) in planned.stdout
    assert not bare.venv.parent.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--cpu"], "--index-url"),
        (["--index-url", "https://example.org"], "--cpu"),
        (["--conda", "--uv"], "exclude each other"),
        (["--extras", "avsr; touch x"], "--extras"),
        (["--extra", "avsr"], "did you mean --extras?"),
        (["surplus"], "surplus"),
    ],
)
def test_wrong_usage(checkout: Checkout, options: list[str], message: str) -> None:
    """Wrong options end with exit code 2 and the reason, and nothing is installed."""
    answer = checkout.install(*options)
    assert (answer.returncode, checkout.pip_calls()) == (2, [])
    assert message in answer.stderr


def test_second_call_does_nothing(checkout: Checkout) -> None:
    """The first call installs the package with its extras, the second sees the stamp and ends at once."""
    first = checkout.install()
    assert first.returncode == 0, first.stderr
    constraints = checkout.root / "tools" / "constraints.txt"
    extras = "avsr,avss,codec,dev,report,rl,scoring,tts,tts-hq"
    assert checkout.pip_calls() == [
        f"install --no-input --progress-bar off -c {constraints} -e {checkout.root}[{extras}]"
    ]
    start = time.monotonic()
    second = checkout.install()
    assert time.monotonic() - start < 2
    assert (second.returncode, len(checkout.pip_calls())) == (0, 1)
    assert second.stdout.strip() == f"install: {checkout.venv} is up to date"


def test_what_makes_the_stamp_stale(checkout: Checkout) -> None:
    """A change of setup.py or of the constraints, more extras, and --force install again; fewer extras do not."""
    checkout.install()
    for number, name in enumerate(("setup.py", "tools/constraints.txt"), 2):
        with (checkout.root / name).open("a") as stream:
            stream.write("# changed\n")
        assert checkout.install().returncode == 0
        assert len(checkout.pip_calls()) == number
    checkout.install("--extras", "align")
    assert checkout.pip_calls()[-1].endswith("[align,avsr,avss,codec,dev,report,rl,scoring,tts,tts-hq]")
    checkout.install("--extras", "tts")
    checkout.install()
    assert len(checkout.pip_calls()) == 4
    checkout.install("--force")
    assert len(checkout.pip_calls()) == 5


def test_an_environment_whose_checkout_is_gone_is_taken_over(checkout: Checkout) -> None:
    """Python would go on importing from the folder that built it; while that is there, it is shared."""
    checkout.install()
    stamp = checkout.stamp.read_text()
    other = checkout.root.parent / "other"
    other.mkdir()
    (other / "setup.py").touch()
    checkout.stamp.write_text(stamp.replace(f"checkout {checkout.root}", f"checkout {other}"))
    assert f"built by {other}, shared" in checkout.install().stdout
    assert len(checkout.pip_calls()) == 1
    (other / "setup.py").unlink()
    assert checkout.install().returncode == 0
    assert len(checkout.pip_calls()) == 2 and checkout.stamp.read_text() == stamp


def test_console_is_quiet_and_log_is_whole(checkout: Checkout) -> None:
    """The console shows what takes long; pip's noise stands only in the log."""
    shown = checkout.install().stdout
    log = (checkout.root / "tools" / "install.log").read_text()
    assert "Downloading torch-2.11.0.whl (530.6 MB)" in shown and "Installing 3 packages" in shown
    assert "is ignored" not in shown and "Collecting" not in shown
    assert "is ignored" in log and "Collecting torch" in log


@pytest.mark.parametrize(
    ("error", "fix"),
    [
        ("[Errno 28] No space left on device", "make room"),
        ("No matching distribution found for torch", "index settings"),
        ("NewConnectionError: name resolution", "cannot be reached"),
        ("command 'gcc' failed", "apt-get install gcc"),
        ("something else", "run the same command again"),
    ],
)
def test_failure_of_pip(checkout: Checkout, error: str, fix: str) -> None:
    """A failing pip ends with exit code 4, the end of the log, a fix for the cause, and no stamp."""
    answer = checkout.install(FAKE_ERROR=error)
    assert answer.returncode == 4
    assert f"ERROR: {error}" in answer.stderr and fix in answer.stderr
    assert not checkout.stamp.exists()
    assert checkout.install().returncode == 0


def test_failing_checks(checkout: Checkout) -> None:
    """A machine that is not ready stops it before pip unless forced; a bad result leaves no stamp."""
    answer = checkout.install(FAKE_DOCTOR="--before_install")
    assert (answer.returncode, checkout.pip_calls()) == (4, [])
    assert "--force" in answer.stderr
    assert checkout.install("--force", FAKE_DOCTOR="--before_install").returncode == 0
    checkout.stamp.unlink()
    answer = checkout.install(FAKE_DOCTOR="--problems_only")
    assert answer.returncode == 4 and not checkout.stamp.exists()


def test_two_checkouts_share_an_environment(checkout: Checkout, tmp_path: Path) -> None:
    """A second checkout with the same needs takes the environment as it is, also through ESPNET_AV_VENV."""
    checkout.install()
    other = Checkout(tmp_path / "other", checkout.venv)
    answer = other.install()
    assert (answer.returncode, other.pip_calls()) == (0, [])
    assert f"built by {checkout.root}, shared" in answer.stdout
    script = str(other.root / "tools" / "install.sh")
    environment = {**os.environ, "ESPNET_AV_VENV": str(checkout.venv)}
    answer = subprocess.run(["bash", script], capture_output=True, text=True, env=environment)
    assert answer.returncode == 0 and "up to date" in answer.stdout


def test_a_folder_that_is_no_environment_is_left_alone(tmp_path: Path) -> None:
    """A folder with other things in it is refused and keeps them."""
    bare = Checkout(tmp_path / "checkout", tmp_path / "thesis")
    bare.venv.mkdir()
    (bare.venv / "chapter1.tex").write_text("words")
    answer = bare.install("--python", sys.executable)
    assert answer.returncode == 4 and "no virtual environment" in answer.stderr
    assert (bare.venv / "chapter1.tex").read_text() == "words"


def test_new_pip_is_replaced(tmp_path: Path) -> None:
    """pip 26.3 and later cannot install ESPnet, so an older one comes first."""
    made = Checkout(tmp_path / "checkout", tmp_path / "venv")
    made.make_venv(pip_version="26.3.1")
    assert made.install().returncode == 0
    assert made.pip_calls()[0].endswith("pip<26.3") and len(made.pip_calls()) == 2


def test_conda(checkout: Checkout) -> None:
    """--conda installs into the active environment; none, and the base one, are refused."""
    assert checkout.install("--conda").returncode == 4
    place = {"CONDA_PREFIX": str(checkout.venv)}
    refused = checkout.install("--conda", CONDA_DEFAULT_ENV="base", **place)
    assert refused.returncode == 4 and "conda create" in refused.stderr
    assert checkout.pip_calls() == []
    assert checkout.install("--conda", CONDA_DEFAULT_ENV="speech", **place).returncode == 0
    assert len(checkout.pip_calls()) == 1


def test_uv(checkout: Checkout, tmp_path: Path) -> None:
    """--uv lets uv install; without uv the message says so."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "cut", "dirname", "sed"):
        (folder / name).symlink_to(shutil.which(name))
    answer = checkout.install("--uv", PATH=str(folder))
    assert answer.returncode == 4 and "uv is not found" in answer.stderr
    uv = folder / "uv"
    uv.write_text('#!/usr/bin/env bash\necho "uv $*" >>"${FAKE_CALLS}"\n')
    uv.chmod(0o755)
    assert checkout.install("--uv", PATH=f"{folder}:{os.environ['PATH']}").returncode == 0
    assert checkout.pip_calls()[0].startswith(f"uv pip install --python {checkout.venv}/bin/python -c ")


def test_cpu_only_torch(checkout: Checkout) -> None:
    """--cpu takes torch from the user's index first; a torch with CUDA from there is refused."""
    answer = checkout.install("--cpu", "--index-url", "https://example.org/cpu")
    first = checkout.pip_calls()[0]
    assert "--index-url https://example.org/cpu torch torchaudio" in first and "--no-deps" in first
    assert answer.returncode == 4 and "CPU-only" in answer.stderr  # the stand-in installed no torch at all
    site = next(checkout.venv.glob("lib/python3*/site-packages"))
    (site / "torch.py").write_text("class version:\n    cuda = None\n")
    assert checkout.install("--cpu", "--index-url", "https://example.org/cpu").returncode == 0
    assert "cpu true" in checkout.stamp.read_text()


def test_environment_of_the_constraints() -> None:
    """Every version that setup.py pins exactly stands in the constraints with the same version."""
    pins = {}
    for line in (ROOT / "tools" / "constraints.txt").read_text().splitlines():
        name, pinned, version = line.partition("==")
        if pinned and not line.startswith("#"):
            pins[name.strip()] = version.split(";")[0].strip()
    text = (ROOT / "setup.py").read_text()
    exact = [part.split('"')[0].split("==") for part in text.split('"') if "==" in part and " " not in part]
    assert len(exact) >= 5
    for name, version in exact:
        assert pins[name] == version

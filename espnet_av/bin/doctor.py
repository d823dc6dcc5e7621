# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Check the machine and the environment, one line each, with the command that fixes what is wrong.

``espnet-av doctor``, ``make doctor``, or before anything is installed ``python3 espnet_av/bin/doctor.py``. The file
uses the standard library only and starts on any Python 3.8 or later, so that it can say what is wrong with an old one.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

EXIT_OK = 0  # espnet_av/utils/errors.py needs a newer Python than this file
EXIT_BAD_ENVIRONMENT = 4

OK, WARN, FAIL = "ok", "warn", "FAIL"
INSTALL = "bash tools/install.sh"
PYTHON_VERSIONS = ((3, 10), (3, 12))
TORCH_VERSION = "2.11"
ESPNET_VERSION = "202511"
GIB = 1 << 30
INSTALL_GIB = 7.0
ROOT = Path(__file__).resolve().parents[2]

#: Extra of setup.py -> its modules; the first ones belong to what `tools/install.sh` installs.
DEFAULT_EXTRAS = {
    "avsr": ("jiwer", "ai_edge_litert"),
    "avss": ("pesq", "pystoi", "fast_bss_eval"),
    "tts": ("espeakng_loader",),
    "face": ("ai_edge_litert",),
    "report": ("matplotlib", "tensorboard"),
    "dev": ("pytest", "xdist", "hypothesis"),
}
OTHER_EXTRAS = {
    "tts-hq": ("hibari_tts", "onnxruntime"),
    "codec": ("onnx", "onnxruntime"),
    "align": ("pocketsphinx",),
    "rl": ("gymnasium", "pyroomacoustics"),
    "rl-baselines": ("stable_baselines3",),
    "sim": ("pyroomacoustics",),
    "scoring": ("jiwer", "pesq", "pystoi", "mir_eval", "speechmos", "onnxruntime", "ai_edge_litert"),
    "scoring-neural": ("distillmos",),
    "demo": ("gradio",),
    "cluster": ("submitit",),
    "hub": ("huggingface_hub",),
}


@dataclass
class Check:
    """The result of one check: ``status`` is ok, warn or FAIL; ``fix`` is the command that mends it."""

    name: str
    status: str
    detail: str
    fix: str = ""


def version_of(distribution: str) -> str | None:
    """Return the version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def as_tuple(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version.

    >>> as_tuple("2.11.0+cpu")
    (2, 11, 0)
    """
    match = re.match(r"\d+(\.\d+)*", version)
    return tuple(map(int, match.group().split("."))) if match else ()


def check_python() -> Check:
    """Python is a version that ESPnet and its pins install on."""
    low, high = PYTHON_VERSIONS
    place = "virtual environment" if sys.prefix != sys.base_prefix else "no virtual environment"
    if os.environ.get("CONDA_PREFIX") == sys.prefix:
        place = "conda environment"
    detail = f"{platform.python_version()} ({place} {sys.prefix})"
    if low <= sys.version_info[:2] <= high:
        return Check("python", OK, detail)
    span = f"{low[0]}.{low[1]} to {high[0]}.{high[1]}"
    return Check("python", FAIL, f"{detail}; {span} is needed", f"{INSTALL} --python python3.11")


def check_pip() -> Check:
    """Pip accepts the ci_sdr package that ESPnet depends on."""
    version = version_of("pip")
    if version is None:
        return Check("pip", WARN, "not installed (uv does without)", f"{sys.executable} -m ensurepip")
    if as_tuple(version) >= (26, 3):
        detail = f"{version}; 26.3 and later refuse ci_sdr, which ESPnet needs"
        return Check("pip", WARN, detail, f"{sys.executable} -m pip install 'pip<26.3'")
    return Check("pip", OK, version)


def check_setuptools() -> Check:
    """Setuptools is in the range that both ESPnet (<74) and torch allow."""
    return _in_range("setuptools", (65,), (74,), FAIL)


def check_importlib_metadata() -> Check:
    """importlib-metadata is the old one that ESPnet pins."""
    return _in_range("importlib-metadata", (0,), (5,), WARN)


def check_numpy() -> Check:
    """Numpy is a version the tests know."""
    return _in_range("numpy", (2, 2), (2, 6), WARN)


def check_torch() -> Check:
    """Torch and torchaudio are the tested pair."""
    torch, torchaudio = version_of("torch"), version_of("torchaudio")
    if torch is None or torchaudio is None:
        missing = " and ".join(n for n, v in (("torch", torch), ("torchaudio", torchaudio)) if v is None)
        return Check("torch", FAIL, f"{missing} not installed", INSTALL)
    detail = f"torch {torch}, torchaudio {torchaudio}"
    if as_tuple(torch)[:2] != as_tuple(torchaudio)[:2]:
        return Check("torch", FAIL, f"{detail}: not a pair", f"{INSTALL} --force")
    if as_tuple(torch)[:2] != as_tuple(TORCH_VERSION):
        return Check("torch", WARN, f"{detail}; tested with {TORCH_VERSION}", f"{INSTALL} --force")
    return Check("torch", OK, detail)


def check_espnet() -> Check:
    """ESPnet is the version that the gateway is written for."""
    version = version_of("espnet")
    if version is None:
        built = ROOT / "tools" / "venv" / "bin" / "python"
        if built.exists() and Path(sys.prefix) != built.parents[1]:
            return Check("espnet", FAIL, "not installed for this Python", f"{built} espnet_av/bin/doctor.py")
        return Check("espnet", FAIL, "not installed", INSTALL)
    if version != ESPNET_VERSION:
        detail = f"{version}; {ESPNET_VERSION} is needed"
        return Check("espnet", FAIL, detail, f"{sys.executable} -m pip install espnet=={ESPNET_VERSION}")
    return Check("espnet", OK, version)


def check_espnet_av() -> Check:
    """The package of this checkout is the one that is installed."""
    probe = "import espnet_av; print(espnet_av.__version__, espnet_av.__file__)"
    answer = subprocess.run([sys.executable, "-I", "-c", probe], capture_output=True, text=True, cwd=os.sep)
    if answer.returncode != 0:
        return Check("espnet_av", WARN, f"not installed; recipes take it from {ROOT}", INSTALL)
    version, _, file = answer.stdout.strip().partition(" ")
    place = Path(file).resolve().parents[1]
    if place != ROOT:
        detail = f"{version} in {place}, not in {ROOT}; recipes and make use their own checkout"
        return Check("espnet_av", WARN, detail, f"{sys.executable} -m pip install --no-deps -e {ROOT}")
    return Check("espnet_av", OK, f"{version} in {place}")


def check_av() -> Check:
    """PyAV decodes and encodes what recipes and corpora use."""
    wanted = (("h264", "r"), ("libx264", "w"), ("aac", "r"), ("aac", "w"), ("mpeg1video", "r"))
    if version_of("av") is None:
        return Check("video (PyAV)", FAIL, "not installed", INSTALL)
    av = importlib.import_module("av")
    missing = []
    for codec, mode in wanted:
        try:
            av.codec.Codec(codec, mode)
        except ValueError:
            missing.append(f"{codec} {'decoder' if mode == 'r' else 'encoder'}")
    if missing:
        detail = f"PyAV {av.__version__} without {', '.join(missing)}"
        fix = f"{sys.executable} -m pip install --force-reinstall --only-binary av av"
        return Check("video (PyAV)", FAIL, detail, fix)
    return Check("video (PyAV)", OK, f"{av.__version__}, h264, libx264, aac, mpeg1video")


def check_opencv() -> Check:
    """One OpenCV, the headless one: several overwrite each other's files."""
    names = ("opencv-python-headless", "opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless")
    found = [name for name in names if version_of(name)]
    if not found:
        return Check("opencv", FAIL, "not installed", INSTALL)
    if len(found) > 1:
        others = " ".join(name for name in found if name != names[0])
        fix = f"{sys.executable} -m pip uninstall -y {others} && {INSTALL} --force"
        return Check("opencv", WARN, f"{' and '.join(found)} overwrite each other", fix)
    cv2 = importlib.import_module("cv2")
    return Check("opencv", OK, f"{found[0]} {cv2.__version__}")


def check_soundfile() -> Check:
    """Soundfile reads and writes WAV and FLAC."""
    if version_of("soundfile") is None:
        return Check("soundfile", FAIL, "not installed", INSTALL)
    soundfile = importlib.import_module("soundfile")
    missing = {"WAV", "FLAC"} - set(soundfile.available_formats())
    if missing:
        return Check("soundfile", FAIL, f"libsndfile without {', '.join(sorted(missing))}", f"{INSTALL} --force")
    return Check("soundfile", OK, f"{version_of('soundfile')}, {soundfile.__libsndfile_version__}")


def check_extras() -> list[Check]:
    """The optional packages, one line for each extra that comes by default and one for all the others."""
    results = []
    for extra, modules in DEFAULT_EXTRAS.items():
        missing = _missing(modules)
        status, detail = (WARN, f"without {', '.join(missing)}") if missing else (OK, ", ".join(modules))
        results.append(Check(f"extra {extra}", status, detail, _pip_extra(extra) if missing else ""))
    there = [extra for extra, modules in OTHER_EXTRAS.items() if not _missing(modules)]
    absent = [extra for extra in OTHER_EXTRAS if extra not in there]
    detail = f"installed: {', '.join(there) or 'none'}"
    if absent:
        detail += f"; not installed: {', '.join(absent)} (where needed: {_pip_extra('NAME')})"
    return [*results, Check("other extras", OK, detail)]


def check_compiler() -> Check:
    """A C compiler and the headers of Python, for the packages that pip has to build (pyworld, pesq)."""
    compiler = next((name for name in ("cc", "gcc", "clang") if shutil.which(name)), None)
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if compiler and header.is_file():
        return Check("compiler", OK, f"{compiler}, {header}")
    missing = [text for text, ok in (("no C compiler", compiler), (f"no {header}", header.is_file())) if not ok]
    status = WARN if version_of("pyworld") else FAIL
    return Check("compiler", status, ", ".join(missing), "apt-get install gcc g++ python3-dev (or a conda environment)")


def check_venv() -> Check:
    """Python can make virtual environments (Debian packs that apart)."""
    try:
        importlib.import_module("venv")
        importlib.import_module("ensurepip")
    except ImportError as error:
        return Check("venv", FAIL, str(error), "apt-get install python3-venv, or use --uv or --conda")
    return Check("venv", OK, "python -m venv works")


def check_bash() -> Check:
    """Recipes need bash 4.4 or later; macOS comes with 3.2."""
    path = shutil.which("bash")
    if path is None:
        return Check("bash", FAIL, "not found", "install bash")
    answer = subprocess.run([path, "-c", "echo $BASH_VERSION"], capture_output=True, text=True).stdout.strip()
    if as_tuple(answer) < (4, 4):
        return Check("bash", FAIL, f"{answer}; 4.4 or later is needed", "install a newer bash and put it first in PATH")
    return Check("bash", OK, answer)


def check_disk(path: str | os.PathLike | None = None) -> Check:
    """Room for the environment, or for experiments where it is there already."""
    place = Path(path or ROOT).absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / GIB
    detail = f"{free:.1f} GiB free at {place}"
    if version_of("espnet") is None and free < INSTALL_GIB:
        detail += f"; the environment needs about {INSTALL_GIB:.0f}"
        return Check("disk", FAIL, detail, f"{INSTALL} --venv OTHER_DISK/venv")
    if free < 5:
        return Check("disk", WARN, detail, "make room; corpora and checkpoints fill it fast")
    return Check("disk", OK, detail)


def check_shm() -> Check:
    """Shared memory, through which loader workers hand video over."""
    if not Path("/dev/shm").is_dir():
        return Check("/dev/shm", OK, "none on this system")
    total = shutil.disk_usage("/dev/shm").total / GIB
    if total < 1:
        fix = "start the container with --shm-size=8g, or use --num_workers 0"
        return Check("/dev/shm", WARN, f"{total * 1024:.0f} MiB", fix)
    return Check("/dev/shm", OK, f"{total:.1f} GiB")


def check_memory() -> Check:
    """Main memory that this process may use."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for name in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        total = min([total, *(int(word) for word in _words(name) if word.isdigit())])
    detail = f"{total / GIB:.1f} GiB"
    if total < 4 * GIB:
        return Check("memory", WARN, detail, "use --nj 1, --num_workers 0 and a smaller batch")
    return Check("memory", OK, detail)


def check_cores() -> Check:
    """Processor cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _words("/sys/fs/cgroup/cpu.max")
    detail = f"{cores} ({platform.machine()})"
    if len(quota) == 2 and quota[0].isdigit() and int(quota[0]) < cores * int(quota[1]):
        detail += f", limited to {int(quota[0]) / int(quota[1]):.1f}"
    return Check("cores", OK, detail)


def check_gpu() -> Check:
    """CUDA devices, and whether torch sees those that the driver lists."""
    driver = _driver_gpus()
    if version_of("torch") is None:
        return Check("gpu", OK, ", ".join(driver) or "none: training runs on the CPU")
    torch = importlib.import_module("torch")
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Check("gpu", OK, f"{', '.join(names)} (CUDA {torch.version.cuda})")
    if driver:
        why, fix = f"torch for CUDA {torch.version.cuda}", "update the NVIDIA driver; look at CUDA_VISIBLE_DEVICES"
        if torch.version.cuda is None:
            why, fix = "a CPU-only torch", f"{INSTALL} --force"
        return Check("gpu", WARN, f"the driver lists {', '.join(driver)}, torch sees none ({why})", fix)
    return Check("gpu", OK, "none: training runs on the CPU")


CHECKS: tuple[Callable[[], Check | list[Check]], ...] = (
    check_python,
    check_pip,
    check_setuptools,
    check_importlib_metadata,
    check_torch,
    check_numpy,
    check_espnet,
    check_espnet_av,
    check_av,
    check_opencv,
    check_soundfile,
    check_extras,
    check_compiler,
    check_bash,
    check_disk,
    check_shm,
    check_memory,
    check_cores,
    check_gpu,
)


def checks_before_install(target: str | None) -> tuple[Callable[[], Check | list[Check]], ...]:
    """Return the checks that make sense before anything is installed; ``target`` is where the environment goes."""

    def disk() -> Check:
        """Room where the environment goes."""
        return check_disk(target)

    return (check_python, check_venv, check_compiler, check_bash, disk)


def run_checks(checks: Sequence[Callable[[], Check | list[Check]]] = CHECKS) -> list[Check]:
    """Run checks; one that breaks becomes a FAIL line and does not stop the others."""
    results: list[Check] = []
    for check in checks:
        try:
            found = check()
        except Exception as error:
            name = check.__name__.replace("check_", "")
            found = Check(name, FAIL, f"{type(error).__name__}: {error}", f"{INSTALL} --force")
        results.extend(found if isinstance(found, list) else [found])
    return results


def format_check(check: Check, colour: bool) -> str:
    """Return the line of a check, with its fix below it."""
    codes = {OK: "32", WARN: "33", FAIL: "31"}
    status = f"{check.status:<4}"
    if colour:
        status = f"\033[{codes[check.status]}m{status}\033[0m"
    fix = f"\n       fix: {check.fix}" if check.fix else ""
    return f"{status} {check.name:<18} {check.detail}{fix}"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description="Check the machine and the environment of espnet_av.")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of lines")
    parser.add_argument("--before_install", action="store_true", help="only what must be right before tools/install.sh")
    parser.add_argument("--problems_only", action="store_true", help="leave the ok lines out")
    parser.add_argument("--path", help="with --before_install: where the environment goes")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Print the checks; return 4 when one fails, else 0."""
    args = get_parser().parse_args(cmd)
    results = run_checks(checks_before_install(args.path) if args.before_install else CHECKS)
    counts = {status: sum(check.status == status for check in results) for status in (OK, WARN, FAIL)}
    code = EXIT_BAD_ENVIRONMENT if counts[FAIL] else EXIT_OK
    if args.json:
        report = {"checks": [asdict(check) for check in results], "exit_code": code}
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
        return code
    colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    for check in results:
        if not (args.problems_only and check.status == OK):
            sys.stdout.write(format_check(check, colour) + "\n")
    if not args.problems_only:
        sys.stdout.write(f"{counts[OK]} ok, {counts[WARN]} to note, {counts[FAIL]} to fix\n")
    return code


def _in_range(name: str, low: tuple[int, ...], high: tuple[int, ...], status: str) -> Check:
    version = version_of(name)
    if version is None:
        return Check(name, status, "not installed", INSTALL)
    if low <= as_tuple(version) < high:
        return Check(name, OK, version)
    span = f">={'.'.join(map(str, low))},<{'.'.join(map(str, high))}"
    return Check(name, status, f"{version}; {span} is needed", f"{sys.executable} -m pip install '{name}{span}'")


def _missing(modules: Sequence[str]) -> list[str]:
    return [module for module in modules if importlib.util.find_spec(module) is None]


def _pip_extra(extra: str) -> str:
    if version_of("espnet") is None:
        return INSTALL
    return f"{sys.executable} -m pip install -c tools/constraints.txt -e '.[{extra}]'"


def _words(path: str) -> list[str]:
    """Return the words of a small file; none where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []


def _driver_gpus() -> list[str]:
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in answer.stdout.splitlines() if line.strip()] if answer.returncode == 0 else []


if __name__ == "__main__":
    # Run as a file, the folder of the command lines must not hide modules of other packages.
    if __package__ in (None, "") and sys.path and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
        sys.path[0] = str(ROOT)
    sys.exit(main())

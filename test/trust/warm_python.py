# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A Python that has imported everything already, so that a stage which is killed a hundred times starts in no time.

``warm_python.py serve SOCKET`` waits; ``warm_python.py call SOCKET -m MODULE ARGUMENT...`` runs a module in a fork of
it, with the caller's folder, environment and streams, and ends with its exit code. Signals go on to the module; when
the caller is killed, the module is killed with it.
"""

import contextlib
import ctypes
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import sys
import time
import traceback
import warnings
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
IMPORTS = ("torch", "av", "scipy.signal", "matplotlib.figure", "espnet_av._espnet", "espnet_av.tasks.avsr")
IMPORTS += ("espnet_av.avsr.inference", "espnet_av.avsr.clip_decoder", "espnet_av.data.iter_factory")
IMPORTS += ("espnet_av.tasks.codec", "espnet_av.tasks.avgen", "espnet_av.activesep.runner", "espnet_av.train.gan")
IMPORTS += ("espnet_av.train.trainer", "espnet_av.report.page", "espnet_av.report.packing", "safetensors.torch")
#: In the environment: seconds by which the wall clock of the module jumps to and fro.
JUMPS = "FAULT_CLOCK_JUMPS"


def serve(place: str) -> None:
    """Import what stages need, then fork for every caller."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: end with the campaign
    sys.path.insert(0, str(ROOT))
    for name in IMPORTS:
        importlib.import_module(name)
    server = socket.socket(socket.AF_UNIX)
    server.bind(place + ".new")
    server.listen(64)
    os.rename(place + ".new", place)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        caller, _ = server.accept()
        if os.fork() == 0:
            server.close()
            attend(caller)
        caller.close()


def attend(caller: socket.socket) -> None:
    """Run one module in a further fork and tell its exit code; kill it when the caller is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(caller, 1, 3)
    with caller.makefile("rb") as lines:
        request = json.loads(lines.readline())
    pid = os.fork()
    if pid == 0:
        caller.close()
        run(request, streams)
    handle = os.pidfd_open(pid)
    with contextlib.suppress(OSError):  # it may be gone already
        caller.sendall(f"{pid}\n".encode())
    ready, _, _ = select.select([handle, caller], [], [])
    if handle not in ready:  # the caller never says more: it is gone
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(OSError):
        caller.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def run(request: dict, streams: list[int]) -> None:
    """Be the module; never return."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environ"])
    sys.argv = request["argv"]
    warnings.filterwarnings("ignore", category=RuntimeWarning, module="runpy")
    if JUMPS in os.environ:
        make_clock_jump(float(os.environ[JUMPS]))
    code = 0
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # as the interpreter does
        traceback.print_exc()
        code = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def make_clock_jump(seconds: float) -> None:
    """Let ``time.time`` go to and fro, as a clock does that somebody sets."""
    right, dice = time.time, random.Random(0)
    time.time = lambda: right() + dice.uniform(-seconds, seconds)


def call(place: str, argv: list[str]) -> int:
    """Run a module through the waiting process and return its exit code, or end by its signal."""
    server = socket.socket(socket.AF_UNIX)
    server.connect(place)
    socket.send_fds(server, [b"."], [0, 1, 2])
    request = {"argv": argv, "folder": os.getcwd(), "environ": dict(os.environ)}
    server.sendall(json.dumps(request).encode() + b"\n")
    with server.makefile("r") as lines:
        pid = int(lines.readline())
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        answer = lines.readline()
    code = int(answer) if answer else -signal.SIGKILL
    if code < 0:
        signal.signal(-code, signal.SIG_DFL) if code != -signal.SIGKILL else None
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    sys.exit(call(sys.argv[2], sys.argv[4:]))

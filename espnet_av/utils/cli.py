# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How every command line of the package starts and ends."""

import argparse
import atexit
import contextlib
import errno
import logging
import math
import os
import select
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from espnet_av.utils.errors import EXIT_BAD_ENVIRONMENT, EXIT_OK, EspnetAVError, describe
from espnet_av.utils.files import is_disk_full

EXIT_NO_READER = 128 + 13  # as of a program that SIGPIPE ended
# What the system says about a path that the user chose.
PATH_PROBLEMS = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP),
)
LOG_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


def set_up_logging(level: str = "INFO") -> None:
    """Send log lines of ``level`` and above to standard error."""
    logging.basicConfig(level=level, format=LOG_FORMAT, datefmt="%H:%M:%S")


def run_main(
    main: Callable[[Sequence[str] | None], int | None],
    cmd: Sequence[str] | None = None,
    *,
    logs: bool = True,
    program: str | None = None,
) -> int:
    """Run a command line's ``main`` and turn user errors into one clear line and an exit code.

    A traceback of a user error is shown when ``ESPNET_AV_DEBUG=1`` is set. A full disk and a path that cannot be used
    are told in one line as well; errors that are no user errors pass through. Where nobody reads the output any more
    (``espnet-av results | head``) the command ends without a word.

    Args:
        main: The function to call.
        cmd: Arguments without the program name; None takes ``sys.argv[1:]``.
        logs: Set up logging; a training leaves that to ESPnet, which knows the rank of the process.
        program: Name in front of errors; None takes that of ``sys.argv``.

    Returns:
        The exit code (``espnet_av/utils/errors.py``).
    """
    program = program or os.path.basename(sys.argv[0])
    if logs:
        set_up_logging()
    try:
        code = _run(main, cmd, program)
    except SystemExit as end:
        if not _among_others():
            raise
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    if _among_others():
        end_process(code)
    return code


def end_process(code: int) -> NoReturn:
    """End as Python does, but leave the interpreter where it is.

    Threads of PyTorch's process groups outlive the group. One that asks for the interpreter while that is taken apart
    aborts the process, whose work is done (``terminate called without an active exception``).
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def _among_others() -> bool:
    """Tell whether this is one of several processes that ``torchrun`` has started for a training."""
    return "torch.distributed" in sys.modules and "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def _run(main: Callable[[Sequence[str] | None], int | None], cmd: Sequence[str] | None, program: str) -> int:
    try:
        try:
            code = main(cmd) or EXIT_OK
        except SystemExit:  # of --help
            _flush()
            raise
        _flush()
        return code
    except EspnetAVError as error:
        return _tell(program, str(error), error.exit_code)
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python writes what is left at its end
        return EXIT_NO_READER
    except OSError as error:
        if is_disk_full(error):
            message = describe("the disk is full", got=str(error), fix="make room, then run the same command again")
        elif error.errno in PATH_PROBLEMS and error.filename is not None:
            what = f"cannot use {error.filename}: {error.strerror}"
            message = describe(what, fix="name another place, or change what is there or its permissions")
        else:
            raise
        return _tell(program, message, EXIT_BAD_ENVIRONMENT)


def _flush() -> None:
    if sys.stdout is not None:  # it may be closed from the start
        sys.stdout.flush()


def _tell(program: str, message: str, code: int) -> int:
    if os.environ.get("ESPNET_AV_DEBUG") == "1":
        logging.getLogger(__name__).exception("the error in full")
    sys.stderr.write(f"{program}: error: {message}\n")
    return code


def _output_is_closed() -> bool:
    """Tell whether the other end of standard output, a pipe, is closed."""
    watch = select.poll()
    watch.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in watch.poll(0))


def to_bool(text: str) -> bool:
    """Read ``true`` or ``false``, the value of an option.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: true, false")
    return text.lower() == "true"


def at_least(lowest: float, kind: type = int) -> Callable[[str], float]:
    """Return what reads an option whose value is a number of a kind, ``lowest`` or more."""
    allowed = f"a {'whole ' if kind is int else ''}number from {lowest:g}"

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            value = kind(text)
            if lowest <= value < math.inf:
                return value
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: {allowed}")

    return read

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How every command line of the package starts and ends."""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence

from espnet_av.utils.errors import EXIT_BAD_ENVIRONMENT, EXIT_OK, EspnetAVError, describe
from espnet_av.utils.files import is_disk_full

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

    A traceback of a user error is shown when ``ESPNET_AV_DEBUG=1`` is set. A full disk is told in one line as well;
    errors that are no user errors pass through.

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
        return main(cmd) or EXIT_OK
    except EspnetAVError as error:
        if os.environ.get("ESPNET_AV_DEBUG") == "1":
            logging.getLogger(__name__).exception("the error in full")
        sys.stderr.write(f"{program}: error: {error}\n")
        return error.exit_code
    except OSError as error:
        if not is_disk_full(error):
            raise
        message = describe("the disk is full", got=str(error), fix="make room, then run the same command again")
        sys.stderr.write(f"{program}: error: {message}\n")
        return EXIT_BAD_ENVIRONMENT


def to_bool(text: str) -> bool:
    """Read ``true`` or ``false``, the value of an option.

    Raises:
        argparse.ArgumentTypeError: It is neither.
    """
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"got {text!r}; allowed: true, false")
    return text.lower() == "true"

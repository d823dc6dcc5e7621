# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The one family of errors that users see, and the exit codes of the command lines.

Every message says what happened, the value, what is allowed, and the command or option that fixes it.
"""

from typing import NoReturn

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_MISSING_DATA = 3
EXIT_BAD_ENVIRONMENT = 4
EXIT_STAGE_FAILED = 5
EXIT_REQUEUE = 99  # training saved its state after SIGTERM and wants to be started again
LONGEST_QUOTE = 1000  # characters of a value that a message shows
LONGEST_WHAT = 2000


class EspnetAVError(Exception):
    """A mistake in the input, with the exit code a command line ends with when nobody catches it."""

    exit_code = EXIT_FAILURE


class UsageError(EspnetAVError, ValueError):
    """A wrong option, keyword or combination of them."""

    exit_code = EXIT_USAGE


class DataError(EspnetAVError, ValueError):
    """A file, clip, transcript or data folder that cannot be used."""

    exit_code = EXIT_MISSING_DATA


class MissingDataError(DataError, FileNotFoundError):
    """A file or folder that should exist and does not."""


class EnvironmentProblem(EspnetAVError, RuntimeError):
    """A missing or wrong package, codec, device or setting of the machine."""

    exit_code = EXIT_BAD_ENVIRONMENT


class CheckpointError(EspnetAVError, RuntimeError):
    """A checkpoint that is damaged, unsafe or made for another model."""


def describe(what: str, got: object = None, allowed: object = None, fix: str | None = None) -> str:
    """Put an error message together: what happened, the value, the allowed values and the fix.

    >>> describe("unknown modality", got="lips", allowed=["av", "audio"], fix="pass --modality av")
    "unknown modality; got 'lips'; allowed: av, audio; fix: pass --modality av"
    """
    if len(what) > LONGEST_WHAT:  # of a hostile file: names of thousands of characters
        what = f"{what[: LONGEST_WHAT // 2]} ... {what[-LONGEST_WHAT // 2 :]}"
    parts = [what]
    if got is not None:
        found = repr(got)
        parts.append(f"got {found}" if len(found) <= LONGEST_QUOTE else f"got {found[:LONGEST_QUOTE]}...")
    if allowed is not None:
        listed = ", ".join(map(str, allowed)) if isinstance(allowed, (list, tuple, set, frozenset)) else str(allowed)
        parts.append(f"allowed: {listed}")
    if fix is not None:
        parts.append(f"fix: {fix}")
    return "; ".join(parts)


def usage_error(what: str, got: object = None, allowed: object = None, fix: str | None = None) -> NoReturn:
    """Raise :class:`UsageError` with a message of :func:`describe`."""
    raise UsageError(describe(what, got, allowed, fix))

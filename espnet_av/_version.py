# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The version with the state of the source tree, for logs, results and packed models."""

import subprocess
from pathlib import Path

from espnet_av import __version__


def source_version() -> str:
    """Return the version; in a git checkout with ``+git.<commit>``, and ``.dirty`` when tracked files were changed.

    Without git, or outside of a checkout, the plain version is returned.
    """
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return __version__
    try:
        commit = _git(root, "rev-parse", "--short=9", "HEAD")
        dirty = ".dirty" if _git(root, "status", "--porcelain", "--untracked-files=no") else ""
    except (OSError, subprocess.SubprocessError):
        return __version__
    return f"{__version__}+git.{commit}{dirty}"


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

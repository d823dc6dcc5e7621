# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Which source code runs: the commit of the checkout, and a digest of what no commit holds."""

import hashlib
import subprocess
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
_DIRTY = "-dirty"


def source_commit() -> str | None:
    """Return the commit of the checkout the package runs from, 12 hex digits.

    Where tracked files differ from it, or the package has files that git neither tracks nor ignores,
    ``-dirty-<digest>`` follows, 10 hex digits of their names and contents; ``-dirty`` alone where git does not say.
    None when the package is not in a git checkout or git is absent.
    """
    head = _git("rev-parse", "--short=12", "HEAD")
    top = _git("rev-parse", "--show-toplevel")
    changed = _git("-c", "diff.relative=false", "diff", "--name-only", "--no-ext-diff", "-z", "HEAD")
    added = _git("ls-files", "--others", "--exclude-standard", "--full-name", "-z", ".")
    if head is None:
        return None
    if top is None or changed is None or added is None:
        return head.strip() + _DIRTY  # as far as one can tell
    names = sorted({name for name in (changed + added).split("\0") if name})
    return head.strip() + (f"{_DIRTY}-{_digest(Path(top.strip()), names)}" if names else "")


def split_commit(commit: str) -> tuple[str, str | None]:
    """Return a commit and what is recorded about changes beside it.

    Args:
        commit: What :func:`source_commit` returned; ``<commit>-dirty`` of earlier versions too.

    Returns:
        The commit; the digest, empty where there were changes without one, None where there were none.

    >>> split_commit("0123456789ab-dirty-00ff00ff00"), split_commit("0123456789ab-dirty"), split_commit("0123456789ab")
    (('0123456789ab', '00ff00ff00'), ('0123456789ab', ''), ('0123456789ab', None))
    """
    head, dirty, digest = commit.partition(_DIRTY)
    return head, digest.removeprefix("-") if dirty else None


def _digest(root: Path, names: list[str]) -> str:
    found = hashlib.sha256()
    for name in names:
        try:
            content = hashlib.sha256((root / name).read_bytes()).hexdigest()
        except OSError as error:  # deleted, for one
            content = type(error).__name__
        found.update(f"{name}\0{content}\0".encode("utf-8", "surrogateescape"))
    return found.hexdigest()[:10]


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(PACKAGE_ROOT), *arguments], capture_output=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "surrogateescape")

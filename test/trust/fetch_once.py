# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One download as the package does it, in a process that can be killed: ``fetch_once.py KIND CACHE SOURCE``."""

import hashlib
import os
import random
import sys
from pathlib import Path

CONTENT = random.Random(0).randbytes(300_000)
FILES = {"model.safetensors": CONTENT, "config.json": b'{"a": 1}', "tokens.txt": b"a\nb\n" * 999}
NAME = "org/model"


def fetch(kind: str, cache: Path, source: str) -> None:
    """Fetch once, as the package does it."""
    if kind == "debian":
        from espnet_av.corpora.debian_packages import DebPackage, fetch_packages

        package = DebPackage("sounds", "1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT), "MIT")
        fetch_packages([package], cache)
    elif kind == "wheel":
        from espnet_av.utils import assets

        digest = hashlib.sha256(CONTENT).hexdigest()
        asset = assets.WheelAsset("a.bin", "pkg==1.0", "pkg/a.bin", digest, len(CONTENT), "MIT", "a test")
        assets.ASSETS.clear()
        assets.ASSETS["a.bin"] = asset
        assets.pip_command = lambda _, folder: ["sh", "-c", f'cd "{folder}" && exec slow-copy']  # type: ignore
        assets.fetch_asset("a.bin", cache)
    else:
        os.environ["HF_ENDPOINT"], os.environ["HF_HOME"] = source, str(cache / "home")
        from espnet_av.utils.hub import fetch_repository

        Path(os.environ["STARTED"]).write_text("started")
        fetch_repository(NAME, cache)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    fetch(sys.argv[1], Path(sys.argv[2]), sys.argv[3])

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Train the recogniser of tokens: ``python -m espnet_av.bin.avgen_tokens_train --config conf/tokens.yaml ...``."""

import argparse
import sys
from collections.abc import Sequence

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of the training options."""
    from espnet_av.tasks.avgen_tokens import AVGenTokensTask

    return AVGenTokensTask.get_parser()


def main(cmd: Sequence[str] | None = None) -> None:
    """Train; options as in ``--help``."""
    from espnet_av.tasks.avgen_tokens import AVGenTokensTask

    AVGenTokensTask.main(cmd=cmd)


def run(cmd: Sequence[str] | None = None) -> int:
    """Train and turn user errors into a line and an exit code."""
    return run_main(main, cmd, logs=False, program="avgen_tokens_train")


if __name__ == "__main__":
    sys.exit(run())

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Make the token list, and the SentencePiece model where asked for, from the transcripts of the training set."""

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write

if TYPE_CHECKING:
    from espnet_av.avsr.tokenizer import Tokenizer

logger = logging.getLogger(__name__)
TOKENS, BPE_MODEL, META = "tokens.txt", "bpe.model", "tokens.json"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, type=Path, help="'text' file of the training set")
    parser.add_argument("--token_type", required=True, choices=["bpe", "char", "word"])
    parser.add_argument(
        "--vocab_size", type=int, default=500, help="tokens of bpe with the special ones; limit of word"
    )
    parser.add_argument("--output_dir", required=True, type=Path, help=f"gets {TOKENS}, {META} and {BPE_MODEL}")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Make and write the tokens."""
    from espnet_av.data.data_dir import read_text

    args = get_parser().parse_args(cmd)
    lines = list(read_text(args.text).values())
    args.output_dir.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer(lines, args.token_type, args.vocab_size, args.output_dir)
    tokenizer.write(args.output_dir / TOKENS)
    with atomic_write(args.output_dir / META) as stream:
        json.dump({"token_type": args.token_type, "num_tokens": tokenizer.vocab_size}, stream)
    logger.info("%s: %d tokens of type %s", args.output_dir / TOKENS, tokenizer.vocab_size, args.token_type)


def train_tokenizer(lines: list[str], token_type: str, vocab_size: int, folder: Path) -> "Tokenizer":
    """Return a tokenizer of ``token_type`` for ``lines``; the model of ``bpe`` is written to ``folder``."""
    from espnet_av.avsr.tokenizer import CharTokenizer, SentencePieceTokenizer, WordTokenizer

    if token_type == "char":
        return CharTokenizer.train(lines)
    if token_type == "word":
        return WordTokenizer.train(lines, vocab_size)
    return SentencePieceTokenizer.train(lines, folder / BPE_MODEL, vocab_size=vocab_size)


def load_tokens_dir(folder: Path) -> "Tokenizer":
    """Read a folder that this command wrote.

    Raises:
        MissingDataError: It was not written, or not to the end.
        DataError: Its description is damaged.
    """
    from espnet_av.avsr.tokenizer import load_tokenizer

    meta = folder / META
    if not meta.is_file():
        raise MissingDataError(describe("no tokens", got=str(meta), fix="run stage 4"))
    try:
        content = json.loads(meta.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{meta}: no JSON ({str(error)[:200]}); fix: run stage 4 again") from error
    token_type = content.get("token_type") if isinstance(content, dict) else None
    if token_type not in ("bpe", "char", "word"):
        raise DataError(describe(f"{meta} names no type of tokens", got=str(token_type)[:40], fix="run stage 4 again"))
    return load_tokenizer(token_type, folder / TOKENS, folder / BPE_MODEL)


if __name__ == "__main__":
    sys.exit(run_main(main))

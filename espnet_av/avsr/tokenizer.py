# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Text <-> token ids: characters, words or SentencePiece pieces.

Ids: 0 ``<blank>`` (CTC), 1 ``<unk>``, then the units, and last ``<eos>``, which is ``<sos>`` as well. A tokenizer lives
in a folder: ``tokens.txt`` (one token a line, in the order of ids), for pieces ``bpe.model``, and ``tokens.json`` with
the type.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe, usage_error
from espnet_av.utils.files import atomic_path, atomic_write
from espnet_av.utils.optional import require

BLANK, UNK, EOS = "<blank>", "<unk>", "<eos>"
SPACE = "<space>"  # the blank of character tokens
WORD_START = "\u2581"  # marks a blank in SentencePiece pieces
TOKEN_TYPES = ("char", "word", "bpe")
TOKENS_FILE, MODEL_FILE, TYPE_FILE = "tokens.txt", "bpe.model", "tokens.json"


class Tokenizer:
    """Transcripts <-> ids.

    Args:
        tokens: All tokens in the order of their ids: ``<blank>``, ``<unk>``, units, ``<eos>``.
        token_type: ``char``, ``word`` or ``bpe``.
        bpemodel: SentencePiece model of type ``bpe``.

    Raises:
        UsageError: An unknown type, or ``bpe`` without a model.
        DataError: The list has another form or repeats a token, or the model is missing.
    """

    def __init__(
        self, tokens: Sequence[str], *, token_type: str = "bpe", bpemodel: str | os.PathLike | None = None
    ) -> None:
        if token_type not in TOKEN_TYPES:
            usage_error("unknown token type", got=token_type, allowed=TOKEN_TYPES)
        self.token_list = list(tokens)
        if self.token_list[:2] != [BLANK, UNK] or self.token_list[-1:] != [EOS] or len(self.token_list) < 4:
            wanted = f"{BLANK}, {UNK}, units..., {EOS}"
            ends = [*self.token_list[:2], *self.token_list[-1:]]
            raise DataError(describe("the token list has another form", got=ends, allowed=wanted, fix="run stage 4"))
        self._ids = {token: index for index, token in enumerate(self.token_list)}
        if len(self._ids) != len(self.token_list) or "" in self._ids:
            repeated = [token for token, count in Counter(self.token_list).items() if count > 1 or not token]
            raise DataError(describe("tokens must be distinct and not empty", got=repeated[:5], fix="run stage 4"))
        self.token_type = token_type
        self.bpemodel = None if bpemodel is None else Path(bpemodel)
        self._processor = None
        if token_type == "bpe":
            if bpemodel is None:
                usage_error("token type 'bpe' needs a SentencePiece model", fix="pass bpemodel (stage 4 writes it)")
            self._processor = _load_model(self.bpemodel)
        self.blank_id, self.unk_id = 0, 1
        self.sos_id = self.eos_id = len(self.token_list) - 1

    @classmethod
    def from_dir(cls, folder: str | os.PathLike) -> "Tokenizer":
        """Read what :meth:`write` wrote.

        Raises:
            DataError: A file is missing or damaged.
        """
        folder = Path(folder)
        for name in (TOKENS_FILE, TYPE_FILE):
            if not (folder / name).is_file():
                raise MissingDataError(describe(f"no {name}", got=str(folder / name), fix="run stage 4 (tokens)"))
        try:
            token_type = json.loads((folder / TYPE_FILE).read_text(encoding="utf-8"))["token_type"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder / TYPE_FILE} cannot be read ({error!r}); fix: run stage 4 (tokens) again"
            ) from error
        tokens = (folder / TOKENS_FILE).read_text(encoding="utf-8").split("\n")[:-1]
        return cls(tokens, token_type=token_type, bpemodel=folder / MODEL_FILE if token_type == "bpe" else None)

    @classmethod
    def from_units(cls, bpemodel: str | os.PathLike, units: str | os.PathLike) -> "Tokenizer":
        """Read a published pair of model and unit list such as auto_avsr's ``unigram5000_units.txt``.

        Args:
            bpemodel: Path of the ``.model`` file.
            units: Path of the list: lines ``piece id``, the first being ``<unk> 1``, ids rising by one.

        Raises:
            DataError: The list is missing or has another form.
        """
        path = Path(units)
        if not path.is_file():
            raise MissingDataError(describe("no unit list", got=str(path)))
        pairs = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        expected = [str(number) for number in range(1, len(pairs) + 1)]
        if not pairs or pairs[0][0] != UNK or [pair[-1] for pair in pairs] != expected:
            wanted = "'<unk> 1', 'piece 2', ..."
            raise DataError(describe("the unit list has another form", got=str(path), allowed=wanted))
        return cls([BLANK, *(pair[0] for pair in pairs), EOS], token_type="bpe", bpemodel=bpemodel)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return len(self.token_list)

    def text_to_tokens(self, text: str) -> list[str]:
        """Split a transcript; tokens outside the vocabulary stay as they are."""
        if self.token_type == "bpe":
            return self._processor.encode(text, out_type=str)
        if self.token_type == "word":
            return text.split()
        tokens: list[str] = []
        for index, piece in enumerate(text.split(UNK)):
            tokens += [UNK] if index else []
            tokens += [SPACE if character == " " else character for character in piece]
        return tokens

    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        """Join tokens to a transcript."""
        if self.token_type == "bpe":
            return "".join(tokens).replace(WORD_START, " ").strip()
        if self.token_type == "word":
            return " ".join(tokens)
        return "".join(" " if token == SPACE else token for token in tokens).strip()

    def encode(self, text: str) -> list[int]:
        """Transcript -> ids; unknown tokens become ``<unk>``. No ``<sos>`` or ``<eos>`` is added."""
        return [self._ids.get(token, self.unk_id) for token in self.text_to_tokens(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> transcript; blanks and ``<eos>`` (wherever they are) are left out."""
        skipped = (self.blank_id, self.eos_id)
        return self.tokens_to_text([self.token_list[index] for index in ids if index not in skipped])

    def write(self, folder: str | os.PathLike) -> None:
        """Write the tokenizer into a folder; see the top of this file."""
        folder = Path(folder)
        with atomic_write(folder / TOKENS_FILE) as stream:
            stream.writelines(token + "\n" for token in self.token_list)
        if self.bpemodel is not None and self.bpemodel.resolve() != (folder / MODEL_FILE).resolve():
            with atomic_path(folder / MODEL_FILE) as path:
                shutil.copyfile(self.bpemodel, path)
        with atomic_write(folder / TYPE_FILE) as stream:
            json.dump({"token_type": self.token_type, "vocab_size": self.vocab_size}, stream)


def _load_model(path: Path) -> Any:
    if not path.is_file():
        raise MissingDataError(describe("no SentencePiece model", got=str(path), fix="run stage 4 (tokens)"))
    try:
        return require("sentencepiece", "avsr").SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path} is no SentencePiece model ({error}); fix: run stage 4 (tokens) again") from error


def train_tokenizer(
    lines: Iterable[str],
    folder: str | os.PathLike,
    *,
    token_type: str = "bpe",
    vocab_size: int | None = None,
    model_type: str = "unigram",
) -> Tokenizer:
    """Make a tokenizer from transcripts and write it into a folder.

    The same transcripts give the same tokens. The label ``<unk>`` (a visible but silent speaker) is no text.

    Args:
        lines: Transcripts.
        folder: Where the files go.
        token_type: ``char``, ``word`` or ``bpe``.
        vocab_size: Ids in the end, special ones included. Characters: ignored. Words: the most frequent ones; None takes
            all. Pieces: needed, and an upper bound.
        model_type: ``unigram`` or ``bpe``, the SentencePiece algorithm.

    Raises:
        DataError: There is no text.
        UsageError: ``vocab_size`` is missing or too small.
    """
    text = [line for line in (" ".join(line.replace(UNK, " ").split()) for line in lines) if line]
    if not text:
        raise DataError("no text to make tokens from; fix: check the 'text' file of the training set")
    if token_type == "bpe":
        tokenizer = _train_pieces(text, Path(folder), vocab_size, model_type)
    elif token_type == "word":
        counts = Counter(word for line in text for word in line.split())
        words = sorted(counts, key=lambda word: (-counts[word], word))
        kept = words if vocab_size is None else words[: max(1, vocab_size - 3)]
        tokenizer = Tokenizer([BLANK, UNK, *sorted(kept), EOS], token_type="word")
    else:
        characters = sorted({SPACE if character == " " else character for line in text for character in line})
        tokenizer = Tokenizer([BLANK, UNK, *characters, EOS], token_type=token_type)
    tokenizer.write(folder)
    return tokenizer


def _train_pieces(text: list[str], folder: Path, vocab_size: int | None, model_type: str) -> Tokenizer:
    if vocab_size is None:
        usage_error("token type 'bpe' needs vocab_size", fix="pass --vocab_size")
    try:
        with atomic_write(folder / MODEL_FILE, "wb") as stream:
            require("sentencepiece", "avsr").SentencePieceTrainer.train(
                sentence_iterator=iter(text),
                model_writer=stream,
                vocab_size=max(2, vocab_size - 2),  # <blank> and <eos> are not pieces
                model_type=model_type,
                character_coverage=1.0,
                bos_id=-1,
                eos_id=-1,
                unk_id=0,
                hard_vocab_limit=False,
                num_threads=1,
                minloglevel=2,
            )
    except RuntimeError as error:
        reason = f"SentencePiece refused the training ({' '.join(str(error).split())})"
        fix = "choose a larger vocab_size: every character of the text needs a piece"
        raise UsageError(describe(reason, got=f"vocab_size {vocab_size}", fix=fix)) from error
    processor = _load_model(folder / MODEL_FILE)
    pieces = (processor.id_to_piece(index) for index in range(processor.get_piece_size()) if index != 0)
    return Tokenizer([BLANK, UNK, *sorted(pieces), EOS], token_type="bpe", bpemodel=folder / MODEL_FILE)

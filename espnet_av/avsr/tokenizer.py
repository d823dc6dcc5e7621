# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Text <-> token ids: characters, words or SentencePiece pieces.

Ids: 0 ``<blank>`` (CTC), 1 ``<unk>``, then the units in file order, and last ``<eos>``, which is ``<sos>`` as well.
The label ``<unk>`` in a transcript marks a visible but silent speaker.
"""

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe, usage_error
from espnet_av.utils.files import atomic_write
from espnet_av.utils.optional import require

BLANK, UNK, EOS = "<blank>", "<unk>", "<eos>"
WORD_START = "\u2581"  # marks a blank in SentencePiece pieces
TOKEN_TYPES = ("char", "word", "bpe")


class Tokenizer(ABC):
    """Common part of all tokenizers.

    Args:
        units: Tokens between ``<unk>`` and ``<eos>``, without repetition.

    Raises:
        DataError: There is no unit, or one repeats, is empty or is a special token.
    """

    def __init__(self, units: Sequence[str]) -> None:
        self.tokens = [BLANK, UNK, *units, EOS]
        self._ids = {token: index for index, token in enumerate(self.tokens)}
        wrong = [token for token, count in Counter(self.tokens).items() if count > 1 or not token]
        if wrong or not units:
            problem = "tokens must be distinct and not empty" if wrong else "there is no token"
            raise DataError(describe(problem, got=wrong[:5] or None, fix="run stage 4 (tokens)"))
        self.blank_id, self.unk_id = 0, 1
        self.sos_id = self.eos_id = len(self.tokens) - 1

    @property
    def vocab_size(self) -> int:
        """Number of ids, special ones included."""
        return len(self.tokens)

    @abstractmethod
    def text_to_tokens(self, text: str) -> list[str]:
        """Split a transcript; tokens outside the vocabulary stay as they are."""

    @abstractmethod
    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        """Join tokens to a transcript."""

    def encode(self, text: str) -> list[int]:
        """Transcript -> ids; unknown tokens become ``<unk>``. No ``<sos>`` or ``<eos>`` is added."""
        return [self._ids.get(token, self.unk_id) for token in self.text_to_tokens(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Ids -> transcript; blanks and ``<eos>`` (wherever they are) are left out."""
        skipped = (self.blank_id, self.eos_id)
        return self.tokens_to_text([self.tokens[index] for index in ids if index not in skipped])

    def write(self, path: str | os.PathLike) -> None:
        """Write all tokens, one a line, in the order of their ids."""
        with atomic_write(path) as stream:
            stream.writelines(token + "\n" for token in self.tokens)


class CharTokenizer(Tokenizer):
    """One token per character; a blank is ``<space>``."""

    SPACE = "<space>"

    @classmethod
    def train(cls, lines: Iterable[str]) -> "CharTokenizer":
        """Collect the characters of transcripts, sorted.

        Raises:
            DataError: There is no text.
        """
        return cls(sorted({cls.SPACE if letter == " " else letter for line in _texts(lines) for letter in line}))

    def text_to_tokens(self, text: str) -> list[str]:
        """See :class:`Tokenizer`; ``<unk>`` is one token."""
        tokens: list[str] = []
        for index, piece in enumerate(text.split(UNK)):
            tokens += [UNK] if index else []
            tokens += [self.SPACE if letter == " " else letter for letter in piece]
        return tokens

    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        """See :class:`Tokenizer`."""
        return "".join(" " if token == self.SPACE else token for token in tokens).strip()


class WordTokenizer(Tokenizer):
    """One token per whitespace-separated word."""

    @classmethod
    def train(cls, lines: Iterable[str], vocab_size: int | None = None) -> "WordTokenizer":
        """Collect words.

        Args:
            lines: Transcripts.
            vocab_size: Ids in the end, special ones included: the most frequent words are kept. None: all.

        Raises:
            DataError: There is no text.
        """
        counts = Counter(word for line in _texts(lines) for word in line.split())
        words = sorted(counts, key=lambda word: (-counts[word], word))
        return cls(sorted(words if vocab_size is None else words[: max(1, vocab_size - 3)]))

    def text_to_tokens(self, text: str) -> list[str]:
        """See :class:`Tokenizer`."""
        return text.split()

    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        """See :class:`Tokenizer`."""
        return " ".join(tokens)


class SentencePieceTokenizer(Tokenizer):
    """Pieces of a SentencePiece model.

    Args:
        model: Path of the ``.model`` file.
        units: Tokens between ``<unk>`` and ``<eos>``.

    Raises:
        DataError: The model is missing or damaged.
    """

    def __init__(self, model: str | os.PathLike, units: Sequence[str]) -> None:
        super().__init__(units)
        self.model_path = Path(model)
        self._processor = _load_model(self.model_path)

    @classmethod
    def from_model(cls, model: str | os.PathLike) -> "SentencePieceTokenizer":
        """Take the units from the model: its pieces without special ones, in code point order."""
        processor = _load_model(Path(model))
        special = (processor.is_control, processor.is_unknown)
        indices = (i for i in range(processor.get_piece_size()) if not any(test(i) for test in special))
        return cls(model, sorted(processor.id_to_piece(index) for index in indices))

    @classmethod
    def from_units(cls, model: str | os.PathLike, units: str | os.PathLike) -> "SentencePieceTokenizer":
        """Take the units from a published list such as auto_avsr's ``unigram5000_units.txt``.

        Args:
            model: Path of the ``.model`` file.
            units: Path of the list: lines ``piece id``, the first being ``<unk> 1``, ids rising by one.

        Raises:
            DataError: The list is missing or has another form.
        """
        path = Path(units)
        if not path.is_file():
            raise MissingDataError(describe("no unit list", got=str(path)))
        pairs = [line.split() for line in _read_list(path).splitlines() if line.strip()]
        expected = [str(number) for number in range(1, len(pairs) + 1)]
        if not pairs or pairs[0][0] != UNK or [pair[-1] for pair in pairs] != expected:
            wanted = "'<unk> 1', 'piece 2', ..."
            raise DataError(describe("the unit list has another form", got=str(path), allowed=wanted))
        return cls(model, [pair[0] for pair in pairs[1:]])

    @classmethod
    def train(
        cls, lines: Iterable[str], model: str | os.PathLike, *, vocab_size: int, model_type: str = "unigram"
    ) -> "SentencePieceTokenizer":
        """Train a model on transcripts and write it; the same transcripts give the same model.

        Args:
            lines: Transcripts.
            model: Path of the ``.model`` file to write.
            vocab_size: Number of ids in the end, special ones included; fewer if the text does not give as many.
            model_type: ``unigram`` or ``bpe``.

        Raises:
            DataError: There is no text.
            UsageError: ``vocab_size`` is too small for the characters of the text.
        """
        try:
            with atomic_write(model, "wb") as stream:
                require("sentencepiece", "avsr").SentencePieceTrainer.train(
                    sentence_iterator=iter(_texts(lines)),
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
        return cls.from_model(model)

    def text_to_tokens(self, text: str) -> list[str]:
        """See :class:`Tokenizer`."""
        return self._processor.encode(text, out_type=str)

    def tokens_to_text(self, tokens: Sequence[str]) -> str:
        """See :class:`Tokenizer`."""
        return "".join(tokens).replace(WORD_START, " ").strip()


def _texts(lines: Iterable[str]) -> list[str]:
    texts = [text for text in (" ".join(line.replace(UNK, " ").split()) for line in lines) if text]
    if not texts:
        raise DataError("no text to make tokens from; fix: check the 'text' file of the training set")
    return texts


def _read_list(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8; fix: iconv -t UTF-8") from error


def _load_model(path: Path) -> Any:
    if not path.is_file():
        raise MissingDataError(describe("no SentencePiece model", got=str(path), fix="run stage 4 (tokens)"))
    try:
        return require("sentencepiece", "avsr").SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise DataError(f"{path} is no SentencePiece model ({error}); fix: run stage 4 (tokens) again") from error


def load_tokenizer(token_type: str, tokens: str | os.PathLike, bpe_model: str | os.PathLike | None = None) -> Tokenizer:
    """Read a token list written by :meth:`Tokenizer.write`.

    Args:
        token_type: ``char``, ``word`` or ``bpe``.
        tokens: Path of the list.
        bpe_model: Path of the SentencePiece model, for ``bpe``.

    Raises:
        DataError: The list is missing, or does not start and end with the special tokens.
        UsageError: An unknown type, or ``bpe`` without a model.
    """
    path = Path(tokens)
    if not path.is_file():
        raise MissingDataError(describe("no token list", got=str(path), fix="run stage 4 (tokens)"))
    return build_tokenizer(token_type, _read_list(path).removesuffix("\n").split("\n"), bpe_model)


def build_tokenizer(token_type: str, tokens: Sequence[str], bpe_model: str | os.PathLike | None = None) -> Tokenizer:
    """Make a tokenizer from a whole token list, special tokens included; arguments as in :func:`load_tokenizer`."""
    tokens = list(tokens)
    if tokens[:2] != [BLANK, UNK] or tokens[-1:] != [EOS]:
        ends, wanted = [*tokens[:2], *tokens[-1:]], f"{BLANK}, {UNK}, units..., {EOS}"
        raise DataError(describe("the token list has another form", got=ends, allowed=wanted))
    units = tokens[2:-1]
    if token_type == "char":
        return CharTokenizer(units)
    if token_type == "word":
        return WordTokenizer(units)
    if token_type == "bpe":
        if bpe_model is None:
            usage_error("token type 'bpe' needs a SentencePiece model", fix="pass the bpe.model of stage 4")
        return SentencePieceTokenizer(bpe_model, units)
    usage_error("unknown token type", got=token_type, allowed=TOKEN_TYPES)

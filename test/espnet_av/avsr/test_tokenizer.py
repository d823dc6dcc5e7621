# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pickle

import pytest

from espnet_av.avsr.tokenizer import (
    CharTokenizer,
    SentencePieceTokenizer,
    WordTokenizer,
    build_tokenizer,
    load_tokenizer,
)
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

LINES = ["PLACE RED AT G NINE NOW", "SET BLUE BY A TWO SOON", "LAY GREEN WITH Z ONE PLEASE", "<unk>"] * 3


def test_ids_of_characters():
    tokenizer = CharTokenizer.train(["AB A", "<unk>"])
    assert tokenizer.tokens == ["<blank>", "<unk>", "<space>", "A", "B", "<eos>"]
    assert (tokenizer.blank_id, tokenizer.unk_id, tokenizer.sos_id, tokenizer.eos_id) == (0, 1, 5, 5)
    assert tokenizer.encode("A BX") == [3, 2, 4, 1]
    assert tokenizer.encode("<unk>") == [1]
    assert tokenizer.decode([5, 3, 2, 4, 0, 5, 5]) == "A B"
    assert tokenizer.decode([1]) == "<unk>"


def test_words_by_frequency():
    tokenizer = WordTokenizer.train(["B A C", "B A", "B"], vocab_size=5)
    assert tokenizer.tokens == ["<blank>", "<unk>", "A", "B", "<eos>"]
    assert tokenizer.encode("A C B") == [2, 1, 3]
    assert tokenizer.decode([2, 1, 3]) == "A <unk> B"


def test_pieces(tmp_path):
    tokenizer = SentencePieceTokenizer.train(LINES, tmp_path / "bpe.model", vocab_size=40)
    assert tokenizer.vocab_size <= 40
    assert tokenizer.tokens[2:-1] == sorted(tokenizer.tokens[2:-1])
    for line in LINES[:3]:
        ids = tokenizer.encode(line)
        assert 1 not in ids
        assert tokenizer.decode(ids) == line
    assert tokenizer.encode("<unk>")[-1] == tokenizer.unk_id
    assert tokenizer.decode(tokenizer.encode("<unk>")) == "<unk>"
    assert tokenizer.unk_id in tokenizer.encode("red")
    again = SentencePieceTokenizer.train(LINES, tmp_path / "again.model", vocab_size=40)
    assert again.tokens == tokenizer.tokens
    copy = pickle.loads(pickle.dumps(tokenizer))  # loader workers get a copy
    assert copy.encode("RED") == tokenizer.encode("RED")


@pytest.mark.parametrize("token_type", ["char", "word", "bpe"])
def test_written_and_read_again(token_type, tmp_path):
    model = tmp_path / "bpe.model"
    trained = {
        "char": lambda: CharTokenizer.train(LINES),
        "word": lambda: WordTokenizer.train(LINES),
        "bpe": lambda: SentencePieceTokenizer.train(LINES, model, vocab_size=40),
    }[token_type]()
    trained.write(tmp_path / "tokens.txt")
    read = load_tokenizer(token_type, tmp_path / "tokens.txt", model if token_type == "bpe" else None)
    assert read.tokens == trained.tokens
    assert read.encode(LINES[0]) == trained.encode(LINES[0])


def test_published_unit_list(tmp_path):
    trained = SentencePieceTokenizer.train(LINES, tmp_path / "bpe.model", vocab_size=40)
    units = tmp_path / "units.txt"
    units.write_text("".join(f"{token} {index}\n" for index, token in enumerate(trained.tokens[1:-1], start=1)))
    assert SentencePieceTokenizer.from_units(tmp_path / "bpe.model", units).tokens == trained.tokens
    units.write_text("A 1\nB 2\n")
    with pytest.raises(DataError, match="another form"):
        SentencePieceTokenizer.from_units(tmp_path / "bpe.model", units)


def test_bad_input(tmp_path):
    with pytest.raises(DataError, match="no text"):
        CharTokenizer.train(["<unk>", " "])
    with pytest.raises(UsageError, match="larger vocab_size"):
        SentencePieceTokenizer.train(LINES, tmp_path / "bpe.model", vocab_size=5)
    assert not list(tmp_path.iterdir())
    with pytest.raises(MissingDataError, match="stage 4"):
        load_tokenizer("char", tmp_path / "tokens.txt")
    with pytest.raises(MissingDataError, match="stage 4"):
        SentencePieceTokenizer.from_model(tmp_path / "bpe.model")
    (tmp_path / "bpe.model").write_text("no model")
    with pytest.raises(DataError, match="no SentencePiece model"):
        SentencePieceTokenizer.from_model(tmp_path / "bpe.model")
    with pytest.raises(DataError, match="distinct"):
        WordTokenizer(["A", "A"])
    with pytest.raises(DataError, match="another form"):
        build_tokenizer("char", ["A", "B"])
    with pytest.raises(UsageError, match="char, word, bpe"):
        build_tokenizer("phone", ["<blank>", "<unk>", "A", "<eos>"])
    with pytest.raises(UsageError, match="SentencePiece model"):
        build_tokenizer("bpe", ["<blank>", "<unk>", "A", "<eos>"])

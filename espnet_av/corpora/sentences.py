# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the speakers of mini_av say: GRID commands and short free sentences, and who says which in which split.

GRID grammar: Cooke et al., "An audio-visual corpus for speech perception and automatic speech recognition", JASA 2006:
command colour preposition letter digit adverb, e.g. ``BIN BLUE AT F TWO NOW`` (no letter W). The free sentences come
out of a small template grammar over 84 further words. Train has codes too, e.g. ``K SEVEN B Q TWO M``: a command holds
only one letter, and 25 letters need more examples than the other words. Words are dealt from shuffled decks, so that
those of one slot are equally frequent, and a sentence of the valid or test sets is never one of train.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

GRID_SLOTS: tuple[tuple[str, ...], ...] = (
    ("BIN", "LAY", "PLACE", "SET"),
    ("BLUE", "GREEN", "RED", "WHITE"),
    ("AT", "BY", "IN", "WITH"),
    tuple("ABCDEFGHIJKLMNOPQRSTUVXYZ"),
    ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE"),
    ("AGAIN", "NOW", "PLEASE", "SOON"),
)
FREE_WORDS: dict[str, tuple[str, ...]] = {
    "determiner": ("MY", "HIS", "HER", "THEIR", "THAT"),
    "person": (
        ("MOTHER", "FATHER", "BROTHER", "SISTER", "DOCTOR") + ("TEACHER", "FARMER", "CAPTAIN", "SOLDIER", "STUDENT")
    ),
    "pronoun": ("SHE", "HE", "WE", "THEY", "NOBODY"),
    "verb": (
        ("BOUGHT", "FOUND", "CARRIED", "FIXED", "PAINTED", "WANTED", "BROKE", "MOVED", "OPENED")
        + ("WATCHED", "HELD", "LOST", "SHARED", "CHOSE", "KEPT", "SOLD", "DROPPED")
    ),
    "thing": (
        ("APPLES", "BOXES", "WINDOWS", "BOTTLES", "FLOWERS", "PICTURES", "TABLES", "SHOES", "BASKETS")
        + ("FEATHERS", "CANDLES", "HAMMERS", "MAPS", "RINGS", "VIOLINS", "JACKETS", "PUMPKINS")
    ),
    "adjective": ("HEAVY", "YELLOW", "BROKEN", "EMPTY", "WOODEN", "PURPLE", "TINY"),
    "adverb": ("OFTEN", "NEVER", "ALWAYS"),
    "time": ("YESTERDAY", "TODAY", "LATER", "MONDAY"),
    "relation": ("NEAR", "BEHIND", "UNDER", "BESIDE", "ABOVE", "OUTSIDE"),
    "place": ("GARDEN", "KITCHEN", "RIVER", "BRIDGE", "MARKET", "STATION", "CHURCH", "FOREST", "HARBOR"),
    "article": ("THE",),
}
SUBJECTS = (("determiner", "person"), ("pronoun",))
PREDICATES = (
    ("verb", "thing", "relation", "article", "place"),
    ("verb", "adjective", "thing", "time"),
    ("adverb", "verb", "adjective", "thing"),
)
# deals of templates per round: the shares that let every free word come up about equally often
SUBJECT_DECK = (0, 0, 0, 1, 1)
PREDICATE_DECK = (0,) * 11 + (1,) * 5 + (2,) * 4
CODE_SLOTS = (GRID_SLOTS[3], GRID_SLOTS[4], GRID_SLOTS[3], GRID_SLOTS[3], GRID_SLOTS[4], GRID_SLOTS[3])
TRAIN_SHARES = {"free": 0.30, "code": 0.15}  # the rest are commands
TEST_SHARES = {"free": 0.25}


@dataclass(frozen=True)
class PlannedUtterance:
    """One clip to make. ``speaker`` is an index; ``text`` is upper-case, words parted by one space."""

    utt_id: str
    speaker: int
    split: str
    text: str


@dataclass(frozen=True)
class CorpusSize:
    """Number of speakers and of clips per speaker and split."""

    num_train_speakers: int
    num_unseen_speakers: int
    train: int
    valid: int
    test: int
    test_unseen: int
    silent: int


def grid_vocabulary() -> list[str]:
    """Return the 51 words of the GRID grammar."""
    return sorted({word for slot in GRID_SLOTS for word in slot})


def free_vocabulary() -> list[str]:
    """Return the words that only the free sentences use."""
    return sorted({word for words in FREE_WORDS.values() for word in words})


Card = TypeVar("Card")


class _Deck(Generic[Card]):
    """Deal cards; shuffle them anew whenever all are gone. A card that was not used goes back to a random place."""

    def __init__(self, cards: Sequence[Card], rng: np.random.Generator) -> None:
        self._cards, self._rng = cards, rng
        self._left: list[Card] = []

    def deal(self) -> Card:
        if not self._left:
            self._left = [self._cards[k] for k in self._rng.permutation(len(self._cards))]
        return self._left.pop()

    def give_back(self, card: Card) -> None:
        self._left.insert(int(self._rng.integers(len(self._left) + 1)), card)


class SentenceSource:
    """Deal new sentences that are not in ``taken``; each is added to it.

    Args:
        rng: Source of chance.
        taken: Sentences that must not come again, shared between sources.
    """

    def __init__(self, rng: np.random.Generator, taken: set[str]) -> None:
        self._taken = taken
        self._grid = [_Deck(slot, rng) for slot in GRID_SLOTS]
        letters, digits = _Deck(GRID_SLOTS[3], rng), _Deck(GRID_SLOTS[4], rng)
        self._code = [letters if slot is GRID_SLOTS[3] else digits for slot in CODE_SLOTS]
        self._words = {name: _Deck(words, rng) for name, words in FREE_WORDS.items()}
        self._subjects, self._predicates = _Deck(SUBJECT_DECK, rng), _Deck(PREDICATE_DECK, rng)

    def grid(self) -> str:
        """Return a new sentence of the GRID grammar."""
        return self._new_sentence(self._grid)

    def free(self) -> str:
        """Return a new free sentence."""
        slots = SUBJECTS[self._subjects.deal()] + PREDICATES[self._predicates.deal()]
        return self._new_sentence([self._words[name] for name in slots])

    def code(self) -> str:
        """Return a new code of four letters and two digits."""
        return self._new_sentence(self._code)

    def _new_sentence(self, decks: list[_Deck[str]]) -> str:
        for _ in range(1000):
            hand = [deck.deal() for deck in decks]
            text = " ".join(hand)
            if text not in self._taken:
                self._taken.add(text)
                return text
            for deck, card in zip(decks, hand, strict=True):
                deck.give_back(card)
        raise RuntimeError("the grammar has no new sentence left")


def _sentences(source: SentenceSource, count: int, shares: dict[str, float]) -> Iterator[str]:
    """Yield ``count`` sentences with those of each kind spread evenly; what ``shares`` leaves are commands."""
    given = dict.fromkeys(shares, 0)
    for k in range(1, count + 1):
        behind = {kind: share * k - given[kind] for kind, share in shares.items()}
        kind = max(behind, key=lambda name: behind[name])
        if behind[kind] > 1 - 1e-9:
            given[kind] += 1
            yield getattr(source, kind)()
        else:
            yield source.grid()


def speaker_name(index: int) -> str:
    """Return the id of a speaker, ``s01`` for index 0."""
    return f"s{index + 1:02d}"


def plan_corpus(size: CorpusSize, seed: int) -> list[PlannedUtterance]:
    """Decide every clip of the corpus: id, speaker, split and text.

    Test and valid sentences are drawn first, so that train can avoid them. Training speakers have the indices
    ``0 .. num_train_speakers - 1``, unseen ones those after.

    Args:
        size: Speakers and clips.
        seed: Seed of the corpus.

    Returns:
        The plan, grouped by split and sorted by speaker and number within each.
    """
    seen = range(size.num_train_speakers)
    unseen = range(size.num_train_speakers, size.num_train_speakers + size.num_unseen_speakers)
    wanted = (
        ("test_seen", seen, size.test, TEST_SHARES),
        ("test_unseen", unseen, size.test_unseen, TEST_SHARES),
        ("valid", seen, size.valid, TEST_SHARES),
        ("train", seen, size.train, TRAIN_SHARES),
    )
    taken: set[str] = set()
    plan = []
    for number, (split, speakers, count, shares) in enumerate(wanted):
        source = SentenceSource(np.random.default_rng([seed, 11, number]), taken)
        texts = list(_sentences(source, count * len(speakers), shares))
        for k, text in enumerate(texts):
            speaker = speakers[k % len(speakers)]
            utt_id = f"{speaker_name(speaker)}-{split}-{k // len(speakers) + 1:03d}"
            plan.append(PlannedUtterance(utt_id, speaker, split, text))
    for speaker in (*seen, *unseen):
        plan += [
            PlannedUtterance(f"{speaker_name(speaker)}-silent-{k + 1:03d}", speaker, "silent", "")
            for k in range(size.silent)
        ]
    return sorted(plan, key=lambda item: item.utt_id)

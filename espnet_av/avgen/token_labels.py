# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The 29 labels of the tokens, in the order of their logits, and texts as labels."""

from collections.abc import Iterable

from espnet_av.utils.errors import DataError, describe

BLANK, SPACE = "-", "|"
LABELS = tuple("-|ETAONIHSRDLUMWCFGYPBVK'XJQZ")
NUM_LABELS = len(LABELS)
BLANK_ID, SPACE_ID = LABELS.index(BLANK), LABELS.index(SPACE)
_IDS = {label: number for number, label in enumerate(LABELS) if label != BLANK}


def text_to_labels(text: str) -> list[int]:
    """Return the labels of a text, in capitals and without blanks at its ends.

    >>> text_to_labels("it's  on")
    [7, 3, 24, 9, 1, 5, 6]

    Raises:
        DataError: The text is empty or holds a character that has no label.
    """
    words = text.upper().split()
    labels = SPACE.join(words)
    unknown = sorted({each for word in words for each in word if each not in _IDS or each == SPACE})
    if unknown:
        fix = "write numbers as words and leave out punctuation"
        raise DataError(describe("the text holds characters that have no label", "".join(unknown), "A-Z and '", fix))
    if not labels:
        raise DataError(describe("the text is empty", text, fix="drop the utterance"))
    return [_IDS[label] for label in labels]


def labels_to_text(labels: Iterable[int]) -> str:
    """Return the words of labels, repeated ones and blanks taken out as CTC has them.

    >>> labels_to_text([0, 7, 7, 0, 3, 1, 1, 5, 6, 6])
    'IT ON'
    """
    text, before = [], BLANK_ID
    for label in labels:
        if label not in (before, BLANK_ID):
            text.append(LABELS[label])
        before = label
    return " ".join("".join(text).replace(SPACE, " ").split())

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import pytest

from espnet_av.avsr.text import normalize_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("no punctuation", "NO PUNCTUATION"),
        ("Stop! Really?!", "STOP REALLY"),
        ("it's dogs' 'quoted'", "IT'S DOGS QUOTED"),
        ("they’re 'tis", "THEY’RE TIS"),
        ("rock'n'roll", "ROCK'N'ROLL"),
        ("state-of-the-art", "STATE OF THE ART"),
        ("50% 1,250.5%", "50 PERCENT 1250 POINT 5 PERCENT"),
        (r"$5 5$ $1,000.50", "5 DOLLAR 5 DOLLAR 1000 POINT 50 DOLLAR"),
        ("£5 7£ £1.5", "5 POUND 7 POUND 1 POINT 5 POUND"),
        ("hello.<|en|><|transcribe|> a<|de|><|translate|>", "HELLO A"),
        ("3.14 1,000 1,000.5", "3 POINT 14 1000 1000 POINT 5"),
        ("U.S.A. e.g.", "USA EG"),
        ("www.a1.org end.Start", "WWW DOT A1 DOT ORG END DOT START"),
        ("a@b 1/2 x=y", "A B 1 2 X Y"),
        ("ÉTÉ été.", " T  ÉTÉ"),
        ("...", ""),
        ("", ""),
        (" \t two \n words ", "TWO WORDS"),
    ],
)
def test_rules(text, expected):
    assert normalize_text(text) == expected


def test_plain_words_stay_as_they_are_when_normalised_again():
    text = "WE'RE GOING TO ZEALAND 25"
    assert normalize_text(text) == text

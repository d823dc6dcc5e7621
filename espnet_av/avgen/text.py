# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Written text as numbers for the text-to-tokens model.

``characters`` needs nothing but the text: capital letters, the apostrophe and the gap between words. ``matcha`` is the
table of Matcha-TTS, 178 symbols of the International Phonetic Alphabet; its phonemes come from the program espeak-ng,
which runs as a process of its own, or are written by the user (``g2p="none"``).

Between all symbols, and before and after them, stands the blank, number 0.
"""

import re
import shutil
import subprocess
import unicodedata

from espnet_av.utils.errors import EnvironmentProblem, describe, usage_error

BLANK = 0
CHARACTERS = ("_", " ", "'", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ")
_PUNCTUATION = ';:,.!?¡¿—…"«»“” '
_IPA = (
    "ɑɐɒæɓʙβɔɕçɗɖðʤəɘɚɛɜɝɞɟʄɡɠɢʛɦɧħɥʜɨɪʝɭɬɫɮʟɱɯɰŋɳɲɴøɵɸθœɶʘɹɺɾɻʀʁɽʂʃʈʧʉʊʋⱱʌɣɤʍχʎʏʑʐʒʔʡʕʢǀǁǂǃˈˌːˑʼʴʰʱʲʷˠˤ˞↓↑→↗↘'\u0329'ᵻ"
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
MATCHA = ("_", *_PUNCTUATION, *_LETTERS, *_IPA)
TABLES: dict[str, tuple[str, ...]] = {"characters": CHARACTERS, "matcha": MATCHA}
G2P = {"characters": ("none",), "matcha": ("espeak", "none")}

_GAPS = re.compile(r"[\s,.;:!?¡¿…\"«»“”()\[\]—–-]+")
_APOSTROPHES = str.maketrans("’‘ʼ`´", "'''''")
_ESPEAK_TIMEOUT = 60
_MARKS = re.compile(r'([;:,.!?¡¿—…"«»“”]+)')
_LANGUAGE_SWITCH = re.compile(r"\([a-z-]+\)")


class TextFrontEnd:
    """Text to numbers.

    Args:
        symbols: ``characters`` or ``matcha``.
        g2p: ``espeak`` turns text into phonemes (``matcha`` only); ``none`` takes it as it is. None: ``espeak`` for
            ``matcha``.

    Raises:
        UsageError: A name is unknown, or the two do not go together.
    """

    def __init__(self, symbols: str = "characters", g2p: str | None = None) -> None:
        if symbols not in TABLES:
            usage_error("unknown table of symbols", symbols, list(TABLES))
        self.symbols, self.g2p = symbols, g2p or G2P[symbols][0]
        if self.g2p not in G2P[symbols]:
            usage_error(f"the table {symbols} does not go with this g2p", self.g2p, G2P[symbols])
        self.table = TABLES[symbols]
        self.numbers = {symbol: number for number, symbol in enumerate(self.table)}  # of two alike the last one

    def __len__(self) -> int:
        return len(self.table)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.symbols!r}, g2p={self.g2p!r})"

    def clean(self, text: str) -> str:
        """Return the text in symbols of the table, without blanks.

        Raises:
            UsageError: Nothing is left to say, or a character is not in the table.
            EnvironmentProblem: espeak-ng is needed and not there, or fails.
        """
        if self.symbols == "characters":
            cleaned = _capital_letters(text)
        else:
            cleaned = " ".join(phonemes(text).split()) if self.g2p == "espeak" else text.strip()
        if not any(character.isalpha() for character in cleaned):
            usage_error("there is nothing to say", text, "text with letters", "pass --text with a word at least")
        strange = sorted({character for character in cleaned if character not in self.numbers})
        if strange:
            allowed = "letters A-Z, apostrophes, gaps" if self.symbols == "characters" else "phonemes of Matcha-TTS"
            fix = (
                "pass --g2p espeak for plain text"
                if self.symbols != "characters" and self.g2p == "none"
                else "spell out numbers and signs"
            )
            usage_error(f"characters that cannot be spoken in {text!r}", "".join(strange), allowed, fix)
        return cleaned

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text, with a blank around each; see :meth:`clean` for errors."""
        return interleave([self.numbers[character] for character in self.clean(text)])

    def pieces(self, text: str, longest: int) -> list[str]:
        """Cut a text between words into pieces of at most ``longest`` characters; a longer word is one piece."""
        found, piece = [], ""
        for word in text.split():
            joined = f"{piece} {word}" if piece else word
            if piece and len(joined) > longest:
                found.append(piece)
                joined = word
            piece = joined
        return [*found, piece] if piece or not found else found


def interleave(numbers: list[int], blank: int = BLANK) -> list[int]:
    """Put a blank around each number.

    >>> interleave([5, 7])
    [0, 5, 0, 7, 0]
    """
    spread = [blank] * (2 * len(numbers) + 1)
    spread[1::2] = numbers
    return spread


def phonemes(text: str) -> str:
    """Return American English phonemes with stress; punctuation stays.

    Raises:
        EnvironmentProblem: The program espeak-ng is not installed, or fails.
    """
    program = shutil.which("espeak-ng") or shutil.which("espeak")
    if program is None:
        fix = (
            "install espeak-ng (apt-get install espeak-ng), use a text model of characters, or let "
            "avgen_text_to_tokens --g2p none make tokens of phonemes that you write"
        )
        raise EnvironmentProblem(describe("phonemes need the program espeak-ng", fix=fix))
    parts = _MARKS.split(text)  # text, marks, text, ...
    return "".join(part if index % 2 else _spoken(program, part) for index, part in enumerate(parts))


def _spoken(program: str, text: str) -> str:
    if not text.strip():
        return text
    command = [program, "-q", "--ipa", "-v", "en-us", "--stdin"]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=_ESPEAK_TIMEOUT, check=True)
    except (subprocess.SubprocessError, OSError) as error:
        raise EnvironmentProblem(describe("espeak-ng failed", str(error), fix="run it by hand to see why")) from error
    said = _LANGUAGE_SWITCH.sub("", " ".join(done.stdout.split()))
    left, right = text[: len(text) - len(text.lstrip())], text[len(text.rstrip()) :]
    return f"{left[:1]}{said}{right[:1]}"


def _capital_letters(text: str) -> str:
    text = _GAPS.sub(" ", text.translate(_APOSTROPHES))
    plain = "".join(mark for mark in unicodedata.normalize("NFKD", text) if not unicodedata.combining(mark))
    return plain.upper().strip()

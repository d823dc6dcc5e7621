# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Speech with exact phone times from the library of the ``espeakng-loader`` wheel, called through ctypes.

espeak-ng is under the GPL: only the corpus generator uses this file, in a worker process of its own. The synthesiser
carries hidden state from one call to the next, so the same calls in the same order *in a fresh process* give the same
samples; that is why every speaker gets a new process. Voices with a ``breath`` line are random even so and are
refused (``BREATHY``).
"""

import ctypes
import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from espnet_av.utils.errors import EnvironmentProblem, describe, usage_error
from espnet_av.utils.optional import require

BREATHY = frozenset(
    ("Alicia", "Demonic", "Reed", "Storm", "caleb", "f2", "f3", "f5", "sandro", "victor", "whisper", "whisperf")
)
_SYNCHRONOUS = 2
_PHONEME_EVENTS, _DONT_EXIT = 0x1, 0x8000
_UTF8, _PHONEME_INPUT = 0x1, 0x100
_RATE, _PITCH, _RANGE = 1, 3, 4
_END, _WORD, _PHONEME = 0, 1, 7
_STRESS = "',%="


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("uid", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


@dataclass(frozen=True)
class Span:
    """A word or phone with start and end in seconds. Phones carry no stress marks; a pause is ``sil``."""

    label: str
    start: float
    end: float


@dataclass(frozen=True)
class Speech:
    """One spoken sentence: ``pcm`` int16 ``(N,)`` at ``sample_rate`` Hz, and the spans of its words and phones."""

    pcm: np.ndarray
    sample_rate: int
    words: list[Span]
    phones: list[Span]


class Espeak:
    """The synthesiser. Make one per process, and speak in a fixed order."""

    def __init__(self) -> None:
        loader = require("espeakng_loader", "tts")
        self._lib = ctypes.CDLL(loader.get_library_path())
        self._lib.espeak_Info.restype = ctypes.c_char_p
        flags = _PHONEME_EVENTS | _DONT_EXIT
        self.sample_rate = self._lib.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(loader.get_data_path()), flags)
        if self.sample_rate <= 0:
            raise EnvironmentProblem(
                describe(
                    "espeak-ng did not start", self.sample_rate, fix="pip install --force-reinstall espeakng-loader"
                )
            )
        self._keep = _CALLBACK(self._receive)  # ctypes does not hold a reference
        self._lib.espeak_SetSynthCallback(self._keep)
        self._blocks: list[np.ndarray] = []
        self._events: list[tuple[int, int, int, str]] = []

    @property
    def version(self) -> str:
        """Version of the library."""
        path = ctypes.c_char_p()
        return self._lib.espeak_Info(ctypes.byref(path)).decode()

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self._blocks.append(np.ctypeslib.as_array(wave, shape=(count,)).copy())
        k = 0
        while events[k].type != _END:
            event = events[k]
            if event.type in (_WORD, _PHONEME):
                name = (
                    bytes(event.id.string).split(b"\0")[0].decode("utf-8", "replace") if event.type == _PHONEME else ""
                )
                self._events.append((event.type, event.sample, event.text_position, name))
            k += 1
        return 0

    def say(self, text: str, voice: str, rate: int = 160, pitch: int = 50, pitch_range: int = 50) -> Speech:
        """Speak ``text``.

        Args:
            text: Words parted by single spaces. A single letter is spelled.
            voice: Name of a variant of US English, e.g. ``"m8"``.
            rate: Words per minute.
            pitch: 0-100.
            pitch_range: 0-100.

        Raises:
            UsageError: The voice does not exist or is not deterministic.
        """
        if voice in BREATHY:
            usage_error("a breathy voice is random at every call", voice, fix="choose another espeak-ng variant")
        if self._lib.espeak_SetVoiceByName(f"en-us+{voice}".encode()) != 0:
            usage_error("espeak-ng has no such voice", voice, fix="list them with `espeak-ng --voices=variant`")
        for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        spoken = [spelling(word) for word in text.split()]
        data = " ".join(spoken).encode() + b"\0"
        self._blocks, self._events = [], []
        if self._lib.espeak_Synth(data, len(data), 0, 1, 0, _UTF8 | _PHONEME_INPUT, None, None) != 0:
            raise EnvironmentProblem(describe("espeak-ng could not speak", text))
        self._lib.espeak_Synchronize()
        pcm = np.concatenate(self._blocks) if self._blocks else np.zeros(0, np.int16)
        words, phones = _spans(self._events, text.split(), spoken, len(pcm), self.sample_rate)
        return Speech(pcm, self.sample_rate, words, phones)


def spelling(word: str) -> str:
    """Return how the synthesiser is given a word: lower case; the letter A as a phoneme, or it would be an article."""
    return "[['eI]]" if word == "A" else word.lower()


def _spans(
    events: list[tuple[int, int, int, str]], words: list[str], spoken: list[str], num_samples: int, rate: int
) -> tuple[list[Span], list[Span]]:
    """Turn events (type, sample, text position from 1, name) into spans of words and phones."""
    starts = [(sample, position) for kind, sample, position, _ in events if kind == _WORD]
    raw = [(sample, name.lstrip(_STRESS)) for kind, sample, _, name in events if kind == _PHONEME]
    bounds = [sample for sample, _ in raw] + [num_samples]
    phones = [
        Span("sil" if name == "" or name.startswith("_") else name, begin / rate, end / rate)
        for (begin, name), end in zip(raw, bounds[1:], strict=True)
        if end > begin
    ]
    pauses = [span.start for span in phones if span.label == "sil"]
    offsets = np.cumsum([1] + [len(word.encode()) + 1 for word in spoken[:-1]])
    begin_of: dict[int, int] = {}
    for sample, position in starts:
        begin_of.setdefault(int(np.searchsorted(offsets, position, side="right")) - 1, sample)
    known = sorted(begin_of)
    spans = []
    for k, index in enumerate(known):
        start = begin_of[index] / rate
        end = begin_of[known[k + 1]] / rate if k + 1 < len(known) else num_samples / rate
        end = min([pause for pause in pauses if start < pause < end], default=end)
        upto = known[k + 1] if k + 1 < len(known) else len(words)
        spans.append(Span(" ".join(words[index:upto]), start, end))
    return spans, phones

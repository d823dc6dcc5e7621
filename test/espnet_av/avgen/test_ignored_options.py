# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Options of generation without effect: what was given, and what is told."""

import argparse

import pytest

from espnet_av.avgen import ignored_options


@pytest.fixture()
def parser():
    parser = argparse.ArgumentParser()
    for name in ("audio", "text", "tokens", "partner_audio", "partner_tokens", "mesh", "codec", "silence"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--speed", type=float, default=1.0)
    parser.add_argument("--renderer", default="auto")
    return parser


def told(parser, caplog, *words):
    args = parser.parse_args(words)
    rules = {**ignored_options.rules_of_input(args), **ignored_options.rules_of_pictures(args)}
    caplog.clear()
    ignored_options.tell_ignored(ignored_options.given_options(parser, args), rules)
    return [record.getMessage() for record in caplog.records]


def test_only_what_was_given_is_told(parser, caplog):
    assert told(parser, caplog, "--text", "A", "--speed", "2", "--renderer", "mesh", "--mesh", "m.obj") == []
    assert told(parser, caplog, "--audio", "a.wav", "--speed", "2", "--silence", "s.npy") == [
        "--speed is ignored: no text is spoken"
    ]
    assert told(parser, caplog, "--tokens", "t.npy", "--silence", "s.npy", "--codec", "a:b") == [
        "--silence is ignored: no sound is read",
        "--codec is ignored: it is of --renderer codec",
    ]


def test_a_partner_reads_sound(parser, caplog):
    assert told(parser, caplog, "--tokens", "t.npy", "--partner_tokens", "p.npy", "--silence", "s.npy") == []

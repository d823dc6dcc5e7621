# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Tiny Debian packages with the sound files that debian_speech looks for."""

import io
import tarfile

import av
import numpy as np
import soundfile

LANGUAGES = ("ro", "es", "ru", "el", "fr", "bg", "ca", "da", "be")


def wave(seconds, seed, rate):
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    tone = np.sin(2 * np.pi * rng.uniform(100, 300) * times) * (0.3 + 0.2 * np.sin(2 * np.pi * 4 * times))
    return (tone + 0.01 * rng.standard_normal(len(times))).astype(np.float32)


def ogg(seconds, seed, rate=44100):
    stream = io.BytesIO()
    soundfile.write(stream, wave(seconds, seed, rate), rate, format="OGG")
    return stream.getvalue()


def g722(seconds, seed=0):
    stream = io.BytesIO()
    with av.open(stream, "w", format="g722") as container:
        track = container.add_stream("g722", rate=16000, layout="mono")
        pcm = (wave(seconds, seed, 16000) * 32767).astype(np.int16)
        for start in range(0, len(pcm) - 639, 640):
            frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 640], format="s16", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return stream.getvalue()


def make_deb(path, files):
    """Write an ar archive with ``data.tar.xz``, as dpkg does."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:xz", preset=0) as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"./{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    members = {"debian-binary": b"2.0\n", "control.tar.xz": b"odd", "data.tar.xz": archive.getvalue()}
    with open(path, "wb") as out:
        out.write(b"!<arch>\n")
        for name, content in members.items():
            out.write(f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n".encode())
            out.write(content + b"\n" * (len(content) % 2))
    return path


def make_packages(folder):
    """Write the five packages of the recipe under another version."""
    stamps = "usr/share/tuxpaint/stamps/animals"
    tuxpaint = {
        f"{stamps}/dog{k}_desc_{code}.ogg": ogg(0.8, 10 * index + k)
        for index, code in enumerate(LANGUAGES)
        for k in range(4)
    }
    tuxpaint |= {f"{stamps}/dog{k}.ogg": ogg(1.2, 200 + k, 22050) for k in range(3)}
    sounds = "usr/share/asterisk/sounds/en_US_f_Allison"
    asterisk = {f"{sounds}/vm-{k}.g722": g722(2.2 + 0.1 * k, 300 + k) for k in range(5)}
    asterisk |= {f"{sounds}/beep.g722": g722(2.5, 310), f"{sounds}/silence/1.g722": g722(2.5, 311)}
    game = "usr/share/games/fillets-ng"
    data = {f"{game}/music/rybky{k:02d}.ogg": ogg(2.0, 400 + k, 22050) for k in range(2)}
    data |= {f"{game}/sound/barrel/en/bar-x-{k}.ogg": ogg(1.1, 410 + k, 22050) for k in range(4)}
    contents = {"tuxpaint-stamps-default": tuxpaint, "asterisk-core-sounds-en-g722": asterisk, "fillets-ng-data": data}
    for code in ("cs", "nl"):
        files = {f"{game}/sound/a/{code}/x-{fish}-{k}.ogg": ogg(2.3, 500 + k, 22050) for fish in "mv" for k in range(2)}
        contents[f"fillets-ng-data-{code}"] = {
            name: ogg(2.3, 600 + index + (50 if code == "nl" else 0), 22050) for index, name in enumerate(files)
        }
    for name, files in contents.items():
        make_deb(folder / f"{name}_0.1_all.deb", files)
    return folder

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The page of the data doctor: one HTML file that opens without a network, with pictures and sound of what was found.

Axis legend: ``T`` video frames, ``H`` x ``W`` pixels, ``N`` samples.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from espnet_av.data.audio_io import read_audio, resample_audio
from espnet_av.data.doctor.clips import Clip
from espnet_av.data.doctor.examine import Diagnosis, Row
from espnet_av.data.doctor.findings import KINDS, Finding
from espnet_av.data.doctor.lips import MIDDLE
from espnet_av.data.doctor.measure import TRACK_SUFFIXES, read_crops
from espnet_av.data.doctor.sync import MAX_LAG
from espnet_av.report.page import TEMPLATES
from espnet_av.train.provenance import package_version, utc_now
from espnet_av.utils.errors import DataError, MissingDataError
from espnet_av.utils.files import atomic_write

NUM_PICTURES, PICTURE = 8, 72
SOUND_RATE, MAX_SOUND_SEC = 16000, 6.0
MAX_LISTED = 200
MAX_MEDIA_BYTES = 12_000_000
WIDTH, HEIGHT = 320, 56


@dataclass(frozen=True)
class Example:
    """A clip with something: id, what, pictures, the sound drawn and to listen to, and correlation over the lag."""

    name: str
    detail: str
    drop: bool
    strip: str | None
    envelope: str | None
    sound: str | None
    curve: str | None


@dataclass(frozen=True)
class Chapter:
    """All findings of a kind."""

    kind: str
    meaning: str
    count: int
    num_dropped: int
    examples: list[Example]
    rows: list[tuple[str, str, str, str]]
    num_more: int


def write_page(result: Diagnosis, output: str | Path, *, title: str = "Data doctor", num_examples: int = 8) -> Path:
    """Write the page of a diagnosis and return its path."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("doctor.html").render(
        title=title,
        result=result,
        counts=result.counts(),
        sets=list(set_rows(result)),
        groups=[(group, curve_svg(group["curve"], "mean correlation over the lag")) for group in result.groups],
        chapters=list(chapters(result, num_examples)),
        rate=len(result.rows) / max(result.seconds, 1e-3),
        footer=f"Made by espnet_av {package_version()} on {utc_now()}.",
        css=Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
    )
    with atomic_write(output) as stream:
        stream.write(page.lstrip())
    return Path(output)


def set_rows(result: Diagnosis) -> Iterator[tuple[str, ...]]:
    """Yield a line for each set: name, use, clips, speakers, hours, loudness, sound to video, left out."""
    for name in result.folders:
        rows = [row for row in result.rows if row.clip.set_name == name]
        loud = [row.loudness for row in rows if row.loudness is not None]
        ratios = [row.sound_sec / row.video_sec for row in rows if row.sound_sec and row.video_sec]
        left_out = len({finding.utt for finding in result.findings if finding.set_name == name and finding.drop})
        yield (
            name,
            "training" if name in result.train_sets else "held out",
            str(len(rows)),
            str(len({row.clip.speaker for row in rows})),
            f"{sum(row.sound_sec or row.video_sec or 0.0 for row in rows) / 3600:.2f}",
            _spread(loud, ".1f"),
            _spread(ratios, ".4f"),
            str(left_out),
        )


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    low, middle, high = np.percentile(values, [5, 50, 95])
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def chapters(result: Diagnosis, num_examples: int) -> Iterator[Chapter]:
    """Yield the findings by kind; pictures and sound go to the first of each, as long as there is room."""
    rows = {(row.clip.set_name, row.clip.utt, row.clip.part): row for row in result.rows}
    room = MAX_MEDIA_BYTES
    for kind in result.counts():
        found = [finding for finding in result.findings if finding.kind == kind]
        examples: list[Example] = []
        for finding in found:
            row = rows.get((finding.set_name, finding.utt, finding.part))
            if row is None or len(examples) >= num_examples:
                continue
            example = make_example(row, finding, with_media=room > 0)
            room -= sum(len(part) for part in (example.strip, example.sound) if part)
            examples.append(example)
        listed = [(f.set_name, _name(f), f.detail, "left out" if f.drop else "warning") for f in found[:MAX_LISTED]]
        dropped = sum(finding.drop for finding in found)
        yield Chapter(kind, KINDS[kind], len(found), dropped, examples, listed, max(0, len(found) - MAX_LISTED))


def _name(finding: Finding) -> str:
    return f"{finding.utt}:{finding.part}" if finding.part else finding.utt or "(all)"


def make_example(row: Row, finding: Finding, *, with_media: bool = True) -> Example:
    """Draw a clip; what cannot be read is left out."""
    wave, rate = _read_wave(row.clip) if with_media else (None, SOUND_RATE)
    curve = row.lags[MIDDLE] if row.lags is not None and finding.kind in ("av_offset", "av_drift") else None
    return Example(
        f"{finding.set_name} / {_name(finding)}",
        finding.detail,
        finding.drop,
        picture_strip(row.clip) if with_media else None,
        None if wave is None else envelope_svg(wave),
        None if wave is None else sound_uri(wave, rate),
        None if curve is None else curve_svg(curve.tolist(), "correlation over the lag"),
    )


def _read_wave(clip: Clip) -> tuple[np.ndarray | None, int]:
    if clip.sound is None:
        return None, SOUND_RATE
    try:
        if Path(clip.sound).suffix.lower() in TRACK_SUFFIXES:
            from espnet_av.data.video_io import read_audio_track

            wave, rate = read_audio_track(clip.sound, SOUND_RATE), SOUND_RATE
        else:
            wave, rate = read_audio(clip.sound)
    except (DataError, MissingDataError):
        return None, SOUND_RATE
    if clip.span_sec:
        wave = wave[round(clip.span_sec[0] * rate) : round(clip.span_sec[1] * rate)]
    wave = np.nan_to_num(wave[: round(MAX_SOUND_SEC * rate)])
    return (resample_audio(wave, rate, SOUND_RATE), SOUND_RATE) if len(wave) else (None, SOUND_RATE)


def sound_uri(wave: np.ndarray, rate: int) -> str:
    """Return a waveform ``(N,)`` as a data address that a browser plays."""
    import soundfile

    encoded = io.BytesIO()
    soundfile.write(encoded, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(encoded.getvalue()).decode()


def picture_strip(clip: Clip) -> str | None:
    """Return some pictures of a clip from left to right as a data address; None where there are none."""
    import cv2

    try:
        if clip.crops is not None:
            frames = read_crops(clip.crops)
            some = [frames[k] for k in np.linspace(0, len(frames) - 1, NUM_PICTURES).astype(int)]
        elif clip.video is not None:
            some = _pick(clip.video)
        else:
            return None
    except (DataError, MissingDataError, ValueError, OSError):
        return None
    if not some:
        return None
    width = round(PICTURE * some[0].shape[1] / some[0].shape[0])
    joined = np.concatenate(
        [cv2.resize(frame, (width, PICTURE), interpolation=cv2.INTER_AREA) for frame in some], axis=1
    )
    good, encoded = cv2.imencode(
        ".jpg", joined if joined.ndim == 2 else joined[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80]
    )
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode() if good else None


def _pick(path: str) -> list[np.ndarray]:
    from espnet_av.data.video_io import iter_frames, probe

    wanted = set(np.linspace(0, probe(path).num_frames - 1, NUM_PICTURES).astype(int).tolist())
    return [frame for number, frame in enumerate(iter_frames(path)) if number in wanted]


def envelope_svg(wave: np.ndarray) -> str:
    """Draw the peaks of a waveform ``(N,)``."""
    count = min(WIDTH // 2, len(wave))
    edges = np.linspace(0, len(wave), count + 1).astype(int)[:-1]
    high, low = np.maximum.reduceat(wave, edges), np.minimum.reduceat(wave, edges)
    middle = HEIGHT / 2
    bars = "".join(
        f"M{x * WIDTH / count:.1f} {middle - middle * top:.1f}V{middle - middle * bottom + 0.5:.1f}"
        for x, (top, bottom) in enumerate(zip(np.clip(high, -1, 1), np.clip(low, -1, 1), strict=True))
    )
    return _svg(f'<path d="{bars}" stroke="#0072b2" stroke-width="1.5"/>', "sound")


def curve_svg(values: Sequence[float], title: str) -> str:
    """Draw the correlation over the lag; a line marks the lag 0, a dot the top."""
    points = np.asarray(values)
    x = np.linspace(4, WIDTH - 4, len(points))
    y = HEIGHT - 6 - (HEIGHT - 12) * np.clip((points + 0.3) / 1.3, 0, 1)
    zero, best = x[MAX_LAG], int(points.argmax())
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    return _svg(
        f'<path d="M{zero:.1f} 0V{HEIGHT}" stroke="#a0aec0" stroke-dasharray="3 3"/>'
        f'<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="1.5"/>'
        f'<circle cx="{x[best]:.1f}" cy="{y[best]:.1f}" r="3.5" fill="#d55e00"/>',
        title,
    )


def _svg(content: str, title: str) -> Markup:
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return Markup(f'<svg {size} role="img" aria-label="{title}">{content}</svg>')  # noqa: S704  our own words

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Results of whole sessions for the report: ``<exp>/sessions/<segmentation>/results.json`` of stage 7a."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_av.utils.experiment import read_json
from espnet_av.utils.figures import ABSENT, percent

HEADER = (
    "segmentation",
    "sessions",
    "people",
    "WER (%)",
    "clustering F1",
    "joint error",
    "words invented per silent minute",
    "tracks left out",
)


@dataclass(frozen=True)
class SessionResult:
    """Means of one way to cut sessions; None where a number is not known.

    Attributes:
        name: How the sessions were cut.
        num_sessions: Scored sessions.
        num_speakers: Scored people.
        wer: Mean word error rate over people, a fraction, lower is better.
        clustering_f1: Mean pairwise F1 of who talks with whom, 0 to 1, higher is better.
        joint_error: Mean of half the WER and half of 1 - F1, lower is better.
        silent_per_min: Words recognised per minute in people without reference words, lower is better.
        num_dropped: Tracks that could not be used.
    """

    name: str
    num_sessions: int
    num_speakers: int | None = None
    wer: float | None = None
    clustering_f1: float | None = None
    joint_error: float | None = None
    silent_per_min: float | None = None
    num_dropped: int | None = None

    def figures(self) -> dict[str, str]:
        """Return clustering F1 and joint error as text, as far as they are known."""
        values = {"clustering F1": self.clustering_f1, "joint error": self.joint_error}
        return {name: f"{value:.3f}" for name, value in values.items() if value is not None}

    def row(self) -> list[Any]:
        """Return the cells below :data:`HEADER`."""
        figures = self.figures()
        speakers, dropped = (ABSENT if value is None else value for value in (self.num_speakers, self.num_dropped))
        silent = ABSENT if self.silent_per_min is None else f"{self.silent_per_min:.1f}"
        scores = [percent(self.wer), *(figures.get(name, ABSENT) for name in ("clustering F1", "joint error"))]
        return [self.name, self.num_sessions, speakers, *scores, silent, dropped]


def read_sessions(exp_dir: str | Path) -> list[SessionResult]:
    """Read the session results of an experiment, by the name of the segmentation; empty where there are none.

    Raises:
        DataError: A file is no JSON.
    """
    found = []
    for path in sorted(Path(exp_dir).glob("sessions/*/results.json")):
        content = read_json(path)
        if isinstance(content, dict) and content.get("num_sessions"):
            found.append(_result(path.parent.name, content))
    return found


def session_rows(sessions: Sequence[SessionResult]) -> list[list[Any]]:
    """Return the rows of the table of sessions."""
    return [item.row() for item in sessions]


def _result(name: str, content: dict[str, Any]) -> SessionResult:
    tracks = content.get("tracks")
    return SessionResult(
        name=name,
        num_sessions=int(content["num_sessions"]),
        num_speakers=content.get("num_speakers"),
        wer=_number(content.get("wer")),
        clustering_f1=_number(content.get("clustering_f1")),
        joint_error=_number(content.get("joint_error")),
        silent_per_min=_number(content.get("silent_insertions_per_minute")),
        num_dropped=tracks.get("num_dropped") if isinstance(tracks, dict) else None,
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None

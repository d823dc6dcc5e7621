# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Utterances that a stage leaves out: each with a reason, counted, and the stage fails when they are too many."""

import json
import logging
import os
from pathlib import Path
from typing import Any

from espnet_av.utils.errors import EXIT_STAGE_FAILED, DataError, MissingDataError, describe

logger = logging.getLogger(__name__)


class TooManyDropped(DataError):
    """A stage lost more utterances than allowed."""

    exit_code = EXIT_STAGE_FAILED


class Drops:
    """What was left out, and why.

    Args:
        total: Number of utterances that came in.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._reasons: dict[str, tuple[str, str]] = {}

    def add(self, utt: str, reason: str, detail: str = "") -> None:
        """Leave out one utterance; the first reason of an utterance stands."""
        self._reasons.setdefault(utt, (reason, detail))

    def add_doctor(self, report: str | os.PathLike | None, data_dir: str | os.PathLike) -> None:
        """Leave out what the data doctor found in a folder and marked with ``"drop": true``.

        Args:
            report: Its ``doctor.json``; None adds nothing.
            data_dir: The folder as it was examined.

        Raises:
            MissingDataError: There is no such report.
            DataError: It is damaged.
        """
        for utt, (kind, detail) in doctor_drops(report, data_dir).items() if report is not None else ():
            self.add(utt, kind, detail)

    def __contains__(self, utt: object) -> bool:
        return utt in self._reasons

    def __len__(self) -> int:
        return len(self._reasons)

    @property
    def share(self) -> float:
        """Share of the utterances left out, 0 to 1."""
        return len(self) / self.total if self.total else 0.0

    def summary(self) -> dict[str, Any]:
        """Return counts and, for each reason, the utterances with the detail; sorted, so that equal runs are equal."""
        reasons: dict[str, dict[str, Any]] = {}
        for utt in sorted(self._reasons):
            reason, detail = self._reasons[utt]
            entry = reasons.setdefault(reason, {"count": 0, "utterances": {}})
            entry["count"] += 1
            entry["utterances"][utt] = detail
        return {
            "num_in": self.total,
            "num_kept": self.total - len(self),
            "num_dropped": len(self),
            "dropped_share": round(self.share, 6),
            "reasons": {reason: reasons[reason] for reason in sorted(reasons)},
        }

    def one_line(self) -> str:
        """Return e.g. ``398 of 400 kept; dropped: no_face 1, unreadable 1``."""
        counts = ", ".join(f"{name} {entry['count']}" for name, entry in self.summary()["reasons"].items())
        return f"{self.total - len(self)} of {self.total} kept" + (f"; dropped: {counts}" if counts else "")

    def check(self, max_share: float, report: str | os.PathLike, option: str = "--max_dropped_share") -> None:
        """Fail when too many utterances were left out, or all of them.

        Args:
            max_share: Largest allowed share, 0 to 1.
            report: Where the reasons can be read; named in the message.
            option: Name of the option that sets the limit.

        Raises:
            TooManyDropped: If the share is above the limit or nothing is left.
        """
        if self.share <= max_share and len(self) < self.total:
            return
        if self.total == 0:
            raise TooManyDropped(
                describe("there are no utterances", fix="run stage 1 (prepare) and look at its folder")
            )
        examples = [f"{utt}: {detail or reason}" for utt, (reason, detail) in sorted(self._reasons.items())[:3]]
        raise TooManyDropped(
            describe(
                f"too many utterances lost: {self.one_line()} (e.g. {'; '.join(examples)})",
                got=f"{100 * self.share:.1f} %",
                allowed=f"{100 * max_share:g} %, and not all",
                fix=f"read {report}, then correct the data or raise {option}",
            )
        )


def doctor_drops(report: str | os.PathLike, data_dir: str | os.PathLike) -> dict[str, tuple[str, str]]:
    """Return the utterances of a folder that ``doctor.json`` leaves out: id to kind and detail.

    Raises:
        MissingDataError, DataError: As :meth:`Drops.add_doctor`.
    """
    path = Path(report)
    if not path.is_file():
        raise MissingDataError(describe(f"no report of the data doctor: {path}", fix="run espnet-av check-data first"))
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        folders = {str(Path(each["folder"]).resolve()): name for name, each in content["sets"].items()}
        findings = [(f["set_name"], f["utt"], f["kind"], f["detail"]) for f in content["findings"] if f["drop"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no report of the data doctor ({error!r}); fix: espnet-av check-data") from error
    name = folders.get(str(Path(data_dir).resolve()))
    if name is None:
        logger.info("%s is not about %s: nothing of it is left out because of it", path, data_dir)
        return {}
    drops: dict[str, tuple[str, str]] = {}
    for set_name, utt, kind, detail in findings:
        if set_name == name:
            drops.setdefault(utt, (kind, detail))
    return drops

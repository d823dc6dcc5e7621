#!/usr/bin/env python3
# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Hurt trainings and stages in every way that machines do, and tell what was tried and what was lost: nothing.

    python test/trust/fault_campaign.py [--kills 200] [--only KIND] [--minutes M] [--seed S] [--json FILE] [--update]

KIND is a kind of ``--list`` or the first part of its name: ``kill``, ``kill-train``, ``disk``, ``checkpoint``, ...
All happens on tiny corpora in a folder that is removed in the end. Ends with exit code 1 when something was
lost, with what and how, or a kind was not tried; the same seed hurts the same things at the same moments, as far as
clocks allow.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[2])]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import fault_clock  # noqa: E402
import fault_damage  # noqa: E402
import fault_disk  # noqa: E402
import fault_fetch  # noqa: E402
import fault_kills  # noqa: E402
import fault_media  # noqa: E402
from fault_bench import Bench, Line  # noqa: E402
from fault_recipes import ELSEWHERE  # noqa: E402

TABLE = Path(__file__).resolve().with_suffix(".json")
#: Stage -> its share of the kills, in percent.
KILLS = {
    **{"train": 24, "gan": 7, "policy": 7, "flow": 6},
    **{"prepare": 5, "format": 12, "filter": 7, "tokens": 5, "lips": 6, "infer": 7, "score": 5, "report": 4, "pack": 5},
}
CHECKPOINTS = (("checkpoint.pth",), ("checkpoint.sha256",), ("checkpoint.prev.pth",))
BOTH = ("checkpoint.pth", "checkpoint.prev.pth")
MEDIA = ("wav", "flac", "mp4", "npz", "scp")
KINDS = (
    *(f"kill-{name}" for name in KILLS),
    *(f"disk-{name}" for name in fault_disk.FOLDERS),
    *(f"checkpoint-{name}" for name in ("pth", "sha256", "prev.pth", "both", "best", "averaged")),
    *(f"media-{name}" for name in MEDIA),
    *(f"fetch-{name}" for name in fault_fetch.KINDS),
    "clock-marks",
    "clock-jumps",
)


class Campaign:
    """What is to be tried, on which benches.

    Args:
        place: An empty folder.
        args: Of the command line.
    """

    def __init__(self, place: Path, args: argparse.Namespace) -> None:
        self.place, self.args = place, args
        self.deadline = time.monotonic() + args.minutes * 60
        self._benches: dict[str, Bench] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Campaign":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def bench(self, task: str = "avsr") -> Bench:
        """Return the bench of a task, with dice of its own for each use."""
        if task not in self._benches:
            self._benches[task] = self._stack.enter_context(Bench(self.place / task, task))
        return self._benches[task]

    def lines(self, kinds: list[str]) -> Iterator[Line]:
        """Try what is wanted and yield a line for each kind."""
        for kind in kinds:
            yield self.try_kind(kind)

    def try_kind(self, kind: str) -> Line:
        """Try one kind."""
        family, _, name = kind.partition("-")
        if time.monotonic() > self.deadline:
            return Line(kind, "", skipped="the time was over (--minutes)")
        if family == "media":
            return fault_media.damage_media(self.place, name, self.times(20), self.args.seed, self.deadline)
        if family == "fetch":
            dice = random.Random(f"{self.args.seed} {kind}")
            return fault_fetch.kill_fetches(name, self.place / "fetch", self.times(20), dice, self.deadline)
        task, stage = ELSEWHERE[name] if family == "kill" and name in ELSEWHERE else ("avsr", name)
        bench = self.bench(task)
        bench.dice = random.Random(f"{self.args.seed} {kind}")
        if family == "kill":
            kills = share_of(self.args.kills, name, kinds_of("kill", self.args.only))
            return fault_kills.kill_stage(bench, stage, kills, self.deadline, name)
        if family == "disk":
            return fault_disk.fill_disk(bench, name, self.times(5), self.deadline)
        if family == "checkpoint":
            return self.damage(bench, name)
        if name == "marks":
            return fault_clock.shift_marks(bench, "pack")
        return fault_clock.jump(bench, ("format", "filter", "train", "infer", "score", "report"))

    def damage(self, bench: Bench, name: str) -> Line:
        """Damage a file of checkpoints or weights."""
        if name == "best":
            return fault_damage.damage_weights(bench, "valid.*best.pth", self.times(10), self.deadline)
        if name == "averaged":
            return fault_damage.damage_weights(bench, "valid.*.ave*.pth", self.times(10), self.deadline)
        names = BOTH if name == "both" else (f"checkpoint.{name}",)
        return fault_damage.damage_checkpoint(bench, names, self.times(10), self.deadline)

    def times(self, full: int) -> int:
        """Return how often something is tried that a campaign of 200 kills tries ``full`` times."""
        return max(1, min(full, round(full * self.args.kills / 200)))


def kinds_of(family: str, only: str | None) -> list[str]:
    """Return the wanted kinds of a family; an empty family stands for all.

    >>> kinds_of("", "clock,disk-train")
    ['disk-train', 'clock-marks', 'clock-jumps']
    """
    wanted = (only or "").split(",")
    return [
        kind
        for kind in KINDS
        if kind.startswith(family) and (not only or any(f"{kind}-".startswith(f"{name}-") for name in wanted))
    ]


def share_of(kills: int, name: str, wanted: list[str]) -> int:
    """Deal the kills to the stages by their shares; all of them are dealt.

    >>> sum(share_of(200, kind[5:], kinds_of("kill", None)) for kind in kinds_of("kill", None))
    200
    """
    names = [kind.removeprefix("kill-") for kind in wanted]
    before = sum(KILLS[other] for other in names[: names.index(name)])
    total = sum(KILLS[other] for other in names)
    return kills * (before + KILLS[name]) // total - kills * before // total


def table(lines: list[Line]) -> str:
    """Return the lines as a table for people."""
    rows = [("kind", "what was tried", "tried", "lost", "seconds", "seen")]
    for line in lines:
        seen = line.skipped and f"skipped: {line.skipped}"
        seen = seen or ", ".join(f"{what} {count}" for what, count in sorted(line.notes.items()))
        rows.append((line.kind, line.what, str(line.tried), str(len(line.lost)), f"{line.seconds:.0f}", seen))
    tried, lost = (sum(values) for values in ([line.tried for line in lines], [len(line.lost) for line in lines]))
    rows.append(("all", "", str(tried), str(lost), f"{sum(line.seconds for line in lines):.0f}", ""))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    numbers: tuple[Callable, ...] = (str.ljust, str.ljust, str.rjust, str.rjust, str.rjust)
    text = "\n".join(
        "  ".join(put(row[column], widths[column]) for column, put in enumerate(numbers)) + f"  {row[5]}".rstrip()
        for row in rows
    )
    losses = [f"LOST in {line.kind}: {loss}" for line in lines for loss in line.lost]
    untried = [line.kind for line in lines if not line.tried]
    verdict = f"{len(losses)} losses" if losses else f"nothing was lost in {tried} faults"
    return "\n".join([text, *losses, verdict + (f"; not tried: {', '.join(untried)}" if untried else "")])


def markdown(lines: list[Line]) -> str:
    """Return the lines as a table of a page."""
    rows = [f"# Fault campaign\n\nWritten by `make faults`: {sum(line.tried for line in lines)} faults, "
            f"{sum(len(line.lost) for line in lines)} losses.\n"]  # fmt: skip
    rows += ["| kind | what was tried | tried | lost | seconds | seen | commit |", "|---|---|--:|--:|--:|---|---|"]
    for line in lines:
        seen = line.skipped and f"skipped: {line.skipped}"
        seen = seen or ", ".join(f"{what} {count}" for what, count in sorted(line.notes.items()))
        numbers = f"{line.tried} | {len(line.lost)} | {line.seconds:.0f}"
        rows.append(f"| {line.kind} | {line.what} | {numbers} | {seen} | {line.commit} |")
    losses = [f"- lost in {line.kind}: {loss}" for line in lines for loss in line.lost]
    return "\n".join([*rows, *([""] if losses else []), *losses, ""])


def write_results(path: Path, lines: list[Line], args: argparse.Namespace) -> None:
    """Write the table for programs, and beside it for people."""
    content = {
        "seed": args.seed,
        "kills": sum(line.tried for line in lines if line.kind.startswith("kill-")),
        "tried": sum(line.tried for line in lines),
        "lost": sum(len(line.lost) for line in lines),
        "lines": [vars(line) for line in lines],
    }
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    path.with_suffix(".md").write_text(markdown(lines), encoding="utf-8")


def earlier_lines(path: Path, kinds: list[str]) -> list[Line]:
    """Return the lines of an earlier campaign but those of some kinds."""
    if not path.exists():
        return []
    lines = [Line(**line) for line in json.loads(path.read_text(encoding="utf-8"))["lines"]]
    return [line for line in lines if line.kind not in kinds]


def commit_of_checkout() -> str:
    """Return the commit, with a mark where files differ from it, or nothing without git."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def is_place_of(place: Path, commit: str) -> bool:
    """Return whether a kept folder is of this commit, or new; then it is from now on."""
    mark = place / "commit"
    if place.exists() and any(place.iterdir()):
        return mark.is_file() and mark.read_text(encoding="utf-8") == commit
    place.mkdir(parents=True, exist_ok=True)
    mark.write_text(commit, encoding="utf-8")
    return True


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="of all wanted stages; other damage in proportion")
    parser.add_argument("--only", metavar="KIND,...", help="only these kinds, and all that begin so")
    parser.add_argument("--minutes", type=float, default=240.0, help="start nothing new after so long")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--json", type=Path, default=Path("fault_campaign.json"), help="where the table goes; also as .md"
    )
    parser.add_argument("--update", action="store_true", help="keep the lines of other kinds that --json has")
    parser.add_argument("--place", type=Path, help="work there and keep it: a later campaign needs no undisturbed runs")
    parser.add_argument("--list", action="store_true", help="show the kinds")
    return parser


def main(cmd: list[str] | None = None) -> int:
    """Run the campaign."""
    args = get_parser().parse_args(cmd)
    kinds = kinds_of("", args.only)
    if args.list or not kinds:
        sys.stdout.write("\n".join(KINDS) + "\n")
        return 0 if args.list else 2
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leave nothing behind
    lines = earlier_lines(args.json, kinds) if args.update else []
    commit = commit_of_checkout()
    if args.place and not is_place_of(args.place, commit):
        sys.stderr.write(f"{args.place} was made with another commit, whose outputs differ; fix: remove it\n")
        return 2
    with contextlib.ExitStack() as stack:
        place = args.place or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults.")))
        campaign = stack.enter_context(Campaign(place.absolute(), args))
        for line in campaign.lines(kinds):
            line.commit = commit
            lines = sorted([*lines, line], key=lambda line: KINDS.index(line.kind))
            sys.stdout.write(f"{line.kind}: {line.tried} tried, {len(line.lost)} lost, {line.seconds:.0f} s\n")
            sys.stdout.flush()
            write_results(args.json, lines, args)
    sys.stdout.write("\n" + table(lines) + "\n")
    return int(any(line.lost or not line.tried for line in lines))


if __name__ == "__main__":
    sys.exit(main())

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints with flipped bits and cut ends: the training goes on from the state before, and says so."""

import random
import time
from collections.abc import Callable
from pathlib import Path

from fault_bench import Bench, Line, copy_folders

Damage = Callable[[Path, random.Random], None]


def flip_bits(path: Path, dice: random.Random) -> None:
    """Flip one to eight bits anywhere."""
    content = bytearray(path.read_bytes())
    for _ in range(dice.randint(1, 8)):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    replace(path, bytes(content))


def flip_late_bit(path: Path, dice: random.Random) -> None:
    """Flip one bit in the middle half, where the numbers of a checkpoint are."""
    content = bytearray(path.read_bytes())
    content[dice.randrange(len(content) // 4, 3 * len(content) // 4)] ^= 1 << dice.randrange(8)
    replace(path, bytes(content))


def truncate(path: Path, dice: random.Random) -> None:
    """Cut the file off somewhere."""
    content = path.read_bytes()
    replace(path, content[: dice.randrange(len(content))])


def empty(path: Path, dice: random.Random) -> None:
    """Leave nothing."""
    replace(path, b"")


def zero_block(path: Path, dice: random.Random) -> None:
    """Overwrite a part with zeros, as a file system does that lost a block."""
    content = bytearray(path.read_bytes())
    start = dice.randrange(max(1, len(content) - 64))
    content[start : start + 4096] = bytes(len(content[start : start + 4096]))
    replace(path, bytes(content))


def replace(path: Path, content: bytes) -> None:
    """Give a path another content; other names of the same file keep theirs."""
    path.unlink()
    path.write_bytes(content)


ALL: tuple[Damage, ...] = (flip_bits, flip_late_bit, truncate, empty, zero_block)


def cut_training(bench: Bench) -> Path:
    """Return a state with a training that was killed when it had two checkpoints."""
    kept = bench.place / "before" / "cut"
    if not kept.exists():
        bench.restore("train")
        process = bench.start("train")
        digests = bench.folder / "exp" / "x" / "checkpoint.sha256"
        while process.poll() is None and not (digests.exists() and len(digests.read_text().split()) == 4):
            time.sleep(0.002)
        time.sleep(0.2)
        bench.kill(process)
        copy_folders(bench.folder, kept)
    return kept


def damage_checkpoint(bench: Bench, names: tuple[str, ...], times: int, deadline: float) -> Line:
    """Damage files of an interrupted training; it must end with the right weights, or refuse with a clear error."""
    bench.prepare("train")
    line = Line(
        f"checkpoint-{'both' if len(names) > 1 else names[0].split('.', 1)[1]}", f"damaged {' and '.join(names)}"
    )
    began = time.monotonic()
    kept = cut_training(bench)
    while line.tried < times and not line.lost and time.monotonic() < deadline:
        copy_folders(kept, bench.folder)
        damage = ALL[line.tried % len(ALL)]
        for name in names:
            damage(bench.folder / "exp" / "x" / name, bench.dice)
        code, said = bench.run("train")
        line.tried += 1
        fell = "FALLING BACK" in said
        what = "fell back, said so" if fell else ("went on" if code == 0 else f"refused, exit {code}")
        line.note(what)
        line.check("Traceback" not in said, f"{damage.__name__} of {names}: a traceback: {said[-500:]}")
        if code == 0:
            changed = bench.differences("train")
            line.check(not changed, f"{damage.__name__} of {names} changed the training: {changed[:3]}")
            whole = len(names) == 1 and names[0] != "checkpoint.pth"
            line.check(fell or whole, f"{damage.__name__} of {names} was not told")
        else:
            line.check(len(names) > 1, f"{damage.__name__} of {names} ends the training: {said[-500:]}")
            line.check("damaged" in said or "no checkpoint" in said, f"{names}: no clear error: {said[-500:]}")
    line.seconds = time.monotonic() - began
    return line


def damage_weights(bench: Bench, pattern: str, times: int, deadline: float) -> Line:
    """Damage the best or averaged weights of a finished training; decoding must notice it and name the file.

    A bit that fills a gap between the parts of the file may change: then the weights are whole and the result the same.
    """
    bench.prepare("infer")
    line = Line(f"checkpoint-{'best' if 'best.pth' in pattern else 'averaged'}", f"damaged {pattern}, read by stage 6")
    began = time.monotonic()
    restore_weights(bench, pattern)
    code, said = bench.run("infer")
    line.check(code == 0, f"decoding fails with whole {pattern} (exit {code}): {said[-500:]}")
    wanted = bench.outputs("infer")
    while line.tried < times and not line.lost and time.monotonic() < deadline:
        paths = restore_weights(bench, pattern)
        damage = ALL[line.tried % len(ALL)]
        chosen = bench.dice.randrange(1 << 30)
        for path in paths:
            damage(path, random.Random(chosen))
        code, said = bench.run("infer")
        line.tried += 1
        line.note("the same result" if code == 0 else f"refused, exit {code}")
        same = code == 0 and bench.outputs("infer") == wanted
        line.check(code != 0 or same, f"{damage.__name__} of {pattern}: decoding went on with damaged weights")
        if code != 0:
            clear = "Traceback" not in said and any(path.name in said for path in paths)
            line.check(clear, f"{damage.__name__} of {pattern}: no clear error: {said[-500:]}")
    line.seconds = time.monotonic() - began
    return line


def restore_weights(bench: Bench, pattern: str) -> list[Path]:
    """Go back to the finished training, without averaged weights where the best are meant; return the weights."""
    bench.restore("infer")
    exp = bench.folder / "exp" / "x"
    if "best.pth" in pattern:
        for path in exp.glob("*.ave*.pth"):
            path.unlink()
    return sorted(exp.glob(pattern))

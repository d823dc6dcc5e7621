# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of many clips on disk, so that memory does not grow with the corpus, and the search through them."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from espnet_av.data.doctor.fingerprint import NUM_WEAK, Index, Match, Print
from espnet_av.utils.progress import progress

BLOCK_CODES = 8_000_000  # of an index in memory, about 35 hours of sound


class PrintStore:
    """Fingerprints by number, in a temporary file."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="espnet_av_doctor_")
        self._path = Path(self._folder.name) / "prints"
        self._stream = self._path.open("w+b")
        self._starts = [0]

    def __len__(self) -> int:
        return len(self._starts) - 1

    def append(self, item: Print | None) -> None:
        """Add the fingerprint of the next clip; None takes a number too."""
        count = 0
        if item is not None and len(item.codes):
            count = len(item.codes)
            row = np.zeros((count, 4 + NUM_WEAK + 1), np.uint8)
            row[:, :4] = item.codes.astype("<u4").view(np.uint8).reshape(count, 4)
            row[:, 4:-1], row[:, -1] = item.weak, item.valid
            self._stream.write(row.tobytes())
        self._starts.append(self._starts[-1] + count)

    def __getitem__(self, number: int) -> Print:
        size = 4 + NUM_WEAK + 1
        start, end = self._starts[number : number + 2]
        self._stream.seek(start * size)
        row = np.frombuffer(self._stream.read((end - start) * size), np.uint8).reshape(end - start, size)
        codes = np.ascontiguousarray(row[:, :4]).view("<u4").reshape(-1).astype(np.uint32)
        return Print(codes, row[:, 4:-1].copy(), row[:, -1].astype(bool))

    def num_codes(self, numbers: Sequence[int]) -> int:
        """Return the number of codes of some clips."""
        return sum(self._starts[number + 1] - self._starts[number] for number in numbers)

    def blocks(self, numbers: Sequence[int]) -> Iterator[list[int]]:
        """Part clips into blocks whose index fits into memory."""
        block: list[int] = []
        total = 0
        for number in numbers:
            count = self._starts[number + 1] - self._starts[number]
            if block and total + count > BLOCK_CODES:
                yield block
                block, total = [], 0
            block.append(number)
            total += count
        if block:
            yield block

    def close(self) -> None:
        """Remove the file."""
        self._stream.close()
        self._folder.cleanup()


def find_same(
    store: PrintStore,
    queries: Sequence[int],
    targets: Sequence[int],
    *,
    max_error: float,
    min_sec: float,
    only_earlier: bool = False,
    title: str = "compare recordings",
) -> list[Match]:
    """Find clips of ``queries`` that share sound with clips of ``targets``; numbers of the matches are the store's.

    Args:
        store: Fingerprints.
        queries: Numbers of the clips that are looked up.
        targets: Numbers of the clips among which they are looked for.
        max_error: Largest share of differing bits.
        min_sec: Shortest sounding overlap.
        only_earlier: Look for targets with a smaller number only, within one set.
        title: For the progress.
    """
    found: list[Match] = []
    for block in store.blocks(targets):
        index = Index([store[number] for number in block])
        place = {number: position for position, number in enumerate(block)}
        for number in progress(queries, title=title):
            if only_earlier and number <= block[0]:
                continue
            own = place.get(number, -1)
            for match in index.search(number, store[number], max_error=max_error, min_sec=min_sec, skip=own):
                other = block[match.second]
                if not only_earlier or other < number:
                    found.append(Match(number, other, match.shift_sec, match.overlap_sec, match.error))
    return found

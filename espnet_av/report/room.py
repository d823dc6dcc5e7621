# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The room that sound and pictures have in a page, and the list of what did not fit."""

MAX_NAMED = 40


class Room:
    """Takes ``data:`` addresses into a page until it is full, and remembers what was left out.

    Args:
        max_bytes: What all of them together may take in the page.

    Attributes:
        left_bytes: What is still free.
        left_out: What did not fit, in words.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = self.left_bytes = max_bytes
        self.left_out: list[str] = []

    @property
    def num_left_out(self) -> int:
        """Number of sounds and pictures that did not fit."""
        return len(self.left_out)

    def take(self, address: str | None, what: str) -> str | None:
        """Return ``address`` if it still fits, else None.

        Args:
            address: What the page would hold; None stays None.
            what: The same in words, e.g. ``video of s01-test-003``.
        """
        if address is None:
            return None
        if len(address) > self.left_bytes:
            self.left_out.append(f"{what} ({len(address) / 1e6:.2f} MB)")
            return None
        self.left_bytes -= len(address)
        return address

    def section(self) -> dict[str, object]:
        """Return what a page says about what was left out."""
        more = len(self.left_out) - MAX_NAMED
        named = self.left_out[:MAX_NAMED] + ([f"and {more} more"] if more > 0 else [])
        used = self.max_bytes - self.left_bytes
        return {"num_left_out": self.num_left_out, "left_out": named, "used_bytes": used}

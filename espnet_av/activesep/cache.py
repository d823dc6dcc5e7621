# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A cache that forgets what was not used for longest."""

import collections
from collections.abc import Callable, Hashable
from typing import Any


class LRUCache:
    """Keeps up to ``size`` values; 0 keeps none.

    Attributes:
        hits: How often a value was there.
        misses: How often it had to be made.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.hits = self.misses = 0
        self._kept: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return the value of ``key``, made by ``make()`` when it is not kept."""
        kept = self._kept
        if key in kept:
            self.hits += 1
            kept.move_to_end(key)
            return kept[key]
        self.misses += 1
        value = make()
        if self.size > 0:
            kept[key] = value
            if len(kept) > self.size:
                kept.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._kept)

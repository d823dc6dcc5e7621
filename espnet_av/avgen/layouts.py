# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Published layouts of recordings, which are read as they lie on a disk; others are added by name.

from espnet_av.registry import register
register("avgen.layout", "mine", "my_package.layouts:MyLayout")      # a class derived from RecordingLayout
"""

from abc import ABC, abstractmethod
from pathlib import Path

from espnet_av.avgen.recordings import Recording
from espnet_av.registry import Target, choices, get_class

GROUP = "avgen.layout"
LAYOUTS: dict[str, Target] = {
    "fifty_hours": "espnet_av.corpora.fifty_hours:FiftyHours",
    "audio2photoreal": "espnet_av.corpora.audio2photoreal:Audio2Photoreal",
}


class RecordingLayout(ABC):
    """How one corpus lies on a disk."""

    @staticmethod
    @abstractmethod
    def matches(folder: Path) -> bool:
        """Return whether a folder looks like this layout."""

    @staticmethod
    @abstractmethod
    def find(
        folder: Path, *, subset: str = "all", split: str = "a2p", token_dir: str | None = None
    ) -> tuple[list[Recording], list[float] | None]:
        """Return the recordings of a subset, and their mean quaternion where the corpus has one.

        Args:
            folder: The corpus, or one person in it.
            subset: ``train``, ``valid``, ``test`` or ``all``.
            split: Rule that divides the corpus, where there are several.
            token_dir: Folder of the tokens; None: the first of the usual ones that is there.

        Raises:
            MissingDataError: A file is not there.
        """


def find_layout(folder: Path) -> type[RecordingLayout] | None:
    """Return the layout of a folder, None where it has none of the known ones."""
    for name in choices(GROUP, LAYOUTS):
        layout: type[RecordingLayout] = get_class(GROUP, name, LAYOUTS, base=RecordingLayout)
        if layout.matches(folder):
            return layout
    return None

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Labels of sound classes: 102 in the published data, one speaker each but for ``music`` and ``esc``."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path

from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write
from espnet_av.utils.untrusted import parse_json

NUM_CLASSES = 102


class ClassTable:
    """Class name (text of a file name before the first ``_``) -> label.

    Args:
        labels: Name -> label.
        num_classes: Labels run from 0 to this, less one.
        never_target: Classes that only disturb.

    Raises:
        DataError: A label out of range, or given twice.
    """

    def __init__(
        self, labels: Mapping[str, int], *, num_classes: int = NUM_CLASSES, never_target: Iterable[str] = ("esc",)
    ) -> None:
        self.num_classes = num_classes
        self.labels = {str(name): check_label(label, num_classes, f"class {name}") for name, label in labels.items()}
        self.never_target = frozenset(never_target)
        twice = sorted({label for label in self.labels.values() if list(self.labels.values()).count(label) > 1})
        if twice:
            raise DataError(describe("labels given to two classes", got=twice))

    @classmethod
    def published(cls) -> "ClassTable":
        """Return what is known of the published table; :meth:`learn` adds the rest from episodes."""
        text = resources.files("espnet_av.activesep").joinpath("classes.json").read_text(encoding="utf-8")
        return cls._from_json(json.loads(text), "classes.json")

    @classmethod
    def build(cls, names: Iterable[str], *, num_classes: int = NUM_CLASSES) -> "ClassTable":
        """Number classes of one's own: known names keep their published label, the others get free ones in order."""
        published = cls.published().labels
        names = sorted(set(names))
        labels = {name: published[name] for name in names if name in published}
        taken = {label for label in labels.values()} | {published["music"], published["esc"]}
        free = iter(label for label in range(num_classes) if label not in taken)
        for name in names:
            if name not in labels:
                labels[name] = next(free, -1)
        if -1 in labels.values():
            raise DataError(describe("more classes than labels", got=len(names), allowed=f"up to {num_classes}"))
        return cls(labels, num_classes=num_classes)

    @classmethod
    def read(cls, path: str | os.PathLike) -> "ClassTable":
        """Read a table written by :meth:`write`: ``{"labels": {name: label}, "never_target": [...]}``."""
        path = Path(path)
        if not path.is_file():
            raise MissingDataError(describe("no such table of classes", got=str(path)))
        try:
            return cls._from_json(parse_json(path.read_bytes()), str(path))
        except ValueError as error:
            raise DataError(describe(f"{path} is no JSON ({error})")) from error

    @classmethod
    def _from_json(cls, found: dict, name: str) -> "ClassTable":
        if not isinstance(found, dict) or not isinstance(found.get("labels"), dict):
            raise DataError(describe(f"{name} is no table of classes", allowed='{"labels": {name: label}, ...}'))
        return cls(
            found["labels"],
            num_classes=found.get("num_classes", NUM_CLASSES),
            never_target=found.get("never_target", ("esc",)),
        )

    def write(self, path: str | os.PathLike) -> None:
        """Write the table as JSON."""
        found = {"num_classes": self.num_classes, "never_target": sorted(self.never_target), "labels": self.labels}
        with atomic_write(path) as stream:
            json.dump(found, stream, indent=1, sort_keys=True)

    def learn(self, pairs: Iterable[tuple[str, int]]) -> "ClassTable":
        """Return a table with more classes, e.g. from the first sound and the target label of published episodes.

        Raises:
            DataError: A class that already has another label.
        """
        labels = dict(self.labels)
        for name, label in pairs:
            if labels.setdefault(name, int(label)) != int(label):
                raise DataError(describe(f"class {name} has two labels", got=[labels[name], int(label)]))
        return ClassTable(labels, num_classes=self.num_classes, never_target=self.never_target)

    def __len__(self) -> int:
        return len(self.labels)

    def __contains__(self, name: object) -> bool:
        return name in self.labels

    def label(self, name: str) -> int:
        """Return the label of a class.

        Raises:
            DataError: The class is not in the table.
        """
        if name not in self.labels:
            raise DataError(
                describe("a class without a label", got=name, fix="name a table of all classes, see ClassTable.read")
            )
        return self.labels[name]

    def targets(self) -> Sequence[str]:
        """Return the names of the classes that can be asked for, by label."""
        return sorted(set(self.labels) - self.never_target, key=self.labels.__getitem__)


def check_label(label: object, num_classes: int = NUM_CLASSES, where: str = "a label") -> int:
    """Return ``label`` as an integer.

    Raises:
        DataError: It is no integer from 0 to ``num_classes`` - 1; ``where`` says whose it is.
    """
    if isinstance(label, bool) or not isinstance(label, int) or not 0 <= label < num_classes:
        raise DataError(describe(f"{where}: class label out of range", got=label, allowed=f"0 to {num_classes - 1}"))
    return label

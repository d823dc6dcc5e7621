# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Put utterances together into a padded batch.

Axis legend: ``B`` batch, ``T`` video frames, ``N`` audio samples, ``L`` labels.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from espnet_av.utils.errors import DataError, UsageError, describe

Item = tuple[str, dict[str, np.ndarray]]


class AVCollate:
    """Pad along the first axis and keep the lengths.

    * floating point: float32, padded with 0;
    * signed integers (labels): int64, padded with ``ignore_id``;
    * uint8 (video) and bool: their own type, padded with 0.

    Args:
        ignore_id: Padding of labels.
        pad_to_multiple: Round padded lengths up to a multiple, per name (e.g. ``{"video": 25, "speech": 16000}``) or
            one for all names.
        not_sequence: Names whose arrays have equal shapes and no time axis; they are stacked and get no lengths.
    """

    def __init__(
        self,
        ignore_id: int = -1,
        pad_to_multiple: int | Mapping[str, int] | None = None,
        not_sequence: Collection[str] = (),
    ) -> None:
        multiples = pad_to_multiple.values() if isinstance(pad_to_multiple, Mapping) else [pad_to_multiple or 1]
        if any(multiple < 1 for multiple in multiples):
            raise UsageError(describe("pad_to_multiple must be 1 or more", pad_to_multiple))
        self.ignore_id = ignore_id
        self.pad_to_multiple = pad_to_multiple
        self.not_sequence = frozenset(not_sequence)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(ignore_id={self.ignore_id}, pad_to_multiple={self.pad_to_multiple})"

    def __call__(self, items: Sequence[Item | None]) -> tuple[list[str], dict[str, torch.Tensor]]:
        """Collate items.

        Args:
            items: ``(uid, {name: array})``; None stands for an utterance that could not be read and is left out.

        Returns:
            ``(uids, batch)`` with ``batch[name] (B, longest, ...)`` and ``batch[name + "_lengths"] (B,)`` int64.

        Raises:
            DataError: If nothing is left, names differ, or frame sizes differ; the message names the utterances.
        """
        good = [item for item in items if item is not None]
        if not good:
            raise DataError("not one utterance of a batch could be read; fix: run stage 3 (filter) again")
        uids = [uid for uid, _ in good]
        names = list(good[0][1])
        for uid, data in good:
            if set(data) != set(names):
                raise DataError(describe(f"'{uid}' does not hold the data of '{uids[0]}'", sorted(data), names))
        batch: dict[str, torch.Tensor] = {}
        for name in names:
            arrays = [data[name] for _, data in good]
            self._check_shapes(name, uids, arrays)
            if name in self.not_sequence:
                batch[name] = torch.from_numpy(np.stack([_as_batch_type(array) for array in arrays]))
                continue
            batch[name] = self._pad(name, arrays)
            batch[f"{name}_lengths"] = torch.tensor([len(array) for array in arrays], dtype=torch.long)
        return uids, batch

    def _check_shapes(self, name: str, uids: list[str], arrays: list[np.ndarray]) -> None:
        def compared(array: np.ndarray) -> tuple:
            return array.dtype.kind, array.shape if name in self.not_sequence else (array.ndim, *array.shape[1:])

        if name not in self.not_sequence and arrays[0].ndim == 0:
            raise UsageError(describe(f"'{name}' of '{uids[0]}' has no time axis", fix=f"not_sequence=['{name}']"))
        for uid, array in zip(uids, arrays, strict=True):
            if compared(array) != compared(arrays[0]):
                raise DataError(
                    describe(
                        f"'{name}' of utterance '{uid}' does not fit into a batch with '{uids[0]}'",
                        got=f"{array.dtype} {array.shape}",
                        allowed=f"{arrays[0].dtype} {('T', *arrays[0].shape[1:])}",
                        fix="format all clips with the same settings (stage 2)",
                    )
                )

    def _pad(self, name: str, arrays: list[np.ndarray]) -> torch.Tensor:
        multiple = self.pad_to_multiple
        multiple = (multiple.get(name, 1) if isinstance(multiple, Mapping) else multiple) or 1
        longest = -(-max(len(array) for array in arrays) // multiple) * multiple
        first = _as_batch_type(arrays[0][:1])
        value = self.ignore_id if first.dtype == np.int64 else 0
        shape = (len(arrays), longest, *arrays[0].shape[1:])
        padded = np.empty(shape, dtype=first.dtype)
        for row, array in zip(padded, arrays, strict=True):
            row[: len(array)] = array
            row[len(array) :] = value
        return torch.from_numpy(padded)


def _as_batch_type(array: np.ndarray) -> np.ndarray:
    """Return floats as float32, labels as int64, and uint8 and bool unchanged."""
    if array.dtype.kind == "f":
        return array.astype(np.float32, copy=False)
    if array.dtype in (np.uint8, np.bool_):
        return array
    return array.astype(np.int64, copy=False)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of networks that torch stores as plain modules, given back as what they are."""

from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar, cast

from torch import nn

Part = TypeVar("Part", bound=nn.Module)


class LayerList(nn.ModuleList, Generic[Part]):
    """``nn.ModuleList`` of modules of one kind; type checkers then know the kind of what comes out of it.

    Args:
        layers: What it holds.
    """

    def __init__(self, layers: Iterable[Part] = ()) -> None:
        super().__init__(layers)

    def __iter__(self) -> Iterator[Part]:
        """Iterate over the layers."""
        return cast(Iterator[Part], super().__iter__())


def submodule(module: nn.Module, name: str, kind: type[Part]) -> Part:
    """Return the part of a network with a name in its state dict.

    Args:
        module: The network.
        name: Such as ``encoder.layers.0``.
        kind: What the part is.

    Raises:
        AttributeError: There is no such part.
        TypeError: It is of another kind.
    """
    part = module.get_submodule(name)
    if not isinstance(part, kind):
        raise TypeError(f"{name} is a {type(part).__name__}, not a {kind.__name__}")
    return part

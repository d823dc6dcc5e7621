# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Audio-visual speech systems and recipes on top of ESPnet.

Importing the package imports neither torch nor ESPnet; the public classes are loaded when they are first used.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = Path(__file__).with_name("version.txt").read_text(encoding="utf-8").strip()

#: Public name -> where it lives.
_PUBLIC = {
    "AVGenerator": "espnet_av.avgen.inference:AVGenerator",
    "AVSR": "espnet_av.avsr.inference:AVSR",
    "ActiveSeparationAgent": "espnet_av.activesep.agent:ActiveSeparationAgent",
    "Codec": "espnet_av.codec.inference:Codec",
    "Separator": "espnet_av.avss.inference:Separator",
    "register": "espnet_av.registry:register",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public names: {', '.join(__all__)}")
    module, _, attribute = _PUBLIC[name].partition(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})

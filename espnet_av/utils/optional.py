# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Import of packages that only some users have."""

import importlib
from types import ModuleType

from espnet_av.utils.errors import EnvironmentProblem


def require(module: str, extra: str) -> ModuleType:
    """Import ``module`` or raise :class:`EnvironmentProblem` with the line that installs it.

    Args:
        module: Dotted module name, e.g. ``"ai_edge_litert.interpreter"``.
        extra: The extra of setup.py that holds it, e.g. ``"face"``.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise EnvironmentProblem(
            f"the package of '{module}' is needed here ({error}); fix: pip install 'espnet_av[{extra}]'"
        ) from error

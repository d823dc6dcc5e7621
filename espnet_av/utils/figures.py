# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Figures as text."""

import math

ABSENT = "–"


def percent(value: float | None, digits: int = 1) -> str:
    """Format a fraction as per cent without the sign; a dash for None and NaN.

    >>> percent(0.0417)
    '4.2'
    """
    return ABSENT if value is None or not math.isfinite(value) else f"{100 * value:.{digits}f}"

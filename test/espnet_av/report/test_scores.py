# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""How a figure is written."""

import pytest

from espnet_av.report.scores import Score, plain_number


@pytest.mark.parametrize(
    ("value", "low", "high", "text"),
    [
        (6.1234, 3.9, 8.44, "6.123 [3.9, 8.44]"),
        (896.0, 704.4, 1012.3, "896 [704, 1012]"),
        (20123.4, None, None, "20123"),
        (0.00001, 0.0, 0.1, "1e-05 [0, 0.1]"),
        (None, None, None, "–"),
    ],
)
def test_figures_have_no_exponent_above_one(value, low, high, text):
    assert Score("test", "s", "wer", "WER", "%", "lower", value, low, high).cell() == text


def test_signs():
    assert [plain_number(value, 3, "+") for value in (1234.5, -0.5, 0.0)] == ["+1234", "-0.5", "+0"]

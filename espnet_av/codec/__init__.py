# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Low-bit-rate speech codec: the baseline systems of the LRAC challenge, tracks 1 and 2."""

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Blocks that two or more systems use."""

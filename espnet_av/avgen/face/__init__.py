# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A drawn face of known controls: who it is, how it moves, what its mouth does for each sound, and its picture."""

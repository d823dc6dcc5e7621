# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Active audio-visual separation: an agent that moves through a house to hear one voice better."""

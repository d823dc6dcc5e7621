# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Speech and a moving face generated together from text, sound or tokens, by flow matching."""

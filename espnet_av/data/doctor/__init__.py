# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The data doctor: looks into every clip of some data sets and says what is wrong, where, and how sure it is."""

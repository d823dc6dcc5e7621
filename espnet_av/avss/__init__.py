# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0

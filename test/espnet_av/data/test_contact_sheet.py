# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The contact sheet shows the right frames in the right places."""

import cv2
import numpy as np

from espnet_av.data.contact_sheet import GAP, HEADER_HEIGHT, LABEL_WIDTH, SheetRow, write_contact_sheet


def test_frames_from_first_to_last(tmp_path):
    levels = np.arange(50, 150, dtype=np.uint8)
    gray = np.broadcast_to(levels[:, None, None], (100, 16, 16))
    red = np.zeros((10, 16, 16, 3), np.uint8)
    red[..., 0] = 200
    rows = [SheetRow("gray\nclip", gray), SheetRow("red", red)]
    write_contact_sheet(tmp_path / "sheet.png", rows, title="two clips", num_columns=3, notes=["dropped x: no_face"])
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet.shape[1] == LABEL_WIDTH + 3 * (16 + GAP)
    columns = [LABEL_WIDTH + 8 + column * (16 + GAP) for column in range(3)]
    assert [int(sheet[HEADER_HEIGHT + 8, x, 0]) for x in columns] == [50, 100, 149]
    assert sheet[HEADER_HEIGHT + 16 + GAP + 8, columns[0]].tolist() == [0, 0, 200]  # BGR
    assert sheet[HEADER_HEIGHT : HEADER_HEIGHT + 16, :LABEL_WIDTH].max() > 150  # the label

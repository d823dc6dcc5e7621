# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Videos of scored samples."""

import json

import numpy as np
import pytest

from espnet_av.avgen.score_files import MOTION
from espnet_av.bin import avgen_videos
from espnet_av.report.avgen_examples import SCORES
from espnet_av.utils.errors import UsageError


def test_videos_need_pictures(tmp_path):
    sample = tmp_path / "exp" / "decode" / "joint" / "dev" / "u1" / "0"
    sample.mkdir(parents=True)
    np.savez(sample / MOTION, face=np.zeros((30, 4), np.float32))
    scores = {"utterances": [{"key": "u1", "values": {}}]}
    (sample.parents[1] / SCORES).write_text(json.dumps(scores), encoding="utf-8")
    (tmp_path / "dev").mkdir()
    command = ["--exp_dir", str(tmp_path / "exp"), "--data_dirs", str(tmp_path / "dev"), "--renderer", "none"]
    with pytest.raises(UsageError, match="videos need pictures"):
        avgen_videos.main(command)

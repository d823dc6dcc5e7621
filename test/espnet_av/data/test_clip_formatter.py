# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""What the formatter of clips says of sources that lack a file."""

import pytest

from espnet_av.data.clip_formatter import ClipFormatter, ClipSource, FormatSettings
from espnet_av.data.mouth_roi import ClipRejected
from espnet_av.utils.errors import MissingDataError


@pytest.fixture()
def formatter(tmp_path):
    return ClipFormatter(FormatSettings(roi_dir=str(tmp_path / "mouth"), audio_dir=str(tmp_path / "audio")))


def test_no_video_is_a_reason(formatter):
    result = formatter(ClipSource("utt", wav="utt.wav"))
    assert (result.reason, result.mouth) == ("no_video", None)


def test_no_crop_has_a_path_without_video(formatter, tmp_path):
    with pytest.raises(ClipRejected, match=r"no line in video\.scp"):
        formatter.crop_path(ClipSource("utt"))
    with pytest.raises(MissingDataError, match="no such file"):
        formatter.crop_path(ClipSource("utt", video=str(tmp_path / "none.mp4")))

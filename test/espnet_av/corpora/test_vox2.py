# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The VoxCeleb2 reader."""

import pytest
from lrs_trees import make_auto_avsr, make_vox2

from espnet_av.corpora.vox2 import find_utterances, main, read_transcripts
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


def test_clips_with_transcripts(tmp_path):
    root = make_vox2(tmp_path / "vox2")
    found, drops = find_utterances(root, root / "transcripts.txt")
    assert [(item.utt, item.speaker, item.text) for item in found] == [
        ("vox2_id00012-21Uxsk56VDQ-00001", "vox2_id00012", "HELLO THERE"),
        ("vox2_id00015--fx-00001", "vox2_id00015", "IT'S ME"),
    ]
    assert {item.wav for item in found} == {None} and len(drops) == 0
    deeper, _ = find_utterances(root / "dev", root / "transcripts.txt")
    assert [item.utt for item in deeper] == [item.utt for item in found]


def test_missing_clips_are_counted(tmp_path):
    root = make_vox2(tmp_path / "vox2")
    with (root / "transcripts.txt").open("a") as stream:
        stream.write("id00099/x/00001 GONE\nid00012/21Uxsk56VDQ/00002\n")
    found, drops = find_utterances(root, root / "transcripts.txt")
    assert len(found) == 2
    assert drops.one_line() == "2 of 4 kept; dropped: empty_text 1, missing_video 1"


@pytest.mark.parametrize("line", ["hello there", "x/y/z hello", "id1/y hello"])
def test_bad_transcripts(tmp_path, line):
    path = tmp_path / "t.txt"
    path.write_text("id1/a/1 HI\n" + line + "\n")
    with pytest.raises(DataError, match="line 2 names no clip"):
        read_transcripts(path)
    path.write_text("id1/a/1 HI\ndev/mp4/id1/a/1.mp4 HO\n")
    with pytest.raises(DataError, match="line 2: a clip for the second time"):
        read_transcripts(path)


def test_command(tmp_path):
    root = make_vox2(tmp_path / "vox2", m4a=True)
    options = ["--vox2_root", str(root), "--output_dir", str(tmp_path / "data")]
    assert main([*options, "--vox2_transcript_file", str(root / "transcripts.txt")]) == 0
    data = DataDir(tmp_path / "data" / "vox2_dev")
    assert [path.rsplit("/", 1)[1] for path in data.read("wav.scp").values()] == ["00001.m4a", "00001.m4a"]
    with pytest.raises(UsageError, match="have no transcripts.*--vox2_transcript_file"):
        main(options)
    with pytest.raises(MissingDataError, match="no VoxCeleb2 corpus"):
        main(["--vox2_root", str(tmp_path / "data"), "--vox2_transcript_file", str(root / "transcripts.txt")])
    with pytest.raises(UsageError, match="where is VoxCeleb2"):
        main([])


def test_prepared_by_auto_avsr(tmp_path):
    root = make_auto_avsr(tmp_path / "auto", "vox2")
    found, _ = find_utterances(root)
    assert len(found) == 3 and {item.roi for item in found} == {"center"}
    next(root.glob("labels/*test*")).unlink()
    with pytest.raises(DataError, match="no csv file of the set test"):
        find_utterances(root, split="test")

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The layout that auto_avsr's preparation leaves."""

import pytest
from lrs_trees import make_auto_avsr

from espnet_av.corpora.auto_avsr_layout import (
    Row,
    find_csv_files,
    ids_to_text,
    is_layout,
    read_rows,
    read_units,
    read_utterances,
    utterance_id,
)
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture
def root(tmp_path):
    return make_auto_avsr(tmp_path / "auto")


def test_sets_by_file_name(root):
    assert is_layout(root) and not is_layout(root / "lrs3")
    for name in ("lrs3_pretrain_seg16s", "lrs3_val_seg16s", "lrs2_train_seg16s", "lrs3_notes"):
        (root / "labels" / f"{name}.csv").touch()
    files = find_csv_files(root, "lrs3")
    assert {name: len(paths) for name, paths in files.items()} == {"train": 2, "valid": 1, "test": 1}
    with pytest.raises(DataError, match=r"no csv file of vox2.*lrs2_train_seg16s\.csv"):
        find_csv_files(root, "vox2")


def test_text_files_then_token_ids(root):
    files = find_csv_files(root, "lrs3")["train"]
    found, drops = read_utterances(root, files)
    assert len(found) == 3 and len(drops) == 0
    assert found[0].utt == "lrs3_trainval-aa-00001_00" and found[0].speaker == "lrs3_aa"
    assert found[0].text == "SENTENCE AND SO WE WENT" and found[0].roi == "center"
    assert found[0].wav == found[0].video.with_suffix(".wav")
    tokens, _ = read_utterances(root, files, unit_file=root / "units.txt", text_from="tokens")
    assert {item.text for item in tokens} == {"HELLO"}
    next(root.rglob("*_text_*/trainval/aa/*.txt")).unlink()
    mixed, _ = read_utterances(root, files, unit_file=root / "units.txt")
    assert [item.text for item in mixed[:2]] == ["HELLO", "SENTENCE IT WAS NOT ENOUGH"]
    without, drops = read_utterances(root, files)
    assert len(without) == 2 and drops.one_line() == "2 of 3 kept; dropped: no_text 1"
    with pytest.raises(UsageError, match="tokens need --unit_file"):
        read_utterances(root, files, text_from="tokens")


def test_sound_in_the_clip_and_missing_clips(root):
    clips = sorted(root.rglob("*_video_*/trainval/*/*.mp4"))
    clips[0].with_suffix(".wav").unlink()
    clips[1].unlink()
    found, drops = read_utterances(root, find_csv_files(root, "lrs3")["train"])
    assert found[0].wav is None
    assert drops.one_line() == "2 of 3 kept; dropped: missing_video 1"


@pytest.mark.parametrize(
    "line",
    ["lrs3,a.mp4,30", "lrs3,a.mp4,many,2 3", "lrs3,a.mp4,0,2", "lrs3,a.mp4,9,2 x", "lrs3,,9,2", "lrs3,a.mp4,9,-1"],
)
def test_bad_rows(tmp_path, line):
    path = tmp_path / "lrs3_train.csv"
    path.write_text(f"lrs3,b.mp4,30,2 3\n{line}\n")
    with pytest.raises(DataError, match=r"lrs3_train\.csv, line 2 is no label"):
        read_rows(path)


def test_ids_outside_of_the_list_name_the_row(root):
    for path in root.rglob("*.txt"):
        if "_text_" in str(path):
            path.unlink()
    csv = find_csv_files(root, "lrs3")["test"][0]
    csv.write_text(csv.read_text().replace("2 3", "2 9"))
    with pytest.raises(DataError, match=r"lrs3_test.*tt/00001_00\.mp4: token ids outside of the unit list; got \[9\]"):
        read_utterances(root, [csv], unit_file=root / "units.txt")


def test_units(tmp_path):
    path = tmp_path / "units.txt"
    with pytest.raises(MissingDataError, match="unigram5000_units"):
        read_units(path)
    path.write_text("<unk> 1\na 3\n")
    with pytest.raises(DataError, match="line 2 is no unit"):
        read_units(path)
    path.write_text("<unk> 1\n\u2581A 2\nB 3\n\u2581C 4\n")
    units = read_units(path)
    assert ids_to_text([2, 3, 0, 4], units) == "AB C"


def test_utterance_ids():
    assert utterance_id(Row("lrs2", "lrs2_video_seg24s/main/123/00002.mp4", 1, ())) == "lrs2_main-123-00002"
    assert utterance_id(Row("vox2", "vox2_video_seg16s/dev/id1/-x/1_00.mp4", 1, ())) == "vox2_dev-id1--x-1_00"

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The reader of session folders and the data folders made of them."""

import json
import shutil
from pathlib import Path

import pytest
from session_tree import FIRST_FRAME, NUM_FRAMES, make_session

from espnet_av.avsr.session_files import count_problems, find_sessions, read_scores, read_session, read_track_scores
from espnet_av.avsr.vtt import Caption, write_vtt
from espnet_av.corpora import mcorec_sets
from espnet_av.data.data_dir import DataDir
from espnet_av.data.drops import TooManyDropped
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

CROPS = "speakers/spk_0/central_crops"


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A session that is only copied."""
    return make_session(tmp_path_factory.mktemp("made") / "session_01")


@pytest.fixture
def folder(made, tmp_path) -> Path:
    """A session that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "session_01"))


def edit(path: Path, change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def reasons(folder: Path) -> dict[str, int]:
    return count_problems(read_session(folder).problems)


def test_session(folder):
    session = read_session(folder)
    assert (session.name, list(session.speakers), session.problems) == ("session_01", ["spk_0", "spk_1", "spk_2"], [])
    speaker = session.speakers["spk_1"]
    assert speaker.uem == (2.0, 8.0)
    (track,) = speaker.tracks
    assert (track.name, track.first_frame, track.num_frames, track.start_sec) == ("track_00", 50, 150, 2.0)
    assert track.lip.is_file() and track.asd.is_file() and track.video is None
    assert session.has_labels
    assert session.captions("spk_0") == [Caption(2.4, 4.4, "HELLO THERE")]
    assert session.clusters() == {"spk_0": 0, "spk_1": 0, "spk_2": 1}
    assert min(read_track_scores(session, "spk_1", track)) == 50


def test_folders_alone_are_enough(folder):
    (folder / "metadata.json").unlink()
    session = read_session(folder)
    assert list(session.speakers) == ["spk_0", "spk_1", "spk_2"]
    assert session.speakers["spk_0"].uem is None
    assert session.speakers["spk_0"].tracks[0].asd.name == "track_00_asd.json"


def test_sessions_are_found(folder):
    root = folder.parent
    (root / "no_session").mkdir()
    assert find_sessions([str(root / "*"), str(folder)]) == [folder]
    with pytest.raises(MissingDataError, match="no session folder"):
        find_sessions([str(root / "no_*")])


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda f: (f / CROPS / "track_00_lip.av.mp4").unlink(), {"no_lip": 1, "no_tracks": 1}),
        (lambda f: (f / CROPS / "track_00.json").unlink(), {"no_times": 1, "no_tracks": 1}),
        (lambda f: (f / CROPS / "track_00.json").write_text("[1"), {"no_times": 1, "no_tracks": 1}),
        (lambda f: (f / CROPS / "track_00.json").write_text('{"frame_start": "x"}'), {"no_times": 1, "no_tracks": 1}),
        (lambda f: edit(f / "metadata.json", lambda m: m["spk_0"]["central"].update(crops=[])), {"no_tracks": 1}),
        (lambda f: edit(f / "metadata.json", lambda m: m["spk_0"]["central"]["crops"].append({})), {"no_lip": 1}),
    ],
)
def test_bad_tracks_are_counted(folder, break_it, expected):
    break_it(folder)
    assert reasons(folder) == expected
    assert len(read_session(folder).speakers["spk_1"].tracks) == 1  # the others are not touched


@pytest.mark.parametrize(
    "content", ["[]", "{", '{"spk_0": 3}', '{"../x": {"central": {}}}', '{"spk_0": {"central": {"uem": {}}}}', "{}"]
)
def test_bad_metadata_is_refused(folder, content):
    (folder / "metadata.json").write_text(content)
    with pytest.raises(DataError, match=r"metadata\.json"):
        read_session(folder)


def test_missing_session():
    with pytest.raises(MissingDataError, match="no session folder"):
        read_session("none")


def test_gaps_in_scores_are_noted(folder):
    path = folder / CROPS / "track_00_asd.json"

    def cut(scores: dict) -> None:
        for frame in (60, 61, 62, 90):
            del scores[str(frame)]
        scores["70"] = None
        scores["71"] = float("nan")
        scores["900"] = 2.0

    edit(path, cut)
    session = read_session(folder)
    scores = read_track_scores(session, "spk_0", session.speakers["spk_0"].tracks[0])
    assert len(scores) == NUM_FRAMES - 6
    assert count_problems(session.problems) == {"asd_gap": 1, "asd_outside": 1}
    assert "6 of 150 frames have no score (60-62, 70-71, 90-90)" in session.problems[1].detail
    assert not any(problem.skipped for problem in session.problems)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"1": "loud"}', json.dumps({"0": 1.0, "1": 1.0})])
def test_damaged_scores(folder, content):
    path = folder / CROPS / "track_00_asd.json"
    path.write_text(content)
    session = read_session(folder)
    assert FIRST_FRAME > 1  # the last case counts frames from the start of the track
    with pytest.raises(DataError, match=r"track_00_asd\.json"):
        read_track_scores(session, "spk_0", session.speakers["spk_0"].tracks[0])


def test_a_track_without_scores(folder):
    (folder / CROPS / "track_00_asd.json").unlink()
    session = read_session(folder)
    with pytest.raises(MissingDataError, match="no active speaker scores.*spk_0/track_00"):
        read_track_scores(session, "spk_0", session.speakers["spk_0"].tracks[0])


def test_missing_files_of_scores_and_labels(folder):
    with pytest.raises(MissingDataError):
        read_scores(folder / "none.json")
    (folder / "labels" / "spk_0.vtt").unlink()
    (folder / "labels" / "spk_1.vtt").write_text("no captions")
    session = read_session(folder)
    assert session.captions("spk_0") is session.captions("spk_1") is None
    assert count_problems(session.problems) == {"bad_captions": 1, "no_captions": 1}
    (folder / "labels" / "speaker_to_cluster.json").write_text('{"spk_0": [1]}')
    with pytest.raises(DataError, match="no conversations"):
        session.clusters()
    (folder / "labels" / "speaker_to_cluster.json").unlink()
    assert session.clusters() is None


# ---------------------------------------------------------------------------------------------------- data folders


@pytest.fixture
def root(made, tmp_path) -> Path:
    """Two sessions to train on and one to test on."""
    for name in ("train/session_01", "train/session_02", "dev/session_03"):
        shutil.copytree(made, tmp_path / "mcorec" / name)
    return tmp_path / "mcorec"


def prepare(root: Path, *more: str) -> Path:
    output = root.parent / "data"
    assert mcorec_sets.main(["--mcorec_root", str(root), "--output_dir", str(output), *more]) == 0
    return output


def test_captions_become_utterances(root):
    data = DataDir(prepare(root) / "test")
    assert data.read("text") == {
        "session_03_spk_0-0000240-0000440": "HELLO THERE",
        "session_03_spk_1-0000480-0000720": "HELLO THERE",
        "session_03_spk_2-0000240-0000440": "HELLO THERE",
        "session_03_spk_2-0000480-0000720": "SO WHAT IS IT",
    }
    recording, start, end = data.read("segments")["session_03_spk_1-0000480-0000720"].split()
    assert data.read("video.scp")[recording].endswith("session_03/speakers/spk_1/central_crops/track_00_lip.av.mp4")
    assert (float(start), float(end)) == (pytest.approx(2.8), pytest.approx(5.2))
    assert set(data.read("utt2roi").values()) == {"center"}


def test_sets_share_no_session(root):
    output = prepare(root)
    sessions = [{utt[:10] for utt in DataDir(output / name).read("text")} for name in ("train", "valid", "test")]
    assert sorted(map(len, sessions)) == [1, 1, 1]
    assert len(set.union(*sessions)) == 3


def test_what_is_left_out(root):
    captions = [
        Caption(1, 3, "half seen"),
        Caption(2.4, 4, "good"),
        Caption(3, 4, "<unk>"),
        Caption(2.4, 4, "again"),
        Caption(7.5, 8.5, "late"),
    ]
    write_vtt(root / "dev" / "session_03" / "labels" / "spk_0.vtt", captions)
    (root / "dev" / "session_03" / "labels" / "spk_1.vtt").unlink()
    edit(root / "dev" / "session_03" / "metadata.json", lambda m: m["spk_0"]["central"]["uem"].update(start=0, end=8.6))
    captions.append(Caption(8, 9, "outside the scored time"))
    write_vtt(root / "dev" / "session_03" / "labels" / "spk_0.vtt", captions)
    with pytest.raises(TooManyDropped, match="no_captions 1"):
        prepare(root)
    output = prepare(root, "--max_dropped_share", "0.9")
    report = json.loads((output / "test" / "prepare_report.json").read_text())
    counts = {reason: entry["count"] for reason, entry in report["reasons"].items()}
    assert counts == {"no_captions": 1, "empty_text": 1, "duplicate": 1, "no_face": 2}
    (root / "train" / "session_02" / "metadata.json").write_text("{")
    with pytest.raises(UsageError, match="held out"):
        prepare(root, "--max_dropped_share", "0.9")


def test_missing_corpus(tmp_path):
    with pytest.raises(MissingDataError, match="no MCoRec corpus"):
        prepare(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingDataError, match="no session folder"):
        prepare(tmp_path / "empty")

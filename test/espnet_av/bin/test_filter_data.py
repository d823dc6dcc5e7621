# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 3 on a small formatted folder."""

import json

import numpy as np
import pytest

from espnet_av.bin.filter_data import main
from espnet_av.data.audio_io import write_audio
from espnet_av.data.data_dir import DataDir
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture
def data(tmp_path):
    """Ten clips ``u0`` ... ``u9`` of 1 s, of two speakers."""
    folder = DataDir(tmp_path / "formatted")
    utts = [f"u{index}" for index in range(10)]
    for utt in utts:
        make(tmp_path, utt, 25, 16000)
    folder.write("wav.scp", {utt: tmp_path / f"{utt}.flac" for utt in utts})
    folder.write("mouth.scp", {utt: tmp_path / f"{utt}.npy" for utt in utts})
    folder.write("text", {utt: f"SAY {utt}" for utt in utts})
    folder.write("utt2spk", {utt: f"spk{index % 2}" for index, utt in enumerate(utts)})
    folder.write("utt2num_frames", dict.fromkeys(utts, 25))
    folder.write("utt2num_samples", dict.fromkeys(utts, 16000))
    folder.write_streams(
        [("wav.scp", "speech", "sound"), ("mouth.scp", "video", "video_npy"), ("text", "text", "text")]
    )
    folder.write_meta({"sample_rate": 16000, "fps": 25})
    return folder


def make(folder, utt, num_frames, num_samples):
    write_audio(folder / f"{utt}.flac", np.full(num_samples, 0.1, np.float32), 16000)
    np.save(folder / f"{utt}.npy", np.zeros((num_frames, 8, 8), np.uint8))


def edit(data, name, utt, value):
    table = data.read(name, allow_empty=True)
    if value is None:
        del table[utt]
    else:
        table[utt] = value
    data.write(name, table)


def resize(data, utt, num_frames, num_samples):
    make(data.path.parent, utt, num_frames, num_samples)
    edit(data, "utt2num_frames", utt, num_frames)
    edit(data, "utt2num_samples", utt, num_samples)


def run(data, output, *more):
    return main(["--data_dir", str(data.path), "--output_dir", str(output), *map(str, more)])


def test_a_good_folder_stays_as_it_is(data, tmp_path):
    assert run(data, tmp_path / "out") == 0
    out = DataDir(tmp_path / "out")
    for name in ("wav.scp", "mouth.scp", "text", "utt2spk", "spk2utt", "utt2num_frames", "utt2num_samples"):
        assert out.read(name) == data.read(name)
    assert out.streams == data.streams
    assert out.meta == data.meta
    assert json.loads((out / "filter_report.json").read_text())["num_dropped"] == 0


def test_every_drop_has_its_reason(data, tmp_path):
    resize(data, "u0", 9, 9 * 640)
    resize(data, "u1", 400, 400 * 640)
    resize(data, "u2", 25, 25 * 640 + 2000)
    edit(data, "text", "u3", "")
    (tmp_path / "u4.npy").unlink()
    (tmp_path / "u5.flac").unlink()
    edit(data, "utt2spk", "u6", None)
    (tmp_path / "u7.flac").write_bytes(b"no sound")
    np.save(tmp_path / "u8.npy", np.zeros((20, 8, 8), np.uint8))
    run(data, tmp_path / "out", "--max_dropped_share", 0.9)
    out = DataDir(tmp_path / "out")
    assert list(out.read("text")) == ["u9"]
    assert out.read("spk2utt") == {"spk1": "u9"}
    report = json.loads((out / "filter_report.json").read_text())
    reasons = {utt: reason for reason, entry in report["reasons"].items() for utt in entry["utterances"]}
    assert reasons.pop("u8") in ("wrong_length", "drift")
    assert reasons == {
        "u0": "too_short",
        "u1": "too_long",
        "u2": "av_drift",
        "u3": "empty_text",
        "u4": "no_crops",
        "u5": "no_audio",
        "u6": "incomplete",
        "u7": "unreadable",
    }
    assert "+3.12 frames" in report["reasons"]["av_drift"]["utterances"]["u2"]
    assert "utt2spk" in report["reasons"]["incomplete"]["utterances"]["u6"]


def test_tables_only(data, tmp_path):
    (tmp_path / "u7.flac").write_bytes(b"no sound")
    run(data, tmp_path / "out", "--skip_media_check")
    assert len(DataDir(tmp_path / "out").read("text")) == 10


def test_empty_text_can_be_kept(data, tmp_path):
    edit(data, "text", "u3", "")
    run(data, tmp_path / "out", "--keep_empty_text")
    assert DataDir(tmp_path / "out").read("text", allow_empty=True)["u3"] == ""


def test_too_many_drops_fail_and_keep_the_older_folder(data, tmp_path):
    run(data, tmp_path / "out")
    with pytest.raises(DataError, match="too_short 10") as raised:
        run(data, tmp_path / "out", "--min_sec", 2, "--max_dropped_share", 1.0)
    assert raised.value.exit_code == 5
    assert len(DataDir(tmp_path / "out").read("text")) == 10
    assert (tmp_path / "out.filter_report.json").is_file()


def test_folder_edited_by_hand_comes_out_sorted(data, tmp_path):
    lines = (data / "text").read_text().splitlines(keepends=True)
    (data / "text").write_text("".join(reversed(lines)))
    (data / "spk2utt").write_text("nobody u1\n")
    run(data, tmp_path / "out")
    out = DataDir(tmp_path / "out")
    assert (out / "text").read_text() == "".join(lines)
    assert set(out.read("spk2utt")) == {"spk0", "spk1"}


def test_wrong_order_of_stages_and_bad_options(data, tmp_path):
    with pytest.raises(MissingDataError, match="run stage 2"):
        run(DataDir(tmp_path / "nowhere"), tmp_path / "out")
    with pytest.raises(UsageError, match="--min_sec"):
        run(data, tmp_path / "out", "--min_sec", 20)
    with (data / "text").open("a") as stream:
        stream.write("u3 AGAIN\n")
    with pytest.raises(DataError, match="duplicate id 'u3'"):
        run(data, tmp_path / "out")

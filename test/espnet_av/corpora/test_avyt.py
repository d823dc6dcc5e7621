# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders and the training mix out of shards of AVYT, and the look through AVCocktail."""

import json
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import shard_data as made

from espnet_av.corpora import avcocktail, avyt
from espnet_av.corpora.shard_sets import utterance_id, write_shard_set
from espnet_av.data.av_shards import AVShards
from espnet_av.data.data_dir import DataDir
from espnet_av.data.stream_plan import read_stream_plan, write_stream_plan
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return made.make_avyt(tmp_path_factory.mktemp("avyt"))


def run(root, output, *words):
    assert avyt.main(["--avyt_root", str(root), "--output_dir", str(output), *words]) == 0
    return DataDir(output / "train")


def test_published_probabilities():
    assert avyt.PROBABILITIES == {"lrs2": 0.3, "vox2": 0.2, "avyt": 0.25, "avyt-mix": 0.25}
    assert sum(avyt.PROBABILITIES_MCOREC.values()) == pytest.approx(1)
    assert list(avyt.PROBABILITIES_MCOREC) == [*avyt.PROBABILITIES, "mcorec"] == [*avyt.TRAINING, "mcorec"]


def test_training_reads_shards_and_the_rest_are_data_folders(root, tmp_path, caplog):
    train = run(root, tmp_path, "--token_clips", "6", "--max_sec", "10")
    assert len(train.read("text")) == 6
    found = yaml.safe_load((tmp_path / "train_stream.yaml").read_text())
    assert found["probabilities"] == avyt.PROBABILITIES and found["seed"] == 11 and found["max_frames"] == 250
    assert found["sources"]["lrs2"] == {"source": str(root), "config": "lrs2", "split": "train+pretrain"}
    assert len(DataDir(tmp_path / "valid").read("text")) == 3
    assert len(DataDir(tmp_path / "test").read("text")) == 3
    assert (
        "no shards of test_snr_n5_interferer_1" in caplog.text and not (tmp_path / "test_snr_n5_interferer_1").exists()
    )
    plan = read_stream_plan(tmp_path / "train_stream.yaml", num_streams=3)
    assert plan.num_streams == 3 and plan.max_frames == 250 and not plan.legacy
    assert {name: len(list(shards)) for name, shards in plan.sources.items()} == {
        "lrs2": 14, "vox2": 8, "avyt": 11, "avyt-mix": 6
    }  # fmt: skip
    speech, video = plan.decode(next(iter(plan.sources["vox2"])))
    assert len(speech) == 640 * len(video)


def test_unpacked_training_set_holds_every_clip(root, tmp_path):
    run(root, tmp_path)
    train = run(root, tmp_path, "--unpack_train", "true", "--nj", "2")
    text = train.read("text")
    assert len(text) == 14 + 8 + 11 + 6
    assert not (tmp_path / "train_stream.yaml").exists()
    assert [utt for utt, words in text.items() if words == "<unk>"] == [f"avyt-avyt_silent_0000{n}" for n in range(3)]
    clip = Path(train.read("video.scp")["vox2-vox2_dev_00005"])
    assert clip.read_bytes() == made.make_samples("x", 1, first=5)[0]["video"]


def test_mcorec_brings_its_own_probabilities_and_validation(root, tmp_path):
    mcorec = made.make_avyt(tmp_path / "mcorec", {"train": (3,), "validation": (2,)})
    run(root, tmp_path / "data", "--include_mcorec", "true", "--mcorec_root", str(mcorec))
    found = yaml.safe_load((tmp_path / "data/train_stream.yaml").read_text())
    assert found["probabilities"] == avyt.PROBABILITIES_MCOREC
    assert found["sources"]["mcorec"] == {"source": str(mcorec), "config": "default", "split": "train"}
    assert len(DataDir(tmp_path / "data/valid").read("text")) == 3 + 2


def test_a_test_set_is_in_validation_only_when_asked_for(root, tmp_path):
    run(root, tmp_path, "--legacy_valid", "true", "--legacy_order", "true")
    utts = list(DataDir(tmp_path / "valid").read("text"))
    assert {utt.partition("_")[0] for utt in utts} == {"lrs2-lrs2", "lrs2-noisy-lrs2", "avyt-mix-avyt-mix"}
    assert len(utts) == 8
    assert yaml.safe_load((tmp_path / "train_stream.yaml").read_text())["legacy"] is True


def test_wrong_options(root, tmp_path):
    with pytest.raises(MissingDataError, match="--avyt_root DIR"):
        avyt.main(["--output_dir", str(tmp_path)])
    with pytest.raises(UsageError, match="exclude each other"):
        run(root, tmp_path, "--streaming_dataset", "true", "--unpack_train", "true")
    with pytest.raises(UsageError, match=r"--legacy_order; got 'yes'; allowed: true, false"):
        run(root, tmp_path, "--legacy_order", "yes")


def test_clips_without_use_are_counted_with_their_reason(tmp_path):
    clips = made.make_samples("a", 4)
    clips[1]["label"] = b" "
    clips[2]["sample_id"] = clips[0]["sample_id"]
    made.write_tar(tmp_path / "shards/a/b.tar", [*clips, {"label": b"X"}])
    place = (tmp_path / "shards", "a", "b")
    line = write_shard_set(
        {"s": AVShards(*place)}, tmp_path / "set", tmp_path / "clips", description="", max_dropped_share=0.7
    )
    assert line == "2 of 5 kept; dropped: duplicate 1, no_clip 1, no_label 1"
    report = json.loads((tmp_path / "set/shard_report.json").read_text())
    assert report["reasons"]["no_label"]["utterances"] == {"s-a_00001": "in a/b.tar"}
    with pytest.raises(DataError, match="too many utterances lost"):
        write_shard_set({"s": AVShards(*place)}, tmp_path / "set2", tmp_path / "clips", description="")
    assert not (tmp_path / "set2").exists() and (tmp_path / "set2.shard_report.json").is_file()
    assert utterance_id("x", "/a b/../c.d") == "x-a_b_.._c.d"


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({}, "'sources' must name"),
        ({"sources": {"a": {"source": "x"}}}, "source 'a'.*source, config, split"),
        ({"sources": {"a": 1}, "probabilty": 1}, "unknown key; got 'probabilty'"),
    ],
)
def test_wrong_plan(tmp_path, content, match):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(UsageError, match=match):
        read_stream_plan(tmp_path / "plan.yaml")


def test_a_plan_is_read_as_it_was_written(root, tmp_path):
    entry = {"source": str(root), "config": "lrs2", "split": "train"}
    plan = read_stream_plan(write_stream_plan(tmp_path / "p.yaml", {"x": entry}, num_streams=4, max_bad_share=0.5))
    assert plan.num_streams == 4 and plan.sources["x"].max_bad_share == 0.5


def make_avcocktail(root):
    piece = {"start_time": 0.0, "end_time": 1.2}
    for video in ("video_0", "video_12"):
        for split in avcocktail.CHUNKINGS:
            made.write_tar(
                root / video / f"{split}.tar", [made.sample_fields(f"{video}_{n}", "", **piece) for n in range(2)]
            )
        made.write_tar(root / f"labels/{video}.tar", [{"label": b"WEBVTT\n\n00:00.000 --> 00:01.000\nBIN BLUE\n"}])
    return root


def test_avcocktail_is_counted(tmp_path, capsys):
    root = make_avcocktail(tmp_path / "root")
    avcocktail.main(["--avcocktail_root", str(root), "--output_dir", str(tmp_path / "data")])
    sets = json.loads((tmp_path / "data/sets.json").read_text())
    assert list(sets) == ["video_0", "video_12"]
    assert sets["video_0"] == {"asd_chunk": 2, "fixed_chunk": 2, "gold_chunk": 2, "captions": 1, "problems": []}
    assert (tmp_path / "data/shards").resolve() == root
    assert "2 videos, 4 asd_chunk, 4 fixed_chunk, 4 gold_chunk; 0 videos with problems" in capsys.readouterr().out


def test_what_avcocktail_lacks_is_named(tmp_path):
    root = make_avcocktail(tmp_path)
    (root / "labels/video_12.tar").unlink()
    (root / "video_0/asd_chunk.tar").unlink()
    made.write_tar(root / "video_0/gold_chunk.tar", [made.sample_fields("x", ""), {"video": b""}])
    sets = avcocktail.look_through(root)
    assert sets["video_0"]["problems"][0] == "no split asd_chunk"
    assert sets["video_0"]["problems"][1] == "gold_chunk: x has no times" and len(sets["video_0"]["problems"]) == 3
    assert sets["video_12"]["captions"] == 0 and "no captions" in sets["video_12"]["problems"][0]
    with pytest.raises(MissingDataError, match="where are the shards"):
        avcocktail.main([])

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation of shards and data folders with a recogniser that knows its lines: what is printed, scored and written."""

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from avsr_data import make_data_dir
from shard_data import sample_fields, write_tar

from espnet_av.avsr.clip_decoder import ClipDecoder
from espnet_av.avsr.eval_sets import CHUNKINGS, Catalogue
from espnet_av.avsr.evaluation import EvalOptions, Evaluator
from espnet_av.avsr.inference import Hypotheses
from espnet_av.data.data_dir import read_text
from espnet_av.data.drops import TooManyDropped
from espnet_av.report.results import read_results, results_markdown
from espnet_av.utils.errors import DataError, MissingDataError, UsageError

#: What the recogniser says to a clip of so many frames.
LINES = {20: "BIN BLUE AT", 22: "SET RED", 24: "UH HUH", 26: "PLACE"}
NOISY = "test_snr_n5_interferer_1"


class Parrot:
    """Says :data:`LINES`."""

    device = "cpu"

    def __init__(self) -> None:
        self.num_clips = 0

    def decode_batch(self, audios, videos, modality):
        self.num_clips += len(videos)
        return [Hypotheses([LINES[len(video)]], [-1.5], []) for video in videos]


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Two of the nine LRS2 sets, the second with a silent face and fewer words, and two videos of AVCocktail."""
    root = tmp_path_factory.mktemp("shards")
    test = [sample_fields("a/1", "bin, blue", 20), sample_fields("a/2", "Set red.", 22)]
    write_tar(root / "AVYT/lrs2/test-00000.tar", test)
    write_tar(root / f"AVYT/lrs2/{NOISY}-00000.tar", [test[0], sample_fields("a/3", "<unk>", 24)])
    vtt = "WEBVTT\n\n00:01.000 --> 00:02.000\nset blue\n\n00:00.000 --> 00:00.800\nBin blue at\n"
    for video in ("video_0", "video_1"):
        pieces = [(20, 0.0, 0.8), (22, 1.0, 1.88), (24, 2.0, 2.96), (26, 9.0, 10.04)]
        chunks = [
            sample_fields(f"c{frames}", "", frames, start_time=start, end_time=end) for frames, start, end in pieces
        ]
        for chunking in CHUNKINGS:
            write_tar(root / f"AVCocktail/{video}/{chunking}-00000.tar", chunks)
        write_tar(root / f"AVCocktail/labels/{video}-00000.tar", [{"label": vtt.encode(), "sample_id": video.encode()}])
    return root


@pytest.fixture
def evaluate(tmp_path):
    """Return a function that runs an evaluation and gives results, printed lines and the recogniser."""

    def run(catalogue: Catalogue, wanted: list[str], **options):
        lines: list[str] = []
        parrot = Parrot()
        with ClipDecoder(lambda device: parrot, batch_size=2) as decoder:
            options = EvalOptions(tmp_path / "output", num_resamples=50, identity={"beam_size": 3}, **options)
            return Evaluator(catalogue, decoder, options, lines.append).run(wanted), lines, parrot

    return run


def test_lrs2_sets_of_a_local_copy(shards, evaluate, tmp_path):
    found, lines, _ = evaluate(Catalogue("lrs2", shards), ["*"])
    assert lines[:3] == ["WER test: 0.2500", f"WER {NOISY}: 1.5000", "WER average: 0.8750"]
    assert lines[3].startswith("7 of 9 sets are not there: test_snr_n5_interferer_2, ")
    first, second = found["rows"]
    assert (first["wer"], first["ins"], first["n_words"]) == (0.25, 1, 4)
    assert first["ci_low"] <= 0.25 <= first["ci_high"]
    assert (second["n_silent"], second["silent_ins"]) == (1, 2)
    assert second["silent_ins_per_min"] == pytest.approx(2 / (24 / 25 / 60))
    assert found["averages"][0]["wer"] == 0.875 and len(found["absent"]) == 7
    decoded = tmp_path / "output/decode/av/test"
    assert read_text(decoded / "text") == {"a/1": "BIN BLUE AT", "a/2": "SET RED"}
    assert json.loads((decoded / "wer.json").read_text())["utterances"][0]["ref"] == "BIN BLUE"
    assert json.loads((decoded / "hypotheses.jsonl").read_text().splitlines()[0])["nbest"][0]["score"] == -1.5
    assert "HYP: BIN BLUE AT" in (decoded / "result.txt").read_text()
    text = results_markdown({**found, "bootstrap": {}}, [], "x")
    assert "mean of the sets" in text and "Not there and left out" in text and "Silent faces" in text


def test_one_set_prints_what_the_original_prints(shards, evaluate):
    found, lines, _ = evaluate(Catalogue("lrs2", shards), ["test"])
    assert lines == ["WER: 0.25"] and found["averages"] == []


def test_sessions_in_three_chunkings(shards, evaluate):
    found, lines, _ = evaluate(Catalogue("AVCocktail", shards), ["video_0", "video_1"])
    # BIN BLUE AT SET BLUE against BIN BLUE AT SET RED UH HUH; the last chunk is outside the captions
    assert lines[0] == "WER video_0 asd_chunk: 0.6000" and lines[-1] == "WER average gold_chunk: 0.6000"
    assert len(found["rows"]) == 6 and len(found["averages"]) == 3
    row = found["rows"][0]
    assert (row["n_utts"], row["n_words"], row["sub"], row["ins"], row["n_chunks"]) == (2, 5, 1, 2, 4)
    assert (row["n_silent"], row["silent_ins"]) == (2, 3)
    assert row["silent_ins_per_min"] == pytest.approx(60 * 3 / (0.96 + 1.04))
    assert found["averages"][0]["silent_ins_per_min"] == pytest.approx(row["silent_ins_per_min"])
    with pytest.raises(MissingDataError, match="no such split.*video_0"):
        evaluate(Catalogue("AVCocktail", shards), ["video_2"])


def test_what_is_done_is_kept(shards, evaluate, tmp_path):
    catalogue = Catalogue("lrs2", shards)
    first, _, parrot = evaluate(catalogue, ["test"])
    assert parrot.num_clips == 2
    again, lines, parrot = evaluate(catalogue, ["test"], resume=True)
    assert parrot.num_clips == 0 and lines == ["WER: 0.25"] and again["rows"] == first["rows"]
    path = tmp_path / "output/decode/av/test/infer.json"
    path.write_text(path.read_text().replace('"beam_size": 3', '"beam_size": 4'))
    assert evaluate(catalogue, ["test"], resume=True)[2].num_clips == 2


def test_bad_clips_are_counted_or_too_many(shards, evaluate, tmp_path):
    root = tmp_path / "root"
    good = [sample_fields(f"g/{number}", "set red", 22) for number in range(9)]
    bad = sample_fields("b/1", "set red", 22) | {"video": b"no clip"}
    write_tar(root / "lrs2/test-00000.tar", [*good, bad, good[0]])
    with pytest.raises(TooManyDropped, match="9 of 11 kept.*max_dropped_share"):
        evaluate(Catalogue("lrs2", root), ["test"])
    assert not (tmp_path / "output/decode").exists()
    found, _, _ = evaluate(Catalogue("lrs2", root), ["test"], max_dropped_share=0.5)
    assert found["rows"][0]["n_skipped"] == 2 and found["rows"][0]["n_utts"] == 9
    skipped = json.loads((tmp_path / "output/decode/av/test/skipped.json").read_text())
    assert set(skipped) == {"b/1", "g/0 (again)"}


def test_data_folders_of_a_recipe(evaluate, tmp_path, monkeypatch):
    folder = make_data_dir(tmp_path / "dump/test_seen", 2)
    for number, frames in enumerate(folder.num_frames().values()):
        monkeypatch.setitem(LINES, frames, list(read_text(folder / "text").values())[number])
    catalogue = Catalogue("data_dirs", tmp_path / "dump")
    found, lines, _ = evaluate(catalogue, ["*"])
    assert lines == ["WER: 0.0"] and found["rows"][0]["set"] == "test_seen"
    with pytest.raises(UsageError, match=r"test_other.*\*, test_seen"):
        evaluate(catalogue, ["test_other"])
    (folder / "media/s1-001.npy").unlink()
    with pytest.raises(TooManyDropped, match="s1-001"):
        evaluate(catalogue, ["*"])


def test_wrong_places_are_refused(tmp_path, evaluate):
    with pytest.raises(UsageError, match="--data_root"):
        Catalogue("data_dirs")
    with pytest.raises(MissingDataError, match="no such folder"):
        Catalogue("lrs2", tmp_path / "nowhere")
    with pytest.raises(UsageError, match="video_51"):
        Catalogue("AVCocktail").choose(["video_51"])
    assert len(Catalogue("AVCocktail").choose(["*"])) == 51
    with pytest.raises(DataError, match="no set could be evaluated|holds no shards"):
        evaluate(Catalogue("lrs2", tmp_path), ["*"])


def test_results_can_be_read_again(shards, evaluate, tmp_path):
    found, _, _ = evaluate(Catalogue("lrs2", shards), ["*"])
    (tmp_path / "results.json").write_text(json.dumps(found))
    assert [row["set"] for row in read_results(tmp_path)["rows"]] == ["test", NOISY]

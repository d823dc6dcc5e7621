# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import shutil

import numpy as np
import pytest
import soundfile
from avgen_score_sets import basis, make_data, make_samples

from espnet_av.avgen.heard import load_recogniser
from espnet_av.avgen.sample_scores import HeadScale, score_item, spoken_visemes
from espnet_av.avgen.score_files import find_basis, find_samples, load_sample, load_truth, read_truths
from espnet_av.avgen.scoring import RealSet, ScoreOptions, compare_sets, score_set
from espnet_av.avgen.upper_bound import UpperBound, resynthesise
from espnet_av.bin.avgen_score import main
from espnet_av.bin.show_results import main as show
from espnet_av.utils.errors import DataError, MissingDataError, UsageError


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Real recordings and two systems: a good one and one whose mouth trembles and is late."""
    root = tmp_path_factory.mktemp("avgen_score")
    controls = make_data(root / "dump" / "test")
    make_samples(root / "exp" / "decode" / "joint" / "test", controls)
    make_samples(root / "exp" / "decode" / "cascade" / "test", controls, noise=0.3, late=3)
    facts = {"rtf": 0.5, "nfe": 8, "steps": 8}
    (root / "exp" / "decode" / "joint" / "test" / "infer.json").write_text(json.dumps(facts))
    return root


@pytest.fixture(scope="module")
def results(experiment):
    data = str(experiment / "dump" / "test")
    main(
        ["--exp_dir", str(experiment / "exp"), "--data_dirs", data, "--vocoder", "griffinlim", "--num_resamples", "50"]
    )
    content = json.loads((experiment / "exp" / "results.json").read_text())
    return {row["system"]: row for row in content["rows"]}, content


def test_good_samples_score_well(results):
    row = results[0]["joint"]
    assert row["closure_f1"] == 1
    assert row["opening_r"] == pytest.approx(1)
    assert row["viseme_accuracy"] == 1
    assert row["lip_sync_r"] > 0.9
    assert abs(row["lip_sync_lag"]) < 0.5
    assert row["fd_face"] < 1e-6
    assert row["n_samples"] == 8 and len(row["data_digest"]) == 12
    assert row["rtf"] == 0.5


def test_bad_samples_score_worse(results):
    good, bad = results[0]["joint"], results[0]["cascade"]
    assert bad["closure_f1"] < good["closure_f1"] - 0.1
    assert bad["lip_sync_lag"] == pytest.approx(3, abs=1)
    assert bad["fd_face"] > good["fd_face"] + 0.05
    assert bad["div_sample_face"] > good["div_sample_face"]
    assert bad["jerk_face"] > good["jerk_face"]
    low, high = bad["ci"]["closure_f1"]
    assert low <= bad["closure_f1"] <= high


def test_real_recordings_and_upper_bound_stand_beside_them(results):
    real, bound = results[0]["real"], results[0]["resynthesis"]
    assert "mel_l1" not in real
    assert real["fd_face"] > 0
    assert 0 < bound["mel_l1"] < results[0]["joint"]["mel_l1"]
    assert bound["closure_f1"] == 1
    assert bound["fd_head"] < 1e-4
    assert "listening_level_db" in real
    assert real["listening_level_db"] < -10


def test_silence_while_listening_is_far_below_quiet_speech(tmp_path):
    data = tmp_path / "data"
    make_data(data, count=1)
    wave, rate = soundfile.read(data / "u0.wav")
    wave[len(wave) // 2 :, 0] = 0
    soundfile.write(data / "u0.wav", 0.02 * wave, rate, subtype="FLOAT")
    found = score_item((read_truths(data)["u0"], None), basis=None, threshold=0.15)
    assert found.ratios["listening_level_db"][0] < -45


def test_what_is_not_known_is_skipped_with_its_reason(results, experiment):
    assert "wer" not in results[0]["joint"]
    assert "--asr" in results[0]["joint"]["skipped"]["wer"]
    text = (experiment / "exp" / "RESULTS.md").read_text()
    assert "WER %: skipped" in text
    assert "| joint" in text
    assert "upper bound" in text


def test_systems_are_compared_on_the_same_recordings(results):
    (found,) = results[1]["comparisons"]
    assert (found["first"], found["second"], found["n_utts"]) == ("joint", "cascade", 4)
    closure = found["differences"]["closure_f1"]
    assert closure["difference"] == pytest.approx(
        results[0]["joint"]["closure_f1"] - results[0]["cascade"]["closure_f1"]
    )
    assert 0 < closure["ci_low"] <= closure["difference"]


def test_scores_of_each_recording_are_kept(results, experiment):
    content = json.loads((experiment / "exp" / "decode" / "joint" / "test" / "scores.json").read_text())
    assert [item["key"] for item in content["utterances"]] == ["u0", "u1", "u2", "u3"]
    curves = content["utterances"][0]["curves"]
    assert len(curves["opening"]) == len(curves["envelope"]) == len(curves["real_opening"]) == 60


def test_words_come_from_the_recogniser_and_count_all_samples(experiment, monkeypatch):
    monkeypatch.setattr("espnet_av.avgen.heard.load_recogniser", lambda source: lambda wave: "set blue")
    real = RealSet(experiment / "dump" / "test", ScoreOptions(asr="MODEL"))
    samples = next(item for item in find_samples(experiment / "exp" / "decode") if item.system == "joint")
    row = score_set(real, samples, ScoreOptions(asr="MODEL")).row
    assert row["wer"] == 0.5
    assert 0 < row["cer"] < 1
    assert tuple(row["ci"]["wer"]) == (0.5, 0.5)


def test_samples_of_another_length_are_not_compared_moment_by_moment(experiment, tmp_path):
    controls = {uid: np.zeros((40, 4)) + 0.3 for uid in ("u0", "u1", "u2", "u3")}
    options = ScoreOptions(num_resamples=0)
    real = RealSet(experiment / "dump" / "test", options)
    make_samples(tmp_path / "decode" / "test", controls, samples=1, noise=0.1)
    row = score_set(real, find_samples(tmp_path / "decode")[0], options).row
    assert "closure_f1" not in row
    assert "mel_l1" not in row
    assert "as long as" in row["skipped"]["closure_f1"]
    assert row["mcd"] > 0
    assert row["fd_face"] > 0


def test_without_a_basis_nothing_is_said_of_mouths(experiment, tmp_path):
    data = tmp_path / "test"
    make_data(data, count=2)
    (data / "face_basis.npz").unlink()
    real = RealSet(data, ScoreOptions(num_resamples=0))
    row = score_set(real, None, ScoreOptions(num_resamples=0)).row
    assert "closure_f1" not in row
    assert "face_basis" in row["skipped"]["closure_f1"]
    assert "div_kinetic_face" in row


def test_missing_samples_are_an_error_or_counted(experiment, tmp_path):
    folder = tmp_path / "decode" / "test"
    shutil.copytree(experiment / "exp" / "decode" / "joint" / "test", folder)
    shutil.rmtree(folder / "u1")
    real = RealSet(experiment / "dump" / "test", ScoreOptions())
    samples = find_samples(tmp_path / "decode")[0]
    with pytest.raises(DataError, match="1 of 4 recordings have no samples"):
        score_set(real, samples, ScoreOptions())
    row = score_set(real, samples, ScoreOptions(allow_missing=True, num_resamples=0)).row
    assert (row["n_utts"], row["n_missing"]) == (3, 1)


def test_codes_of_another_width_are_refused(experiment, tmp_path):
    folder = tmp_path / "decode" / "test" / "u0" / "0"
    folder.mkdir(parents=True)
    np.savez(folder / "motion.npz", face=np.zeros((60, 7)), fps=30)
    real = RealSet(experiment / "dump" / "test", ScoreOptions())
    options = ScoreOptions(allow_missing=True)
    with pytest.raises(DataError, match="another width"):
        score_set(real, find_samples(tmp_path / "decode")[0], options)
    (folder / "motion.npz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="motion.npz"):
        score_set(real, find_samples(tmp_path / "decode")[0], options)


def test_folders_that_are_not_named_or_not_there(experiment, tmp_path):
    with pytest.raises(UsageError, match="nothing to score"):
        main([])
    with pytest.raises(MissingDataError, match="no samples"):
        main(["--exp_dir", str(tmp_path), "--data_dirs", str(experiment / "dump" / "test")])
    with pytest.raises(MissingDataError, match="is not named"):
        main(["--exp_dir", str(experiment / "exp")])


def test_any_folders_can_be_compared(experiment, capsys):
    decode = experiment / "exp" / "decode"
    main(
        ["--gt", str(experiment / "dump" / "test"), "--pred", f"a={decode / 'joint' / 'test'}", "--num_resamples", "0"]
    )
    text = capsys.readouterr().out
    assert "| a " in text
    assert "1.000" in text


def test_the_published_layout_is_read(tmp_path):
    controls = make_data(tmp_path / "flat", count=1)
    for name in ("audio", "expression_codes", "headpose"):
        (tmp_path / "set" / name).mkdir(parents=True)
    shutil.copy(tmp_path / "flat" / "u0.wav", tmp_path / "set" / "audio" / "seg.wav")
    shutil.copy(tmp_path / "flat" / "u0.face.npy", tmp_path / "set" / "expression_codes" / "seg.npy")
    shutil.copy(tmp_path / "flat" / "u0.head.npy", tmp_path / "set" / "headpose" / "seg--headpose.npy")
    found = read_truths(tmp_path / "set")
    assert list(found) == ["seg"]
    real = RealSet(tmp_path / "set", ScoreOptions(face_basis=str(tmp_path / "flat" / "face_basis.npz")))
    opening = real.basis.controls(real.faces[0])[:, 0]
    np.testing.assert_allclose(opening, controls["u0"][:, 0], atol=1e-5)


def test_basis_tells_names_and_refuses_other_files(tmp_path):
    make_data(tmp_path / "data", count=1)
    found = find_basis(tmp_path / "data")
    assert found.column("brow") == 2
    np.testing.assert_allclose(found.matrix, basis(), atol=1e-6)
    np.savez(tmp_path / "other.npz", names=np.array(["opening"]))
    with pytest.raises(DataError, match="holds no matrix"):
        find_basis(tmp_path, tmp_path / "other.npz")
    with pytest.raises(MissingDataError):
        find_basis(tmp_path, tmp_path / "absent.npz")


def test_comparison_needs_common_recordings(experiment):
    real = RealSet(experiment / "dump" / "test", ScoreOptions(max_utts=2))
    assert list(real.truths) == ["u0", "u3"]
    scored = score_set(real, None, ScoreOptions())
    same = compare_sets(scored, scored, ScoreOptions())
    assert all(item["difference"] == 0 for item in same["differences"].values())


def test_heads_are_compared_in_deviations_and_without_signs_of_quaternions():
    rng = np.random.default_rng(0)
    head = np.concatenate([np.tile([1.0, 0, 0, 0], (50, 1)), 100 * rng.standard_normal((50, 3))], axis=1)
    head[:, 1] = 0.01 * rng.standard_normal(50)
    scale = HeadScale.of([head])
    np.testing.assert_allclose(scale(head).std(axis=0), [0, 1, 0, 0, 1, 1, 1], atol=1e-9)
    flipped = head * np.array([-1, -1, -1, -1, 1, 1, 1])
    np.testing.assert_allclose(scale(flipped), scale(head))
    with pytest.raises(DataError, match="another form"):
        scale(head[:, :4])


def test_phones_tell_the_spoken_viseme(experiment, tmp_path):
    data = tmp_path / "test"
    make_data(data, count=1)
    phones = data / "u0.json"
    phones.write_text(json.dumps({"phones": [["sil", 0.0, 0.5], ["p", 0.5, 1.0], ["i:", 1.0, 2.0]]}))
    (data / "phones.scp").write_text(f"u0 {phones}\n")
    truth = read_truths(data)["u0"]
    found = spoken_visemes(truth, np.zeros((60, 4)), 30.0)
    assert [found[frame] for frame in (0, 14, 15, 29, 30, 59)] == ["sil", "sil", "PBM", "PBM", "IY", "IY"]
    phones.write_text('{"phones": [["p", 1]]}')
    with pytest.raises(DataError, match="holds no phones"):
        spoken_visemes(truth, np.zeros((60, 4)), 30.0)


def test_segments_are_cut_out_of_long_recordings(tmp_path):
    controls = make_data(tmp_path / "test", count=1)["u0"]
    (tmp_path / "test" / "segments").write_text("u0_a u0 0.5 1.5\n")
    truths = read_truths(tmp_path / "test")
    assert list(truths) == ["u0_a"]
    take = load_truth(truths["u0_a"])
    assert (len(take.face), len(take.wav), len(take.head)) == (30, 22050, 30)
    np.testing.assert_allclose(take.face @ basis().T, controls[15:45], atol=1e-5)
    (tmp_path / "test" / "segments").write_text("u0_a u0 x\n")
    with pytest.raises(DataError, match="bad line"):
        read_truths(tmp_path / "test")


def test_samples_of_another_length_do_not_listen_when_the_recording_does(experiment, tmp_path):
    data = experiment / "dump" / "test"
    controls = {truth.uid: load_truth(truth).face @ basis().T for truth in read_truths(data).values()}
    make_samples(tmp_path / "same" / "test", controls, samples=1, noise=0.1)
    make_samples(tmp_path / "short" / "test", {uid: each[:40] for uid, each in controls.items()}, samples=1, noise=0.1)
    real = RealSet(data, ScoreOptions(num_resamples=0))
    rows = {each.system: score_set(real, each, ScoreOptions(num_resamples=0)).row for each in find_samples(tmp_path)}
    assert rows["same"]["fd_face_listening"] > 0 and "fd_face_listening" not in rows["same"]["skipped"]
    assert "fd_face_listening" not in rows["short"]
    assert "do not last as long" in rows["short"]["skipped"]["fd_face_listening"]


def test_the_upper_bound_is_made_once_and_again_for_another_vocoder(experiment, tmp_path):
    truths = read_truths(experiment / "dump" / "test")
    found = resynthesise(dict(list(truths.items())[:1]), tmp_path, "test", vocoder="griffinlim")
    path = found.folder / "u0" / "0" / "motion.npz"
    before = path.stat().st_mtime_ns
    resynthesise(dict(list(truths.items())[:1]), tmp_path, "test", vocoder="griffinlim")
    assert path.stat().st_mtime_ns == before
    resynthesise(dict(list(truths.items())[:1]), tmp_path, "test")
    assert path.stat().st_mtime_ns > before
    take = load_sample(path.parent)
    np.testing.assert_allclose(take.head, load_truth(truths["u0"]).head, atol=1e-5)


def test_the_upper_bound_is_made_again_where_a_file_changed_in_place(experiment, tmp_path):
    import torch
    from safetensors.torch import save_file

    from espnet_av.avgen.head_vae import HeadVAE

    source, vae = tmp_path / "vae.safetensors", HeadVAE()
    truths = dict(list(read_truths(shutil.copytree(experiment / "dump" / "test", tmp_path / "test")).items())[:2])
    faces = {uid: shutil.copy(truth.face, tmp_path / f"{uid}.npy") for uid, truth in truths.items()}
    truths = {uid: dataclasses.replace(truth, face=str(faces[uid])) for uid, truth in truths.items()}

    def heads():
        torch.manual_seed(0)
        folder = resynthesise(truths, tmp_path / "bound", "test", head_vae=str(source)).folder
        return [load_sample(folder / uid / "0") for uid in truths]

    save_file({**vae.state_dict(), "head_mean": torch.zeros(7), "head_std": torch.ones(7)}, source)
    first = heads()
    save_file({**vae.state_dict(), "head_mean": torch.zeros(7), "head_std": 2 * torch.ones(7)}, source)
    second = heads()
    assert all(np.abs(one.head - two.head).max() > 1e-4 for one, two in zip(first, second, strict=True))
    np.save(faces["u1"], np.load(faces["u1"]) + 1)
    third = heads()
    np.testing.assert_array_equal(third[0].face, second[0].face)
    np.testing.assert_allclose(third[1].face, second[1].face + 1, atol=1e-5)


def test_the_upper_bound_sends_poses_through_the_head_vae(tmp_path, experiment):
    import torch
    from safetensors.torch import save_file

    from espnet_av.avgen.head_vae import HeadVAE

    torch.manual_seed(0)
    state = {**HeadVAE().state_dict(), "head_mean": torch.zeros(7), "head_std": torch.ones(7)}
    save_file(state, tmp_path / "vae.safetensors")
    truth = load_truth(read_truths(experiment / "dump" / "test")["u0"])
    changed = UpperBound(head_vae=str(tmp_path / "vae.safetensors"))(truth)
    assert changed.head.shape == truth.head.shape
    assert np.isfinite(changed.head).all()
    assert not np.allclose(changed.head, truth.head, atol=1e-3)
    assert changed.wav is truth.wav


def test_a_model_of_characters_can_be_the_recogniser(monkeypatch):
    class Extractor:
        def transcribe(self, wave):
            assert wave.shape == (1, 16000)
            return ["IT ON"]

    sources = []
    monkeypatch.setattr(
        "espnet_av.avgen.tokens.TokenExtractor.from_pretrained", lambda source: sources.append(source) or Extractor()
    )
    assert load_recogniser("ctc:exp/tokens")(np.zeros(16000, dtype=np.float32)) == "IT ON"
    assert sources == ["exp/tokens"]


def test_results_are_shown_as_a_table_and_as_columns(results, experiment, capsys):
    show([str(experiment / "exp")])
    assert "closure F1" in capsys.readouterr().out
    show([str(experiment / "exp"), "--format", "tsv"])
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:3] == ["run", "set", "system"]
    assert "closure_f1" in lines[0]
    assert len(lines) == 5

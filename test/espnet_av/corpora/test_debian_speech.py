# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""debian_speech on tiny packages made here."""

import json

import numpy as np
import pytest
from debian_packages_tiny import make_deb, make_packages, ogg

from espnet_av.corpora import debian_speech
from espnet_av.corpora.debian_packages import DebPackage, fetch_packages, read_files
from espnet_av.data.data_dir import DataDir, read_scp
from espnet_av.utils.errors import DataError, EnvironmentProblem

TINY = DebPackage("tiny", "1.0", "0" * 64, 3, "none")


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return make_packages(tmp_path_factory.mktemp("debs"))


def test_all_sets(packages, tmp_path):
    words = ["--output_dir", tmp_path / "data", "--deb_dir", packages, "--any_version", "true", "--max_clips", 6]
    words += ["--join_sec", 1.5]
    assert debian_speech.main([str(word) for word in words]) == 0
    speakers = {}
    for name in debian_speech.SETS:
        data = DataDir(tmp_path / "data" / name)
        speakers[name] = set(data.read("utt2spk").values())
        if name.startswith("test"):
            assert set(data.read("reference.scp")) == set(data.read("wav.scp"))
    assert speakers["train"] == {f"tuxpaint-{code}" for code in debian_speech.LANGUAGES["train"]}
    assert speakers["valid"] == {"tuxpaint-da"} and speakers["test_fullband"] == {"tuxpaint-fr"}
    assert speakers["test_track2_noisy"] == {"asterisk-allison"}
    assert speakers["test_fillets"] <= {f"fillets-{code}-{fish}" for code in ("cs", "nl") for fish in ("small", "big")}
    sounds = [set(read_scp(tmp_path / "data" / f"noise{suffix}.scp")) for suffix in ("", "_val", "_test")]
    assert all(sounds) and not (sounds[0] & sounds[1] or sounds[0] & sounds[2] or sounds[1] & sounds[2])
    record = json.loads((tmp_path / "data" / "corpus" / "debian_speech.json").read_text())
    assert record["unreadable"]["num_dropped"] == 0
    train = DataDir(tmp_path / "data" / "train")
    assert min(train.num_samples().values()) > 24000  # short clips are joined
    before = train.path.stat().st_mtime_ns
    assert debian_speech.main([str(word) for word in words]) == 0  # nothing to do
    assert train.path.stat().st_mtime_ns == before


def test_g722_is_decoded(tmp_path):
    from debian_packages_tiny import g722

    content = g722(2.5)
    clip = debian_speech.Clip("a", "s", "a.g722", content, *debian_speech.read_header(content, "a.g722"))
    wave = debian_speech.decode(clip)
    assert clip.source_rate == 16000 and abs(len(wave) - 2.5 * 24000) < 1000 and 0.1 < np.abs(wave).max() < 0.6


def test_members_are_read_by_name_only(tmp_path):
    deb = make_deb(tmp_path / "a_1_all.deb", {"usr/x.ogg": b"abc", "../../evil.ogg": b"bad", "usr/y.txt": b"t"})
    assert dict(read_files(deb, r"usr/.*\.ogg")) == {"usr/x.ogg": b"abc"}
    for content in (b"!<arch>\n", b"nothing", deb.read_bytes()[:200]):
        (tmp_path / "bad.deb").write_bytes(content)
        with pytest.raises(DataError):
            list(read_files(tmp_path / "bad.deb", ".*"))


def test_packages_that_cannot_be_had(tmp_path, monkeypatch):
    with pytest.raises(EnvironmentProblem, match="lacks packages"):
        fetch_packages([TINY], tmp_path, deb_dir=tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match="no apt-get on this machine"):
        fetch_packages([TINY], tmp_path)
    script = tmp_path / "apt-get"
    script.write_text("#!/bin/sh\necho 'E: Failed to fetch http://x  Could not resolve host' >&2\nexit 100\n")
    script.chmod(0o755)
    with pytest.raises(EnvironmentProblem, match="cannot download tiny=1.0 .*resolve host.*copy to"):
        fetch_packages([TINY], tmp_path)
    script.write_text("#!/bin/sh\n: > tiny_1.0_all.deb\n")
    with pytest.raises(EnvironmentProblem, match="is not the expected file"):
        fetch_packages([TINY], tmp_path)
    assert not list(tmp_path.glob("*.deb"))
    assert fetch_packages([TINY], tmp_path, any_version=True) == {"tiny": tmp_path / "tiny_1.0_all.deb"}
    with pytest.raises(EnvironmentProblem):  # in the cache, but not the file that the recipe names
        fetch_packages([TINY], tmp_path, deb_dir=tmp_path)


def test_damaged_sound_is_counted(packages, tmp_path, monkeypatch):
    reader = debian_speech.Reader({"tuxpaint-stamps-default": tmp_path / "t.deb"})
    files = {
        "usr/share/tuxpaint/stamps/a_desc_fr.ogg": b"no sound",
        "usr/share/tuxpaint/stamps/b_desc_fr.ogg": ogg(1.0, 3),
    }
    files["usr/share/tuxpaint/stamps/c_desc_fr.ogg"] = files["usr/share/tuxpaint/stamps/b_desc_fr.ogg"]
    make_deb(tmp_path / "t.deb", files)
    speech, effects = reader.tuxpaint()
    assert [clip.name for clip in speech["fr"]] == ["tuxpaint-b-desc-fr"] and not effects  # equal files once
    assert list(reader.bad) == ["usr/share/tuxpaint/stamps/a_desc_fr.ogg"]


def test_versions_are_those_of_the_recipe():
    assert [package.file_name.split("_")[0] for package in debian_speech.PACKAGES][0] == "tuxpaint-stamps-default"
    assert all(len(package.sha256) == 64 and package.num_bytes > 10**7 for package in debian_speech.PACKAGES)

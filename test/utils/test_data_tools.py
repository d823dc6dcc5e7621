# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The data folder programs of utils/."""

import json
import subprocess
from pathlib import Path

import pytest

TOOLS = """split_scp filter_scp apply_map utt2spk_to_spk2utt spk2utt_to_utt2spk validate_data_dir fix_data_dir
copy_data_dir combine_data subset_data_dir""".split()
STREAMS = "wav.scp speech sound\nmouth.scp video video_npy\ntext text text\n"


@pytest.fixture()
def tool(tmp_path, repo_root):
    def call(name: str, *words: object, **kwargs) -> subprocess.CompletedProcess:
        command = [repo_root / "utils" / name, *map(str, words)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False, **kwargs)

    call.folder = tmp_path
    return call


def make(folder: Path, keys=("s1-a", "s1-b", "s2-a", "s2-b"), **changes) -> Path:
    """Write a valid data folder; a change replaces a file's text, or leaves it out when None."""
    folder.mkdir(parents=True)
    media = folder.parent / "media"
    media.mkdir(exist_ok=True)
    for key in keys:
        (media / key).touch()
    texts = {
        "wav.scp": "".join(f"{key} {media / key}\n" for key in keys),
        "mouth.scp": "".join(f"{key} {media / key}\n" for key in keys),
        "text": "".join(f"{key} words of {key}\n" for key in keys),
        "utt2spk": "".join(f"{key} {key.split('-')[0]}\n" for key in keys),
        "utt2num_frames": "".join(f"{key} {10 * (index + 1)}\n" for index, key in enumerate(keys)),
        "spk2age": "".join(f"{speaker} 30\n" for speaker in dict.fromkeys(key.split("-")[0] for key in keys)),
        "streams": STREAMS,
        "data.json": '{"sample_rate": 16000, "fps": 25}\n',
    }
    speakers = {}
    for key in keys:
        speakers.setdefault(key.split("-")[0], []).append(key)
    texts["spk2utt"] = "".join(f"{speaker} {' '.join(own)}\n" for speaker, own in speakers.items())
    for name, text in {**texts, **{name.replace("__", "."): text for name, text in changes.items()}}.items():
        if text is not None:
            (folder / name).write_text(text)
    return folder


def keys_of(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", TOOLS)
def test_help_works_without_the_environment(name, tool):
    result = tool(name, "--help", env={"PATH": "/usr/local/bin:/usr/bin:/bin"})
    assert result.returncode == 0
    assert "usage: " in result.stdout


@pytest.mark.parametrize("name", TOOLS)
def test_wrong_option_is_a_usage_error(name, tool):
    assert tool(name, "--no-such-option", "a", "b").returncode == 2


# ------------------------------------------------------------------------------------------------ lists


def write_list(folder: Path, count: int = 10) -> Path:
    path = folder / "in.scp"
    path.write_text("".join(f"u{index:02d} /x/{index}\n" for index in range(count)))
    return path


def test_split_sizes(tool):
    write_list(tool.folder)
    assert tool("split_scp", "in.scp", "o1", "o2", "o3").returncode == 0
    parts = [(tool.folder / name).read_text() for name in ("o1", "o2", "o3")]
    assert [len(part.splitlines()) for part in parts] == [4, 3, 3]
    assert "".join(parts) == (tool.folder / "in.scp").read_text()


def test_split_one_part(tool):
    write_list(tool.folder)
    assert keys_line(tool("split_scp", "-j", 3, 0, "in.scp").stdout) == "u00 u01 u02 u03"
    assert keys_line(tool("split_scp", "-j", 3, 3, "--one-based", "in.scp").stdout) == "u07 u08 u09"
    assert tool("split_scp", "-j", 3, 3, "in.scp").returncode == 2
    assert tool("split_scp", "-j", 3, 0, "--one_based", "in.scp").returncode == 2


def keys_line(text: str) -> str:
    return " ".join(line.split()[0] for line in text.splitlines())


def test_split_more_parts_than_lines(tool):
    write_list(tool.folder, 2)
    result = tool("split_scp", "in.scp", "a", "b", "c")
    assert result.returncode == 1
    assert "3 parts were asked for and there are 2 lines" in result.stderr
    assert not (tool.folder / "a").exists()


def test_split_keeps_speakers_whole(tool):
    write_list(tool.folder, 6)
    (tool.folder / "utt2spk").write_text("".join(f"u0{index} {'abbbcc'[index]}\n" for index in range(6)))
    assert tool("split_scp", "--utt2spk", "utt2spk", "in.scp", "o1", "o2").returncode == 0
    assert keys_of(tool.folder / "o1") == ["u00", "u01", "u02", "u03"]
    assert keys_of(tool.folder / "o2") == ["u04", "u05"]
    assert tool("split_scp", "--utt2spk=utt2spk", "in.scp", "a", "b", "c", "d").returncode == 1


def test_split_by_weight(tool):
    write_list(tool.folder, 6)
    (tool.folder / "lengths").write_text(
        "".join(f"u0{index} {(100, 10, 10, 30, 30, 20)[index]}\n" for index in range(6))
    )
    assert tool("split_scp", "--by_weight", "lengths", "in.scp", "o1", "o2").returncode == 0
    assert keys_of(tool.folder / "o1") == ["u00"]
    assert tool("split_scp", "--by-weight", "lengths", "in.scp", *"abcdef").returncode == 0
    assert [keys_of(tool.folder / name) for name in "abcdef"] == [[f"u0{index}"] for index in range(6)]


def test_filter(tool):
    write_list(tool.folder, 4)
    (tool.folder / "ids").write_text("u03 x\nu01\n")
    assert keys_line(tool("filter_scp", "ids", "in.scp").stdout) == "u01 u03"
    assert keys_line(tool("filter_scp", "--exclude", "ids", "in.scp").stdout) == "u00 u02"
    assert tool("filter_scp", "-f", 2, "ids", input="a u01\nb u09\n").stdout == "a u01\n"
    (tool.folder / "ids").write_text("nobody\n")
    nothing = tool("filter_scp", "ids", "in.scp")
    assert (nothing.returncode, nothing.stdout) == (0, "")


def test_apply_map(tool):
    (tool.folder / "map").write_text("a ALPHA\nb BE TA\n")
    assert tool("apply_map", "map", input="a b\n").stdout == "ALPHA BE TA\n"
    assert tool("apply_map", "-f", 2, "map", input="a a x\n").stdout == "a ALPHA x\n"
    assert tool("apply_map", "-f", "2-3", "map", input="a a b\n").stdout == "a ALPHA BE TA\n"
    unknown = tool("apply_map", "map", input="a\nq\n")
    assert unknown.returncode == 1
    assert "standard input:2: 'q' is not in map" in unknown.stderr
    assert tool("apply_map", "--permissive", "map", input="q a\n").stdout == "q ALPHA\n"


def test_speaker_maps_are_inverse(tool):
    text = "u3 b\nu1 a\nu2 b\n"
    speakers = tool("utt2spk_to_spk2utt", input=text).stdout
    assert speakers == "b u3 u2\na u1\n"
    assert tool("spk2utt_to_utt2spk", input=speakers).stdout == "u3 b\nu2 b\nu1 a\n"


@pytest.mark.parametrize("text", ["u1\n", "u1 a b\n", "u1 a\nu1 b\n"])
def test_malformed_utt2spk(tool, text):
    result = tool("utt2spk_to_spk2utt", input=text)
    assert result.returncode == 1
    assert "line " in result.stderr


@pytest.mark.parametrize("text", ["a\n", "a u1\nb u1\n"])
def test_malformed_spk2utt(tool, text):
    assert tool("spk2utt_to_utt2spk", input=text).returncode == 1


# ------------------------------------------------------------------------------------------------ validate


def test_valid_folder(tool):
    make(tool.folder / "d")
    result = tool("validate_data_dir", "d")
    assert result.returncode == 0
    assert "d is valid: 4 utterances" in result.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": None}, "declares text, which does not exist"),
        ({"text": None, "streams": None}, "no file d/text"),
        ({"wav__scp": None, "streams": None}, "no file d/wav.scp"),
        ({"utt2spk": None}, "no file d/utt2spk"),
        ({"text": ""}, "text is empty"),
        ({"text": "s1-a x\ns1-b x\ns2-a x\n"}, "d/text lacks s2-b, which utt2spk has; fix: utils/fix_data_dir d"),
        ({"text": "s1-b x\ns1-a x\ns2-a x\ns2-b x\n"}, "d/text is not sorted (LC_ALL=C) at 's1-a'"),
        ({"text": "s1-a x\ns1-a x\ns1-b x\ns2-a x\ns2-b x\n"}, "d/text:2: 's1-a' comes twice"),
        ({"text": "s1-a x\ns1-b\ns2-a x\ns2-b x\n"}, "'s1-b' has no words"),
        ({"text": "s1-a x\n\ns2-a x\n"}, "d/text:2: empty line"),
        ({"text": "s1-a x\x07\ns1-b x\ns2-a x\ns2-b x\n"}, "non-printable"),
        ({"mouth__scp": "s1-a /x\n"}, "d/mouth.scp lacks s1-b, s2-a, s2-b"),
        ({"wav__scp": "s1-a /no\ns1-b /no\ns2-a /no\ns2-b /no\n"}, "names a file that does not exist: /no"),
        ({"wav__scp": "s1-a sox x |\ns1-b /\ns2-a /\ns2-b /\n"}, "is a command"),
        ({"utt2num_frames": "s1-a\n"}, "'s1-a' has no value"),
        ({"utt2lang": "s1-a en\nzz en\n"}, "utterances that utt2spk does not have: zz"),
        ({"spk2utt": "s1 s1-a s1-b\ns2 s2-a\n"}, "spk2utt does not agree"),
        ({"spk2utt": None}, "no file d/spk2utt"),
        ({"streams": "mouth.scp video\n"}, "d/streams:1: expected"),
        ({"utt2spk": "s1-a s2\ns1-b s2\ns2-a s1\ns2-b s1\n", "spk2utt": "s1 s2-a s2-b\ns2 s1-a s1-b\n"}, "by speaker"),
    ],
)
def test_faults(tool, changes, message):
    make(tool.folder / "d", **changes)
    result = tool("validate_data_dir", "d")
    assert result.returncode == 1
    assert message in result.stderr


def test_options_switch_checks_off(tool):
    make(
        tool.folder / "d",
        text=None,
        streams=None,
        wav__scp=None,
        spk2utt="s2 s1-a s1-b\ns1 s2-a s2-b\n",
        utt2spk="s1-a s2\ns1-b s2\ns2-a s1\ns2-b s1\n",
        mouth__scp="s1-a /no\ns1-b /no\ns2-a /no\ns2-b /no\n",
    )
    options = ["--no-feats", "--no-text", "--no_wav", "--no-spk-sort", "--no-media", "--non-print"]
    assert tool("validate_data_dir", *options, "d").returncode == 0


def test_single_speaker_warns_only(tool):
    make(tool.folder / "d", keys=("s1-a", "s1-b"))
    result = tool("validate_data_dir", "d")
    assert result.returncode == 0
    assert "one speaker only" in result.stderr


def test_missing_folder(tool):
    result = tool("validate_data_dir", "nowhere")
    assert result.returncode == 1
    assert "no folder nowhere" in result.stderr


def test_segments(tool):
    changes = {
        "segments": "s1-a r1 0 1\ns1-b r1 1 2\ns2-a r2 0 1\ns2-b r2 1 2\n",
        "wav__scp": "r1 /\nr2 /\n",
        "mouth__scp": "s1-a /\ns1-b /\ns2-a /\ns2-b /\n",
    }
    make(tool.folder / "d", **changes)
    assert tool("validate_data_dir", "d").returncode == 0
    assert tool("subset_data_dir", "--first", "d", 2, "e").returncode == 0
    assert (tool.folder / "e" / "wav.scp").read_text() == "r1 /\n"
    (tool.folder / "d" / "wav.scp").write_text("r2 /\n")
    result = tool("fix_data_dir", "d")
    assert "dropped 2: recording not in wav.scp: s1-a, s1-b" in result.stderr
    assert tool("validate_data_dir", "d").returncode == 0


# ------------------------------------------------------------------------------------------------ fix


@pytest.mark.parametrize("name", ["mouth.scp", "wav.scp", "text", "utt2num_frames"])
def test_missing_entry_drops_the_utterance_everywhere(tool, name):
    folder = make(tool.folder / "d")
    path = folder / name
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if not line.startswith("s1-b ")))
    result = tool("fix_data_dir", "d")
    assert result.returncode == 0
    assert "kept 3 of 4 utterances" in result.stderr
    assert f"dropped 1: not in {name}: s1-b" in result.stderr
    for other in ("wav.scp", "mouth.scp", "text", "utt2spk", "utt2num_frames"):
        assert keys_of(folder / other) == ["s1-a", "s2-a", "s2-b"]
    assert (folder / "spk2utt").read_text() == "s1 s1-a\ns2 s2-a s2-b\n"
    assert tool("validate_data_dir", "d").returncode == 0


def test_missing_video_entry(tool):
    folder = make(
        tool.folder / "d",
        streams="wav.scp speech sound\nvideo.scp face video_rgb\ntext text text\n",
        video__scp="s1-a /\ns1-b /\ns2-b /\n",
    )
    assert "not in video.scp: s2-a" in tool("fix_data_dir", "d").stderr
    assert keys_of(folder / "wav.scp") == ["s1-a", "s1-b", "s2-b"]


def test_any_declared_stream_counts(tool):
    folder = make(tool.folder / "d", streams=STREAMS + "enroll.scp enroll sound\n", enroll__scp="s1-a /\ns2-b /\n")
    assert "not in enroll.scp: s1-b, s2-a" in tool("fix_data_dir", "d").stderr
    assert keys_of(folder / "text") == ["s1-a", "s2-b"]


def test_sorts_removes_equal_lines_and_keeps_originals(tool):
    text = "s2-b x\ns1-a x\ns1-a x\ns2-a x\ns1-b x\n"
    folder = make(tool.folder / "d", text=text)
    assert tool("fix_data_dir", "d").returncode == 0
    assert keys_of(folder / "text") == ["s1-a", "s1-b", "s2-a", "s2-b"]
    assert (folder / ".backup" / "text").read_text() == text


def test_duplicates_that_differ_are_an_error(tool):
    text = "s1-a x\ns1-a y\ns1-b x\ns2-a x\ns2-b x\n"
    folder = make(tool.folder / "d", text=text)
    result = tool("fix_data_dir", "d")
    assert result.returncode == 1
    assert "d/text:2: 's1-a' comes twice with different values: 'x' and 'y'" in result.stderr
    assert (folder / "text").read_text() == text


def test_empty_transcript_is_dropped_with_the_reason(tool):
    make(tool.folder / "d", text="s1-a\ns1-b x\ns2-a x\ns2-b x\n")
    assert "dropped 1: no value in text: s1-a" in tool("fix_data_dir", "d").stderr


def test_absent_media_files(tool):
    make(tool.folder / "d")
    (tool.folder / "media" / "s2-a").unlink()
    assert "file of wav.scp does not exist: s2-a" in tool("fix_data_dir", "--check_files", "d").stderr


def test_nothing_in_common_leaves_the_folder(tool):
    folder = make(tool.folder / "d", text="zz x\n")
    assert tool("fix_data_dir", "d").returncode == 1
    assert len(keys_of(folder / "wav.scp")) == 4


def test_extra_file_counts(tool):
    make(tool.folder / "d", utt2category="s1-a x\ns2-a x\n")
    assert "kept 2 of 4" in tool("fix_data_dir", "--utt_extra_files", "utt2category", "d").stderr


# ------------------------------------------------------------------------------------------------ copy, combine, subset


def test_copy_with_prefixes(tool):
    make(tool.folder / "d")
    result = tool("copy_data_dir", "--utt-prefix", "x-", "--spk_prefix", "x-", "--utt_suffix=-y", "d", "e")
    assert result.returncode == 0, result.stderr
    folder = tool.folder / "e"
    for name in ("wav.scp", "mouth.scp", "text", "utt2spk", "utt2num_frames"):
        assert keys_of(folder / name)[0] == "x-s1-a-y"
    assert (folder / "utt2spk").read_text().split()[1] == "x-s1"
    assert keys_of(folder / "spk2age") == ["x-s1", "x-s2"]
    assert (folder / "streams").read_text() == STREAMS


def test_copy_onto_itself(tool):
    make(tool.folder / "d")
    assert tool("copy_data_dir", "d", "./d").returncode == 1


def test_output_folder_that_is_no_data_folder_is_not_removed(tool):
    make(tool.folder / "d")
    (tool.folder / "home").mkdir()
    (tool.folder / "home" / "thesis.txt").touch()
    result = tool("copy_data_dir", "d", "home")
    assert result.returncode == 1
    assert (tool.folder / "home" / "thesis.txt").exists()


def test_combine(tool):
    make(tool.folder / "d", spk2age=None)
    make(tool.folder / "e", keys=("s3-a", "s3-b"), utt2num_frames=None)
    result = tool("combine_data", "all", "e", "d")
    assert result.returncode == 0, result.stderr
    assert keys_of(tool.folder / "all" / "text") == ["s1-a", "s1-b", "s2-a", "s2-b", "s3-a", "s3-b"]
    assert keys_of(tool.folder / "all" / "spk2utt") == ["s1", "s2", "s3"]
    assert "utt2num_frames is left out" in result.stderr
    assert not (tool.folder / "all" / "utt2num_frames").exists()
    assert tool("validate_data_dir", "all").returncode == 0


def test_combine_names_all_licences(tool):
    make(tool.folder / "d", data__json='{"fps": 25, "licence": "CC0"}')
    make(tool.folder / "e", keys=("s3-a",), data__json='{"licence": "CC-BY-NC-4.0"}')
    make(tool.folder / "f", keys=("s4-a",), data__json=None)
    for sources, licence in (("de", "CC0 and CC-BY-NC-4.0"), ("df", "CC0 and not stated"), ("d", "CC0")):
        assert tool("combine_data", f"all_{sources}", *sources).returncode == 0
        told = json.loads((tool.folder / f"all_{sources}" / "data.json").read_text())
        assert told == {"fps": 25, "licence": licence}


def test_combine_refuses_the_same_utterance_twice(tool):
    make(tool.folder / "d")
    result = tool("combine_data", "all", "d", "d")
    assert result.returncode == 1
    assert "'s1-a' is in d and in d" in result.stderr
    assert not (tool.folder / "all").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"streams": "text text text\n"}, "streams differ"),
        ({"data__json": '{"fps": 30}'}, "fps is 25 in d and 30 in e"),
        ({"utt2spk": None}, "no utt2spk"),
    ],
)
def test_combine_refuses_different_data(tool, changes, message):
    make(tool.folder / "d")
    make(tool.folder / "e", keys=("s3-a",), **changes)
    result = tool("combine_data", "all", "d", "e")
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--first", "d", 2], ["s1-a", "s1-b"]),
        (["--last", "d", 1], ["s2-b"]),
        (["--shortest", "d", 2], ["s1-a", "s1-b"]),
    ],
)
def test_subset_of_a_kind(tool, words, expected):
    make(tool.folder / "d")
    assert tool("subset_data_dir", *words, "e").returncode == 0
    for name in ("wav.scp", "mouth.scp", "text", "utt2spk"):
        assert keys_of(tool.folder / "e" / name) == expected
    assert (tool.folder / "e" / "streams").read_text() == STREAMS
    assert tool("validate_data_dir", "e").returncode == 0


def test_random_subset_follows_the_seed(tool):
    make(tool.folder / "d", keys=tuple(f"s{index // 5}-{index:02d}" for index in range(40)))
    for target, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert tool("subset_data_dir", "--seed", seed, "d", 10, target).returncode == 0
    texts = [(tool.folder / name / "text").read_text() for name in "abc"]
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0].splitlines()) == 10


def test_subset_by_speakers(tool):
    make(tool.folder / "d")
    tool("subset_data_dir", "--speakers", "d", 1, "whole")
    assert len(keys_of(tool.folder / "whole" / "text")) == 2
    assert keys_of(tool.folder / "whole" / "spk2age") == keys_of(tool.folder / "whole" / "spk2utt")
    tool("subset_data_dir", "--per-spk", "d", 1, "each")
    assert sorted(key.split("-")[0] for key in keys_of(tool.folder / "each" / "text")) == ["s1", "s2"]


def test_subset_by_list(tool):
    make(tool.folder / "d")
    (tool.folder / "utts").write_text("s2-a\ns1-a\n")
    (tool.folder / "spks").write_text("s2\n")
    assert tool("subset_data_dir", "--utt-list", "utts", "d", "e").returncode == 0
    assert keys_of(tool.folder / "e" / "text") == ["s1-a", "s2-a"]
    assert tool("subset_data_dir", "--spk_list=spks", "d", "f").returncode == 0
    assert keys_of(tool.folder / "f" / "text") == ["s2-a", "s2-b"]
    (tool.folder / "utts").write_text("s2-a\nnobody\n")
    assert "'nobody' is not in d" in tool("subset_data_dir", "--utt-list", "utts", "d", "g").stderr


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["d", 5, "e"], 1),
        (["d", 0, "e"], 2),
        (["d", "e"], 2),
        (["--first", "--last", "d", 1, "e"], 2),
        (["d", 1, "d"], 1),
    ],
)
def test_subset_that_cannot_be(tool, words, code):
    make(tool.folder / "d")
    assert tool("subset_data_dir", *words).returncode == code
    assert len(keys_of(tool.folder / "d" / "text")) == 4

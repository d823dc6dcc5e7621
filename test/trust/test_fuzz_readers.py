# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Whatever a file holds: readers give a result or an error of the project, soon and in little memory."""

import gzip
import importlib.util
import io
import json
import os
import struct
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import pytest
from fuzz_inputs import Reader, assert_read_or_refused, bitstream_header, contents, gzipped_zeros, limits
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "espnet_av"))
from codec_graphs import make_graphs

from espnet_av.activesep.episodes import read_episodes
from espnet_av.avsr.tokenizer import SentencePieceTokenizer, load_tokenizer
from espnet_av.avsr.vtt import parse_vtt, read_vtt
from espnet_av.bin.tokens import load_tokens_dir
from espnet_av.codec import bitstream
from espnet_av.codec.onnx_export import OnnxFrames
from espnet_av.corpora.grid import read_align
from espnet_av.data.audio_format import AudioItem, FormatRules, format_item, read_items
from espnet_av.data.data_dir import DataDir, read_ints, read_scp
from espnet_av.data.shard_readers import read_rows
from espnet_av.utils.config import load_yaml
from espnet_av.utils.errors import EspnetAVError

FAST, SLOW = 60, 4000
SEED = int(os.environ.get("FUZZ_SEED", "0"))  # FUZZ_SEED=1 make test-slow TEST_OPTIONS='-k many_contents'


def eav_file():
    """Return a whole stream of three blocks."""
    header = bitstream.StreamHeader("00" * 16, 24000, 240, 10, 2, 4)
    stream = io.BytesIO()
    writer = bitstream.CodeWriter(stream, header)
    writer.write(np.arange(20).reshape(2, 10))
    writer.close()
    return stream.getvalue()


def read_stream(path):
    """Read a stream in every way."""
    for options in ({}, {"allow_truncated": True}, {"num_quantizers": 1}, {"first_frame": 5}, {"num_frames": 2}):
        try:
            read = bitstream.read_file(path, **options)
        except EspnetAVError:
            if not options:
                with open(path, "rb") as stream:
                    list(bitstream.CodeReader(stream))
            raise
        assert read.codes.shape[1] == len(read.damaged)


def read_folder(path):
    """Read a data folder whose one file is given; the others are right."""
    data = DataDir(path.parent)
    files = {
        "wav.scp": "a a.wav\nb b.wav\n",
        "segments": "u a 0 1\n",
        "streams": "wav.scp speech sound\n",
        "utt2num_frames": "a 1\nb 2\n",
        "data.json": "{}",
    }
    for name, content in files.items():
        if name != path.name:
            (path.parent / name).write_text(content)
    steps = (lambda: data.keys, lambda: data.streams, lambda: data.meta, data.num_frames, lambda: read_items(data))
    problems = []
    for step in steps:
        try:
            step()
        except EspnetAVError as error:
            problems.append(error)
    if problems:
        raise problems[0]


def read_units(path):
    """Read a published list of units; the model beside it is no model."""
    SentencePieceTokenizer.from_units(path, path)


def read_tokens(path):
    """Read a folder of tokens whose description is given."""
    (path.parent / "tokens.txt").write_text("<blank>\n<unk>\na\n<eos>\n")
    return load_tokens_dir(path.parent)


def read_training_options(path):
    """Read the configuration of a training as its command line does."""
    from espnet_av.tasks.avsr import AVSRTask

    return AVSRTask.get_parser().parse_args(["--config", str(path), "--output_dir", "nowhere"])


def read_shard(path):
    """Read a shard, all its samples."""
    with open(path, "rb") as stream:
        for _ in read_rows(stream, path.name):
            pass


def table_file(kind, compression=None):
    """Return a small table as a Parquet file, or as an Arrow file in one of its forms."""
    from pyarrow import Table, ipc, parquet

    rows = [{"__key__": f"k{n}", "video": b"mp4" * n, "label": "words", "length": n, "x": [0.5] * n} for n in range(5)]
    table, stream = Table.from_pylist(rows), io.BytesIO()
    if kind == "parquet":
        parquet.write_table(table, stream, compression=compression or "none", row_group_size=3)
    else:
        options = ipc.IpcWriteOptions(compression=compression)
        with (ipc.new_stream if kind == "stream" else ipc.new_file)(stream, table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=3)
    return stream.getvalue()


def read_onnx(path):
    """Read the graph of a codec, and let the runtime read what is taken."""
    OnnxFrames(path)


def onnx_files():
    """Return the graphs of a small codec."""
    with tempfile.TemporaryDirectory() as folder:
        return tuple(path.read_bytes() for path in make_graphs(Path(folder)).values())


def shard_tar():
    """Return a shard of two samples."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name in ("0.video", "0.label", "1.video", "1.label"):
            entry = tarfile.TarInfo(name)
            entry.size = 5
            archive.addfile(entry, io.BytesIO(b"bytes"))
    return stream.getvalue()


EPISODE = {
    "episode_id": "1",
    "scene_id": "house/house.glb",
    "start_position": [0, 0, 0],
    "start_rotation": [0, 0, 0, 1],
    "info": [{"sound": "a", "start_idx": 3, "target_label": 1, "num_action": 20}],
    "goals": [{"position": [1, 0, 1], "radius": 1e-05}],
}
EPISODES = json.dumps({"episodes": [EPISODE], "content_scenes_path": "{data_path}/content/{scene}.json.gz"}).encode()
CONFIG = b"model: avsr\nmodel_conf: &m {ctc_weight: 0.5, encoder_conf: {dim: 16, planes: [1, 2]}}\nbatch_size: 2\n"
CONFIG += b"optim: adamw\noptim_conf:\n  <<: {lr: 1.0e-3}\n  when: 2024-01-01\n  more: *m\nbest: [[valid, loss, min]]\n"
VTT = b"WEBVTT - x\n\nNOTE no\n\n1\n00:00:01.000 --> 00:02.500 align:start\n<v Ann>Hello, <b>all</b> &amp; <unk>\n\n"
JSON_WORDS = (b"[]", b"{}", b"true", b'"x"', b"1.5", b"-5", b"Infinity", b'"content_scenes_path": 3,', b'"a": 1,')
SCP_WORDS = (b"a ", b"\na x.wav\n", b" |", b"0.5", b"-3", b"1,80")

READERS = [
    Reader("eav", read_stream, "x.eav", (eav_file(), eav_file()[:56])),
    Reader("scp", read_scp, "wav.scp", (b"a /x/a.wav\nb /x/b.wav\n",), SCP_WORDS),
    Reader("ints", read_ints, "utt2num", (b"a 12\nb 100,80\n",), SCP_WORDS),
    Reader("folder_wav", read_folder, "wav.scp", (b"a /x/a.wav\nb /x/b.wav\n",), SCP_WORDS),
    Reader("folder_segments", read_folder, "segments", (b"u a 0 1.5\nv b 1 2\n",), SCP_WORDS),
    Reader(
        "folder_streams", read_folder, "streams", (b"wav.scp speech sound\nmouth.scp video video_npy\n",), SCP_WORDS
    ),
    Reader("folder_meta", read_folder, "data.json", (b'{"fps": 25, "sample_rate": 16000}',), JSON_WORDS),
    Reader("vtt", read_vtt, "x.vtt", (VTT,), (b"00:00:01.000 --> 00:00:02.000\n", b"<c>", b"</v>", b":")),
    Reader("align", read_align, "x.align", (b"0 2000 sil\n2000 9000 bin\n9000 16000 sp\n",), (b"5 6 a\n", b"7")),
    Reader("episodes", read_episodes, "val.json", (EPISODES,), JSON_WORDS),
    Reader("episodes_gz", read_episodes, "val.json.gz", (gzip.compress(EPISODES, mtime=0),)),
    Reader("words", lambda path: load_tokenizer("word", path), "t.txt", (b"<blank>\n<unk>\na\nb\n<eos>\n",)),
    Reader("chars", lambda path: load_tokenizer("char", path), "t.txt", (b"<blank>\n<unk>\n<space>\nb\n<eos>\n",)),
    Reader("units", read_units, "units.txt", (b"<unk> 1\n\xe2\x96\x81a 2\nb 3\n",)),
    Reader("tokens", read_tokens, "tokens.json", (b'{"token_type": "char", "num_tokens": 4}',), JSON_WORDS),
    Reader("yaml", load_yaml, "x.yaml", (CONFIG,), (b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"? ")),
]
READERS.append(Reader("tar", read_shard, "x.tar", (shard_tar(),)))
if importlib.util.find_spec("pyarrow") is not None:
    READERS += [
        Reader("parquet", read_shard, "x.parquet", (table_file("parquet"), table_file("parquet", "zstd"))),
        Reader("arrow", read_shard, "x.arrow", (table_file("stream"), table_file("stream", "lz4"))),
        Reader("arrow_file", read_shard, "x.arrow", (table_file("file"), table_file("file", "zstd"))),
    ]
    FOUND_TABLES = [table_file("stream").replace(b"label", name) for name in (b"lab\xff\xfe", b"video")]
else:
    FOUND_TABLES = []
if all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
    READERS.append(Reader("onnx", read_onnx, "x.onnx", onnx_files(), (b"Loop", b"/etc/passwd", b"batch")))
TRAINING = Reader("training", read_training_options, "x.yaml", (CONFIG.split(b"optim_conf")[0],), (b"&a ", b"*a"), True)

#: What has broken a reader, or could: reader -> contents.
FOUND = {
    "eav": [
        bitstream_header(1, 1, 16, 255, 255, 2**64 - 2, 2**64 - 2),
        bitstream_header(2**32 - 1, 2**32 - 1, 1, 1, 1, 0, 0),
        bitstream_header(1, 1, 1, 1, 1, 2**63, 2**63) + bytes(500),
        bitstream_header(1, 1, 1, 1, 255, 0, 0, flags=1),
        bitstream_header(1, 1, 1, 1, 255, 2**40, 2**40) + b"\x01" * 600,
        b"",
        b"EAVC",
    ],
    "ints": [b"a " + b"9" * 5000, "a ²\n".encode()],
    "folder_segments": [b"u a 0 inf\n", b"u a nan 1\n", b"u a 0 1e308\n", b"u a 1\n", b"u a 0 " + b"9" * 400],
    "folder_streams": [b"", b"x", b"9" * 400 + b" x y", b"../../x speech sound\n", b"9" * 6000 + b" x text\n"],
    "folder_meta": [b"[" * 100_000, b'{"a": ' * 100_000, b"\xff", b"9" * 5000],
    "vtt": [
        b"WEBVTT\n\n" + b"9" * 400 + b":00:01.000 --> 00:02.000\nx\n",
        b"WEBVTT\n\n" + b"0" * 5000 + b":00:01.000 --> 00:02.000\nx\n",
        "WEBVTT\n\n٣٣:00:01.000 --> 99:00:02.000\nx\n".encode(),
        b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + b"&#" + b"1" * 5000 + b";\n",
        b"WEBVTT\n\n00:01.000 --> 00:02.000\n" + b"<c." * 60_000,
        b"WEBVTT\n\n00:01.000 --> " + b" " * 100_000 + b"x\n",
        b"WEBVTT\n\n" + b"00:01.000 --> 00:02.000\n\n" * 5000,
    ],
    "align": ["² ³ a\n".encode(), b"0 " + b"9" * 5000 + b" a\n", b"0 " + b"9" * 400 + b" a\n", b"\xff\xfe"],
    "episodes": [
        b"[" * 100_000,
        EPISODES.replace(b'"start_idx": 3', b'"start_idx": "x"'),
        EPISODES.replace(b'"start_idx": 3', b'"start_idx": NaN'),
        EPISODES.replace(b'"start_idx": 3', b'"start_idx": Infinity'),
        EPISODES.replace(b'"num_action": 20', b'"num_action": 1e999'),
        EPISODES.replace(b"[0, 0, 0]", b'["x", 0, 0]'),
        EPISODES.replace(b"[0, 0, 0]", b"[" + b"9" * 400 + b", 0, 0]"),
        EPISODES.replace(b'"episode_id": "1"', b'"episode_id": ' + b"[" * 900 + b"]" * 900),
        b'{"episodes": [], "content_scenes_path": 3}',
        b'{"episodes": [], "content_scenes_path": ""}',
        b'{"episodes": [], "content_scenes_path": "a**b"}',
        b'{"episodes": [], "content_scenes_path": "\\u0000"}',
        b'{"episodes": [], "content_scenes_path": "/proc/*"}',
        b'{"episodes": [], "content_scenes_path": "' + b"x/" * 3000 + b'*"}',
        b'{"episodes": [], "content_scenes_path": "' + b"x" * 3000 + b'/a"}',
        b'{"episodes": 3}',
        b"3",
    ],
    "arrow": FOUND_TABLES,
    "episodes_gz": [gzipped_zeros(40), gzip.compress(EPISODES)[:-9], b"\x1f\x8b", b""],
    "words": [b"\xff", b"<blank>\n<unk>\n\n<eos>\n", b"<blank>\n<unk>\n<eos>"],
    "units": [b"\xff", b"<unk> 1\n2\n", b"1\n", b"<unk> 1\n 2\n"],
    "tokens": [b"{}", b"[]", b"3", b"\xff", b"{", b'{"token_type": []}', b'{"token_type": "bpe"}', b"[" * 100_000],
    "yaml": [
        b"\xff\xfe\x00",
        b"a: 2024-99-99",
        b"a: " + b"[" * 3000,
        b"- " * 3000,
        b"a: !!int x",
        b"a: !!timestamp x",
        b"a: 0b",
        b"a: " + b"9" * 5000,
        b"a: &a [*a]",
        b"a: 190:20:30." + b"9" * 400,
        b"a0: &a0 {x: 1}\n" + b"".join(b"a%d: &a%d {<<: [*a%d, *a%d]}\n" % (i, i, i - 1, i - 1) for i in range(1, 40)),
        b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [*a%d, *a%d]\n" % (i, i, i - 1, i - 1) for i in range(1, 40)),
        b"a: !!binary x",
        b"? [a]\n: 1",
        b"a: !!float x",
        b"a: !!bool x",
        b"a: !!omap 3\nb: !!set [1]\nc: !!pairs x",
    ],
}
BY_NAME = {reader.name: reader for reader in (*READERS, TRAINING)}


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_what_was_found(reader, tmp_path):
    taken = assert_read_or_refused(reader, tmp_path, reader.seeds[0])
    assert taken or reader.name in ("units", "eav", "folder_streams")
    for content in FOUND.get(reader.name, []):
        assert_read_or_refused(reader, tmp_path, content)


def assert_all_read_or_refused(reader, folder, examples):
    @seed(SEED)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(contents(reader))
    def try_it(content):
        assert_read_or_refused(reader, folder, content)

    try_it()


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)
def test_a_few_contents(reader, tmp_path):
    assert_all_read_or_refused(reader, tmp_path, FAST)


@pytest.mark.slow
@pytest.mark.parametrize("reader", [*READERS, TRAINING], ids=lambda reader: reader.name)
def test_many_contents(reader, tmp_path):
    assert_all_read_or_refused(reader, tmp_path, SLOW)


@seed(0)
@settings(max_examples=FAST, deadline=None, database=None)
@given(
    numbers=st.tuples(*[st.integers(0, 2**32 - 1)] * 2, *[st.integers(0, 255)] * 2, st.integers(0, 2**16 - 1)),
    lengths=st.tuples(*[st.integers(0, 2**64 - 1)] * 2),
    flags=st.integers(0, 1),
    tail=st.binary(max_size=400),
)
def test_headers_of_streams_with_a_right_check_sum(tmp_path_factory, numbers, lengths, flags, tail):
    content = bitstream_header(*numbers, *lengths, flags=flags) + tail
    assert_read_or_refused(BY_NAME["eav"], tmp_path_factory.getbasetemp() / "headers", content)


@seed(0)
@settings(max_examples=FAST, deadline=None, database=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(EPISODE)), inner, max_size=6)
        ),
    ),
    st.sampled_from(sorted(EPISODE)),
)
def test_episodes_with_a_field_of_another_kind(tmp_path_factory, value, field):
    for changed in ({**EPISODE, field: value}, {**EPISODE, "info": [{**EPISODE["info"][0], "start_idx": value}]}):
        content = json.dumps({"episodes": [changed]}).encode()
        assert_read_or_refused(BY_NAME["episodes"], tmp_path_factory.getbasetemp() / "fields", content)


@pytest.mark.parametrize("path", ["9" * 5000, "a\0b", "\ud800", "/", ""])
def test_paths_that_cannot_be_are_counted_drops(tmp_path, path):
    rules = FormatRules(tmp_path, 16000, "wav")
    assert format_item(AudioItem("a", path, None), rules).reason == "no_file"


def test_limits_are_kept():
    with pytest.raises(AssertionError, match="no end"), limits(seconds=0.05):
        while True:
            pass
    with pytest.raises(MemoryError), limits(megabytes=64):
        bytes(2**30)


def test_errors_of_other_kinds_are_seen(tmp_path):
    def broken(path):
        return struct.unpack("<I", path.read_bytes())

    with pytest.raises(struct.error):
        assert_all_read_or_refused(Reader("broken", broken, "x", (b"1234",)), tmp_path, 50)


def test_captions_that_are_read_are_text():
    for caption in parse_vtt("WEBVTT\n\n01:00.000 --> 01:02.000\n<c.x>a</c> <unk> <3 &lt;\n"):
        assert caption.text == "a <unk> <3 <"

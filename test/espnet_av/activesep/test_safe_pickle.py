# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Pickles are read against an allow-list; nothing else of them runs."""

import collections
import os
import pickle
from pathlib import Path

import networkx
import numpy as np
import pytest

from espnet_av.activesep import safe_pickle
from espnet_av.activesep.graph import read_graph
from espnet_av.utils.errors import DataError, MissingDataError


class Attack:
    """Makes a pickle that calls a function when read."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: {(0, 0): {"rgb": x}}, lambda x: [1, (x,)]])
def test_os_system_does_not_run(tmp_path, wrap):
    marker = tmp_path / "ran"
    path = tmp_path / "graph.pkl"
    path.write_bytes(pickle.dumps(wrap(Attack(os.system, f"touch {marker}"))))
    with pytest.raises(safe_pickle.ForeignClassError, match="system"):
        safe_pickle.read_pickle(path)
    with pytest.raises(DataError, match="graph.pkl"):
        read_graph(path)
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the attack is a real one
    assert marker.exists()


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (eval, ("1",)),
        (getattr, (dict, "clear")),
        (Path, ("x",)),
        (collections.Counter, ()),
        (np.load, ("x",)),
        (networkx.path_graph, (3,)),
    ],
)
def test_other_names_are_refused(function, arguments):
    with pytest.raises(safe_pickle.ForeignClassError):
        safe_pickle.loads(pickle.dumps(Attack(function, *arguments)))


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_numbers_and_containers(protocol):
    value = {
        (0, 90): {"rgb": np.arange(12, dtype=np.uint8).reshape(2, 2, 3), "depth": np.ones((2, 2), ">f4")},
        "numbers": [np.float64(1.5), np.int32(3), None, b"bytes", 2.0],
        "kinds": (collections.OrderedDict(a=1), collections.defaultdict(list, b=[2])),
    }
    found = safe_pickle.loads(pickle.dumps(value, protocol=protocol))
    np.testing.assert_array_equal(found[0, 90]["rgb"], value[0, 90]["rgb"])
    np.testing.assert_array_equal(found[0, 90]["depth"], np.ones((2, 2)))
    assert found["numbers"] == value["numbers"] and found["kinds"] == value["kinds"]


def test_graph_of_this_networkx(tmp_path):
    graph = networkx.Graph()
    graph.add_node(4, point=(0.0, 0.0, 0.0))
    graph.add_node(2, point=(1.0, 0.0, 0.0))
    graph.add_edge(4, 2)
    assert list(graph.nodes) == [4, 2]  # caches a view inside of the graph
    safe_pickle.write_pickle(tmp_path / "graph.pkl", graph)
    assert read_graph(tmp_path / "graph.pkl").neighbours == {4: (2,), 2: (4,)}


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps([1, 2, 3])[:-3], b"\x80\x04."])
def test_damaged_files(tmp_path, content):
    path = tmp_path / "points.pkl"
    path.write_bytes(content)
    with pytest.raises(DataError, match="points.pkl"):
        safe_pickle.read_pickle(path)


def test_absent_file(tmp_path):
    with pytest.raises(MissingDataError):
        safe_pickle.read_pickle(tmp_path / "none.pkl")


def test_no_array_of_objects_from_scalars():
    kind = np.dtype("O")
    with pytest.raises(DataError):
        safe_pickle.loads(pickle.dumps(Attack(type(np.float64(0)).__reduce__(np.float64(0))[0], kind, b"12345678")))

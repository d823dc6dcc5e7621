# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
import math
import sys

import pytest

from espnet_av.codec import versa
from espnet_av.utils.errors import DataError


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that makes a package named versa that can be imported first."""

    def make(scorer=None):
        folder = tmp_path / "site" / "versa"
        (folder / "bin").mkdir(parents=True)
        (folder / "__init__.py").write_text("")
        if scorer is not None:
            (folder / "bin" / "__init__.py").write_text("")
            (folder / "bin" / "scorer.py").write_text(scorer)
        monkeypatch.syspath_prepend(str(folder.parent))
        monkeypatch.setenv("PYTHONPATH", str(folder.parent))
        monkeypatch.delitem(sys.modules, "versa", raising=False)

    return make


def test_absent(monkeypatch):
    monkeypatch.setattr(versa.importlib.util, "find_spec", lambda name: None)
    assert versa.why_absent().startswith("VERSA is not installed; fix: pip install git+")


def test_the_other_project_of_that_name(package):
    package()
    assert "RDF library" in versa.why_absent()


def test_program_is_run(package, tmp_path):
    package(
        "import sys, yaml\n"
        "a = dict(zip(sys.argv[1::2], sys.argv[2::2]))\n"
        "names = [item['name'] for item in yaml.safe_load(open(a['--score_config']))]\n"
        "keys = [line.split()[0] for line in open(a['--pred'])]\n"
        "assert keys == [line.split()[0] for line in open(a['--gt'])]\n"
        "out = open(a['--output_file'], 'w')\n"
        "for n, k in enumerate(keys): out.write(str({'key': k, names[0]: 2.5 + n, 'text': 'x'}) + '\\n')\n"
    )
    assert versa.why_absent() is None
    found = versa.run_versa({"a": "/x/a.wav", "b": "/x/b.wav"}, {"a": "/y/a", "b": "/y/b"}, [{"name": "utmos"}])
    assert found == {"a": {"utmos": 2.5}, "b": {"utmos": 3.5}}


def test_failure_says_what_the_program_said(package):
    package("import sys\nsys.exit('no model can be downloaded')\n")
    with pytest.raises(DataError, match="no model can be downloaded"):
        versa.run_versa({"a": "/x"}, {"a": "/y"}, [{"name": "utmos"}])


def test_not_a_number_is_no_zero_and_ids_stay(tmp_path):
    """Replacing nan and inf in the text of a line would change ids too and count as 0."""
    path = tmp_path / "result.txt"
    path.write_text(
        "{'key': 'banana_inf', 'pesq': nan, 'mcd': inf, 'utmos': 3.5}\n"
        '{"key": "nancy", "pesq": NaN, "mcd": -Infinity, "utmos": 1}\n'
    )
    found = versa.read_result(path)
    assert list(found) == ["banana_inf", "nancy"]
    for values, utmos in zip(found.values(), (3.5, 1.0), strict=True):
        assert math.isnan(values["pesq"]) and math.isnan(values["mcd"])
        assert values["utmos"] == utmos


@pytest.mark.parametrize("line", ["pesq: 3", "[1, 2]", "{'pesq': 3}", "__import__('os')"])
def test_lines_that_are_no_results(tmp_path, line):
    (tmp_path / "result.txt").write_text(line + "\n")
    with pytest.raises(DataError, match="line 1 is no dictionary"):
        versa.read_result(tmp_path / "result.txt")

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The rules of CONTRIBUTING.md that a program can check. Every rule is also shown a piece of code that breaks it."""

import ast
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 100
MAX_FILE_BYTES = 1_000_000
HEADER = ("# Copyright 2026 espnet_av authors", "# SPDX-License-Identifier: Apache-2.0")
GATEWAY = "espnet_av/_espnet.py"
UNPICKLER = "espnet_av/activesep/safe_pickle.py"  # reads pickles of corpora against an allow-list

#: The rooms of the package from the ground up; each imports from those before it and from its own level, no other.
ROOMS = (
    ("", "utils"),  # "": the modules beside the rooms
    ("layers",),
    ("data", "train"),
    ("avsr", "avss", "codec", "activesep", "avgen"),
    ("corpora",),
    ("tasks",),
    ("report",),
    ("bin",),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}

Finding = tuple[int, str]
Rule = Callable[[str, ast.Module], Iterator[Finding]]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def _git(*arguments: str) -> list[str]:
    answer = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True)
    return [line for line in answer.stdout.split("\0") if line]


def _tracked() -> list[Path]:
    """Return the files of the project: those in git and new ones that git does not ignore."""
    names = _git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


def _python(files: list[Path]) -> list[Path]:
    """Return Python files, among them programs without a suffix."""
    return [path for path in files if path.suffix == ".py" or (not path.suffix and _shebang(path).endswith("python3"))]


def _shebang(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.readline(80)
    return first.decode("utf-8", errors="replace").strip() if first.startswith(b"#!") else ""


def _calls(tree: ast.Module) -> Iterator[tuple[ast.Call, str]]:
    """Yield every call with the dotted name that is called."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node, _dotted(node.func)


def _dotted(node: ast.expr) -> str:
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    parts.append(node.id if isinstance(node, ast.Name) else "?")
    return ".".join(reversed(parts))


def _imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module


def _keyword(call: ast.Call, name: str) -> object:
    """Return the constant given for a keyword, or None."""
    return next((k.value.value for k in call.keywords if k.arg == name and isinstance(k.value, ast.Constant)), None)


def _public_definitions(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield public functions, classes and methods, not what is nested in functions."""
    pending: list[ast.AST] = [tree]
    while pending:
        for node in ast.iter_child_nodes(pending.pop()):
            if isinstance(node, (ast.ClassDef, *FUNCTIONS)) and not node.name.startswith("_"):
                yield node
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                pending.append(node)


def long_functions(name: str, tree: ast.Module) -> Iterator[Finding]:
    """No function is longer than 100 lines."""
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS) and node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
            yield node.lineno, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"


def bare_except(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Every ``except`` names what it catches."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            yield node.lineno, "bare except"


def mutable_defaults(name: str, tree: ast.Module) -> Iterator[Finding]:
    """No default value of an argument can be changed by a call."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.Lambda, *FUNCTIONS)):
            for default in [*node.args.defaults, *filter(None, node.args.kw_defaults)]:
                makes_one = isinstance(default, ast.Call) and _dotted(default.func) in ("dict", "list", "set")
                if makes_one or isinstance(default, (ast.List, ast.Dict, ast.Set)):
                    yield default.lineno, "mutable default"


def code_from_text(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Nothing runs text as code: no eval, no exec, no shell strings."""
    for call, called in _calls(tree):
        if called in ("eval", "exec", "os.system", "os.popen") or _keyword(call, "shell") is True:
            yield call.lineno, called


def unsafe_files(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Files that come from elsewhere cannot run code: no pickle, safe YAML, weights only, filtered archives."""
    for line, module in _imports(tree):
        if (name, module) == (UNPICKLER, "pickle"):
            continue
        if module.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "marshal", "shelve"):
            yield line, f"import {module}"
    for call, called in _calls(tree):
        if called in ("yaml.load", "yaml.unsafe_load", "yaml.full_load"):
            yield call.lineno, f"{called}; use yaml.safe_load"
        elif called == "torch.load" and _keyword(call, "weights_only") is not True:
            yield call.lineno, "torch.load without weights_only=True"
        elif called in ("np.load", "numpy.load") and _keyword(call, "allow_pickle") is True:
            yield call.lineno, "allow_pickle=True"
        elif called.endswith(".extractall") and _keyword(call, "filter") != "data":
            yield call.lineno, 'extractall without filter="data"'


def gateway(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Only the gateway imports ESPnet."""
    if name != GATEWAY:
        for line, module in _imports(tree):
            if module.split(".")[0] in ("espnet", "espnet2", "espnetez"):
                yield line, f"import {module}; take it from espnet_av._espnet"


def dashed_options(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Options are written with underscores."""
    for call, called in _calls(tree):
        if called.endswith(".add_argument"):
            for argument in call.args:
                text = argument.value if isinstance(argument, ast.Constant) else ""
                if isinstance(text, str) and text.startswith("--") and "-" in text[2:]:
                    yield call.lineno, f"{text}; write --{text[2:].replace('-', '_')}"


def printing(name: str, tree: ast.Module) -> Iterator[Finding]:
    """The package logs through module loggers and never prints."""
    levels = {f"logging.{level}" for level in ("debug", "info", "warning", "error", "exception", "critical", "log")}
    for call, called in _calls(tree):
        if called == "print":
            yield call.lineno, "print; use a logger, or sys.stdout.write for results"
        elif called in levels:
            yield call.lineno, f"{called} uses the root logger; use logging.getLogger(__name__)"


def docstrings(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Modules and everything public have a docstring."""
    if tree.body and not ast.get_docstring(tree):
        yield 1, "module without docstring"
    for node in _public_definitions(tree):
        overrides = any(_dotted(decorator).endswith("overload") for decorator in node.decorator_list)
        if not overrides and not ast.get_docstring(node):
            yield node.lineno, f"{node.name} without docstring"


def annotations(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Every argument and every result of a function is annotated."""
    for node in ast.walk(tree):
        if not isinstance(node, FUNCTIONS):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments += filter(None, (node.args.vararg, node.args.kwarg))
        for argument in arguments:
            if argument.annotation is None and argument.arg not in ("self", "cls"):
                yield argument.lineno, f"argument {argument.arg} of {node.name} without type"
        if node.returns is None:
            yield node.lineno, f"result of {node.name} without type"


def rooms(name: str, tree: ast.Module) -> Iterator[Finding]:
    """Yield imports from a room above one's own."""
    own = _room(name.removesuffix(".py").split("/"))
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] == "espnet_av" and FLOOR[_room(parts)] > FLOOR[own]:
                what = f"espnet_av/{own or '*.py'} imports {module}"
                yield node.lineno, f"{what}; a room knows only those below it: move it, or name it in a registry"


def _room(parts: Sequence[str]) -> str:
    return parts[1] if len(parts) > 1 and (ROOT / "espnet_av" / parts[1]).is_dir() else ""


#: Rule -> code that breaks it.
ALL_PYTHON: dict[Rule, str] = {
    long_functions: "def long():\n" + "    pass\n" * MAX_FUNCTION_LINES,
    bare_except: "try:\n    pass\nexcept:\n    pass\n",
    mutable_defaults: "def f(*, items=[]):\n    pass\n",
    code_from_text: "subprocess.run(text, shell=True)\n",
}
NOT_IN_TESTS: dict[Rule, str] = {
    unsafe_files: "torch.load(path)\n",
    gateway: "from espnet2.train.trainer import Trainer\n",
}
PACKAGE_ONLY: dict[Rule, str] = {
    rooms: "def f() -> None:\n    from espnet_av.avsr import model\n",
    dashed_options: "parser.add_argument('--some-name')\n",
    printing: "print('hello')\n",
    docstrings: "'''Module.'''\nclass Thing:\n    '''A thing.'''\n    def do(self):\n        pass\n",
    annotations: "def f(x) -> int:\n    return x\n",
}
#: What no text file may contain: pattern -> why. Put together here so that this file does not contain it.
TEXT_RULES = {
    r"\b(?:" + "|".join(("TO" + "DO", "FIX" + "ME")) + r")\b": "finish it, or write an issue",
    r"(?<![\w.])/(?:"
    + "|".join(("ho" + "me", "ro" + "ot", "wo" + "rk", "Us" + "ers"))
    + r")/\w": "path of one machine",
    "|".join((r"py" + r"pi\.org", r"download\.py" + r"torch\.org")): "package indexes are the user's to choose",
}
EVAL = re.compile(r"(?m)(^\s*|[;&|(]\s*|\b(then|do|else)\s+)eval\s")
TEXT_SUFFIXES = {".py", ".sh", ".md", ".txt", ".yaml", ".yml", ".toml", ".cfg", ".conf", ".html", ".css", ".js", ""}


def _check(rules: dict[Rule, str], files: list[Path]) -> list[str]:
    findings = []
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        tree = ast.parse(path.read_text(encoding="utf-8"), filename=name)
        findings += [f"{name}:{line}: {text}" for rule in rules for line, text in rule(name, tree)]
    return findings


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Return all files of the project."""
    return _tracked()


def test_python_everywhere(files: list[Path]) -> None:
    """All Python files keep the rules of ``ALL_PYTHON``, and all but tests those of ``NOT_IN_TESTS``."""
    found = _check(ALL_PYTHON, _python(files))
    found += _check(NOT_IN_TESTS, [path for path in _python(files) if not path.is_relative_to(ROOT / "test")])
    assert not found, "\n" + "\n".join(found)


def test_python_of_package(files: list[Path]) -> None:
    """The package also keeps the rules of ``PACKAGE_ONLY``."""
    package = [p for p in files if p.suffix == ".py" and p.is_relative_to(ROOT / "espnet_av")]
    found = _check(PACKAGE_ONLY, package)
    assert package and not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("rule", [*ALL_PYTHON, *NOT_IN_TESTS, *PACKAGE_ONLY], ids=lambda rule: rule.__name__)
def test_rule_sees_a_fault(rule: Rule) -> None:
    """Every rule finds the fault in its example, so that silence means something."""
    example = {**ALL_PYTHON, **NOT_IN_TESTS, **PACKAGE_ONLY}[rule]
    assert list(rule("espnet_av/example.py", ast.parse(example)))


def test_systems_are_no_circle() -> None:
    """A system may use another one, but not one that uses it, nor may data and train."""
    for level in ROOMS[2:4]:
        uses = {room: {other for other in level if other != room and _uses(room, other)} for room in level}
        while free := [room for room, others in uses.items() if not others & uses.keys()]:
            uses = {room: others for room, others in uses.items() if room not in free}
        assert not uses, f"these import one another: {uses}"


def _uses(room: str, other: str) -> bool:
    return any(
        re.search(rf"(?m)^\s*(from|import) espnet_av\.{other}\b", path.read_text(encoding="utf-8"))
        for path in (ROOT / "espnet_av" / room).rglob("*.py")
    )


def test_headers_and_length(files: list[Path]) -> None:
    """Python and shell files begin with the two header lines and are no longer than 600 lines."""
    found = []
    for path in files:
        if path.suffix not in (".py", ".sh"):
            continue
        lines = path.read_text(encoding="utf-8").splitlines()
        start = [line for line in lines[:4] if not line.startswith(("#!", "# shellcheck"))]
        if lines and tuple(start[:2]) != HEADER:
            found.append(f"{path.relative_to(ROOT)}:1: header missing")
        if len(lines) > MAX_FILE_LINES:
            found.append(f"{path.relative_to(ROOT)}: {len(lines)} lines")
    assert not found, "\n" + "\n".join(found)


def test_texts(files: list[Path]) -> None:
    """No text file holds unfinished notes, paths of one machine or hosts of package indexes."""
    found = []
    for path in files:
        if path.suffix not in TEXT_SUFFIXES or path.name == "LICENSE":
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            for pattern, why in TEXT_RULES.items():
                if re.search(pattern, line):
                    found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]} ({why})")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("text", ["# TO" + "DO later", "cd /ho" + "me/me/data", "pip -i https://py" + "pi.org/simple"])
def test_text_rules_see_a_fault(text: str) -> None:
    """The patterns find what they are for."""
    assert any(re.search(pattern, text) for pattern in TEXT_RULES)


def test_git_holds_small_plain_files(files: list[Path]) -> None:
    """No symbolic links, and nothing large."""
    links = [line for line in _git("ls-files", "-s", "-z") if line.startswith("120000")]
    assert not links, links
    large = [str(path.relative_to(ROOT)) for path in files if path.stat().st_size > MAX_FILE_BYTES]
    assert not large, large


def test_shell_scripts_are_strict(files: list[Path]) -> None:
    """Bash programs stop at the first error, undefined variable or broken pipe, and never evaluate text."""
    found = []
    for path in files:
        if path.suffix not in (".sh", ""):
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if not text.startswith("#!/usr/bin/env bash"):
            continue
        if len(text.splitlines()) > 3 and "set -euo pipefail" not in text:
            found.append(f"{path.relative_to(ROOT)}: no set -euo pipefail")
        if EVAL.search(re.sub(r"(?m)#.*$", "", text)):
            found.append(f"{path.relative_to(ROOT)}: eval")
    assert not found, "\n" + "\n".join(found)


@pytest.mark.parametrize("line", ["eval $x", "  eval $x", "a; eval $x", "$(eval $x)", "if a; then eval $x; fi"])
def test_eval_is_seen(line: str) -> None:
    """The pattern finds eval where it is a command, and not where it is a word."""
    assert EVAL.search(line) and not EVAL.search("stage 6 group: eval in: x")


def test_names_of_test_files_differ():
    names = [path.name for path in (ROOT / "test").rglob("test_*.py")]
    assert not {name for name in names if names.count(name) > 1}, "pytest imports test files by their name alone"

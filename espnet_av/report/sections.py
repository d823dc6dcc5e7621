# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Content of the report, section by section, as plain values for the page template."""

import logging
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from espnet_av.report import plots
from espnet_av.report.complexity import card_rows, experiment_card
from espnet_av.report.data_stats import SetStatistics, collect_drops, collect_sets, join_noisy, mouth_sheet
from espnet_av.report.examples import MediaBudget, ScoredUtterances, noisy_examples, worst_examples
from espnet_av.report.licences import LedgerEntry, find_conflicts, trained_licences, unknown_licences
from espnet_av.report.media import data_uri, png_bytes
from espnet_av.report.published import Published, comparison, own_results
from espnet_av.report.results import MODALITY_TITLES, by_set, modalities, stage_rows, wer_cell
from espnet_av.report.session_results import HEADER, read_sessions, session_rows
from espnet_av.report.systems import system_of
from espnet_av.train.provenance import is_secret, machine, package_versions, scrub, source_commit, utc_now
from espnet_av.utils.errors import EspnetAVError
from espnet_av.utils.experiment import (
    modality_order,
    noise_condition,
    read_json,
    read_json_lines,
    read_stages,
    set_order,
)
from espnet_av.utils.figures import ABSENT, percent
from espnet_av.utils.progress import format_seconds

logger = logging.getLogger(__name__)
SET_HEADER = (
    "set",
    "clips",
    "speakers",
    "hours",
    "mean length (s)",
    "longest (s)",
    "words",
    "face found (% of frames)",
)
HIDDEN_SETTINGS = frozenset({"token_list"})  # long, and shown with the model
#: What the run notes about itself; no setting that someone chose.
NOTED = frozenset(
    "config output_dir version espnet_av_version git_commit data_digests initialised_from required distributed "
    "dist_world_size dist_rank local_rank dist_master_addr dist_master_port task".split()
)


def comparison_section(exp_dir: Path, results: Mapping[str, Any] | None, published: Published) -> dict[str, Any]:
    """Results of whole sessions, and all results beside what others report."""
    sessions = read_sessions(exp_dir)
    return {
        "session_header": HEADER,
        "sessions": session_rows(sessions),
        "published": comparison(own_results(results, sessions), published),
    }


def results_section(results: Mapping[str, Any] | None, published: Published | None = None) -> dict[str, Any]:
    """Table of word error rates with figures, kinds of errors, silence, speakers, averages."""
    published = published or Published()
    if results is None or not results["rows"]:
        return {}
    rows = results["rows"]
    names = modalities(rows)
    ratios = {item["set"]: item for item in results.get("ratios") or ()}
    interval = results.get("bootstrap", {})
    clean = [row for row in rows if noise_condition(row["set"]) is None]
    over_snr = plots.wer_over_snr(rows, published.systems)
    return {
        "modalities": names,
        "has_ratios": bool(ratios),
        "rows": [_result_row(name, cells, names, ratios.get(name)) for name, cells in by_set(rows).items()],
        "note": (
            f"In brackets: {round(100 * interval.get('level', 0.95))} % confidence interval from "
            f"{interval.get('num_resamples', ABSENT)} bootstrap draws of {interval.get('unit', 'utterance')}s. "
            f"Text normalisation: {results.get('normalization', 'none')}. "
            + ("A ratio below 1 means that the video helps; it is paired over the same utterances." if ratios else "")
        ),
        "snr_figure": _svg(over_snr),
        "snr_svg": over_snr,
        "bar_figure": _svg(plots.wer_bars(clean or rows)),
        "averages": [[item["title"], item["num_sets"], wer_cell(item)] for item in results.get("averages") or ()],
        "silence": silence_rows(rows),
        "detail_header": ["set", "modality", "substituted", "deleted", "inserted", "deletion rate (%)", "CER (%)"],
        "details": [
            [row["set"], MODALITY_TITLES.get(row["modality"], row["modality"]), *_error_kinds(row)]
            for row in _ordered(rows)
        ],
        "speaker_header": ["set", "speaker", "clips", "words", *(f"{MODALITY_TITLES.get(m, m)} (%)" for m in names)],
        "speakers": _speaker_rows(rows, names),
    }


def silence_rows(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Return what was recognised on faces that do not speak: set, modality, clips, words, words per minute."""
    return [
        [
            row["set"],
            MODALITY_TITLES.get(row["modality"], row["modality"]),
            row["n_silent"],
            row.get("silent_ins", ABSENT),
            f"{row['silent_ins_per_min']:.1f}" if _finite(row.get("silent_ins_per_min")) else ABSENT,
        ]
        for row in _ordered(rows)
        if row.get("n_silent")
    ]


def alignment_section(exp_dir: Path, dump_dir: Path, *, set_name: str | None, uid: str | None) -> dict[str, Any]:
    """Picture of where the trained model finds the tokens of one utterance; the reason where there is none.

    Raises:
        DataError: The set or the utterance that was asked for was not scored.
    """
    from espnet_av.report.alignment import align_experiment
    from espnet_av.report.alignment_figure import alignment_picture

    try:
        found = align_experiment(exp_dir, dump_dir, set_name=set_name, uid=uid)
        picture = alignment_picture(found)
    except (EspnetAVError, ImportError, RuntimeError) as error:
        if set_name or uid:
            raise
        logger.warning("no alignment picture in the report: %s", error)
        return {"why_none": f"No picture: {scrub(str(error))}."}
    return {"png": picture, "image": data_uri(picture, "image/png"), "layer": found.layer, "words": bool(found.words)}


def headline_cards(
    results: Mapping[str, Any] | None, history: Sequence[Mapping[str, Any]], complexity: Any
) -> list[dict[str, str]]:
    """The few figures that stand on top of the page."""
    cards = []
    rows = _ordered(results["rows"]) if results else []
    averages = (results or {}).get("averages") or ()
    for item in averages:
        cards.append({"name": "WER, average", "value": percent(item["wer"]), "unit": "%", "detail": item["title"]})
    first_clean = next((row["set"] for row in rows if noise_condition(row["set"]) is None and not averages), None)
    for row in rows:
        if row["set"] == first_clean:
            title = MODALITY_TITLES.get(row["modality"], row["modality"])
            cards.append({"name": f"WER, {title}", "value": percent(row["wer"]), "unit": "%", "detail": row["set"]})
    hardest = _hardest_ratio(results)
    if hardest is not None:
        text = {
            "name": "WER ratio, av / audio",
            "value": f"{hardest['ratio']:.2f}",
            "unit": "",
            "detail": hardest["set"],
        }
        cards.append(text)
    seconds = sum(item["time_sec"] for item in history if isinstance(item.get("time_sec"), (int, float)))
    if seconds:
        cards.append(
            {"name": "training", "value": format_seconds(seconds), "unit": "", "detail": f"{len(history)} epochs"}
        )
    if complexity and complexity.num_parameters:
        millions = f"{complexity.num_parameters / 1e6:.1f}"
        cards.append({"name": "parameters", "value": millions, "unit": "M", "detail": ""})
    return cards


def training_section(
    exp_dir: Path, config: Mapping[str, Any] | None, panels: Sequence[plots.Panel] = plots.TRAINING_PANELS
) -> dict[str, Any]:
    """Curves and a sentence on the best epoch."""
    history = read_history(exp_dir)
    if not history:
        return {}
    return {
        "summary": _training_summary(history, config or {}),
        "curves": _svg(plots.training_curves(history, panels)),
        "times": _svg(plots.epoch_times(history)),
    }


def read_history(exp_dir: Path) -> list[dict[str, Any]]:
    """Read ``history.jsonl``: one entry per epoch, the last line of an epoch that was run again."""
    epochs = {item["epoch"]: item for item in read_json_lines(exp_dir / "history.jsonl") if "epoch" in item}
    return [epochs[epoch] for epoch in sorted(epochs)]


def examples_section(
    exp_dir: Path, dump_dir: Path, *, num_worst: int, num_noisy: int, max_bytes: int, changed: Collection[str] = ()
) -> dict[str, Any]:
    """Utterances with the most errors, and typical ones in the worst noise, with sound and pictures."""
    scored = ScoredUtterances(exp_dir)
    modality = scored.main_modality
    if modality is None:
        return {"groups": [], "why_none": "No scored utterances: stage 7 (score) has not run."}
    chosen = {
        f"Most errors, {MODALITY_TITLES.get(modality, modality)}": worst_examples(scored, num_worst),
        "Typical utterances of the noisiest set": noisy_examples(scored, num_noisy),
    }
    budget = MediaBudget(dump_dir, max_bytes, changed)
    for examples in chosen.values():
        budget.fill(examples)
    groups = [{"title": title, "examples": examples} for title, examples in chosen.items() if examples]
    why_none = "Not one utterance was recognised with an error."
    return {"groups": groups, **budget.section(), "why_none": why_none}


def data_section(dump_dir: Path) -> dict[str, Any]:
    """Sizes and lengths of the sets, what was left out, and mouth crops."""
    sets = collect_sets(dump_dir)
    reports = {path.parent.name: read_json(path) for path in sorted(dump_dir.rglob("roi_report.json"))}
    drops = collect_drops(dump_dir)
    clean = [item for item in sets if noise_condition(item.set_name) is None]
    sheet = mouth_sheet(dump_dir)
    return {
        "header": SET_HEADER,
        "sets": [_set_row(name, item, reports.get(item.set_name)) for name, item in join_noisy(sets)],
        "histogram": _svg(plots.duration_histogram({item.set_name: item.durations_sec for item in clean})),
        "drops": [[item.stage, name, item.reason, item.count, ", ".join(item.ids)] for name, item in join_noisy(drops)],
        "has_reports": bool(reports) or any(dump_dir.rglob("filter_report.json")),
        "sheet": data_uri(png_bytes(sheet), "image/png") if sheet is not None else None,
    }


def stages_section(exp_dir: Path) -> list[list[str]]:
    """Time and memory of each stage."""
    return stage_rows(read_stages(exp_dir))


def complexity_of_experiment(
    exp_dir: Path, config: Mapping[str, Any] | None, results: Mapping[str, Any] | None = None
) -> Any:
    """Return what the model costs; without a model when it cannot be built from the configuration."""
    if system_of(config).name == "activesep":
        from espnet_av.report.activesep_card import agent_cost

        return agent_cost(config)
    model = None
    try:
        model = build_network(config)
    except (EspnetAVError, ImportError, TypeError, KeyError) as error:
        logger.warning("no parameter count in the report: %s", error)
    if system_of(config).name == "avss":
        from espnet_av.report.separation_card import separation_cost

        return separation_cost(exp_dir, model)
    if system_of(config).name == "codec":
        from espnet_av.report.codec_card import codec_cost

        return codec_cost(exp_dir, model)
    if system_of(config).name == "avgen":
        from espnet_av.report.avgen_card import generator_cost

        return generator_cost(model, results)
    card = experiment_card(exp_dir, model)
    return card if card_rows(card) else None


def build_network(config: Mapping[str, Any] | None) -> Any:
    """Build the untrained network that a training configuration describes; None where it describes none.

    Raises:
        UsageError: The name of the model is unknown.
    """
    if config and system_of(config).name == "avss":
        from espnet_av.avss.model import build_network as build_separator

        return build_separator(config.get("model"), config.get("model_conf") or {})
    if config and system_of(config).name == "codec":
        from espnet_av.codec.choices import build_generator

        return build_generator(config.get("model"), config.get("model_conf") or {})
    if config and system_of(config).name == "avgen":
        from espnet_av.avgen.choices import build_model

        return build_model(config.get("model"), config.get("model_conf") or {})
    if not config or not isinstance(config.get("token_list"), (list, tuple)):
        return None
    from espnet_av.avsr.choices import get_model_class

    return get_model_class(config.get("model"))(
        vocab_size=len(config["token_list"]), **(config.get("model_conf") or {})
    )


def configuration_section(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """Settings that differ from the defaults, and all settings."""
    if config is None:
        return {}
    shown = {key: value for key, value in config.items() if key not in HIDDEN_SETTINGS}
    chosen = {key: value for key, value in shown.items() if key not in NOTED}
    defaults = default_settings(shown)
    if defaults is None:
        changed = {key: value for key, value in chosen.items() if value not in (None, [], {}, "", False)}
        note = "The defaults are not known here; these are all settings that are not empty."
        rows = [[key, _shown(key, value)] for key, value in sorted(changed.items())]
        header = ["setting", "value"]
    else:
        changed = {key: value for key, value in chosen.items() if _differs(value, defaults.get(key))}
        note = f"{len(changed)} of {len(chosen)} settings differ from the defaults."
        rows = [[key, _shown(key, value), _shown(key, defaults.get(key))] for key, value in sorted(changed.items())]
        header = ["setting", "value", "default"]
    full = scrub(yaml.safe_dump(dict(shown), sort_keys=True, allow_unicode=True, default_flow_style=None, width=110))
    return {"note": note, "header": header, "rows": rows, "full": full}


def default_settings(names: Iterable[str]) -> dict[str, Any] | None:
    """Return the defaults of these training options; None where the training code cannot be imported."""
    names = list(names)
    if system_of(dict.fromkeys(names)).name == "activesep":
        from espnet_av.report.activesep_card import default_training

        return default_training(names)
    try:
        task = system_of(dict.fromkeys(names)).load_task()
    except ImportError as error:
        logger.warning("the defaults of the training options are not known: %s", error)
        return None
    parser = task.get_parser()
    return {name: parser.get_default(name) for name in names}


def environment_section(results: Mapping[str, Any] | None, config: Mapping[str, Any] | None) -> list[list[str]]:
    """Versions, commits and machine."""
    scored = (results or {}).get("versions")
    when, versions = ("the scoring", scored) if scored else ("this page", package_versions())
    rows = [
        ["page made", utc_now()],
        ["commit of the training", (config or {}).get("git_commit") or ABSENT],
        ["commit of the scoring", (results or {}).get("commit") or ABSENT],
        ["commit of this page", source_commit() or ABSENT],
        ["digest of the configuration", (results or {}).get("config_digest") or ABSENT],
        ["seed of the training", (config or {}).get("seed", ABSENT)],
        *([f"{name} of {when}", value] for name, value in versions.items()),
        *([f"{name} of the machine of this page", value] for name, value in machine().items()),
    ]
    return [[name, scrub(str(value))] for name, value in rows]


def commands_text(results: Mapping[str, Any] | None) -> str:
    """Return the commands of decoding and scoring, one per line."""
    rows = (results or {}).get("rows", ())
    commands = dict.fromkeys(str(row["infer_command"]) for row in rows if row.get("infer_command"))
    if results and results.get("command"):
        commands[str(results["command"])] = None
    return scrub("\n".join(commands))


def licence_rows(entries: Sequence[LedgerEntry]) -> list[list[str]]:
    """Return set, licence, description and use of every data set."""
    return [[item.set_name, item.licence, item.description, "yes" if item.trained_on else "no"] for item in entries]


def licence_notes(entries: Sequence[LedgerEntry], model_licence: str = "Apache-2.0") -> list[str]:
    """Return what stands against packing the model under ``model_licence``."""
    licences = trained_licences(entries)
    notes = [f"Packing as {model_licence} is refused: {text}." for text in find_conflicts(licences, model_licence)]
    return notes + [f"The licence '{text}' is not known here; check it by hand." for text in unknown_licences(licences)]


def _result_row(
    name: str, cells: Mapping[str, Mapping[str, Any]], names: Sequence[str], ratio: Mapping[str, Any] | None
) -> dict[str, Any]:
    known = [row["wer"] for row in cells.values() if row["wer"] is not None]
    first = next(iter(cells.values()))
    return {
        "set": name,
        "n_utts": first.get("n_utts", ABSENT),
        "n_words": first.get("n_words", ABSENT),
        "cells": [_wer_cell(cells.get(modality), min(known, default=None)) for modality in names],
        "ratio": _ratio_cell(ratio),
    }


def _wer_cell(row: Mapping[str, Any] | None, best: float | None) -> dict[str, Any]:
    if row is None or row["wer"] is None:
        return {"value": "", "text": ABSENT, "interval": "", "best": False}
    low, high = percent(row.get("ci_low")), percent(row.get("ci_high"))
    interval = f"[{low}, {high}]" if ABSENT not in (low, high) else ""
    return {"value": row["wer"], "text": percent(row["wer"]), "interval": interval, "best": row["wer"] == best}


def _ratio_cell(item: Mapping[str, Any] | None) -> dict[str, Any]:
    if item is None or item.get("ratio") is None:
        return {"value": "", "text": ABSENT, "interval": ""}
    known = item.get("ci_low") is not None and item.get("ci_high") is not None
    interval = f"[{item['ci_low']:.2f}, {item['ci_high']:.2f}]" if known else ""
    return {"value": item["ratio"], "text": f"{item['ratio']:.2f}", "interval": interval}


def _ordered(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return sorted(rows, key=lambda row: (set_order(row["set"]), modality_order(row["modality"])))


def _error_kinds(row: Mapping[str, Any]) -> list[Any]:
    counts = [row.get(key, ABSENT) for key in ("sub", "del", "ins")]
    return [*counts, percent(row.get("deletion_rate")), percent(row.get("cer"))]


def _speaker_rows(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    table = []
    for set_name, cells in by_set(rows).items():
        if noise_condition(set_name) is not None:
            continue
        speakers = {name: part for row in cells.values() for name, part in (row.get("speakers") or {}).items()}
        for speaker, part in sorted(speakers.items()):
            rates = [((cells.get(m) or {}).get("speakers") or {}).get(speaker, {}).get("wer") for m in names]
            table.append([set_name, speaker, part["n_utts"], part["n_words"], *map(percent, rates)])
    return table


def _hardest_ratio(results: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    noisy = [
        (noise.snr_db, noise.num_interferers, item["set"], item)
        for item in (results or {}).get("ratios") or ()
        if item.get("ratio") is not None and (noise := noise_condition(item["set"])) is not None
    ]
    return min(noisy, key=lambda entry: entry[:3])[3] if noisy else None


def _training_summary(history: Sequence[Mapping[str, Any]], config: Mapping[str, Any]) -> str:
    last = history[-1]
    parts = [f"{len(history)} epochs"]
    if isinstance(last.get("steps"), (int, float)):
        parts.append(f"{int(last['steps'])} steps")
    peaks = [item["peak_rss_mb"] for item in history if isinstance(item.get("peak_rss_mb"), (int, float))]
    if peaks:
        parts.append(f"peak memory {max(peaks):,.0f} MB")
    waits = [item["data_wait_share"] for item in history if isinstance(item.get("data_wait_share"), (int, float))]
    if waits:
        parts.append(f"{100 * sum(waits) / len(waits):.1f} % of the time waiting for data")
    best = [_best_epoch(history, criterion) for criterion in config.get("best_model_criterion") or ()]
    sentence = ", ".join(parts) + "."
    return sentence + "".join(f" Best {text}." for text in best if text)


def _best_epoch(history: Sequence[Mapping[str, Any]], criterion: Sequence[str]) -> str | None:
    if len(criterion) != 3:
        return None
    phase, key, mode = criterion
    values = [(item[phase][key], item["epoch"]) for item in history if _finite((item.get(phase) or {}).get(key))]
    if not values:
        return None
    value, epoch = (max if mode == "max" else min)(values, key=lambda pair: pair[0])
    return f"{phase} {key}: {value:.4g} in epoch {epoch}"


def _set_row(name: str, item: SetStatistics, roi_report: Any) -> list[Any]:
    lengths = item.durations_sec
    found = roi_report.get("detected_share_of_kept_frames") if isinstance(roi_report, Mapping) else None
    hours = f"{sum(lengths) / 3600:.2f}" if lengths else ABSENT
    mean = f"{sum(lengths) / len(lengths):.2f}" if lengths else ABSENT
    longest = f"{max(lengths):.2f}" if lengths else ABSENT
    return [name, item.num_clips, item.num_speakers, hours, mean, longest, item.num_words, percent(found, 2)]


def _differs(value: Any, default: Any) -> bool:
    return _as_lists(value) != _as_lists(default)


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def _shown(name: str, value: Any) -> str:
    if is_secret(name):
        return "***"
    return scrub(yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("...\n").strip())


def _svg(content: bytes | None) -> str | None:
    return data_uri(content, "image/svg+xml") if content else None


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The report of an experiment: one HTML file that opens without a network and holds its own sound and pictures."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from espnet_av.avss.pair_scores import KIND_TITLES
from espnet_av.report import sections
from espnet_av.report.complexity import card_rows
from espnet_av.report.licences import LedgerEntry, ledger
from espnet_av.report.published import Published, compare_scores, read_published
from espnet_av.report.results import MODALITY_TITLES, read_results
from espnet_av.report.scores import collect_scores, plain_number
from espnet_av.report.systems import System, system_of
from espnet_av.report.worst import worst_section
from espnet_av.train.provenance import changed_sets, package_version, utc_now
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.experiment import read_config
from espnet_av.utils.figures import percent
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
TEMPLATES = Path(__file__).with_name("templates")
MAX_PAGE_BYTES = 20_000_000
SPARE_BYTES = 50_000  # for the list of what is left out
MAX_WORST_MIXTURES = 4  # a mixture, or a recording at several bit rates, takes more room than an utterance
PAGES = {
    "avsr": "report.html",
    "avss": "separation.html",
    "codec": "codec.html",
    "avgen": "avgen.html",
    "activesep": "activesep.html",
}


@dataclass(frozen=True)
class ReportOptions:
    """What the report holds.

    Attributes:
        num_worst: Utterances with the most errors.
        num_noisy: Typical utterances of the noisiest set.
        num_typical: Typical mixtures of each kind of pair, of a separator; recordings of each set, of a codec.
        max_media_bytes: Room for sound and pictures of the examples, as they stand in the page.
        max_page_bytes: Largest page that :func:`write_report` writes.
        title: Heading; None takes the name of the experiment folder.
        published: File of other people's numbers; see :mod:`espnet_av.report.published`. None or absent: none.
        alignment: Decode one utterance again and draw where the model looked.
        alignment_set: Its test set; None takes the first clean one.
        alignment_utt: Its id; None takes one with a typical number of errors.
        images_dir: Folder that receives the figures of the results as files of their own; None writes none.
    """

    num_worst: int = 10
    num_noisy: int = 4
    num_typical: int = 2
    max_media_bytes: int = 14_000_000
    max_page_bytes: int = MAX_PAGE_BYTES
    title: str | None = None
    published: str | Path | None = None
    alignment: bool = True
    alignment_set: str | None = None
    alignment_utt: str | None = None
    images_dir: str | Path | None = None


def build_report(exp_dir: str | Path, dump_dir: str | Path, options: ReportOptions | None = None) -> str:
    """Return the page of an experiment; parts whose files are missing say so.

    Args:
        exp_dir: Experiment folder of stages 5-7.
        dump_dir: Data folders of stage 3.
        options: What the page holds.

    Raises:
        MissingDataError: The experiment folder does not exist.
        DataError: A file that is there is broken.
    """
    return _build(Path(exp_dir), Path(dump_dir), options or ReportOptions())[0]


def _build(exp_dir: Path, dump_dir: Path, options: ReportOptions) -> tuple[str, int]:
    """Return the page, and how many bytes of it are sound and pictures of examples."""
    if not exp_dir.is_dir():
        raise MissingDataError(describe(f"no experiment: {exp_dir} is not a folder", fix="pass the folder of stage 5"))
    content = _content(exp_dir, dump_dir, options)
    page = environment().get_template(PAGES[content["system"]]).render(page=content, **page_parts()).lstrip()
    return page, content["examples"].get("used_bytes", 0)


def environment() -> jinja2.Environment:
    """Return what renders the templates of pages: everything is escaped, unknown names are errors."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = percent
    made.filters["signed"] = lambda value: plain_number(value, 3, "+")
    made.filters["modality"] = lambda name: MODALITY_TITLES.get(name, name)
    made.filters["kind"] = lambda name: KIND_TITLES.get(name, name)
    return made


def page_parts() -> dict[str, Markup]:
    """Return style and script that stand in every page."""
    return {
        "css": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),  # noqa: S704  our own file
        "js": Markup((TEMPLATES / "report.js").read_text(encoding="utf-8")),  # noqa: S704  our own file
    }


def write_report(
    exp_dir: str | Path, dump_dir: str | Path, output: str | Path, options: ReportOptions | None = None
) -> Path:
    """Write the page of an experiment and return its path.

    A page that would be larger than ``options.max_page_bytes`` is built again with less room for sound and pictures,
    and lists what it leaves out.

    Raises:
        MissingDataError: The experiment folder does not exist.
        DataError: A file that is there is broken, or the page is too large even without sound and pictures.
    """
    options = options or ReportOptions()
    page, used = _build(Path(exp_dir), Path(dump_dir), options)
    while (over := len(page.encode()) - options.max_page_bytes) > 0:
        if options.max_media_bytes <= 0:
            raise DataError(
                describe(
                    f"{output} would have {len(page) / 1e6:.1f} MB without any clip",
                    allowed=f"{options.max_page_bytes / 1e6:g} MB",
                    fix="pass --alignment false",
                )
            )
        room = max(0, used - over - SPARE_BYTES)
        logger.warning("the page is %.2f MB too large; now with %.1f MB of clips", over / 1e6, room / 1e6)
        options = replace(options, max_media_bytes=room)
        page, used = _build(Path(exp_dir), Path(dump_dir), options)
    with atomic_write(output) as stream:
        stream.write(page)
    return Path(output)


@dataclass(frozen=True)
class _Found:
    """What every page begins with."""

    exp_dir: Path
    dump_dir: Path
    config: dict[str, Any] | None
    results: dict[str, Any] | None
    system: System
    licences: list[LedgerEntry]
    changed: list[str]


def _read(exp_dir: Path, dump_dir: Path) -> _Found:
    config = read_config(exp_dir)
    results = read_results(exp_dir) if (exp_dir / "results.json").is_file() else None
    changed = changed_sets(results, dump_dir)
    if changed:
        logger.warning("the data of %s below %s are not those that were scored", ", ".join(changed), dump_dir)
    entries = ledger(config, dump_dir, exp_dir)
    return _Found(exp_dir, dump_dir, config, results, system_of(config, results), entries, changed)


def _content(exp_dir: Path, dump_dir: Path, options: ReportOptions) -> dict[str, Any]:
    found = _read(exp_dir, dump_dir)
    config, results = found.config, found.results
    published = read_published(options.published)
    complexity = sections.complexity_of_experiment(exp_dir, config, results)
    if found.system.name == "avss":
        parts = _separation(found, complexity, published, options)
    elif found.system.name == "codec":
        parts = _codec(found, complexity, published, options)
    elif found.system.name == "avgen":
        parts = _generation(found, complexity, published, options)
    elif found.system.name == "activesep":
        parts = _active_separation(found, complexity, published, options)
    else:
        parts = _recognition(found, complexity, published, options)
    subtitle = [part for part in (_sets_phrase(results), (results or {}).get("date")) if part]
    return {
        "system": found.system.name,
        "title": options.title or exp_dir.resolve().name,
        "subtitle": ", ".join((found.system.title, *subtitle)),
        **parts,
        "changed": found.changed,
        "worst": worst_section(exp_dir, results, options.num_worst),
        "stages": sections.stages_section(exp_dir),
        "configuration": sections.configuration_section(config),
        "environment": sections.environment_section(results, config),
        "commands": sections.commands_text(results),
        "licences": sections.licence_rows(found.licences),
        "licence_notes": sections.licence_notes(found.licences),
        "footer": f"Made by espnet_av {package_version()} on {utc_now()}.",
    }


def _recognition(found: _Found, complexity: Any, published: Published, options: ReportOptions) -> dict[str, Any]:
    exp_dir, dump_dir, config, results = found.exp_dir, found.dump_dir, found.config, found.results
    result_part = sections.results_section(results, published)
    _write_image(options, "wer_over_snr.svg", result_part.get("snr_svg"))
    return {
        "cards": sections.headline_cards(results, sections.read_history(exp_dir), complexity),
        "results": result_part,
        "comparison": sections.comparison_section(exp_dir, results, published),
        "training": sections.training_section(exp_dir, config),
        "alignment": _alignment(exp_dir, dump_dir, options),
        "examples": sections.examples_section(
            exp_dir,
            dump_dir,
            num_worst=options.num_worst,
            num_noisy=options.num_noisy,
            max_bytes=options.max_media_bytes,
            changed=found.changed,
        ),
        "data": sections.data_section(dump_dir),
        "complexity": card_rows(complexity) if complexity else [],
    }


def _separation(found: _Found, cost: Any, published: Published, options: ReportOptions) -> dict[str, Any]:
    from espnet_av.report import separation_sections as separation
    from espnet_av.report.separation_card import cost_rows
    from espnet_av.report.separation_examples import ScoredMixtures
    from espnet_av.report.separation_plots import training_panels

    scored = ScoredMixtures(found.exp_dir)
    result_part = separation.results_section(found.exp_dir, found.results, scored)
    _write_image(options, "si_snri_per_kind.svg", result_part.get("kind_svg"))
    examples = separation.examples_section(
        scored,
        found.dump_dir,
        num_worst=min(options.num_worst, MAX_WORST_MIXTURES),
        num_typical=options.num_typical,
        max_bytes=options.max_media_bytes,
        changed=found.changed,
    )
    for group in examples["groups"][:1]:
        _write_image(options, "spectrograms.png", group["examples"][0].picture_png)
    history = sections.read_history(found.exp_dir)
    return {
        "cards": separation.headline_cards(found.results, history, cost),
        "results": result_part,
        "comparison": separation.comparison_section(found.results, published),
        "training": sections.training_section(found.exp_dir, found.config, training_panels(history)),
        "examples": examples,
        "data": separation.data_section(found.dump_dir),
        "complexity": [*(cost_rows(cost) if cost else ()), *separation.lips_note(found.config, found.dump_dir)],
    }


def _codec(found: _Found, cost: Any, published: Published, options: ReportOptions) -> dict[str, Any]:
    from espnet_av.report import codec_sections as codec
    from espnet_av.report.codec_card import cost_rows
    from espnet_av.report.codec_plots import training_panels

    result_part = codec.results_section(found.results)
    _write_image(options, "quality_over_bit_rate.svg", result_part.get("curve_svg"))
    _write_image(options, "codebooks.svg", result_part.get("usage_svg"))
    examples = codec.examples_section(
        found.exp_dir,
        found.dump_dir,
        found.results,
        num_worst=min(options.num_worst, MAX_WORST_MIXTURES),
        num_typical=options.num_typical,
        max_bytes=options.max_media_bytes,
    )
    for group in examples["groups"][:1]:
        _write_image(options, "spectrograms.png", group["examples"][0].picture_png)
    history = sections.read_history(found.exp_dir)
    return {
        "cards": codec.headline_cards(found.results, history, cost),
        "results": result_part,
        "comparison": _beside(found, published),
        "training": sections.training_section(found.exp_dir, found.config, training_panels(history)),
        "examples": examples,
        "data": codec.data_section(found.dump_dir),
        "complexity": cost_rows(cost) if cost else [],
    }


def _generation(found: _Found, cost: Any, published: Published, options: ReportOptions) -> dict[str, Any]:
    from espnet_av.report import avgen_sections as generation
    from espnet_av.report.avgen_card import cost_rows
    from espnet_av.report.avgen_plots import PANELS
    from espnet_av.report.codec_sections import data_section

    result_part = generation.results_section(found.results)
    _write_image(options, "systems.svg", result_part.get("bars_svg"))
    _write_image(options, "quality_over_steps.svg", result_part.get("steps_svg"))
    history = sections.read_history(found.exp_dir)
    return {
        "cards": generation.headline_cards(found.results, history, cost),
        "results": result_part,
        "comparison": _beside(found, published),
        "training": sections.training_section(found.exp_dir, found.config, PANELS),
        "examples": generation.examples_section(
            found.exp_dir,
            num_worst=min(options.num_worst, MAX_WORST_MIXTURES),
            num_typical=options.num_typical,
            max_bytes=options.max_media_bytes,
            changed=found.changed,
        ),
        "data": data_section(found.dump_dir),
        "complexity": cost_rows(cost) if cost else [],
    }


def _active_separation(found: _Found, cost: Any, published: Published, options: ReportOptions) -> dict[str, Any]:
    from espnet_av.report import activesep_sections as active
    from espnet_av.report.activesep_card import cost_rows
    from espnet_av.report.activesep_results import published_systems

    result_part = active.results_section(found.results)
    training = active.training_section(found.exp_dir, found.config)
    _write_image(options, "returns.svg", result_part.get("bars_svg"))
    _write_image(options, "refinement.svg", result_part.get("seconds_svg"))
    _write_image(options, "reward_curves.svg", training.get("curves_svg"))
    examples = active.examples_section(
        found.exp_dir, found.dump_dir, found.config, found.results, options.max_media_bytes
    )
    for example in examples["examples"][:1]:
        _write_image(options, "map.png", example.map_png)
        _write_image(options, "spectrograms.png", example.picture_png)
    return {
        "cards": active.headline_cards(found.results, cost),
        "results": result_part,
        "comparison": _beside(found, published if published.systems else published_systems()),
        "training": training,
        "examples": examples,
        "data": active.data_section(found.dump_dir),
        "complexity": cost_rows(cost) if cost else [],
    }


def _beside(found: _Found, published: Published) -> dict[str, Any]:
    """Our scores beside published metrics; nothing before stage 7."""
    return compare_scores(collect_scores(found.results), published) if found.results else {}


def _alignment(exp_dir: Path, dump_dir: Path, options: ReportOptions) -> dict[str, Any]:
    if not options.alignment:
        return {"why_none": "The picture was not asked for."}
    part = sections.alignment_section(exp_dir, dump_dir, set_name=options.alignment_set, uid=options.alignment_utt)
    _write_image(options, "alignment.png", part.get("png"))
    return part


def _write_image(options: ReportOptions, name: str, content: bytes | None) -> None:
    if options.images_dir and content:
        with atomic_write(Path(options.images_dir) / name, "wb") as stream:
            stream.write(content)


def _sets_phrase(results: dict[str, Any] | None) -> str:
    count = len({row["set"] for row in results["rows"]}) if results else 0
    return f"{count} test set{'s' if count != 1 else ''}" if count else "not scored yet"

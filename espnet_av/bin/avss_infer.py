# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 6 of speech separation: separate the mixtures of data folders with a trained separator.

Writes ``<output_dir>/<set>/{s1,s2}/<mixture>.wav``; ground truth is not needed. With several ways to show lips
(``--lips_mode own swapped other none``) it is ``<output_dir>/<lips mode>/<set>/...``.
"""

import argparse
import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import load_yaml, nearest
from espnet_av.utils.errors import MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avss.inference import Embedder, Separator
    from espnet_av.avss.scoring import ScoreOptions
    from espnet_av.avss.separate_set import InferOptions

logger = logging.getLogger(__name__)
LIPS_MODES = ("own", "swapped", "other", "none")
OVERRIDES = ("batch_size", "window_sec", "overlap_sec", "margin_sec", "wav_format", "weights", "max_bad_share")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Separate mixtures: a voice per speaker and mixture, and what it cost. "
        "A run that was stopped goes on where it was.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--train_dir", type=Path, required=True, help="experiment folder, or a packed model")
    parser.add_argument("--data_dirs", "--data_dir", type=Path, nargs="+", required=True, help="folders of stage 3")
    parser.add_argument("--output_dir", type=Path, required=True, help="receives <set>/{s1,s2}/<mixture>.wav")
    parser.add_argument("--config", type=Path, default=None, help="YAML file: window_sec, batch_size, wav_format, ...")
    parser.add_argument(
        "--lips_mode",
        "--lips_modes",
        nargs="+",
        choices=LIPS_MODES,
        default=None,
        help="whose lips the network sees; several give a folder each (networks without lips: ignored)",
    )
    parser.add_argument("--lip_frontend", default=None, help="front end, where the folders hold mouth crops alone")
    parser.add_argument(
        "--score_config",
        type=Path,
        default=None,
        help="score sets with ground truth at once, as this file says (stage 7)",
    )
    parser.add_argument("--nj", type=int, default=1, help="processes of --score_config")
    group = parser.add_argument_group("these override the configuration")
    group.add_argument("--window_sec", type=float, default=None, help="longer mixtures go through in windows")
    group.add_argument("--overlap_sec", type=float, default=None, help="least overlap of two windows")
    group.add_argument("--margin_sec", type=float, default=None, help="unused ends of windows")
    group.add_argument("--batch_size", type=int, default=None, help="windows computed together")
    group.add_argument("--wav_format", choices=("float", "pcm16"), default=None, help="of the voices")
    group.add_argument("--weights", default=None, help="weights file in --train_dir; by default the best average")
    group.add_argument("--max_bad_share", type=float, default=None, help="share of mixtures that may be unusable")
    parser.add_argument("--key_file", type=Path, default=None, help="separate only the ids that its lines start with")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1 ...; by default a GPU where there is one")
    parser.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")
    parser.add_argument("--seed", type=int, default=0, help="separation draws no random numbers; kept for all stages")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Separate every folder with every kind of lips."""
    args = get_parser().parse_args(cmd)
    for folder in args.data_dirs:
        if not folder.is_dir():
            raise MissingDataError(describe("no data folder", got=str(folder), fix="run stage 3 (filter) first"))
    import torch

    from espnet_av.avss.separate_set import SetSeparator
    from espnet_av.data.data_dir import iter_lines

    options = read_options(args)
    score_options = None if args.score_config is None else read_score_options(args.score_config)
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    separator = load_separator(args.train_dir, options, args.device or "auto", args.lip_frontend)
    keys = None if args.key_file is None else [key for _, key, _ in iter_lines(args.key_file)]
    command = shlex.join(["python", "-m", "espnet_av.bin.avss_infer", *(sys.argv[1:] if cmd is None else cmd)])
    modes = list(dict.fromkeys(args.lips_mode or [options.lips_mode])) if separator.with_lips else ["own"]
    for mode in modes:
        runner = SetSeparator(separator, dataclasses.replace(options, lips_mode=mode), command)
        for folder in args.data_dirs:
            target = args.output_dir / (mode if len(modes) > 1 else ".") / folder.name
            facts = runner.separate(folder, target, keys)
            logger.info(
                "%s: %d mixtures, real-time factor %.3f, peak memory %.0f MB, %d seams of windows (mean %s dB)",
                target,
                facts["num_utterances"],
                facts["rtf"],
                facts["peak_rss_mb"],
                facts["num_seams"],
                facts.get("mean_seam_db", "-"),
            )
            if score_options is not None:
                score(folder, target, score_options, mode if separator.with_lips else "audio", args.nj)


def read_score_options(path: Path) -> "ScoreOptions":
    """Read ``conf/calc_metrics_*.yaml``.

    Raises:
        UsageError: The file holds an unknown key, or a value is not allowed.
    """
    from espnet_av.bin import avss_score

    return avss_score.read_options(avss_score.get_parser().parse_args(["--config", str(path)]))


def score(data_dir: Path, folder: Path, options: "ScoreOptions", lips: str, nj: int = 1) -> None:
    """Score what was separated where there is ground truth; writes ``scores.csv`` and ``scores.json`` beside it."""
    from espnet_av.avss.scoring import score_set, write_set

    if not (data_dir / "s1.scp").is_file():
        logger.info("%s has no ground truth; nothing to score", data_dir)
        return
    scored = score_set(data_dir, folder, options, lips=lips, nj=nj)
    write_set(scored, folder)
    shown = {name: round(value, 3) for name, value in scored.row.items() if isinstance(value, float)}
    logger.info("%s: %s", folder, shown)


def load_separator(
    folder: Path, options: "InferOptions", device: str = "auto", lip_frontend: str | None = None
) -> "Separator":
    """Load a separator with the windows and weights that options name.

    Args:
        folder: Experiment or packed model.
        options: What ``conf/inf_*.yaml`` says.
        device: Where to compute.
        lip_frontend: See :func:`load_embedder`; None: lips are given as embeddings.

    Raises:
        DataError: A file is missing, or the front end is not the one of the model.
    """
    from espnet_av.avss.inference import Separator

    separator = Separator.from_pretrained(
        folder, device, weights=options.weights, windows=options.windows(), batch_size=options.batch_size
    )
    if lip_frontend is not None:
        separator.embedder = load_embedder(lip_frontend, separator)
    return separator


def load_embedder(lip_frontend: str, separator: "Separator") -> "Embedder":
    """Load a lip-reading front end on the separator's device, and refuse one it was not trained with.

    Args:
        lip_frontend: As :meth:`espnet_av.avss.lip_embedding.LipEmbedder.from_pretrained` takes it.
        separator: The model.

    Raises:
        DataError: The file is missing or damaged, or it is another front end.
    """
    from espnet_av.avss.lip_embedding import LipEmbedder
    from espnet_av.avss.lips import require_same_front_end

    embedder = LipEmbedder.from_pretrained(lip_frontend, device=separator.device)
    if separator.lips is None:
        logger.warning("it is not known which lip front end the model was trained with, so it cannot be checked")
    else:
        require_same_front_end(separator.lips, embedder.describe(), lip_frontend)
    return embedder


def read_options(args: argparse.Namespace) -> "InferOptions":
    """Merge the configuration file and the command line.

    Raises:
        UsageError: The file holds an unknown key, or a value is out of range.
    """
    from espnet_av.avss.separate_set import InferOptions

    values = {} if args.config is None else load_yaml(args.config)
    names = [option.name for option in dataclasses.fields(InferOptions)]
    for key in values:
        if key not in names:
            near = nearest(key, names)
            usage_error(f"unknown key in {args.config}", got=key, allowed=names, fix=f"write {near}" if near else None)
    values |= {name: getattr(args, name) for name in OVERRIDES if getattr(args, name) is not None}
    if args.lips_mode:
        values["lips_mode"] = args.lips_mode[0]
    return InferOptions(**values)


if __name__ == "__main__":
    sys.exit(run_main(main))

# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Turn published checkpoints into ours and back: every tensor is accounted for, and files are only read as data.

espnet-av convert auto_avsr avsr_base.pth models/auto --unigram_model unigram5000.model --units unigram5000_units.txt
espnet-av convert avhubert large_vox_iter5.pt encoder.safetensors    # for --init_param FILE:avsr.encoder
espnet-av convert ours exp/train/pack avsr_original.pth              # the original names
espnet-av convert rtfsnet best_model.pth models/rtfsnet12 --model_conf repeats=12
espnet-av convert activesep ckpt.746.pth models/near_target
espnet-av convert lipreading lrw_resnet18_dctcn_video_boundary.pth lips.safetensors
espnet-av convert lrac LRAC2025_Track1_baseline_model.pth models/lrac_track1
espnet-av convert av_flow av_flow_ckpt_50h.pt models/av_flow --head_vae head_vae/iter-0500000.pt --statistics DATA
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import NestedDictAction
from espnet_av.utils.errors import usage_error
from espnet_av.utils.files import atomic_write, sha256_file

if TYPE_CHECKING:
    from espnet_av.train.conversion import Conversion

RECOGNISERS = ("avsrcocktail", "auto_avsr", "avhubert")
SEPARATORS = ("rtfsnet", "convtasnet", "convtasnet_espnet", "lipreading")
CODECS = ("lrac",)
ACTIVE = ("activesep", "activesep_passive")
GENERATORS = ("av_flow", "head_vae", "text_to_tokens", "bigvgan")
SOURCES = (*RECOGNISERS, *SEPARATORS, *CODECS, ACTIVE[0], *GENERATORS, "ours")
TARGETS = ("ours", "encoder", *RECOGNISERS, *SEPARATORS, *CODECS, *ACTIVE, *GENERATORS)


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Convert a checkpoint, strictly, with a report of loaded, missing and unexpected tensors.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("kind", choices=SOURCES, help="what IN is")
    parser.add_argument("source", metavar="IN", type=Path, help="weights file, or a folder with it")
    parser.add_argument("output", metavar="OUT", type=Path, help="folder of a model, or .safetensors or .pth file")
    parser.add_argument(
        "--to",
        choices=TARGETS,
        default=None,
        help="ours: a folder that from_pretrained of AVSR, Separator, Codec, ActiveSeparationAgent or AVGenerator "
        "loads (or the loader of a head VAE, text-to-tokens model or vocoder), or the "
        "file of a lip-reading front end; encoder: a file for --init_param OUT:avsr.encoder; else a file with the "
        "original names. By default ours, encoder for avhubert, and the original names for ours",
    )
    parser.add_argument("--unigram_model", type=Path, default=None, help="SentencePiece model; default: beside IN")
    parser.add_argument("--units", type=Path, default=None, help="list of units, lines 'piece id'; default: beside IN")
    parser.add_argument(
        "--model_conf",
        action=NestedDictAction,
        default={},
        help="what the tensors do not tell, e.g. encoder_conf.num_heads=12 or repeats=12",
    )
    parser.add_argument("--head_vae", default=None, help="of av_flow: the head VAE that lies beside its data")
    parser.add_argument("--statistics", default=None, help="of av_flow: its data in the 50h layout, or .npz file")
    parser.add_argument("--report", type=Path, default=None, help="JSON file that names every tensor, also of a misfit")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Convert one checkpoint and say what became of its tensors."""
    args = get_parser().parse_args(cmd)
    if args.kind in SEPARATORS:
        convert_separator(args)
        return
    if args.kind in CODECS:
        convert_codec(args)
        return
    if args.kind in ACTIVE:
        convert_active(args)
        return
    if args.kind in GENERATORS:
        convert_generator(args)
        return
    default = {"ours": None, "avhubert": "encoder"}.get(args.kind, "ours")
    target = args.to or default
    if args.kind == "ours":
        export(args, target)
        return
    if target not in ("ours", "encoder"):
        usage_error(
            f"{args.kind} cannot be written as {target}", allowed=["ours", "encoder"], fix="convert in two steps"
        )
    from espnet_av.avsr import published_files as files
    from espnet_av.avsr.published import find_tokenizer, read_published

    published = read_published(args.kind, args.source, args.model_conf, strict=False)
    if args.report is not None:
        write_report(args.report, published)
    tell(published)
    published.require_fit()
    if target == "encoder":
        _check_file(args.output)
        written = weights = files.write_encoder(published, args.output)
    else:
        tokenizer = find_tokenizer(published, args.unigram_model, args.units)
        written = files.write_model_folder(published, tokenizer, args.output)
        weights = written / "model.safetensors"
    sys.stdout.write(f"wrote {written} (weights sha256 {sha256_file(weights)})\n")


def convert_separator(args: argparse.Namespace) -> None:
    """Turn a published separator or lip-reading front end into ours."""
    if args.to not in (None, "ours"):
        usage_error(f"{args.kind} cannot be written as {args.to}", allowed=["ours"], fix="convert in two steps")
    if args.kind == "lipreading" and args.output.suffix != ".safetensors":
        usage_error("OUT of a front end is a file", got=str(args.output), allowed=[".safetensors"])
    from espnet_av.avss.published import read_published, write_ours

    published = read_published(args.kind, args.source, args.model_conf, strict=False)
    if args.report is not None:
        write_report(args.report, published)
    tell(published)
    sys.stdout.write(f"sizes: {json.dumps(published.model_conf)}\n")
    published.require_fit()
    weights = write_ours(published, args.output)
    sys.stdout.write(f"wrote {args.output} (weights sha256 {sha256_file(weights)})\n")


def convert_codec(args: argparse.Namespace) -> None:
    """Turn a published codec into ours, or write it again under the names of today's torch."""
    if args.to not in (None, "ours", *CODECS):
        usage_error(f"{args.kind} cannot be written as {args.to}", allowed=["ours", *CODECS])
    from espnet_av.codec import convert as codecs

    if args.to in CODECS:
        _check_file(args.output)
    published = codecs.read_published(args.source, args.model_conf, strict=False)
    if args.report is not None:
        write_report(args.report, published)
    tell(published)
    published.require_fit()
    if args.to in CODECS:
        codecs.write_published(args.output, codecs.original_names(args.to, published.state)[1])
        weights = args.output
    else:
        weights = codecs.write_ours(published, args.output)
    sys.stdout.write(f"wrote {args.output} (weights sha256 {sha256_file(weights)})\n")


def convert_active(args: argparse.Namespace) -> None:
    """Turn an agent of active separation, or its separators alone, into ours."""
    if args.to not in (None, "ours"):
        usage_error(f"{args.kind} cannot be written as {args.to}", allowed=["ours"], fix="convert in two steps")
    from espnet_av.activesep import convert as active

    published = active.read_published(args.source, args.model_conf, strict=False)
    if args.report is not None:
        write_report(args.report, published)
    tell(published)
    sys.stdout.write(f"sizes: {json.dumps(published.model_conf)}\n")
    published.require_fit()
    weights = active.write_ours(published, args.output)
    sys.stdout.write(f"wrote {args.output} (weights sha256 {sha256_file(weights)})\n")


def convert_generator(args: argparse.Namespace) -> None:
    """Turn an AV-Flow generator, or a part that lies beside it, into ours."""
    if args.to not in (None, "ours"):
        usage_error(f"{args.kind} cannot be written as {args.to}", allowed=["ours"], fix="convert in two steps")
    from espnet_av.avgen import convert as generators
    from espnet_av.avgen import convert_parts as parts

    further: dict = {}
    if args.kind in parts.KINDS:
        published, further = parts.read_published(args.kind, args.source, args.model_conf, strict=False)
    else:
        published = generators.read_published(args.kind, args.source, args.model_conf, strict=False)
    if args.report is not None:
        write_report(args.report, published)
    tell(published)
    sys.stdout.write(f"sizes: {json.dumps(published.model_conf)}\n")
    published.require_fit()
    if args.kind in parts.KINDS:
        weights = parts.write_ours(published, args.output, further)
    else:
        weights = generators.write_ours(published, args.output, head_vae=args.head_vae, statistics=args.statistics)
    sys.stdout.write(f"wrote {args.output} (weights sha256 {sha256_file(weights)})\n")


def export_generator(args: argparse.Namespace, target: str | None) -> bool:
    """Write a generator of ours, or a part of it, under original names; returns False where IN is neither."""
    from espnet_av.avgen import convert as generators
    from espnet_av.avgen import convert_parts as parts

    if generators.is_ours(args.source):
        weights, model, state = generators.read_ours(args.source)
        target, renamed = generators.original_names(target, state)
        _tell_export(args, weights, model, target, renamed, len(state), len(state) - len(renamed))
        generators.write_published(args.output, renamed)
    elif (kind := parts.find_kind(args.source)) is not None:
        if target not in (None, kind):
            usage_error(f"a {kind} has no such form", got=target, allowed=[kind])
        weights, state = parts.read_ours(kind, args.source)
        _tell_export(args, weights, kind, kind, state, len(state), 0)
        parts.write_original(kind, args.source, state, args.output)
    else:
        return False
    sys.stdout.write(f"wrote {args.output} (sha256 {sha256_file(args.output)})\n")
    return True


def export(args: argparse.Namespace, target: str | None) -> None:
    """Write the weights of one of our models under original names."""
    if target == "ours":
        usage_error("the model is ours already", got=str(args.source), allowed=TARGETS[1:])
    _check_file(args.output)
    if export_generator(args, target):
        return
    from espnet_av.codec import convert as codecs

    if codecs.is_ours(args.source):
        weights, model, state = codecs.read_ours(args.source)
        target, renamed = codecs.original_names(target, state)
        _tell_export(args, weights, model, target, renamed, len(state), 0)
        codecs.write_published(args.output, renamed)
        sys.stdout.write(f"wrote {args.output} (sha256 {sha256_file(args.output)})\n")
        return
    from espnet_av.activesep import convert as active

    if active.is_ours(args.source):
        weights, model, state = active.read_ours(args.source)
        target, renamed = active.original_names(target, state)
        _tell_export(args, weights, model, target, renamed, len(state), len(state) - len(renamed))
        active.write_original(args.output, renamed)
        sys.stdout.write(f"wrote {args.output} (sha256 {sha256_file(args.output)})\n")
        return
    from espnet_av.avss import published as separators

    if separators.is_ours(args.source):
        weights, model, conf, state = separators.read_ours(args.source)
        target, renamed = separators.original_names(target, model, conf, state)
        left_out = sum(name not in renamed for name in state) if model == "rtfsnet" else 0
        _tell_export(args, weights, model, target, renamed, len(state), left_out)
        separators.write_original(args.output, target, renamed)
        sys.stdout.write(f"wrote {args.output} (sha256 {sha256_file(args.output)})\n")
        return
    if target in (*SEPARATORS, *CODECS, *ACTIVE, *GENERATORS):
        usage_error("a recogniser has no such form", got=target, allowed=[*RECOGNISERS, "encoder"])
    from espnet_av.avsr import published_files as files

    weights, model, state = files.read_ours(args.source)
    target = target or files.default_kind(model)
    if target == "encoder":
        renamed = files.encoder_of_ours(state)
    else:
        renamed = files.original_names(target, state)
    _tell_export(args, weights, model, target, renamed, len(state), len(state) - len(renamed))
    files.save(args.output, renamed)
    sys.stdout.write(f"wrote {args.output} (sha256 {sha256_file(args.output)})\n")


def _tell_export(
    args: argparse.Namespace, weights: Path, model: str, target: str, renamed: Mapping, num_read: int, left_out: int
) -> None:
    """Say what is written, and write the report."""
    sys.stdout.write(f"read {weights} (sha256 {sha256_file(weights)}): {num_read} tensors of model '{model}'\n")
    if args.report is not None:
        facts = {"source": weights.name, "model": model, "to": target, "written": list(renamed)}
        with atomic_write(args.report) as stream:
            json.dump(facts, stream, indent=1)
    sys.stdout.write(f"{len(renamed)} tensors written, {left_out} left out\n")


def tell(published: "Conversion") -> None:
    """Print what was read, in words and numbers."""
    values = sum(tensor.numel() for tensor in published.state.values())
    sys.stdout.write(f"read {published.source} (sha256 {published.sha256})\n")
    sys.stdout.write(f"model '{published.model}': {len(published.state)} tensors, {values} values\n")
    sys.stdout.write(f"names: {published.names}\n")
    for reason, count in Counter(published.names.dropped.values()).items():
        sys.stdout.write(f"  dropped {count}: {reason}\n")
    fit = published.fit
    counts = f"{len(fit.loaded)} loaded, {len(fit.missing)} missing, {len(fit.unexpected)} unexpected"
    sys.stdout.write(f"fit: {counts}, {len(fit.mismatched)} of another shape\n")


def write_report(path: Path, published: "Conversion") -> None:
    """Write every name and what became of it as JSON."""
    with atomic_write(path) as stream:
        json.dump(published.facts(), stream, indent=1)


def _check_file(output: Path) -> None:
    if output.is_dir() or output.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
        usage_error("OUT must be a file here", got=str(output), allowed=[".safetensors", ".pth", ".pt", ".bin"])


if __name__ == "__main__":
    sys.exit(run_main(main))

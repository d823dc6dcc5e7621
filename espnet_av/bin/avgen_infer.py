# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 6 of generation: generate speech and motion for the recordings of a data folder.

    python -m espnet_av.bin.avgen_infer --model exp/avgen --data_dir dump/test --output_dir exp/avgen/decode/test

Writes ``<output_dir>/<utterance>/<number>/{audio.wav,motion.npz,mel.npy[,video.mp4]}`` and ``infer.json``. For scoring
(stage 7) the folder is ``<exp>/decode/[<system>/]<set>``.
"""

import argparse
import dataclasses
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.config import load_yaml, nearest
from espnet_av.utils.errors import MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.generate_set import GenerateOptions
    from espnet_av.avgen.inference import AVGenerator

logger = logging.getLogger(__name__)
RENDERERS = ("none", "auto", "plots", "sketch", "mesh", "codec")
PICTURES = ("renderer", "face_basis", "mesh", "codec")
PARTS = ("vocoder", "text_to_tokens", "token_model", "vad", "silence", "head_vae", "statistics")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Generate speech and motion for recordings, and count what it cost. "
        "A run that was stopped goes on where it was.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="experiment, packed or converted model, checkpoint")
    parser.add_argument("--data_dir", "--data_dirs", type=Path, nargs="+", required=True, help="data folders")
    parser.add_argument(
        "--output_dir", type=Path, required=True, help="receives <utterance>/<number>/; of several data folders <set>/"
    )
    parser.add_argument("--infer_config", "--config", type=Path, default=None, help="YAML file with the keys below")
    group = parser.add_argument_group("these override the configuration")
    group.add_argument("--task", choices=("audio", "tokens", "text"), default=None, help="what the model is told")
    group.add_argument("--partner", choices=("own", "none", "other"), default=None, help="who it talks with")
    group.add_argument("--num_samples", type=int, default=None, help="samples of each recording")
    group.add_argument("--seed", type=int, default=None, help="of the noise")
    group.add_argument("--nfe", "--steps", type=int, default=None, help="steps of the solver")
    group.add_argument("--solver", choices=("euler", "midpoint", "heun"), default=None, help="of the flow")
    group.add_argument("--time_grid", choices=("uniform", "sway"), default=None, help="where the steps are")
    group.add_argument("--temperature", type=float, default=None, help="factor on the noise")
    group.add_argument("--cfg", type=float, default=None, help="guidance by all conditions")
    group.add_argument("--partner_cfg", type=float, default=None, help="guidance by the partner alone")
    group.add_argument("--speed", type=float, default=None, help="of texts: 2 is twice as fast")
    group.add_argument("--max_seconds", type=float, default=None, help="cut longer recordings; 0: never")
    group.add_argument("--chunk_frames", type=int, default=None, help="frames computed together; 0: all")
    group.add_argument("--chunk_history", type=int, default=None, help="of them finished ones; none of kind memory")
    group.add_argument("--chunk_future", type=int, default=None, help="of them thrown away")
    group.add_argument(
        "--chunk_kind",
        choices=("states", "path", "prefix", "memory"),
        default=None,
        help="how history is told; memory computes no frame again, for small chunks",
    )
    group.add_argument("--batch_size", type=int, default=None, help="recordings of equal length computed together")
    group.add_argument("--max_utts", type=int, default=None, help="recordings taken; 0: all")
    group.add_argument("--max_bad_share", type=float, default=None, help="share of recordings that may be unusable")
    group.add_argument("--renderer", choices=RENDERERS, default=None, help="draw a video of each sample (none)")
    group.add_argument("--mesh", default=None, help=".obj or .npz of the renderer mesh; by default our head")
    group.add_argument("--codec", default=None, metavar="MODULE:CALLABLE", help="decoder of the renderer codec")
    group.add_argument("--vocoder", default=None, help="auto, bigvgan, hifigan, griffinlim, none, or a folder (auto)")
    group.add_argument("--text_to_tokens", default=None, help="model of texts; by default beside --model")
    group.add_argument("--token_model", default=None, help="wav2vec2 or a folder; by default beside --model")
    group.add_argument("--vad", choices=("none", "energy"), default=None, help="of sound; by default as the pack")
    group.add_argument("--silence", default=None, help=".npy file of the tokens of silence")
    group.add_argument("--head_vae", default=None, help="of a published checkpoint")
    group.add_argument("--statistics", default=None, help=".npz file, of a published checkpoint")
    group.add_argument("--face_basis", default=None, help="meaning of face codes, for pictures; by default found")
    parser.add_argument("--system", default=None, help="name of what is compared, noted in infer.json")
    parser.add_argument("--weights", "--inference_model", default=None, help="weights file in --model; else the best")
    parser.add_argument("--key_file", type=Path, default=None, help="take only the ids that its lines start with")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: a GPU where there is one")
    parser.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Generate for every folder."""
    args = get_parser().parse_args(cmd)
    for folder in args.data_dir:
        if not folder.is_dir():
            raise MissingDataError(describe("no data folder", str(folder), fix="run stages 1 to 4 first"))
    options, models = read_options(args)
    import torch

    from espnet_av.avgen.generate_set import SetGenerator
    from espnet_av.avgen.render import build_renderer
    from espnet_av.avgen.score_files import find_basis
    from espnet_av.data.data_dir import iter_lines

    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    generator = load_generator(args, models)
    keys = None if args.key_file is None else [key for _, key, _ in iter_lines(args.key_file)]
    command = shlex.join(["python", "-m", "espnet_av.bin.avgen_infer", *(sys.argv[1:] if cmd is None else cmd)])
    origin = {name: value for name, value in (("system", args.system), *generator.describe().items()) if value}
    for folder in args.data_dir:
        target = args.output_dir / folder.name if len(args.data_dir) > 1 else args.output_dir
        basis = find_basis(folder, models["face_basis"]) or find_basis(generator.folder or args.model)
        renderer = build_renderer(models["renderer"] or "none", basis, mesh=models["mesh"], codec=models["codec"])
        runner = SetGenerator(generator, options, renderer=renderer, command=command, origin=origin)
        facts = runner.generate(folder, target, keys)
        what = (target, facts["num_utterances"], facts["num_samples"], facts["rtf"], facts.get("vocoder_rtf", 0.0))
        logger.info("%s: %d recordings, %d samples each, real-time factor %.3f, of the vocoder %.3f", *what)


def load_generator(args: argparse.Namespace, models: dict[str, Any]) -> "AVGenerator":
    """Load the model that the command line and the configuration name."""
    from espnet_av.avgen.inference import AVGenerator

    return AVGenerator.from_pretrained(
        args.model,
        args.device,
        weights=args.weights,
        vocoder=models["vocoder"] or "auto",
        text_to_tokens=models["text_to_tokens"],
        tokens=models["token_model"],
        vad=models["vad"],
        silence=models["silence"],
        head_vae=models["head_vae"],
        statistics=models["statistics"],
    )


def read_options(args: argparse.Namespace) -> "tuple[GenerateOptions, dict[str, Any]]":
    """Merge the configuration file and the command line.

    Returns:
        How to generate, and the further models by their names.

    Raises:
        UsageError: The file holds an unknown key, or a value is out of range.
    """
    from espnet_av.avgen.generate_set import GenerateOptions

    values = {} if args.infer_config is None else load_yaml(args.infer_config)
    own = [option.name for option in dataclasses.fields(GenerateOptions)]
    further = [*PARTS, *PICTURES]
    for key in values:
        if key not in (*own, *further):
            near = nearest(key, [*own, *further])
            fix = f"write {near}" if near else None
            usage_error(f"unknown key in {args.infer_config}", key, [*own, *further], fix)
    given = {name: getattr(args, name) for name in (*own, *further) if getattr(args, name) is not None}
    values |= given
    options = GenerateOptions(**{name: value for name, value in values.items() if name in own})
    return options, {name: values.get(name) for name in further}


if __name__ == "__main__":
    sys.exit(run_main(main))

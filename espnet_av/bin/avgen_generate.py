# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Generate a talking face from text, sound or tokens.

    espnet-av generate --model exp/avgen/pack --text "HELLO THERE" --out hello.mp4
    espnet-av generate --model exp/avgen/pack --audio speech.wav --num_samples 3 --out samples/

``--out NAME.mp4`` is a video with sound, ``NAME.wav`` sound alone; with several samples the second is ``NAME_1.mp4``
and so on. A name without a suffix is a folder, which gets ``<number>/{audio.wav,motion.npz,mel.npy,video.mp4}``.
"""

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.inference import AVGenerator, Partner
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.render import Renderer

logger = logging.getLogger(__name__)
VIDEO, SOUND = ".mp4", ".wav"


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description="Generate speech and a moving face from text, sound or tokens.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--model", type=Path, required=True, help="experiment, packed or converted model, checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="NAME.mp4, NAME.wav or a folder")
    parser.add_argument("--text", default=None, help="what to say")
    parser.add_argument("--audio", type=Path, default=None, help="sound file: say that again; goes before --text")
    parser.add_argument("--tokens", type=Path, default=None, help=".npy file of tokens; --text goes before it")
    parser.add_argument("--tokens_rate", choices=("token", "mel"), default="token", help="of tokens: 50 or 86.13 Hz")
    parser.add_argument("--speed", type=float, default=1.0, help="of --text: 2 is twice as fast")
    _add_generation(parser.add_argument_group("generation"))
    _add_models(parser.add_argument_group("further models"))
    group = parser.add_argument_group("the other person of a conversation")
    group.add_argument(
        "--partner_audio", type=Path, default=None, help="sound of the voice; its second channel, if any"
    )
    group.add_argument("--partner_tokens", type=Path, default=None, help=".npy file of its tokens; likewise")
    group.add_argument("--partner_expression", type=Path, default=None, help=".npy file (frames, 55)")
    group.add_argument("--partner_head", type=Path, default=None, help=".npy file (frames, 3)")
    group.add_argument("--pad_partner", action="store_true", help="let a partner who ends before the actor be silent")
    group = parser.add_argument_group("pictures")
    renderers = ("auto", "none", "plots", "sketch", "mesh", "codec")
    group.add_argument("--renderer", choices=renderers, default="auto", help="what is drawn")
    group.add_argument("--face_basis", type=Path, default=None, help="meaning of face codes; by default beside --model")
    group.add_argument("--mesh", type=Path, default=None, help=".obj or .npz of --renderer mesh; by default our head")
    group.add_argument("--codec", default=None, metavar="MODULE:CALLABLE", help="decoder of --renderer codec")
    group.add_argument("--grid", action="store_true", help="one video with all samples side by side")
    group.add_argument("--grid_sound", type=int, default=0, help="number of the sample that is heard in it")
    return parser


def _add_generation(group: Any) -> None:
    group.add_argument("--num_samples", type=int, default=1, help="samples, each with noise of its own")
    group.add_argument("--seed", type=int, default=0, help="of the noise")
    group.add_argument("--nfe", type=int, default=16, help="steps of the solver")
    group.add_argument("--solver", choices=("euler", "midpoint", "heun"), default="euler", help="of the flow")
    group.add_argument("--time_grid", choices=("uniform", "sway"), default="uniform", help="where the steps are")
    group.add_argument("--temperature", type=float, default=1.0, help="factor on the noise")
    group.add_argument("--cfg", type=float, default=0.0, help="guidance by all conditions")
    group.add_argument("--partner_cfg", type=float, default=0.0, help="guidance by the partner alone")
    group.add_argument("--max_seconds", type=float, default=0.0, help="cut longer input; 0: never")
    group.add_argument("--fps", type=float, default=30.0, help="of motion and video")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: a GPU where there is one")
    group.add_argument("--num_threads", type=int, default=None, help="CPU threads; by default torch's choice")


def _add_models(group: Any) -> None:
    group.add_argument("--weights", default=None, help="weights file in --model; by default the best average")
    group.add_argument("--vocoder", default="auto", help="auto, bigvgan, hifigan, griffinlim, none, or a folder")
    group.add_argument("--text_to_tokens", default=None, help="model of texts; by default beside --model")
    group.add_argument("--token_model", default=None, help="wav2vec2 or a folder; by default beside --model")
    group.add_argument("--vad", choices=("none", "energy"), default=None, help="of --audio; by default as the pack")
    group.add_argument("--silence", type=Path, default=None, help=".npy file of the tokens of silence")
    group.add_argument("--head_vae", default=None, help="of a published checkpoint, beside its data")
    group.add_argument(
        "--statistics", default=None, help="of a published checkpoint: its data in the 50h layout, or .npz file"
    )


def main(cmd: Sequence[str] | None = None) -> None:
    """Generate, write the files and show them."""
    args = get_parser().parse_args(cmd)
    if args.text is None and args.audio is None and args.tokens is None:
        usage_error("there is nothing to say", fix="pass --text, --audio or --tokens")
    suffix = args.out.suffix.lower()
    if suffix not in (VIDEO, SOUND) and suffix[1:2].isalpha() and not args.out.is_dir():  # cfg_0.5 is a folder
        known = [f"NAME{VIDEO}", f"NAME{SOUND}", "a folder"]
        usage_error(
            "--out is of no known kind", str(args.out), known, "make a folder of this name first, if you want one"
        )
    if suffix == VIDEO and args.renderer == "none":
        usage_error("a video needs pictures", args.renderer, fix="pass another --renderer, or --out NAME.wav")
    if suffix == SOUND and args.vocoder == "none":
        usage_error("sound needs a vocoder", args.vocoder, fix="pass another --vocoder")
    if args.grid and (suffix == SOUND or args.renderer == "none"):
        usage_error("a grid is a video", (str(args.out), args.renderer), fix="leave --grid out, or draw something")
    tell_what_is_ignored(args)
    import torch

    from espnet_av.avgen.render import build_renderer
    from espnet_av.avgen.score_files import find_basis

    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    generator = load_generator(args)
    folder = generator.folder or args.model
    pictures = {"mesh": args.mesh, "codec": args.codec}
    basis = None if suffix == SOUND else find_basis(folder, args.face_basis)
    renderer = None if suffix == SOUND else build_renderer(args.renderer, basis, **pictures)
    start = time.monotonic()
    samples = generate(generator, args)
    seconds = len(samples[0].face) / samples[0].fps
    logger.info("%d samples of %.2f s in %.2f s", len(samples), seconds, time.monotonic() - start)
    for path in write(samples, args, renderer):
        sys.stdout.write(f"{path}\n")


def tell_what_is_ignored(args: argparse.Namespace) -> None:
    """Warn of options that have no effect beside the others."""
    from espnet_av.avgen import ignored_options

    rules = {**ignored_options.rules_of_input(args), **ignored_options.rules_of_pictures(args)}
    if args.out.suffix.lower() == SOUND:
        rules["a file of sound has no pictures"] = ["--renderer", "--face_basis"]
    if not args.grid:
        rules["it is of --grid"] = ["--grid_sound"]
    ignored_options.tell_ignored(ignored_options.given_options(get_parser(), args), rules)


def load_generator(args: argparse.Namespace) -> "AVGenerator":
    """Load the model of the command line."""
    from espnet_av.avgen.inference import AVGenerator

    return AVGenerator.from_pretrained(
        args.model,
        args.device,
        weights=args.weights,
        vocoder=args.vocoder,
        text_to_tokens=args.text_to_tokens,
        tokens=args.token_model,
        vad=args.vad,
        silence=args.silence,
        head_vae=args.head_vae,
        statistics=args.statistics,
    )


def generate(generator: "AVGenerator", args: argparse.Namespace) -> "list[Generated]":
    """Generate the samples of the command line."""
    from espnet_av.avgen.sampler import SolverRules

    return generator(
        args.text,
        audio=args.audio,
        tokens=args.tokens,
        tokens_rate=args.tokens_rate,
        partner=_partner(args),
        text_options={"speed": args.speed},
        max_seconds=args.max_seconds,
        num_samples=args.num_samples,
        seed=args.seed,
        solver=SolverRules(args.nfe, args.solver, args.time_grid, args.temperature),
        cfg=args.cfg,
        partner_cfg=args.partner_cfg,
        fps=args.fps,
    )


def _partner(args: argparse.Namespace) -> "Partner | None":
    given = (args.partner_audio, args.partner_tokens, args.partner_expression, args.partner_head)
    if all(value is None for value in given):
        return None
    from espnet_av.avgen.inference import Partner

    return Partner(*given, pad=args.pad_partner, tokens_rate=args.tokens_rate)


def write(samples: "Sequence[Generated]", args: argparse.Namespace, renderer: "Renderer | None") -> list[Path]:
    """Write the files and return the videos, sounds or folders."""
    from espnet_av.avgen.render.video import write_grid_video, write_sample, write_sample_video
    from espnet_av.data.audio_io import write_audio

    suffix = args.out.suffix.lower()
    if args.grid and renderer is not None:
        path = args.out if suffix == VIDEO else args.out / f"grid{VIDEO}"
        write_grid_video(path, samples, renderer, args.grid_sound)
        if suffix == VIDEO:
            return [path]
    paths = []
    for number, sample in enumerate(samples):
        path = args.out.with_name(f"{args.out.stem}_{number}{args.out.suffix}") if number else args.out
        if suffix == VIDEO and renderer is not None:
            write_sample_video(path, sample, renderer)
        elif suffix == SOUND and sample.wav is not None:
            from espnet_av.avgen.clock import SAMPLE_RATE

            write_audio(path, sample.wav, SAMPLE_RATE)
        else:
            path = args.out / str(number)
            write_sample(path, sample, renderer)
        paths.append(path)
    return paths


if __name__ == "__main__":
    sys.exit(run_main(main))

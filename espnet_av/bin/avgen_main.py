# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The command line of the published generator, on this package.

Training, when none of ``--test --text --audio --tokens`` is given:

    python -m espnet_av.bin.avgen_main -i 50h_dataset -o exp trainer.batch_size=8 participant_cond=true

Generation, from text, from sound, from tokens, or of the first window of the test set:

    python -m espnet_av.bin.avgen_main -o exp -c exp --text "HELLO THERE"
    python -m espnet_av.bin.avgen_main -i 50h_dataset -o exp -c exp --test

Settings are ``key=value`` with the published names (``espnet_av/avgen/main_options.py`` lists them). Samples are
``<output>/results/viz/sample-<checkpoint>_<name>_<k>.{mp4,wav,npz}``, those of ``--test`` lie in
``<output>/test/<segment>/viz``. For generation no data set is needed: the checkpoint carries all that there is.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, describe, usage_error

if TYPE_CHECKING:
    import numpy as np

    from espnet_av.avgen.inference import AVGenerator, Partner
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.render import Renderer

logger = logging.getLogger(__name__)
SETTINGS, STATISTICS = "main_config.yaml", "statistics.npz"
NUM_SAMPLES = 3
RENDERERS = ("auto", "none", "plots", "sketch", "mesh", "codec")
SMIRK = ("--expression.npy", "--headpose.npy")


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="avgen_main", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-i", "--input_dir", default=None, help="data set; not needed to generate")
    parser.add_argument("-o", "--output_dir", required=True, help="everything is written below it")
    parser.add_argument("-c", "--ckpt_path", default=None, help="checkpoint, experiment or pack; to train: start there")
    parser.add_argument("--test", action="store_true", help="generate the first window of the test set")
    parser.add_argument("--text", default=None, help="generate from text")
    parser.add_argument("--audio", default=None, metavar="WAV", help="generate from sound; goes before --text")
    parser.add_argument("--tokens", default=None, metavar="NPY", help="generate from tokens; --text goes before it")
    parser.add_argument("--tokens_rate", choices=("token", "mel"), default="token", help="of tokens: 50 or 86.13 Hz")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings by their published names")
    group = parser.add_argument_group("generation")
    group.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ...; auto: a GPU where there is one")
    group.add_argument("--num_samples", type=int, default=NUM_SAMPLES, help="samples (%(default)s)")
    group.add_argument("--seed", type=int, default=0, help="of the noise, and of a training (%(default)s)")
    group.add_argument("--nfe", type=int, default=None, help="steps of the solver (trainer.nfe_steps)")
    group.add_argument("--solver", choices=("euler", "midpoint", "heun"), default="euler", help="(%(default)s)")
    group.add_argument("--time_grid", choices=("uniform", "sway"), default="uniform", help="(%(default)s)")
    group.add_argument("--temperature", type=float, default=None, help="on the noise (trainer.noise_temperature)")
    group.add_argument("--cfg", type=float, default=0.0, help="guidance by all conditions (%(default)s)")
    group.add_argument("--max_seconds", type=float, default=0.0, help="cut longer input; 0: never (%(default)s)")
    group.add_argument("--speed", type=float, default=1.0, help="of --text: 2 is twice as fast (%(default)s)")
    group.add_argument("--vocoder", default=None, help="auto, bigvgan, hifigan, griffinlim, none, or a folder")
    group.add_argument("--renderer", choices=RENDERERS, default="auto", help="what is drawn (%(default)s)")
    group.add_argument("--face_basis", default=None, help="meaning of face codes; by default found")
    group.add_argument("--mesh", default=None, help=".obj or .npz of --renderer mesh; by default our head")
    group.add_argument("--codec", default=None, metavar="MODULE:CALLABLE", help="decoder of --renderer codec")
    group.add_argument("--text_to_tokens", default=None, help="model of texts; by default beside model or data")
    group.add_argument("--token_model", default=None, help="wav2vec2 or a folder; by default beside the model")
    group.add_argument("--vad", choices=("none", "energy"), default=None, help="of --audio; by default as the pack")
    group.add_argument("--silence", default=None, metavar="NPY", help="tokens of silence; by default those of the pack")
    group.add_argument("--split", choices=("a2p", "avflow"), default="a2p", help="of Audio2Photoreal (%(default)s)")
    group = parser.add_argument_group("the other person of a conversation")
    group.add_argument("--partner_audio", default=None, metavar="WAV", help="the voice; of two channels the second")
    group.add_argument("--partner_tokens", default=None, metavar="NPY", help="tokens of it; likewise")
    group.add_argument("--partner_smirk", default=None, metavar="NAME", help="NAME--expression.npy, NAME--headpose.npy")
    group.add_argument("--pad_partner", action="store_true", help="let a partner who ends before the actor be silent")
    return parser


def main(cmd: Sequence[str] | None = None) -> None:
    """Train or generate."""
    args = get_parser().parse_intermixed_args(cmd)
    from espnet_av.avgen.main_options import build_config, read_overrides

    overrides = read_overrides(args.overrides)
    config = build_config(overrides, args.input_dir, args.output_dir)
    told = args.text is not None or args.audio is not None or args.tokens is not None
    if not (args.test or told):
        train(config, args)
        return
    if args.ckpt_path is None:
        usage_error("to generate, a checkpoint is needed", fix="pass -c CHECKPOINT")
    paths = generate(config, overrides, args) if told else run_test(config, overrides, args)
    sys.stdout.write("".join(f"{path}\n" for path in paths))


# -------------------------------------------------------------------- training


def train(config: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Compute statistics where there are none, then train; a stopped training goes on."""
    import yaml

    from espnet_av.avgen.main_options import data_folder, training_options
    from espnet_av.bin import avgen_statistics, avgen_train
    from espnet_av.train.pretrained import resolve_device
    from espnet_av.utils.files import atomic_write

    output, root = Path(config["artifacts_dir"]), data_folder(config)
    gpus = 0 if resolve_device(args.device).type == "cpu" else 1
    statistics = output / STATISTICS
    options = training_options(config, statistics=statistics, split=args.split, gpus=gpus)
    options += ["--seed", str(args.seed), "--resume", "true", "--ema_decay", "0"]
    if args.ckpt_path is not None:
        options += ["--model_name_or_path", args.ckpt_path]
    if not statistics.is_file():
        dyadic = ["--participant"] if config["participant_cond"] else []
        length = f"dataset_conf.segment_length={config['dataset']['segment_length']}"
        avgen_statistics.main([str(root), str(statistics), "--set", length, *dyadic])
    with atomic_write(output / SETTINGS) as stream:
        yaml.safe_dump(config, stream, sort_keys=False)
    avgen_train.main(options)


# -------------------------------------------------------------------- generation


def load_generator(config: Mapping[str, Any], overrides: Mapping[str, Any], args: argparse.Namespace) -> "AVGenerator":
    """Load the checkpoint with the models that lie beside it or beside the data set."""
    from espnet_av.avgen.inference import AVGenerator
    from espnet_av.avgen.main_options import NONE, beside, check_model

    folder = Path(args.ckpt_path) if Path(args.ckpt_path).is_dir() else Path(args.ckpt_path).parent
    bare = Path(args.ckpt_path).is_file() and not (folder / "config.yaml").is_file()  # as published
    vae = beside(config, "head_vae_ckpt_path", "head_vae/iter-0500000.pt", "head_vae") if bare else None
    vocoder = args.vocoder
    if vocoder is None:
        named = config["trainer"]["vocoder_ckpt_path"] is not None or not (folder / "vocoder").is_dir()
        found = beside(config, "vocoder_ckpt_path", "../bigvgan_base_22khz_80band") if named else None
        vocoder = "auto" if found is None else str(found)
    text = args.text_to_tokens
    if text is None and not (folder / "text_to_tokens").is_dir():
        text = beside(config, "", "../text_to_tokens.pth")
    generator = AVGenerator.from_pretrained(
        args.ckpt_path,
        args.device,
        vocoder=vocoder,
        text_to_tokens=text,
        tokens=args.token_model,
        vad=args.vad,
        silence=args.silence,
        head_vae=None if str(vae) == NONE else vae,
    )
    check_model(overrides, generator.model)
    if bare and config["asset_dir"] is not None:
        generator.model.set_statistics(published_statistics(Path(config["asset_dir"])))
    return generator


def published_statistics(root: Path) -> "dict[str, np.ndarray]":
    """Return the statistics that lie in a data set of the 50h layout; empty where there are none."""
    import numpy as np

    from espnet_av.avgen.statistics import published_range
    from espnet_av.corpora.fifty_hours import HEAD_STATISTICS

    found: dict[str, np.ndarray] = {}
    for name in ("mean", "std"):
        files = [root / HEAD_STATISTICS / f"head_{part}_{name}.npy" for part in ("qvec", "translation")]
        if all(file.is_file() for file in files):
            found[f"head_{name}"] = np.concatenate([np.load(file).reshape(-1) for file in files]).astype(np.float32)
    ranges = published_range([root])
    return found if ranges is None else {**found, "partner_min": ranges[0], "partner_max": ranges[1]}


def sampling(config: Mapping[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the keywords of a generation."""
    from espnet_av.avgen.sampler import SolverRules

    steps = config["trainer"]["nfe_steps"] if args.nfe is None else args.nfe
    temperature = config["trainer"]["noise_temperature"] if args.temperature is None else args.temperature
    rules = SolverRules(steps, args.solver, args.time_grid, temperature)
    return {"num_samples": args.num_samples, "seed": args.seed, "solver": rules, "cfg": args.cfg}


def generate(config: Mapping[str, Any], overrides: Mapping[str, Any], args: argparse.Namespace) -> list[Path]:
    """Generate samples of the input and return their videos, sounds or motions."""
    partner = read_partner(args)
    generator = load_generator(config, overrides, args)
    renderer = choose_renderer(generator, args)
    samples = generator(
        args.text,
        audio=args.audio,
        tokens=args.tokens,
        tokens_rate=args.tokens_rate,
        partner=partner,
        text_options={"speed": args.speed},
        max_seconds=args.max_seconds,
        **sampling(config, args),
    )
    source = args.audio or (None if args.text is not None else args.tokens)
    name = "text" if source is None else Path(source).stem
    folder = Path(args.output_dir) / "results" / "viz"
    return write(samples, folder, f"sample-{checkpoint_name(generator)}_{name}", renderer)


def run_test(config: Mapping[str, Any], overrides: Mapping[str, Any], args: argparse.Namespace) -> list[Path]:
    """Generate the first window of the test set beside what was recorded, with the partner where the model sees one."""
    import torch

    from espnet_av.avgen.dataset import open_windows
    from espnet_av.avgen.main_options import data_folder
    from espnet_av.avgen.output import finish

    root = data_folder(config)
    generator = load_generator(config, overrides, args)
    options = {"segment_length": config["dataset"]["segment_length"], "split": args.split}
    windows = open_windows(root, train=False, subset="test", participant=generator.in_conversation, **options)
    key, item = windows[(0, windows.keys[0])]
    streams = {name: torch.from_numpy(value) for name, value in item.items() if value.dtype.kind == "f"}
    partner = {name: value for name, value in streams.items() if name.startswith("other_")}
    model, device = generator.model, generator.device
    samples = model.generate(streams["tokens"], partner or None, vocoder=generator.vocoder, **sampling(config, args))
    real = [streams[name].unsqueeze(0).to(device) for name in ("face", "head", "mel")]
    recorded = finish(model, model.encode(*real), vocoder=generator.vocoder)
    segment = key.rpartition("#")[0]
    folder = Path(args.output_dir) / "test" / segment / "viz"
    renderer = choose_renderer(generator, args)
    paths = write(recorded, folder, "gt_recon-", renderer)
    return paths + write(samples, folder, f"sample-{checkpoint_name(generator)}_{segment}", renderer)


def read_partner(args: argparse.Namespace) -> "Partner | None":
    """Return the partner of the command line.

    Raises:
        MissingDataError: A file is not there.
    """
    if args.partner_audio is None and args.partner_tokens is None and args.partner_smirk is None:
        return None
    from espnet_av.avgen.inference import Partner

    expression, head = None, None
    if args.partner_smirk is not None:
        name = str(args.partner_smirk)
        for ending in SMIRK:
            name = name.removesuffix(ending)
        expression, head = (Path(name + ending) for ending in SMIRK)
    given = {"--partner_audio": args.partner_audio, "--partner_tokens": args.partner_tokens}
    wanted = [*given.items(), ("--partner_smirk", expression), ("--partner_smirk", head)]
    for option, file in wanted:
        if file is not None and not Path(file).is_file():
            fix = f"check {option}, or leave the partner out"
            raise MissingDataError(describe("a file of the partner is missing", str(file), fix=fix))
    return Partner(args.partner_audio, args.partner_tokens, expression, head, args.pad_partner, args.tokens_rate)


def choose_renderer(generator: "AVGenerator", args: argparse.Namespace) -> "Renderer | None":
    """Return what draws the samples."""
    from espnet_av.avgen.render import build_renderer
    from espnet_av.avgen.score_files import find_basis

    places = [generator.folder or Path(args.ckpt_path), *([Path(args.input_dir)] if args.input_dir else [])]
    found = (find_basis(place, args.face_basis) for place in places)
    basis = next((basis for basis in found if basis is not None), None)
    return build_renderer(args.renderer, basis, mesh=args.mesh, codec=args.codec)


def checkpoint_name(generator: "AVGenerator") -> str:
    """Return the name of the weights for names of files."""
    return generator.checkpoint.stem if generator.checkpoint is not None else "model"


def write(samples: "Sequence[Generated]", folder: Path, name: str, renderer: "Renderer | None") -> list[Path]:
    """Write motion, sound and video of samples; each video has its own sound. Returns the most telling file of each."""
    from espnet_av.avgen.clock import SAMPLE_RATE
    from espnet_av.avgen.render.video import write_motion, write_sample_video
    from espnet_av.data.audio_io import write_audio

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, sample in enumerate(samples):
        stem = f"{name}{'' if name.endswith('-') else '_'}{number}"
        path = folder / f"{stem}.npz"
        write_motion(path, sample)
        if sample.wav is not None:
            path = folder / f"{stem}.wav"
            write_audio(path, sample.wav, SAMPLE_RATE)
        if renderer is not None:
            path = folder / f"{stem}.mp4"
            write_sample_video(path, sample, renderer)
        paths.append(path)
    return paths


if __name__ == "__main__":
    sys.exit(run_main(main))

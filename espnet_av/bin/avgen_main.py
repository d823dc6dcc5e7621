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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import CheckpointError, DataError, EspnetAVError, MissingDataError, describe, usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.inference import AVGenerator, Partner
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.render import Renderer

logger = logging.getLogger(__name__)
SETTINGS, STATISTICS = "main_config.yaml", "statistics.npz"
NUM_SAMPLES = 3
RENDERERS = ("auto", "none", "plots", "sketch", "mesh", "codec")
TRAINING_OPTIONS = {
    *("--input_dir", "--output_dir", "--ckpt_path", "--overrides", "--device", "--seed", "--split"),
    "--max_dropped_share",
}
ACTOR_OPTIONS = {
    *("--partner_audio", "--partner_tokens", "--partner_smirk", "--pad_partner", "--speed", "--max_seconds"),
    *("--text_to_tokens", "--token_model", "--tokens_rate", "--vad", "--silence"),
}
KINDS_OF_VOCODERS = ("bigvgan", "hifigan")
PUBLISHED_VOCODER = "../bigvgan_base_22khz_80band"  # beside the data
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
    group.add_argument(
        "--max_dropped_share",
        type=float,
        default=0.1,
        help="more recordings that cannot be trained on than this share are an error (%(default)s)",
    )
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
    tell_what_is_ignored(overrides, config, args, "generate" if told else "test" if args.test else "train")
    if not (args.test or told):
        train(config, args)
        return
    if args.ckpt_path is None:
        usage_error("to generate, a checkpoint is needed", fix="pass -c CHECKPOINT")
    paths = generate(config, overrides, args) if told else run_test(config, overrides, args)
    sys.stdout.write("".join(f"{path}\n" for path in paths))


def tell_what_is_ignored(
    overrides: Mapping[str, Any], config: Mapping[str, Any], args: argparse.Namespace, mode: str
) -> None:
    """Warn of settings and options that have no effect in ``train``, ``test`` or ``generate``."""
    from espnet_av.avgen import ignored_options
    from espnet_av.avgen.main_options import PHOTOREAL, ignored_settings

    given = ignored_options.given_options(get_parser(), args)
    rules: dict[str, Iterable[str]] = {**ignored_settings(overrides, mode)}
    if mode == "train":
        rules["a generator is trained; samples need --test, --text, --audio or --tokens"] = given - TRAINING_OPTIONS
    else:
        rules["it is of trainings alone"] = [*rules.get("it is of trainings alone", []), "--max_dropped_share"]
        rules |= ignored_options.rules_of_pictures(args)
        if args.nfe is not None:
            rules["--nfe goes before it"] = ["trainer.nfe_steps"]
        if args.temperature is not None:
            rules["--temperature goes before it"] = ["trainer.noise_temperature"]
        if args.vocoder not in (None, "auto", "bigvgan", "hifigan"):
            rules["--vocoder goes before it"] = ["trainer.vocoder_ckpt_path"]
    if mode == "generate":
        rules |= ignored_options.rules_of_input(args)
        rules["it has a meaning with --test"] = ["--split"] + ([] if not args.test else ["--test"])
    elif mode == "test":
        rules["--test takes actor and partner from the data"] = given & ACTOR_OPTIONS
    if config["dataset_name"] != PHOTOREAL:
        rules[f"it is of dataset_name={PHOTOREAL}"] = ["subject", "--split"]
    ignored_options.tell_ignored(given | set(overrides), rules)


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
    share = args.max_dropped_share
    options = training_options(config, statistics=statistics, split=args.split, gpus=gpus, max_dropped_share=share)
    options += ["--seed", str(args.seed), "--resume", "true", "--ema_decay", "0"]
    if args.ckpt_path is not None:
        options += ["--model_name_or_path", args.ckpt_path]
    if not statistics.is_file():
        dyadic = ["--participant"] if config["participant_cond"] else []
        conf = [f"segment_length={config['dataset']['segment_length']}", f"max_dropped_share={share}"]
        settings = [word for pair in conf for word in ("--set", f"dataset_conf.{pair}")]
        avgen_statistics.main([str(root), str(statistics), *settings, *dyadic])
    with atomic_write(output / SETTINGS) as stream:
        yaml.safe_dump(config, stream, sort_keys=False)
    try:
        avgen_train.main(options)
    except EspnetAVError as error:
        raise type(error)(_own_names(str(error))) from error


def _own_names(message: str) -> str:
    """Return a message of the training command with the options of this one."""
    for theirs, ours in (("--init_param", "-c CHECKPOINT"), ("--output_dir", "-o")):
        message = message.replace(theirs, ours)
    return message


# -------------------------------------------------------------------- generation


def load_generator(config: Mapping[str, Any], overrides: Mapping[str, Any], args: argparse.Namespace) -> "AVGenerator":
    """Load the checkpoint with the models that lie beside it or beside the data set."""
    from espnet_av.avgen.generator_parts import is_bare
    from espnet_av.avgen.inference import AVGenerator
    from espnet_av.avgen.main_options import NONE, beside, check_model, published_conf
    from espnet_av.avgen.pose import HEAD_STATISTICS

    path = Path(args.ckpt_path)
    folder = path if path.is_dir() else path.parent
    bare = is_bare(path)
    places = ("head_vae/iter-0500000.pt", "head_vae") if bare else ()
    vae = beside(config, "head_vae_ckpt_path", *places)
    text = args.text_to_tokens
    if text is None and not (folder / "text_to_tokens").is_dir():
        text = beside(config, "", "../text_to_tokens.pth")
    statistics = beside(config, "", HEAD_STATISTICS) if bare else None
    generator = AVGenerator.from_pretrained(
        args.ckpt_path,
        args.device,
        vocoder=choose_vocoder(config, args, folder),
        text_to_tokens=text,
        tokens=args.token_model,
        vad=args.vad,
        silence=args.silence,
        head_vae=None if str(vae) == NONE else vae,
        statistics=None if statistics is None else statistics.parents[1],
        model_conf=published_conf(overrides) if bare else None,
    )
    check_model(overrides, generator.model)
    return generator


def choose_vocoder(config: Mapping[str, Any], args: argparse.Namespace, folder: Path) -> str:
    """Return what turns mels into sound: a kind of vocoder is looked for beside model and data, and where it is named.

    Raises:
        CheckpointError: The one that is named is of another kind.
    """
    from espnet_av.avgen.main_options import beside

    if args.vocoder not in (None, "auto", *KINDS_OF_VOCODERS):
        return str(args.vocoder)
    named = config["trainer"]["vocoder_ckpt_path"] is not None
    found = (
        beside(config, "vocoder_ckpt_path", PUBLISHED_VOCODER) if named or not (folder / "vocoder").is_dir() else None
    )
    if found is None:
        return args.vocoder or "auto"
    if args.vocoder in KINDS_OF_VOCODERS:
        from espnet_av.avgen.vocoder import load_vocoder

        kind = type(load_vocoder(found).network).__name__.lower()
        if kind != args.vocoder:
            raise CheckpointError(describe(f"{found} is another kind of vocoder", kind, [args.vocoder]))
    return str(found)


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
    renderer = choose_renderer(generator, config, args)
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
    folder = Path(config["artifacts_dir"]) / "results" / "viz"
    return write(samples, folder, f"sample-{checkpoint_name(generator)}_{name}", renderer)


def run_test(config: Mapping[str, Any], overrides: Mapping[str, Any], args: argparse.Namespace) -> list[Path]:
    """Generate the first window of the test set beside what was recorded, with the partner where the model sees one."""
    import torch

    from espnet_av.avgen.dataset import open_windows
    from espnet_av.avgen.main_options import data_folder
    from espnet_av.avgen.output import finish

    root = data_folder(config)
    generator = load_generator(config, overrides, args)
    length = config["dataset"]["segment_length"]
    options: dict[str, Any] = {"segment_length": length, "split": args.split, "max_dropped_share": 1.0}
    windows = open_windows(root, train=False, subset="test", participant=generator.in_conversation, **options)
    key, item = windows[(0, windows.keys[0])]
    model = generator.model
    for name, width in (("face", model.dims["face"]), ("head", model.input_head_dim)):
        if item[name].shape[1] != width:
            what = f"the {name} of {key} is not what the model of {args.ckpt_path} was trained on"
            fix = "give -i the kind of data, and dataset_name, that the checkpoint was trained with"
            raise DataError(describe(what, f"{item[name].shape[1]} values", f"{width} values", fix))
    streams = {name: torch.from_numpy(value) for name, value in item.items() if value.dtype.kind == "f"}
    partner = {name: value for name, value in streams.items() if name.startswith("other_")}
    device = generator.device
    samples = model.generate(streams["tokens"], partner or None, vocoder=generator.vocoder, **sampling(config, args))
    real = [streams[name].unsqueeze(0).to(device) for name in ("face", "head", "mel")]
    recorded = finish(model, model.encode(*real), vocoder=generator.vocoder)
    segment = key.rpartition("#")[0]
    folder = Path(config["artifacts_dir"]) / "test" / segment / "viz"
    renderer = choose_renderer(generator, config, args)
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


def choose_renderer(generator: "AVGenerator", config: Mapping[str, Any], args: argparse.Namespace) -> "Renderer | None":
    """Return what draws the samples."""
    from espnet_av.avgen.render import build_renderer
    from espnet_av.avgen.score_files import find_basis

    data = config["asset_dir"]
    places = [generator.folder or Path(args.ckpt_path), *([] if data is None else [Path(data)])]
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

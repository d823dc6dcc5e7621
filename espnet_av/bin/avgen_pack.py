# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 9 of generation: pack the generator with vocoder, text model and token model, so that one folder does all."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.utils.cli import run_main


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avgen_pack", description=__doc__)
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment of the generator")
    parser.add_argument("--output_dir", type=Path, help="folder to make (default: <exp_dir>/pack)")
    parser.add_argument(
        "--dump_dir", type=Path, help="data folders, for their licences; those of the recipe when not given"
    )
    parser.add_argument("--vocoder", type=Path, help="training of a vocoder, or a folder of a published one")
    parser.add_argument("--text_to_tokens", type=Path, help="training of a model of texts, or a published file")
    parser.add_argument("--token_model", type=Path, help="training of a token model, or a file of wav2vec 2.0")
    parser.add_argument("--silence", type=Path, help=".npy file of the tokens of silence")
    parser.add_argument(
        "--vad",
        choices=("none", "energy"),
        help="of the tokens of the training (default: as beside --silence)",
    )
    parser.add_argument("--face_basis", type=Path, help=".npz that tells what face codes mean")
    parser.add_argument("--data_dir", type=Path, help="data folder in or above which --face_basis is looked for")
    parser.add_argument(
        "--checkpoint", default="ave", metavar="ave|best|FILE", help="average of the best epochs, best epoch, or a file"
    )
    parser.add_argument(
        "--licence", help="of the packed weights; when not given, Apache-2.0 where the licences of all data are known"
    )
    parser.add_argument("--name", help="of the model (default: that of the experiment)")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.avgen.check_set import find_basis_file
    from espnet_av.report.generator_pack import Parts, pack_generator
    from espnet_av.report.packing import PackOptions
    from espnet_av.report.run_facts import default_place

    basis = args.face_basis
    if basis is None and args.data_dir is not None:
        basis = find_basis_file(args.data_dir)
    parts = Parts(args.vocoder, args.text_to_tokens, args.token_model, args.silence, basis, args.vad)
    options = PackOptions(checkpoint=args.checkpoint, licence=args.licence, name=args.name)
    dump_dir = args.dump_dir or default_place(args.exp_dir, "dump")
    folder = pack_generator(args.exp_dir, args.output_dir or args.exp_dir / "pack", parts, dump_dir, options)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    sys.stdout.write(f"packed: {folder} ({size / 1e6:.1f} MB: {', '.join(sorted(p.name for p in folder.iterdir()))})\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

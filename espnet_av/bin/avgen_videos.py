# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Stage 8 of generation: draw videos of samples that were generated before, each with its own sound.

Drawn are the recordings that the report shows and the first --num_videos of each set, by every system, and the real
recording beside them, into decode/real_videos/<set>/<recording>.mp4. What is there is kept, unless another renderer
drew it: see decode/videos.json.
"""

import argparse
import hashlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import usage_error

if TYPE_CHECKING:
    from espnet_av.avgen.output import Generated
    from espnet_av.avgen.score_files import Take

logger = logging.getLogger(__name__)
RECORD = "videos.json"
DEFAULT = {"renderer": "auto", "mesh": None, "codec": None}  # of experiments without a record


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avgen_videos", description=__doc__)
    parser.add_argument("--exp_dir", type=Path, required=True, help="experiment with scored samples below decode/")
    parser.add_argument("--data_dirs", type=Path, nargs="+", required=True, help="data folders of the sets")
    parser.add_argument("--renderer", default="auto", help="auto, plots, sketch, mesh or codec")
    parser.add_argument("--mesh", type=Path, help=".obj or .npz of --renderer mesh; by default our head")
    parser.add_argument("--codec", metavar="MODULE:CALLABLE", help="decoder of --renderer codec")
    parser.add_argument("--face_basis", help=".npz that tells what face codes mean (default: found beside the data)")
    parser.add_argument("--num_videos", type=int, default=4, help="recordings of each set beside those of the report")
    parser.add_argument("--num_worst", type=int, default=10, help="as of the report")
    parser.add_argument("--num_typical", type=int, default=2, help="as of the report")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    from espnet_av.avgen.render import build_renderer
    from espnet_av.avgen.render.video import VIDEO, write_sample_video
    from espnet_av.avgen.score_files import find_basis, load_sample, load_truth, read_truths
    from espnet_av.report.avgen_examples import REAL_VIDEOS, ScoredSamples, choose_examples
    from espnet_av.utils.experiment import read_json, write_json
    from espnet_av.utils.progress import progress

    scored = ScoredSamples(args.exp_dir)
    shown: dict[str, list[str]] = {name: [] for name in scored.folders}
    for _, examples in choose_examples(scored, args.num_worst, args.num_typical):
        for example in examples:
            shown[example.set_name].append(example.uid)
    count = 0
    renderers = {}
    for data_dir in args.data_dirs:
        if data_dir.name in shown:
            basis = find_basis(data_dir, args.face_basis)
            renderer = build_renderer(args.renderer, basis, mesh=args.mesh, codec=args.codec)
            if renderer is None:
                usage_error("videos need pictures", args.renderer, fix="pass another --renderer")
            renderers[data_dir] = renderer
    own, record = describe_renderer(args), args.exp_dir / "decode" / RECORD
    before = read_json(record, DEFAULT)
    anew = before != own
    if anew:
        logger.info("all videos are drawn, by %s, not %s", own, before)
        write_json(record, {})  # some by this, some by that, until all are drawn
    for data_dir, renderer in renderers.items():
        name = data_dir.name
        first = sorted(uid for _, _, scores in scored.folders[name] for uid in scores)
        chosen = list(dict.fromkeys(first))[: args.num_videos]
        uids = dict.fromkeys([*shown[name], *chosen])
        folders = [place for _, folder, _ in scored.folders[name] for uid in uids for place in (folder / uid).glob("*")]
        missing = [place for place in sorted(folders) if place.is_dir() and (anew or not (place / VIDEO).is_file())]
        for place in progress(missing, len(missing), f"videos {name}"):
            write_sample_video(place / VIDEO, as_sample(load_sample(place)), renderer)
        truths = read_truths(data_dir)
        for uid in uids:
            target = args.exp_dir / "decode" / REAL_VIDEOS / name / f"{uid}.mp4"
            if uid in truths and (anew or not target.is_file()):
                target.parent.mkdir(parents=True, exist_ok=True)
                write_sample_video(target, as_sample(load_truth(truths[uid])), renderer)
        count += len(missing)
    write_json(record, own)
    sys.stdout.write(f"{count} videos drawn below {args.exp_dir / 'decode'}\n")
    return 0


def describe_renderer(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the videos of a command line depend on."""
    own: dict[str, Any] = {"renderer": args.renderer, "mesh": None, "codec": args.codec}
    if args.mesh is not None:
        files = [args.mesh.with_suffix(suffix) for suffix in (".obj", ".npz")]
        own["mesh"] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files if path.is_file()]
    return own


def as_sample(take: "Take") -> "Generated":
    """Return a recording or a stored sample in the form that renderers take."""
    import numpy as np

    from espnet_av.avgen.output import Generated

    head = np.zeros((len(take.face), 4)) if take.head is None else take.head
    mel = np.zeros((1, 80), dtype=np.float32) if take.mel is None else take.mel
    face, head, mel = (np.asarray(each, dtype=np.float32) for each in (take.face, head, mel))
    return Generated(face, head, mel, take.fps, take.wav)


if __name__ == "__main__":
    sys.exit(run_main(main))

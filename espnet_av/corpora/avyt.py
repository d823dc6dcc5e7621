# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The training mix of AVSRCocktail: LRS2, VoxCeleb2, AVYT and AVYT-mix, and MCoRec where one has access to it.

What is made: ``valid`` and the nine test sets of LRS2 as data folders; for training either a list of shards that are
read while training, each source drawn with its published probability (``train_stream.yaml``), or everything unpacked
into the data folder ``train``. With the list, ``train`` holds some clips of LRS2: tokens are made from their text, and
other speakers to mix in are taken from their sound.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_av.corpora.shard_sets import write_shard_set
from espnet_av.data.av_shards import AVShards, shard_splits
from espnet_av.data.stream_plan import write_stream_plan
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, UsageError, describe

logger = logging.getLogger(__name__)
HUB_AVYT, HUB_MCOREC = "nguyenvulebinh/AVYT", "MCoRecChallenge/MCoRec"
#: Share of each source in training, without and with MCoRec.
PROBABILITIES = {"lrs2": 0.30, "vox2": 0.20, "avyt": 0.25, "avyt-mix": 0.25}
PROBABILITIES_MCOREC = {"lrs2": 0.25, "vox2": 0.10, "avyt": 0.20, "avyt-mix": 0.25, "mcorec": 0.20}
MIX_SEED = 11
#: Source -> (configuration, splits), in the order in which they are read with ``--legacy_order``.
TRAINING = {
    "lrs2": ("lrs2", "train+pretrain"),
    "vox2": ("vox2", "dev"),
    "avyt": ("avyt", "talking+silent"),
    "avyt-mix": ("avyt-mix", "train"),
}
MCOREC_SPLITS = {"train": ("train",), "valid": ("valid", "validation", "dev")}
TEST_SETS = ("test", *(f"test_snr_{level}_interferer_{count}" for level in ("n5", "0", "5", "10") for count in (1, 2)))
LEGACY_VALID_TEST = "test_snr_0_interferer_2"
FLAGS = ("streaming_dataset", "unpack_train", "include_mcorec", "legacy_order", "legacy_valid")
FPS = 25


@dataclass(frozen=True)
class Place:
    """Where the shards lie, and how those of the hub are read."""

    avyt: str
    mcorec: str | None = None
    streaming: bool = True
    cache_dir: str | None = None

    def training(self) -> dict[str, dict[str, str]]:
        """Return the sources of training, for ``train_stream.yaml``."""
        sources = {
            name: {"source": self.avyt, "config": config, "split": split} for name, (config, split) in TRAINING.items()
        }
        if self.mcorec is not None:
            sources["mcorec"] = self._mcorec(self.mcorec, "train")
        return sources

    def validation(self, *, legacy: bool = False) -> dict[str, dict[str, str]]:
        """Return the sources of validation; ``legacy`` adds what the original looked at, a test set among them."""
        sources = {"lrs2": {"source": self.avyt, "config": "lrs2", "split": "valid"}}
        if legacy:
            sources["lrs2-noisy"] = {"source": self.avyt, "config": "lrs2", "split": LEGACY_VALID_TEST}
            sources["avyt-mix"] = {"source": self.avyt, "config": "avyt-mix", "split": "test"}
        if self.mcorec is not None:
            sources["mcorec"] = self._mcorec(self.mcorec, "valid")
        return sources

    def _mcorec(self, source: str, kind: str) -> dict[str, str]:
        """Return the configuration and split of MCoRec: the one that there is, under one of its usual names."""
        found = shard_splits(source, self.cache_dir)
        for config, splits in found.items():
            for split in MCOREC_SPLITS[kind]:
                if split in splits:
                    return {"source": source, "config": config, "split": split}
        raise DataError(describe(f"{source} has no split for {kind}", found, MCOREC_SPLITS[kind]))

    def open(self, sources: Mapping[str, Mapping[str, str]]) -> dict[str, AVShards]:
        """Open sources."""
        return {
            name: AVShards(entry["source"], entry["config"], entry["split"], self.streaming, self.cache_dir)
            for name, entry in sources.items()
        }


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="avyt", description="Make data folders and the training mix of AVYT.")
    parser.add_argument("--avyt_root", default="", metavar="DIR|NAME", help=f"shards, or {HUB_AVYT} of the hub")
    parser.add_argument("--output_dir", default="data", metavar="DIR", help="where the sets are made")
    parser.add_argument("--streaming_dataset", default="false", help="true: read the hub's shards while training")
    parser.add_argument("--unpack_train", default="false", help="true: make a data folder of all training clips")
    parser.add_argument("--include_mcorec", default="false", help="true: train on MCoRec as well")
    parser.add_argument("--mcorec_root", default="", metavar="DIR|NAME", help=f"its shards (default: {HUB_MCOREC})")
    parser.add_argument("--cache_dir", default="", metavar="DIR", help="where files of the hub are kept")
    parser.add_argument("--legacy_order", default="false", help="true: clips in stored order, never shuffled")
    parser.add_argument("--legacy_valid", default="false", help="true: validate on a test set too, as the original")
    parser.add_argument("--token_clips", type=int, default=5000, help="clips of LRS2 for tokens and other speakers")
    parser.add_argument("--shuffle_buffer", type=int, default=4000, help="clips held in memory for shuffling")
    parser.add_argument("--max_sec", type=float, default=15.0, help="longest clip trained on while streaming")
    parser.add_argument("--test_sets", default=" ".join(TEST_SETS), metavar="'NAME ...'", help="sets to make")
    parser.add_argument("--max_dropped_share", type=float, default=0.01, help="more unusable clips are an error")
    parser.add_argument("--max_clips", type=int, default=0, help="clips of each set at most; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="no effect: the mix has the published seed")
    parser.add_argument("--nj", type=int, default=int(os.environ.get("ESPNET_AV_NJ", "1")), help="shards side by side")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    flags = {name: _flag(args, name) for name in FLAGS}
    if flags["streaming_dataset"] and flags["unpack_train"]:
        raise UsageError("--streaming_dataset and --unpack_train exclude each other; fix: drop one")
    if not args.avyt_root:
        fix = f"--avyt_root DIR, or --avyt_root {HUB_AVYT} --streaming_dataset true to read from the hub"
        raise MissingDataError(describe("where are the shards of AVYT?", fix=fix))
    mcorec = (args.mcorec_root or HUB_MCOREC) if flags["include_mcorec"] else None
    place = Place(_place(args.avyt_root), mcorec and _place(mcorec), flags["streaming_dataset"], args.cache_dir or None)
    output, limit = Path(args.output_dir), args.max_clips or None
    options = {"max_dropped_share": args.max_dropped_share, "nj": args.nj}
    sets = {"valid": place.validation(legacy=flags["legacy_valid"])}
    for name in present_sets(place, args.test_sets.split()):
        sets[name] = {"lrs2": {"source": place.avyt, "config": "lrs2", "split": name}}
    stream_file = output / "train_stream.yaml"
    training = place.training()
    if flags["unpack_train"]:
        stream_file.unlink(missing_ok=True)
        sets["train"] = training
    for name, sources in sets.items():
        line = write_shard_set(
            place.open(sources), output / name, output / "clips", description=name, max_clips=limit, **options
        )
        sys.stdout.write(f"{output / name}: {line}\n")
    if not flags["unpack_train"]:
        few = min(args.token_clips, limit or args.token_clips)
        line = write_shard_set(
            place.open({"lrs2": training["lrs2"]}),
            output / "train",
            output / "clips",
            description="clips for tokens and other speakers",
            max_clips=few,
            **options,
        )
        sys.stdout.write(f"{output / 'train'}: {line} (for tokens and other speakers)\n")
        write_training(stream_file, place, flags, args)
        sys.stdout.write(f"{stream_file}: {', '.join(training)}\n")
    return 0


def present_sets(place: Place, wanted: Sequence[str]) -> list[str]:
    """Return the test sets that there are; the others of an incomplete copy are named in a warning."""
    known = shard_splits(place.avyt, place.cache_dir).get("lrs2", [])
    absent = [name for name in wanted if name not in known]
    if absent:
        logger.warning("%s: no shards of %s; they are left out", place.avyt, ", ".join(absent))
    return [name for name in wanted if name in known]


def write_training(path: Path, place: Place, flags: Mapping[str, bool], args: argparse.Namespace) -> None:
    """Write ``train_stream.yaml`` after a look at every source, so that what is missing is found out now."""
    training = place.training()
    place.open(training)
    write_stream_plan(
        path,
        training,
        probabilities=dict(PROBABILITIES_MCOREC if place.mcorec is not None else PROBABILITIES),
        seed=MIX_SEED,
        shuffle_buffer=args.shuffle_buffer,
        legacy=flags["legacy_order"],
        max_frames=int(args.max_sec * FPS),
        streaming=place.streaming,
        cache_dir=place.cache_dir,
    )


def _flag(args: argparse.Namespace, name: str) -> bool:
    value = str(getattr(args, name)).lower()
    if value not in ("true", "false"):
        raise UsageError(describe(f"--{name}", value, ["true", "false"]))
    return value == "true"


def _place(text: str) -> str:
    """Return a folder with its whole path, so that training finds it from anywhere; names of the hub as they are."""
    return str(Path(text).resolve()) if Path(text).exists() else text


if __name__ == "__main__":
    sys.exit(run_main(main))

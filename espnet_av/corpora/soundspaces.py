# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""A user's copy of the SoundSpaces data of active separation: where things lie, and how a recipe gets at them.

``python -m espnet_av.corpora.soundspaces --root DIR --output_dir data`` writes below ``data`` what
:mod:`espnet_av.corpora.mini_world` writes, as links into the copy:

    world/{metadata,binaural_rirs,scene_observations}, audio_data, classes.json, scenes/<set>, data.json,
    given/<set>.json     the published episodes of a set, and given/{train,val}.points.json: passive data points
"""

import argparse
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.episodes import read_episodes
from espnet_av.activesep.scene_files import ScenePaths
from espnet_av.activesep.sounds import class_of
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.files import atomic_write

logger = logging.getLogger(__name__)
LICENCE = "Matterport3D (research only, signed agreement), LibriSpeech CC-BY-4.0, MUSIC, ESC-50 CC-BY-NC-3.0"
PUBLISHED = {
    "train": "train_731243episodes",
    "valid_heard": "val_100episodes",
    "valid_unheard": "valUnheard_100episodes",
    "test_heard": "test_1000episodes",
    "test_unheard": "testUnheard_1000episodes",
}
FOLDERS = ("metadata", "binaural_rirs")


def find_audio(root: Path) -> Path:
    """Return the folder above ``min20s_clips``.

    Raises:
        MissingDataError: There is none.
    """
    for place in (root / "audio_data", *sorted(root.glob("audio_data/*"))):
        if (place / "min20s_clips").is_dir():
            return place
    raise MissingDataError(
        describe(f"no clips below {root / 'audio_data'}", allowed="<name>/min20s_clips/<split>/<class>_*.wav")
    )


def link(source: Path, place: Path) -> None:
    """Make ``place`` a link to a folder, in place of an earlier link."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        raise DataError(describe(f"{place} is no link", fix="choose another --datadir, or move it away"))
    place.symlink_to(os.path.abspath(source), target_is_directory=True)


def link_world(root: Path, output_dir: Path, observations: str) -> None:
    """Link the folders of scenes and sounds.

    Raises:
        MissingDataError: One is not there.
    """
    for name, source in (*((name, name) for name in FOLDERS), ("scene_observations", observations)):
        if not (root / source).is_dir():
            allowed = "metadata, binaural_rirs, scene_observations, audio_data"
            raise MissingDataError(describe("a part of the data is missing", got=str(root / source), allowed=allowed))
        link(root / source, output_dir / "world" / name)
    link(find_audio(root), output_dir / "audio_data")


def find_splits(root: Path, sets: Sequence[str], given: dict[str, str]) -> dict[str, str]:
    """Return the published split of each set; sets without one are left out, and their episodes will be drawn."""
    found = {}
    for name in sets:
        split = given.get(name) or PUBLISHED.get(name)
        if split and (root / "active_datasets" / "v1" / split / f"{split}.json.gz").is_file():
            found[name] = split
        elif name in given:
            raise MissingDataError(
                describe("no such split of episodes", got=str(root / "active_datasets" / "v1" / str(split)))
            )
        else:
            logger.warning("no published episodes for the set '%s'; stage 4 draws some", name)
    return found


def prepare(root: Path, output_dir: Path, sets: Sequence[str], given: dict[str, str], dataset: str) -> None:
    """Write lists, labels and what is given."""
    splits = find_splits(root, sets, given)
    all_scenes = ScenePaths.below(root, dataset).scenes()
    if not all_scenes:
        raise MissingDataError(describe("no scenes", got=str(root / "metadata" / dataset)))
    table = ClassTable.published()
    pairs: dict[str, int] = {}
    for name in sets:
        scenes = all_scenes
        if name in splits:
            episodes = read_episodes(root / "active_datasets", splits[name])
            scenes = sorted({episode.scene for episode in episodes})
            pairs |= {class_of(episode.sounds[0].clip): episode.target_label for episode in episodes}
            _write_json(output_dir / "given" / f"{name}.json", {"split": splits[name]})
        with atomic_write(output_dir / "scenes" / name) as stream:
            stream.writelines(f"{scene}\n" for scene in scenes)
    if splits:
        link(root / "active_datasets", output_dir / "given" / "active_datasets")
    if all((root / "passive_datasets" / "v1" / split).is_dir() for split in ("train", "val")):
        link(root / "passive_datasets", output_dir / "given" / "passive_datasets")
    table = table.learn(pairs.items())
    folder = output_dir / "audio_data" / "min20s_clips"
    classes = {class_of(path.stem) for path in folder.glob("*/*.wav")}
    strange = sorted(classes - set(table.labels))
    if strange and splits:
        logger.warning("%d classes have no label in any episode and are left out: %s", len(strange), strange[:5])
    (table if splits else ClassTable.build(classes)).write(output_dir / "classes.json")
    _write_json(output_dir / "data.json", {"licence": LICENCE, "description": f"SoundSpaces 1.0, {dataset}"})


def _write_json(path: Path, content: dict) -> None:
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=1)


def get_parser() -> argparse.ArgumentParser:
    """Return the options."""
    parser = argparse.ArgumentParser(description="Find the parts of the SoundSpaces data and link them.")
    parser.add_argument("--root", type=Path, required=True, help="folder above metadata/, binaural_rirs/, ...")
    parser.add_argument("--output_dir", type=Path, default=Path("data"))
    parser.add_argument("--dataset", default="mp3d", help="folder between metadata/ and the scenes")
    parser.add_argument("--observations", default="scene_observations", help="folder of the observations below root")
    parser.add_argument("--sets", nargs="+", default=list(PUBLISHED))
    parser.add_argument("--splits", nargs="*", default=[], metavar="SET=SPLIT", help="splits by other names")
    parser.add_argument("--seed", type=int, default=0, help="not used")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command line."""
    args = get_parser().parse_args(cmd)
    given = dict(item.partition("=")[::2] for item in args.splits)
    link_world(args.root, args.output_dir, args.observations)
    prepare(args.root, args.output_dir, args.sets, given, args.dataset)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

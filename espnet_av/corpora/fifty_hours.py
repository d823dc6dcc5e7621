# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One actor in conversation with many partners: the layout of the published 50-hour recordings.

::

    audio/<segment>.wav                             48 kHz; actor, partner
    expression_codes/<segment>.npy                  (N, 256), 30 Hz
    headpose/<segment>--headpose.npy                (N, 3, 4) rotation | translation
    headpose/headpose_normstats/*.npy
    wav2vec2_fairseq_base_ls960_asr_ls960_vad100/<segment>.npy      (2, M, 29)
    participant/camera01/smirk_outputs/<segment>--{expression,headpose}.npy

The partner's files may be absent. ``text`` and ``phones/<segment>.json`` may lie beside them.

``python -m espnet_av.corpora.fifty_hours --root ROOT --output_dir data`` checks every file against this layout and
writes a data folder for each subset.
"""

import argparse
import logging
import shutil
import sys
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np

from espnet_av.avgen.layouts import RecordingLayout
from espnet_av.avgen.participant import PARTNER, PARTNER_RANGE, PARTS
from espnet_av.avgen.pose import HEAD_STATISTICS
from espnet_av.avgen.presets import PARTNER_DIMS
from espnet_av.avgen.recordings import Recording
from espnet_av.avgen.score_files import BASIS
from espnet_av.corpora.actor_layouts import (
    FACE_VALUES,
    WrongFile,
    check_array,
    check_sound,
    check_tokens,
    check_vectors,
)
from espnet_av.data.data_dir import DataDir, read_scp
from espnet_av.data.drops import Drops
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import MissingDataError, describe
from espnet_av.utils.experiment import write_json
from espnet_av.utils.untrusted import load_npy

logger = logging.getLogger(__name__)
AUDIO, FACE, HEAD = "audio", "expression_codes", "headpose"
#: Tokens whose silence was cut by an activity detector come first, as in the published training.
TOKEN_DIRS = ("wav2vec2_fairseq_base_ls960_asr_ls960_vad100", "wav2vec2_fairseq_base_ls960_asr_ls960")
HEAD_SIZES = {"translation": 3, "qvec": 4}  # values of the statistics of the head
PARTNER_WIDTHS = (PARTNER_DIMS["expression"], PARTNER_DIMS["head"])  # in the order of PARTS
VALID_DATES = ("20240408", "20240509")
TEST_DATE = "20240509--1052"
#: Files of a data folder, and the attribute of a recording that fills them.
TABLES = {
    "wav.scp": "wav",
    "face.scp": "face",
    "head.scp": "head",
    "tokens.scp": "tokens",
    "other_expression.scp": "other_expression",
    "other_head.scp": "other_head",
    "text": "text",
}


def find_segments(root: str | Path, *, token_dir: str | None = None, leave_out: Container[str] = ()) -> list[Recording]:
    """Return the segments of a folder in the 50h layout, sorted by name.

    Args:
        root: The folder.
        token_dir: Folder of the tokens below it; None: the first of :data:`TOKEN_DIRS` that is there.
        leave_out: Segments to pass over.

    Raises:
        MissingDataError: There are no segments, or a segment has no sound or no head.
    """
    root = Path(root)
    tokens = pick_token_dir(root, token_dir)
    texts = read_scp(root / "text", allow_empty=True) if (root / "text").is_file() else {}
    found = []
    for face in sorted((root / FACE).glob("*.npy")):
        name = face.stem
        if name in leave_out:
            continue
        wav, head = root / AUDIO / f"{name}.wav", root / HEAD / f"{name}--headpose.npy"
        for path in (wav, head):
            if not path.is_file():
                raise MissingDataError(describe(f"segment '{name}' has no {path}", fix="copy it, or drop the segment"))
        expression, turn = (root / PARTNER / f"{name}--{part}.npy" for part in ("expression", "headpose"))
        seen = expression.is_file() and turn.is_file()
        found.append(
            Recording(
                name,
                str(wav),
                str(face),
                str(head),
                text=texts.get(name),
                tokens=str(tokens / f"{name}.npy") if tokens is not None else None,
                other_expression=str(expression) if seen else None,
                other_head=str(turn) if seen else None,
            )
        )
    if not found:
        raise MissingDataError(describe(f"{root / FACE} holds no segments", allowed="<segment>.npy"))
    return found


def pick_token_dir(root: Path, token_dir: str | None) -> Path | None:
    """Return the folder of tokens below a data set; None where there is none.

    Raises:
        MissingDataError: The folder that was named is not there.
    """
    if token_dir is not None:
        if not (root / token_dir).is_dir():
            fix = "extract the tokens first, or name another token_dir"
            raise MissingDataError(describe("no folder of tokens", str(root / token_dir), fix=fix))
        return root / token_dir
    return next((root / name for name in TOKEN_DIRS if (root / name).is_dir()), None)


def check_layout(root: str | Path, *, token_dir: str | None = None) -> Drops:
    """Compare a folder with the layout.

    Args:
        root: The folder.
        token_dir: See :func:`find_segments`.

    Returns:
        The segments that differ from it, with reasons: ``missing_file``, ``unreadable``, ``wrong_shape``,
        ``wrong_sound``, ``wrong_length``.

    Raises:
        MissingDataError: A folder or a file that belongs to the whole is missing.
        DataError: A file that belongs to the whole is another one.
    """
    root = Path(root)
    for name in (AUDIO, FACE, HEAD):
        if not (root / name).is_dir():
            fix = "name the folder that holds audio/, expression_codes/ and headpose/"
            raise MissingDataError(describe(f"{root} is no folder in the 50h layout", f"no {name}/", fix=fix))
    sizes = {f"head_{name}_{what}.npy": size for name, size in HEAD_SIZES.items() for what in ("mean", "std")}
    check_vectors(root / HEAD_STATISTICS, sizes)
    if (root / PARTNER).is_dir():
        widths = dict(zip(PARTS, PARTNER_WIDTHS, strict=True))
        sizes = {f"{name}_{what}.npy": size for name, size in widths.items() for what in ("min", "max")}
        check_vectors(root / PARTNER_RANGE, sizes)
    tokens = pick_token_dir(root, token_dir)
    names = {path.stem for path in (root / AUDIO).glob("*.wav")} | {path.stem for path in (root / FACE).glob("*.npy")}
    drops = Drops(len(names))
    for name in sorted(names):
        try:
            _check_segment(root, name, tokens)
        except WrongFile as wrong:
            drops.add(name, *wrong.args)
    return drops


def _check_segment(root: Path, name: str, tokens: Path | None) -> None:
    face = check_array(root / FACE / f"{name}.npy", (None, FACE_VALUES))
    check_array(root / HEAD / f"{name}--headpose.npy", (len(face), 3, 4))
    check_sound(root / AUDIO / f"{name}.wav", len(face), tolerance=1)
    if tokens is not None:
        check_tokens(tokens / f"{name}.npy")
    partner = {part: root / PARTNER / f"{name}--{part}.npy" for part in PARTS}
    if any(path.is_file() for path in partner.values()):
        for part, width in zip(PARTS, PARTNER_WIDTHS, strict=True):
            check_array(partner[part], (len(face), width))


def in_subset(name: str, subset: str) -> bool:
    """Tell whether a segment belongs to ``train``, ``valid``, ``test`` (a part of ``valid``) or ``all``."""
    valid = any(date in name for date in VALID_DATES)
    member = {"all": True, "train": not valid, "valid": valid, "test": valid and TEST_DATE in name}
    return member[subset]


def mean_rotation(root: str | Path) -> list[float] | None:
    """Return the mean quaternion of the published statistics of the head; None where there are none."""
    path = Path(root) / HEAD_STATISTICS / "head_qvec_mean.npy"
    if not path.is_file():
        return None
    return [float(value) for value in load_npy(path).reshape(-1)]


class FiftyHours(RecordingLayout):
    """The layout for training and inference."""

    @staticmethod
    def matches(folder: Path) -> bool:
        """Return whether a folder holds expression codes."""
        return (folder / FACE).is_dir()

    @staticmethod
    def find(
        folder: Path, *, subset: str = "all", split: str = "a2p", token_dir: str | None = None
    ) -> tuple[list[Recording], list[float] | None]:
        """See :meth:`espnet_av.avgen.layouts.RecordingLayout.find`; ``split`` has no meaning here."""
        found = find_segments(folder, token_dir=token_dir)
        return [each for each in found if in_subset(each.uid, subset)], mean_rotation(folder)


def write_ranges(root: str | Path) -> None:
    """Write the statistics files of the layout from its training segments: of the head, and of the partner's face.

    Args:
        root: The folder, which must have the partner's files.

    Raises:
        MissingDataError: A segment lacks a file, or there is none to train on.
    """
    import torch

    from espnet_av.avgen.pose import HeadStatistics, pose_to_vector

    root = Path(root)
    train = [each for each in find_segments(root) if in_subset(each.uid, "train")]
    if not train or not all(each.has_partner for each in train):
        raise MissingDataError(describe(f"{root}: no training segments with a partner", fix="add the partner's files"))
    vectors = torch.cat([pose_to_vector(torch.from_numpy(load_npy(each.head))) for each in train])
    vectors[:, :4] *= torch.where(vectors[:, :1] < 0, -1.0, 1.0)
    found = HeadStatistics.from_vectors(vectors)
    (root / HEAD_STATISTICS).mkdir(parents=True, exist_ok=True)
    for name, columns in (("qvec", slice(0, 4)), ("translation", slice(4, 7))):
        np.save(root / HEAD_STATISTICS / f"head_{name}_mean.npy", found.mean[columns].numpy())
        np.save(root / HEAD_STATISTICS / f"head_{name}_std.npy", found.std[columns].numpy())
    (root / PARTNER_RANGE).mkdir(parents=True, exist_ok=True)
    for part, files in zip(PARTS, ("other_expression", "other_head"), strict=True):
        values = np.concatenate([load_npy(getattr(each, files)) for each in train])
        np.save(root / PARTNER_RANGE / f"{part}_min.npy", values.min(axis=0))
        np.save(root / PARTNER_RANGE / f"{part}_max.npy", values.max(axis=0))


def write_sets(
    root: str | Path,
    output_dir: str | Path,
    *,
    token_dir: str | None = None,
    licence: str | None = None,
    max_dropped_share: float = 0.05,
) -> dict[str, int]:
    """Write data folders ``train``, ``valid`` and ``test``; here, what is in ``test`` is not in ``valid``.

    A table names the recordings that have the file; run this again when there are tokens.

    Args:
        root: The folder in the 50h layout.
        output_dir: Gets the data folders, and ``face_basis.npz`` where there is one.
        token_dir: See :func:`find_segments`.
        licence: Of the recordings.
        max_dropped_share: Segments that differ from the layout are left out; more than this share are an error.

    Returns:
        The recordings of each set that has any.

    Raises:
        MissingDataError: There are no segments, or files of the whole are missing.
        TooManyDropped: Too many segments differ from the layout; the reasons lie in ``layout_report.json``.
    """
    root = Path(root).resolve()
    drops = check_layout(root, token_dir=token_dir)
    report = Path(output_dir) / "layout_report.json"
    report.parent.mkdir(parents=True, exist_ok=True)
    write_json(report, drops.summary(), sort_keys=True)
    drops.check(max_dropped_share, report, "--max_wrong_share")
    if len(drops):
        logger.warning("%s; see %s", drops.one_line(), report)
    found = find_segments(root, token_dir=token_dir, leave_out=drops)
    counts = {}
    for subset in ("train", "valid", "test"):
        chosen = [each for each in found if in_subset(each.uid, subset)]
        if subset == "valid":
            chosen = [each for each in chosen if not in_subset(each.uid, "test")]
        if not chosen:
            continue
        data = DataDir(Path(output_dir) / subset)
        data.path.mkdir(parents=True, exist_ok=True)
        tables = {name: {each.uid: getattr(each, value) for each in chosen} for name, value in TABLES.items()}
        tables["phones.scp"] = {each.uid: _existing(root / "phones" / f"{each.uid}.json") for each in chosen}
        tables["tokens.scp"] = {uid: _existing(path) for uid, path in tables["tokens.scp"].items()}
        for name, table in tables.items():
            known = {uid: value for uid, value in table.items() if value is not None}
            if known:
                data.write(name, known)
            else:
                (data / name).unlink(missing_ok=True)
        data.write("utt2spk", {each.uid: "actor" for each in chosen})
        about = {"licence": licence} if licence else {}
        data.write_meta({"motion_fps": chosen[0].fps, "source": str(root), **about})
        counts[subset] = len(chosen)
    if (root / BASIS).is_file():
        shutil.copyfile(root / BASIS, Path(output_dir) / BASIS)
    return counts


def _existing(path: str | Path | None) -> str | None:
    return str(path) if path is not None and Path(path).is_file() else None


def main(cmd: Sequence[str] | None = None) -> int:
    """Write the data folders of a folder in the 50h layout."""
    parser = argparse.ArgumentParser(description="Write data folders train, valid and test of the 50h layout.")
    parser.add_argument("--root", type=Path, required=True, help="the folder in the 50h layout")
    parser.add_argument("--output_dir", type=Path, default=Path("data"), help="gets the data folders")
    parser.add_argument("--token_dir", help="folder of the tokens below the root (default: the usual ones)")
    parser.add_argument("--licence", help="of the recordings; a model that was trained on them has to keep it")
    share = ("--max_wrong_share", "--max_dropped_share")
    parser.add_argument(*share, type=float, default=0.05, help="more wrong segments are an error")
    args = parser.parse_args(cmd)
    options = {"licence": args.licence, "max_dropped_share": args.max_wrong_share}
    counts = write_sets(args.root, args.output_dir, token_dir=args.token_dir, **options)
    sys.stdout.write(", ".join(f"{args.output_dir / name}: {count}" for name, count in counts.items()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

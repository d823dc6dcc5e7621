# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Data folders of MCoRec: every caption of the labels is an utterance, cut out of the track that shows the face.

``train`` and ``valid`` come from the training sessions, whole sessions each; ``test`` are the captions of the
development sessions that lie inside the scored time. Captions while no track shows the face are left out and counted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from espnet_av.avsr.segmentation import FPS
from espnet_av.avsr.session_files import Speaker, Track, find_sessions, read_session
from espnet_av.avsr.session_scoring import inside, spoken
from espnet_av.avsr.text import normalize_text
from espnet_av.avsr.vtt import Caption
from espnet_av.corpora.lrs_sets import hold_out
from espnet_av.corpora.utterances import Utterance, merge_drops, write_set
from espnet_av.data.drops import Drops
from espnet_av.utils.cli import run_main
from espnet_av.utils.errors import DataError, MissingDataError, describe
from espnet_av.utils.progress import progress

LICENCE = "terms of MCoRec (CHiME-9), to be accepted where the data is given out"
GET_IT = "ask for the data at https://huggingface.co/datasets/MCoRecChallenge/MCoRec and pass --mcorec_root DIR"
EDGE_SEC = 0.5 / FPS  # captions and tracks are rounded differently


def session_utterances(path: Path, *, scored_only: bool = False) -> tuple[list[Utterance], Drops]:
    """Return the captions of a session as utterances.

    Args:
        path: Session folder.
        scored_only: Leave out captions outside the scored time; they do not count as lost.

    Returns:
        The utterances, and what was left out: ``unreadable_session``, ``no_captions``, ``bad_captions``,
        ``empty_text``, ``no_face``.
    """
    drops = Drops(0)
    try:
        session = read_session(path)
    except DataError as error:
        drops.total += 1
        drops.add(path.name, "unreadable_session", str(error))
        return [], drops
    utterances = []
    for name, speaker in session.speakers.items():
        captions = session.captions(name)
        if captions is None:
            problem = session.problems[-1]
            drops.total += 1
            drops.add(f"{session.name}_{name}", problem.reason, problem.detail)
            continue
        kept = inside(captions, speaker.uem if scored_only else None)
        drops.total += len(kept)
        utterances += _cut(session.name, speaker, kept, drops)
    return utterances, drops


def _cut(session: str, speaker: Speaker, captions: Sequence[Caption], drops: Drops) -> list[Utterance]:
    utterances: dict[str, Utterance] = {}
    person = f"{session}_{speaker.name}"
    for caption in captions:
        utt = f"{person}-{round(100 * caption.start):07d}-{round(100 * caption.end):07d}"
        text = " ".join(normalize_text(spoken(caption.text)).split())
        track = next((track for track in speaker.tracks if _shows(track, caption)), None)
        if utt in utterances:
            drops.add(f"{utt}-again", "duplicate", f"two captions from {caption.start:.2f} to {caption.end:.2f} s")
        elif not text or caption.end - caption.start < 1 / FPS:
            drops.add(utt, "empty_text", f"caption at {caption.start:.2f} s")
        elif track is None or track.lip is None:
            drops.add(utt, "no_face", f"no usable track from {caption.start:.2f} to {caption.end:.2f} s")
        else:
            start = max(0.0, caption.start - track.start_sec)
            end = caption.end - track.start_sec
            utterances[utt] = Utterance(utt, person, text, track.lip, start_sec=start, end_sec=end, roi="center")
    return list(utterances.values())


def _shows(track: Track, caption: Caption) -> bool:
    if track.num_frames is None:
        return False
    end = track.start_sec + track.num_frames / FPS
    return track.start_sec <= caption.start + EDGE_SEC and caption.end <= end + EDGE_SEC


def get_parser() -> argparse.ArgumentParser:
    """Return the options of this command."""
    parser = argparse.ArgumentParser(prog="mcorec_sets", description="Make data folders of MCoRec sessions.")
    parser.add_argument("--mcorec_root", required=True, metavar="DIR", help="holds train/<session>, dev/<session>")
    parser.add_argument("--output_dir", default="data", metavar="DIR", help="where train, valid and test are made")
    parser.add_argument("--train_sessions", default="train/*", help="pattern below the root")
    parser.add_argument("--test_sessions", default="dev/*", help="pattern below the root")
    parser.add_argument("--segmentations", default="", help="of stage 7a; not used here")
    parser.add_argument("--valid_share", type=float, default=0.1, help="share of the training captions held out")
    parser.add_argument("--max_dropped_share", type=float, default=0.2, help="more lost captions of a set are an error")
    parser.add_argument("--max_sessions", type=int, default=0, help="read only so many sessions of each part; 0: all")
    parser.add_argument("--seed", type=int, default=0, help="seed of what is held out")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    """Run the command."""
    args = get_parser().parse_args(cmd)
    root = Path(args.mcorec_root)
    if not root.is_dir():
        raise MissingDataError(describe("no MCoRec corpus", got=str(root), allowed="an existing folder", fix=GET_IT))
    parts = {}
    for name, pattern in (("train", args.train_sessions), ("test", args.test_sessions)):
        folders = find_sessions([str(root / pattern)])
        folders = folders[: args.max_sessions] if args.max_sessions > 0 else folders
        parts[name] = [
            session_utterances(folder, scored_only=name == "test") for folder in progress(folders, title=name)
        ]
    sets = {name: [item for utterances, _ in found for item in utterances] for name, found in parts.items()}
    drops = {name: merge_drops(part for _, part in found) for name, found in parts.items()}
    session_of = {item.utt: str(number) for number, (part, _) in enumerate(parts["train"]) for item in part}
    held = hold_out(session_of, args.valid_share, args.seed)
    sets["valid"] = [item for item in sets["train"] if session_of[item.utt] in held]
    sets["train"] = [item for item in sets["train"] if session_of[item.utt] not in held]
    drops["valid"] = Drops(len(sets["valid"]))
    output = Path(args.output_dir)
    for name in ("train", "valid", "test"):
        meta = {"fps": FPS, "licence": LICENCE, "description": f"MCoRec, set {name}, captions"}
        line = write_set(sets[name], output / name, drops[name], meta, max_dropped_share=args.max_dropped_share)
        sys.stdout.write(f"{output / name}: {len(sets[name])} utterances; captions: {line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))

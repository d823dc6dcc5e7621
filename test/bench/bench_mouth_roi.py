# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Frames per CPU second of decoding, face detection and mouth cropping, one thread.

python test/bench/bench_mouth_roi.py --clips DIR [--num_clips 20]
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import cv2

from espnet_av.data.face_detector import LiteRTFaceMesh
from espnet_av.data.mouth_roi import ClipRejected, CropRules, check_detection, crop_mouth, interpolate_missing, to_gray
from espnet_av.data.video_io import read_video

Result = TypeVar("Result")


def main() -> int:
    """Print one line per step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", required=True, help="folder of clips")
    parser.add_argument("--num_clips", type=int, default=20)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detector = LiteRTFaceMesh()
    paths = sorted(path for path in Path(args.clips).iterdir() if path.suffix in (".mpg", ".mp4", ".mkv", ".avi"))
    seconds = {"decode": 0.0, "detect": 0.0, "crop": 0.0}
    num_frames = num_detected = num_rejected = 0

    def timed(step: str, action: Callable[[], Result]) -> Result:
        start = time.process_time()
        result = action()
        seconds[step] += time.process_time() - start
        return result

    for path in paths[:: max(1, len(paths) // args.num_clips)][: args.num_clips]:
        frames = timed("decode", lambda path=path: read_video(path).frames)
        landmarks = timed("detect", lambda frames=frames: detector.detect(frames))
        num_frames += len(frames)
        num_detected += sum(points is not None for points in landmarks)
        try:
            check_detection(landmarks, CropRules())
        except ClipRejected:
            num_rejected += 1
            continue
        points = interpolate_missing(landmarks)
        timed("crop", lambda frames=frames, points=points: crop_mouth(to_gray(frames), points))
    for step, spent in seconds.items():
        sys.stdout.write(f"{step}: {1e6 * spent / num_frames:.0f} us per frame\n")
    sys.stdout.write(
        f"all: {num_frames / sum(seconds.values()):.0f} frames per CPU second; {num_detected} of {num_frames} frames "
        f"with a face, {num_rejected} clips rejected\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

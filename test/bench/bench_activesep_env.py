# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Environment steps per second, against the work that the reference does in each step, side by side in one process.

The reference's step is rendered faithfully: every step it reads the whole clip and the impulse response of each source
from disk, convolves each ear with SciPy, and makes ten spectra one after the other with magnitude and phase (mixture of
two ears, two sources at two ears and dry), which go to half precision. Steps of both kinds alternate in blocks, so that
other work on the machine slows both alike.

python test/bench/bench_activesep_env.py [--scene_dir DIR] [--num_steps 400] [--num_taps 4000]
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import librosa
import numpy as np
import scipy.signal
import soundfile
import torch

from espnet_av.activesep import spectra
from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.env import SENSORS, ActiveSeparationEnv
from espnet_av.activesep.episode_generator import EpisodeRules, draw_episodes
from espnet_av.activesep.episodes import Episode
from espnet_av.activesep.graph import azimuth_of
from espnet_av.activesep.scene import open_scene
from espnet_av.activesep.scene_files import ScenePaths
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.synthetic_clips import write_synthetic_clips
from espnet_av.activesep.vector_env import make_vector_env
from espnet_av.activesep.world_generator import generate_scene
from espnet_av.activesep.world_layout import LayoutRules

CLASSES = ("7540", "3274", "music", "esc")
BLOCK = 20  # steps, one episode


class ReferenceSteps:
    """What the reference's simulator and sensors do in a step, in cached mode.

    Args:
        paths: Where the scene lies.
        env: Walks the same way; its observations are not used.
    """

    def __init__(self, paths: ScenePaths, env: ActiveSeparationEnv) -> None:
        self.paths, self.env = paths, env
        self.seen = {
            (node, rotation): env.store.observation(node, rotation)
            for node in env.store.graph.nodes
            for rotation in (0, 90, 180, 270)
        }

    def listen(self) -> dict[str, np.ndarray]:
        """Return all observations of the present place."""
        env, rate = self.env, 16000
        ears, dry = [], []
        for sound, source, start in zip(env.episode.sounds, env._source_nodes, env._starts, strict=True):
            clip, _ = soundfile.read(env.clips.folder / f"{sound.clip}.wav", dtype="int16")
            chunk = np.take(clip, range(start, start + rate), mode="wrap") if start + rate > len(clip) else None
            chunk = clip[start : start + rate] if chunk is None else chunk
            path = self.paths.rir(env.store.name, azimuth_of(env.rotation), env.node, source)
            response, _ = soundfile.read(path, dtype="float32")
            both = [scipy.signal.fftconvolve(chunk, response[:, ear], mode="same") for ear in (0, 1)]
            ears.append(np.round(np.array(both)).astype(np.int16).astype(np.float32) / 32768)
            dry.append(chunk.astype(np.float32) / 32768)
        mixture = np.sum(ears, axis=0) / len(ears)
        observation = {
            "rgb": self.seen[env.node, env.rotation]["rgb"].copy(),
            "depth": self.seen[env.node, env.rotation]["depth"].copy(),
            "target_class": np.array([env.episode.target_label]),
            "pose": env._pose(),
        }
        mixed = [self.spectrum(wave) for wave in mixture]
        observation["mixed_bin_audio_mag"] = np.log1p(np.stack([m for m, _ in mixed], -1).astype(np.float16))
        observation["mixed_bin_audio_phase"] = np.stack([p for _, p in mixed], -1).astype(np.float16)
        parts = [part for source in ears for wave in source for part in self.spectrum(wave)]
        observation["gt_bin_comps"] = np.stack(parts, -1).astype(np.float16)
        mono = []
        for wave in dry:
            magnitude, phase = self.spectrum(wave)
            rms = np.sqrt(np.mean(magnitude**2))
            mono += [magnitude * 1.2 / rms if rms else magnitude, phase]
        observation["gt_mono_comps"] = np.stack(mono, -1).astype(np.float16)
        return observation

    @staticmethod
    def spectrum(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return magnitude and phase as the reference computes them."""
        transformed = librosa.stft(np.asfortranarray(wave), hop_length=512, n_fft=1023)
        magnitude, unit = librosa.magphase(transformed)
        return magnitude, np.angle(unit)


def timed(steps: int, step: Callable[[int], object], clock: Callable[[], float]) -> float:
    """Return the seconds that ``steps`` calls take."""
    start = clock()
    for index in range(steps):
        step(index)
    return clock() - start


def make_data(folder: Path, num_taps: int) -> None:
    """Write a house of 8 nodes and four clips of 24 s, as files of the reference and packed."""
    rules = LayoutRules(width=4, depth=2, num_rooms=2, furniture_share=0.0, num_sources=8)
    generate_scene(folder, "bench", 0, rules, formats=("packed", "wavdir"), num_taps=num_taps, ears="sphere")
    write_synthetic_clips(folder / "clips", CLASSES, per_class=1, seconds=24.0)


def make_env(folder: Path, clips: ClipLibrary, episodes: list[Episode], **options: object) -> ActiveSeparationEnv:
    """Return an environment on the packed scene, its caches warm."""
    env = ActiveSeparationEnv(open_scene(folder, "bench"), episodes, clips, **options)
    walk(env, 3 * BLOCK)
    return env


def walk(env: ActiveSeparationEnv, steps: int) -> None:
    """Play a fixed list of actions."""
    env.reset(seed=0)
    for index in range(steps):
        if env.step((2, 0, 1, 0, 0)[index % 5])[2]:
            env.reset()


def main() -> int:
    """Print one line per kind of environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scene_dir", help="keep the scene here (default: a temporary folder)")
    parser.add_argument("--num_steps", type=int, default=400)
    parser.add_argument("--num_taps", type=int, default=4000, help="length of impulse responses")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2, 4], help="environments side by side")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(args.scene_dir or scratch)
        make_data(folder, args.num_taps)
        clips = ClipLibrary(folder / "clips", classes=ClassTable.build(CLASSES))
        rules = EpisodeRules(min_distance=2.0)
        episodes = draw_episodes(open_scene(folder, "bench"), clips, 10, rules)
        cores = len(os.sched_getaffinity(0))
        threads = os.environ.get("OMP_NUM_THREADS", "not set")
        sys.stdout.write(
            f"{args.num_taps} taps, {cores} cores, OMP_NUM_THREADS {threads}, {args.num_steps} steps each\n"
        )
        compare(folder, clips, episodes, args.num_steps)
        for count in args.workers:
            for asynchronous in (False, True):
                measure_vector(folder, clips, episodes, count, asynchronous, args.num_steps)
    return 0


def compare(folder: Path, clips: ClipLibrary, episodes: list[Episode], num_steps: int) -> None:
    """Measure one environment of each kind in turn, and print steps per CPU second and ratios."""
    kinds = {
        "all sensors": make_env(folder, clips, episodes),
        "all sensors, causal": make_env(folder, clips, episodes, convolution="causal"),
        "mixture only": make_env(folder, clips, episodes, sensors=("audio", "class", "pose")),
        "reference_compat": make_env(folder, clips, episodes, reference_compat=True),
    }
    assert tuple(kinds["all sensors"].sensors) == SENSORS
    silent = make_env(folder, clips, episodes, sensors=("pose",))
    reference = ReferenceSteps(ScenePaths.below(folder), silent)
    seconds: dict[str, list[float]] = {name: [] for name in ("reference", *kinds, "all sensors and learner's spectra")}

    def reference_step(index: int) -> None:
        if silent.step((2, 0, 1, 0, 0)[index % 5])[2]:
            silent.reset()
        reference.listen()

    for _ in range(max(1, num_steps // BLOCK)):
        silent.reset()
        seconds["reference"].append(timed(BLOCK, reference_step, time.process_time))
        for name, env in kinds.items():
            env.reset()
            actions = [(2, 0, 1, 0, 0)[index % 5] for index in range(BLOCK)]
            seen: list[dict[str, np.ndarray]] = []
            seconds[name].append(
                timed(BLOCK, lambda i, env=env, a=actions, s=seen: s.append(env.step(a[i])[0]), time.process_time)
            )
            if name == "all sensors":
                learner = timed(1, lambda _, s=seen: transform(s), time.process_time)
                seconds["all sensors and learner's spectra"].append(seconds[name][-1] + learner)
    base = statistics.median(seconds["reference"])
    for name, values in seconds.items():
        middle = statistics.median(values)
        sys.stdout.write(
            f"{name:34s} {BLOCK / middle:7.0f} steps per CPU second, {base / middle:5.1f} x the reference\n"
        )


def transform(observations: list[dict[str, np.ndarray]]) -> None:
    """Compute what a learner needs of a batch of waveforms: all that it trains and is rewarded on."""
    spectra.mixture_log_magnitude(torch.from_numpy(np.stack([seen["mixture_wave"] for seen in observations])))
    spectra.ear_magnitude(torch.from_numpy(np.stack([seen["target_ears"] for seen in observations])))
    spectra.normalised_mono_target(torch.from_numpy(np.stack([seen["target_dry"] for seen in observations])))


def measure_vector(
    folder: Path, clips: ClipLibrary, episodes: list[Episode], count: int, asynchronous: bool, num_steps: int
) -> None:
    """Print steps per second of wall clock of several environments."""
    envs = make_vector_env(count, folder, episodes, clips, asynchronous=asynchronous, by="episode")
    try:
        envs.reset(seed=0)
        actions = np.zeros(count, np.int64)
        timed(2 * BLOCK, lambda index: envs.step(actions + index % 3), time.perf_counter)
        rounds = max(BLOCK, num_steps // count)
        spent = timed(rounds, lambda index: envs.step(actions + index % 3), time.perf_counter)
    finally:
        envs.close()
    kind = "processes" if asynchronous else "in this process"
    sys.stdout.write(
        f"{count} x all sensors, {kind:16s} {count * rounds / spent:7.0f} steps per second of wall clock\n"
    )


if __name__ == "__main__":
    sys.exit(main())

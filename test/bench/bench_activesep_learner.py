# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The learner of active separation against the published way of learning, on stored observations, same weights.

The published way separates and refines each second twice (once for the reward of the action before it, once for the
next action), keeps 39 slots, encodes them anew each time, and trains the memory on all of them, filled or not, for each
step. Here a second is separated and encoded once, and only seconds that exist are refined.

Prints the largest difference of refined estimates and of the memory's loss (too large ones fail), frames per second of
a rollout, time of one epoch of the memory update, and bytes of what is stored beside the published formula.

    python test/bench/bench_activesep_learner.py
    python test/bench/bench_activesep_learner.py --preset published --parts collect --repeat 1
"""

import argparse
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.learner import ActiveSeparationLearner, LearnerOptions
from espnet_av.activesep.memory import refinement_loss
from espnet_av.activesep.memory_buffer import CAPACITY, REFINED_PAST, MemoryBuffer
from espnet_av.activesep.presets import PRESETS, get_preset
from espnet_av.activesep.reward import make_reward
from espnet_av.activesep.rollout_buffers import sense

PARTS = ("collect", "update", "storage")
TOLERANCE = 2e-4
FEATURES, POSE = 512 * 32, 4
SKIP = 16 * 16 * 16  # values of a skip of the memory's encoder
BYTES = 4
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def get_parser() -> argparse.ArgumentParser:
    """Return the parser of this program."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--preset", default="mini", choices=sorted(PRESETS))
    parser.add_argument("--envs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--repeat", type=int, default=2, help="rounds by turns; the least time counts")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--clock", default="cpu", choices=sorted(CLOCKS), help="cpu: CPU seconds of the process")
    return parser


class StoredEnvs:
    """Gives the same observations whatever the actions: one episode again and again.

    Args:
        num_envs: Environments.
        num_steps: Steps of an episode.
    """

    def __init__(self, num_envs: int, num_steps: int) -> None:
        random = np.random.RandomState(0)
        self.num_envs, self.num_steps, self.step_number = num_envs, num_steps, 0

        def sound(*shape: int) -> np.ndarray:
            return (3000 * random.standard_normal((num_envs, *shape))).astype(np.int16)

        self.observations = [
            {
                "mixture_wave": sound(2, 16000),
                "target_ears": sound(2, 16000),
                "target_dry": sound(16000),
                "rgb": random.randint(0, 256, (num_envs, 128, 128, 3)).astype(np.uint8),
                "target_class": random.randint(0, 100, (num_envs, 1)),
                "pose": np.full((num_envs, POSE), step, dtype=np.float32),
            }
            for step in range(num_steps)
        ]

    def reset(self, seed: object = None) -> tuple[dict, dict]:
        """Begin the episode."""
        self.step_number = 0
        return self.observations[0], {}

    def step(self, actions: np.ndarray) -> tuple:
        """Go on, whatever the actions."""
        self.step_number = (self.step_number + 1) % self.num_steps
        done = np.full(self.num_envs, self.step_number == 0)
        return self.observations[self.step_number], np.zeros(self.num_envs), np.zeros_like(done), done, {}


def build(args: argparse.Namespace) -> tuple[ActiveSeparationAgent, StoredEnvs]:
    """Return an agent with random weights and the environments."""
    torch.manual_seed(0)
    return ActiveSeparationAgent(**get_preset(args.preset)).eval(), StoredEnvs(args.envs, args.steps)


@torch.no_grad()
def collect_as_published(agent: ActiveSeparationAgent, envs: StoredEnvs, *, twice: bool) -> tuple[list[Tensor], dict]:
    """Collect a rollout; return refined estimates of the present seconds and what the memory update needs."""
    ring = MemoryBuffer(envs.num_envs, capacity=CAPACITY, num_slots=CAPACITY + envs.num_steps)
    hidden, not_done = agent.initial_hidden(envs.num_envs), torch.zeros(envs.num_envs)
    sensed = sense(envs.reset()[0])
    kept: dict[str, list] = {name: [] for name in ("mono", "pose", "target", "mask", "window")}
    refined, heard = [], None
    for _ in range(envs.num_steps):
        if twice or heard is None:
            heard = agent.hear(sensed.mixed, sensed.target_class, sensed.pose, ring)
        refined.append(heard.present)
        decision = agent.act(sensed.images, sensed.mixed, heard, hidden, not_done.unsqueeze(-1))
        hidden = decision.hidden
        for name, value in (("mask", ring.mask.clone()), ("window", ring.window(REFINED_PAST)), ("mono", heard.mono)):
            kept[name].append(value)
        kept["pose"].append(sensed.pose)
        kept["target"].append(sensed.target)
        observation, _, terminated, truncated, _ = envs.step(decision.action.squeeze(-1).numpy())
        not_done = 1.0 - torch.as_tensor(terminated | truncated).float()
        ring.insert(heard.mono, sensed.pose, not_done)
        sensed = sense(observation)
        heard = agent.hear(sensed.mixed, sensed.target_class, sensed.pose, ring)  # for the reward
    return refined, {**{name: torch.stack(values) for name, values in kept.items()}, "ring": ring}


def least_times(runs: dict[str, Callable[[], object]], args: argparse.Namespace) -> dict[str, float]:
    """Return the least seconds of each run, taken by turns."""
    clock, times = CLOCKS[args.clock], {name: [] for name in runs}
    for _ in range(args.repeat):
        for name, run in runs.items():
            start = clock()
            run()
            times[name].append(clock() - start)
    return {name: min(values) for name, values in times.items()}


def show(title: str, seconds: dict[str, float], frames: int | None = None) -> None:
    """Print times with their ratio to the first."""
    sys.stdout.write(f"{title}\n")
    base = next(iter(seconds.values()))
    for name, value in seconds.items():
        rate = f"{frames / value:9.1f} frames/s" if frames else f"{value * 1e3:9.1f} ms"
        sys.stdout.write(f"  {name:52s} {rate}   {base / value:5.2f} x\n")
    sys.stdout.flush()


def make_learner(agent: ActiveSeparationAgent, envs: StoredEnvs, num_steps: int) -> ActiveSeparationLearner:
    """Return the learner with its first rollout begun."""
    options = LearnerOptions(num_steps=num_steps, max_steps=num_steps)
    learner = ActiveSeparationLearner(agent, envs, make_reward("near_target"), options)
    learner.begin()
    return learner


def compare_collecting(args: argparse.Namespace) -> float:
    """Print frames per second of rollouts; return the largest difference of refined estimates."""
    agent, envs = build(args)
    learner = make_learner(agent, envs, args.steps)

    def collect() -> None:
        learner.collect()
        learner.after_update()

    collect()
    expected, _ = collect_as_published(agent, envs, twice=True)
    difference = float((learner.storage.inputs["refined"] - torch.stack(expected)).abs().max())
    runs = {
        "separated and refined twice, 39 slots": lambda: collect_as_published(agent, envs, twice=True),
        "separated and refined once, 39 slots": lambda: collect_as_published(agent, envs, twice=False),
        "learner: once, encoded once, figures of episodes": collect,
    }
    frames = args.envs * args.steps
    show(f"rollout of {args.envs} x {args.steps} steps, {args.preset}", least_times(runs, args), frames)
    return difference


def update_as_published(agent: ActiveSeparationAgent, data: dict) -> Tensor:
    """Return the memory's loss of a rollout from all slots at each step, as published."""
    ring, steps = data["ring"], len(data["mono"])
    num_envs, slots = ring.mask.shape
    flat = data["mono"].flatten(0, 1)
    repeated = [
        x.unsqueeze(1).expand(-1, steps, -1, -1).reshape(slots, -1, x.shape[-1]) for x in (ring.slots, ring.poses)
    ]
    mask, window = (data[name].flatten(0, 1) for name in ("mask", "window"))
    refined = agent.memory(flat, data["pose"].flatten(0, 1), *repeated, mask)
    targets = torch.zeros(slots, num_envs, *flat.shape[1:])
    targets[:steps] = data["target"]
    targets = targets.unsqueeze(1).expand(-1, steps, -1, -1, -1, -1).flatten(1, 2)
    targets = torch.cat((targets, data["target"].flatten(0, 1)[None]))
    counted = torch.cat((window, torch.ones(len(window), 1, dtype=torch.bool)), 1).t()
    return refinement_loss(refined, targets, counted, num_slots=counted.numel())


def compare_updates(args: argparse.Namespace) -> float:
    """Print times of an epoch of the memory update; return the difference of the losses."""
    agent, envs = build(args)
    learner = make_learner(agent, envs, args.steps)
    learner.auxiliary.loss_slots = CAPACITY + args.steps + 1
    learner.collect()
    (batch,) = learner.auxiliary_batches(1)
    _, data = collect_as_published(agent, envs, twice=False)
    difference = abs(float(learner.auxiliary(batch).detach()) - float(update_as_published(agent, data).detach()))
    runs = {
        "all slots at each step": lambda: update_as_published(agent, data).backward(),
        "learner: seconds that exist": lambda: learner.auxiliary(batch).backward(),
    }
    show(f"one epoch of the memory update, {args.envs} x {args.steps}, {args.preset}", least_times(runs, args))
    return difference


def held(*tensors: Tensor) -> int:
    """Return the bytes of tensors."""
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def compare_storage(args: argparse.Namespace, published_envs: int = 14) -> None:
    """Print bytes of stored memories; ours measured, the published by its formula."""
    agent, envs = build(args)
    learner = make_learner(agent, envs, args.steps)
    learner.collect()
    learner.memory.renew()
    buffer, tokens = learner.memory.buffer, learner.memory._tokens
    ring = held(buffer.slots, buffer.poses, buffer.mask, tokens.features, tokens.skips)
    rollout = held(learner.mono, learner.pose, learner.target)
    ours = (ring + rollout) / args.envs
    slots, copies = CAPACITY + args.steps, args.steps + 1
    copied, skips = (slots * copies * width * BYTES for width in (FEATURES + POSE, SKIP))
    scale = published_envs / 1e6
    sys.stdout.write(f"stored for the memory, {published_envs} environments\n")
    sys.stdout.write(
        f"  published, {slots} slots x {copies} copies: {copied * scale:9.1f} MB and {skips * scale:.1f} MB of skips\n"
    )
    sys.stdout.write(
        f"  ours: ring, tokens, rollout, targets: {ours * scale:9.1f} MB   {(copied + skips) / ours:5.1f} x less\n"
    )
    sys.stdout.write(f"  ours, all that the policy sees:       {learner.storage.nbytes / args.envs * scale:9.1f} MB\n")


def main() -> int:
    """Run the parts; return 1 when results differ."""
    args = get_parser().parse_args()
    torch.set_num_threads(args.threads)
    sys.stdout.write(f"{args.threads} threads, {args.clock} time, torch {torch.__version__}\n")
    worst = 0.0
    if "collect" in args.parts:
        worst = max(worst, compare_collecting(args))
    if "update" in args.parts:
        worst = max(worst, compare_updates(args))
    if "storage" in args.parts:
        compare_storage(args)
    sys.stdout.write(f"largest difference: {worst:.1e}\n")
    return int(worst > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())

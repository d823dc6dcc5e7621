# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""From settings to a policy training or an evaluation: worlds, environments, agents, processes."""

import dataclasses
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from espnet_av import __version__
from espnet_av.activesep.agent import ActiveSeparationAgent
from espnet_av.activesep.classes import ClassTable
from espnet_av.activesep.convert import (
    AGENT,
    agent_conf,
    build,
    load_agent,
    load_separator,
    merge_conf,
    separator_conf,
    to_reference,
    write_config,
)
from espnet_av.activesep.env import SENSORS
from espnet_av.activesep.episodes import Episode, read_episodes, split_episodes
from espnet_av.activesep.learner import ActiveSeparationLearner, LearnerOptions
from espnet_av.activesep.memory_buffer import CAPACITY, REFINED_PAST
from espnet_av.activesep.presets import get_preset
from espnet_av.activesep.reward import make_reward
from espnet_av.activesep.scene import SceneLibrary
from espnet_av.activesep.scene_files import ScenePaths
from espnet_av.activesep.sounds import ClipLibrary
from espnet_av.activesep.vector_env import make_vector_env
from espnet_av.data.data_record import data_record
from espnet_av.train.distributed import World, leaving_processes
from espnet_av.train.ppo import EXPORTS, FREE, PPOOptions, PPOTrainer
from espnet_av.train.pretrained import resolve_device
from espnet_av.train.rng import derive_seed
from espnet_av.utils.config import nearest
from espnet_av.utils.errors import usage_error
from espnet_av.utils.files import atomic_write
from espnet_av.utils.source import source_commit

logger = logging.getLogger(__name__)


@dataclasses.dataclass(kw_only=True)
class WorldOptions:
    """Where an agent acts.

    Attributes:
        world_root: Folder with ``metadata/``, and ``binaural_rirs/`` and ``scene_observations/``, or ``packed/``.
        world_dataset: Folder between those and the scenes.
        rir_dir: Responses of the scenes, where they are not below ``world_root``.
        metadata_dir: The same for graphs.
        observation_dir: The same for images.
        episodes: File or folder of episodes, see :func:`~espnet_av.activesep.episodes.read_episodes`.
        split: Split of the episodes.
        version: Version of the episodes.
        scenes: Scenes to play in; ``*``: all.
        clips: Folder of clips.
        class_table: JSON file of labels; None: the published ones.
        max_steps: Steps of an episode.
        convolution: ``same`` or ``causal``.
        reference_compat: Observations as the published program makes them, to the bit.
        max_scene_steps: Change the scene after about this many steps; None: no.
        scene_conf: Keywords of :func:`~espnet_av.activesep.scene.open_scene`.
        async_envs: One process for each environment.
        memory_size: Earlier seconds that the memory knows.
        refine: Earlier seconds that are refined.
        seed: Of everything.
        device: ``auto``, ``cpu``, ``cuda``, ...
    """

    world_root: str | None = None
    world_dataset: str = "mp3d"
    rir_dir: str | None = None
    metadata_dir: str | None = None
    observation_dir: str | None = None
    episodes: str | None = None
    split: str | None = None
    version: str = "v1"
    scenes: tuple[str, ...] = ("*",)
    clips: str | None = None
    class_table: str | None = None
    max_steps: int = 20
    convolution: str = "same"
    reference_compat: bool = False
    max_scene_steps: int | None = None
    scene_conf: dict[str, Any] = dataclasses.field(default_factory=dict)
    async_envs: bool = False
    memory_size: int = CAPACITY
    refine: int = REFINED_PAST
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        """Check that the world is named.

        Raises:
            UsageError: A place is missing.
        """
        if isinstance(self.scenes, (str, list)):
            self.scenes = (self.scenes,) if isinstance(self.scenes, str) else tuple(self.scenes)
        roots = (self.rir_dir, self.metadata_dir, self.observation_dir)
        self._place("episodes")
        self._place("clips")
        if self.world_root is None and None in roots:
            usage_error("world_root is not given", fix="pass --world_root FOLDER, or set it in the configuration")

    def _place(self, name: Literal["episodes", "clips"]) -> str:
        place: str | None = getattr(self, name)
        if place is None:
            usage_error(f"{name} is not given", fix=f"pass --{name} PATH, or set it in the configuration")
        return place

    def paths(self) -> ScenePaths:
        """Return the folders of the scenes."""
        found = ScenePaths.below(self.world_root or ".", self.world_dataset)
        given = {"rirs": self.rir_dir, "metadata": self.metadata_dir, "observations": self.observation_dir}
        return dataclasses.replace(found, **{name: Path(path) for name, path in given.items() if path is not None})

    def read_clips(self) -> ClipLibrary:
        """Return the clips."""
        classes = ClassTable.read(self.class_table) if self.class_table else None
        return ClipLibrary(self._place("clips"), classes=classes)

    def read_episodes(self, clips: ClipLibrary) -> list[Episode]:
        """Return the episodes of the split."""
        return read_episodes(
            self._place("episodes"),
            self.split,
            version=self.version,
            scenes=self.scenes,
            num_classes=clips.classes.num_classes,
        )

    def make_envs(
        self, parts: Sequence[Sequence[Episode]], clips: ClipLibrary, images: Sequence[str], **options: Any
    ) -> Any:
        """Return a vector environment with one list of episodes for each environment."""
        return make_vector_env(
            len(parts),
            self.paths(),
            parts,
            clips,
            asynchronous=self.async_envs,
            scene_options={"dataset": self.world_dataset, **self.scene_conf},
            sensors=[name for name in SENSORS if name in images or name not in ("rgb", "depth")],
            max_steps=self.max_steps,
            convolution=self.convolution,
            reference_compat=self.reference_compat,
            max_scene_steps=self.max_scene_steps,
            **options,
        )


@dataclasses.dataclass(kw_only=True)
class PolicyTraining(WorldOptions):
    """A policy training; settings of :class:`~espnet_av.train.ppo.PPOOptions` stand beside these.

    Attributes:
        separators: Trained separators: a passive training, an agent, or a published checkpoint.
        init_agent: Start from this agent instead.
        model: Size of the agent, see :mod:`espnet_av.activesep.presets`.
        model_conf: Keywords of the agent put over those of ``model``.
        reward: Name of the reward.
        reward_conf: Its keywords.
        num_envs: Environments of each process.
        num_steps: Steps of a rollout; by default a whole episode.
        loss_slots: See :class:`~espnet_av.activesep.learner.LearnerOptions`.
        train_memory: Train the memory in turn with the policy.
        num_threads: CPU threads; 0: torch's choice.
        ppo: Settings of the optimisation.
    """

    separators: str | None = None
    init_agent: str | None = None
    model: str = "published"
    model_conf: dict[str, Any] = dataclasses.field(default_factory=dict)
    reward: str = "near_target"
    reward_conf: dict[str, Any] = dataclasses.field(default_factory=dict)
    num_envs: int = 14
    num_steps: int = 20
    loss_slots: int = 0
    train_memory: bool = True
    num_threads: int = 0
    ppo: PPOOptions


#: Settings of where and how fast, which may change between a run and its resumption.
FREE_WORLD = frozenset(
    "world_root rir_dir metadata_dir observation_dir scene_conf async_envs device num_threads".split()
)


def field_names(kind: type) -> list[str]:
    """Return the names of a dataclass's fields."""
    return [field.name for field in dataclasses.fields(kind)]


def build_training(values: Mapping[str, Any]) -> PolicyTraining:
    """Build the settings of a training from flat names and values.

    Raises:
        UsageError: An unknown name, or a value out of range.
    """
    own = [name for name in field_names(PolicyTraining) if name != "ppo"]
    optimisation = [name for name in field_names(PPOOptions) if name not in ("config", "seed")]
    for name in values:
        if name not in own and name not in optimisation:
            near = nearest(name, [*own, *optimisation])
            usage_error("unknown setting", name, fix=f"write {near}" if near else None)
    if "output_dir" not in values:
        usage_error("output_dir is not given", fix="pass --output_dir FOLDER")
    chosen = {name: value for name, value in values.items() if name in optimisation}
    config = {
        name: value
        for name, value in values.items()
        if name not in FREE and name not in FREE_WORLD and value is not None
    }
    config = json.loads(json.dumps(config, default=str, sort_keys=True))
    ppo = PPOOptions(**chosen, seed=values.get("seed", 0), config=config)
    return PolicyTraining(**{name: value for name, value in values.items() if name in own}, ppo=ppo)


def join_processes(device: str) -> World:
    """Join the processes that ``torchrun`` started, if any, and choose the device of this one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(0, 1, resolve_device(device))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    chosen = resolve_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return World(torch.distributed.get_rank(), size, chosen)


def build_agent(options: PolicyTraining, image_size: Sequence[int] | None = None) -> ActiveSeparationAgent:
    """Build the agent of a training.

    Args:
        options: Settings.
        image_size: Height and width of what is seen, where ``model_conf`` does not say.

    Raises:
        UsageError: There are neither trained separators nor an agent to start from, or a keyword is wrong.
        CheckpointError: A file cannot be used.
    """
    conf = merge_conf(get_preset(options.model), options.model_conf)
    if image_size is not None:
        conf["policy"].setdefault("image_size", list(image_size))
    if options.init_agent is not None:
        agent = load_agent(options.init_agent, options.model_conf)
        return agent.requires_grad_(True).train()
    if options.separators is None:
        fix = "train them (espnet-av train activesep_passive) and pass --separators FOLDER, or pass --init_agent"
        usage_error("the policy needs trained separators", fix=fix)
    separator = load_separator(options.separators)
    conf["separator"] = separator_conf(separator.state_dict())
    torch.manual_seed(derive_seed(options.seed, "agent"))
    agent = build(AGENT, conf)
    agent.separator.load_state_dict(separator.state_dict())
    return agent


def keywords_of(agent: ActiveSeparationAgent, image_size: Sequence[int] | None) -> dict[str, Any]:
    """Return the keywords that build such an agent."""
    conf = agent_conf(agent.state_dict())
    conf["memory"]["num_heads"] = agent.memory.layers[0].num_heads
    if image_size is not None:
        conf["policy"]["image_size"] = list(image_size)
    return conf


def image_size_of(options: WorldOptions, episodes: Sequence[Episode]) -> tuple[int, int]:
    """Return height and width of the images of a world."""
    store = SceneLibrary(options.paths(), dataset=options.world_dataset, **options.scene_conf)[episodes[0].scene]
    height, width, _ = store.observation(store.graph.nodes[0], 0)["rgb"].shape
    return height, width


class AgentLearner(ActiveSeparationLearner):
    """The learner, exporting weights under their published names."""

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the weights of the agent."""
        return to_reference(self.model.state_dict())


def train(options: PolicyTraining) -> None:
    """Train a policy and its memory; see :meth:`espnet_av.train.ppo.PPOTrainer.fit`.

    ``config.yaml`` and, at the end, ``model.safetensors`` make the folder one that
    :meth:`~espnet_av.activesep.agent.ActiveSeparationAgent.from_pretrained` loads; so does each ``data/ckpt.<k>.pth``.
    """
    if options.num_threads:
        torch.set_num_threads(options.num_threads)
    world = join_processes(options.device)
    with leaving_processes():
        _train(options, world)


def _train(options: PolicyTraining, world: World) -> None:
    PPOTrainer.check_output_dir(options.ppo)
    clips = options.read_clips()
    episodes = options.read_episodes(clips)
    size = image_size_of(options, episodes)
    agent = build_agent(options, size)
    agent.separator.requires_grad_(False)
    conf = keywords_of(agent, size)
    folder = Path(options.ppo.output_dir)
    if world.is_main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / EXPORTS).mkdir(exist_ok=True)
        write_config(folder, AGENT, conf)
        write_config(folder / EXPORTS, AGENT, conf)
        write_settings(folder / "training.json", options)
    learner = make_learner(options, agent.to(world.device), world, episodes, clips)
    PPOTrainer(learner, options.ppo, world).fit()
    if world.is_main:
        from espnet_av.train.conversion import save

        save(folder / "model.safetensors", agent.state_dict())
        logger.info("wrote %s", folder / "model.safetensors")


def make_learner(
    options: PolicyTraining,
    agent: ActiveSeparationAgent,
    world: World,
    episodes: Sequence[Episode],
    clips: ClipLibrary,
) -> AgentLearner:
    """Return the learner of this process, with its share of the episodes."""
    count, size = options.num_envs, options.ppo.group_size
    if count % size:
        usage_error("groups hold the same number of environments", size, f"a divisor of num_envs, {count}")
    num_groups = count // size
    groups = split_episodes(episodes, num_groups * world.size)[world.rank * num_groups :][:num_groups]
    parts = [part for part in groups for _ in range(size)]
    first_seed = options.seed + world.rank * count
    envs = options.make_envs(parts, clips, agent.policy.images, shuffle=True, seed=first_seed)
    collecting = LearnerOptions(
        num_steps=options.num_steps,
        max_steps=options.max_steps,
        memory_size=options.memory_size,
        refine=options.refine,
        loss_slots=options.loss_slots,
        group_size=size,
        expert=options.ppo.imitation_updates > 0,
    )
    reward = make_reward(options.reward, **options.reward_conf)
    learner = AgentLearner(agent, envs, reward, collecting, world.device, first_seed)
    if not options.train_memory:
        learner.auxiliary = None
    return learner


def write_settings(path: Path, options: PolicyTraining) -> None:
    """Write all settings as JSON, and which code and data they are used with."""
    episodes = Path(str(options.episodes))
    split = episodes / options.version / str(options.split)
    places = [str(split if split.is_dir() else episodes), str(options.clips)]
    origin = {"git_commit": source_commit(), "espnet_av_version": __version__}
    content = {**dataclasses.asdict(options), **origin, "data_digests": {"train": data_record(places)}}
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=1, default=str)


def checkpoints(folder: str | os.PathLike, *, first: int = 0, interval: int = 1) -> list[Path]:
    """Return ``ckpt.<k>.pth`` of a folder by number.

    Args:
        folder: The folder.
        first: Leave out smaller numbers.
        interval: Take each so many of them.

    Raises:
        UsageError: There are none.
    """
    found = {}
    for path in Path(folder).glob("ckpt.*.pth"):
        number = path.name.split(".")[1]
        if number.isdigit():
            found[int(number)] = path
    chosen = [found[number] for number in sorted(found) if number >= first][::interval]
    if not chosen:
        usage_error("there is no checkpoint to evaluate", str(folder), f"ckpt.<k>.pth with k from {first}")
    return chosen


__all__ = [
    "FREE_WORLD",
    "AgentLearner",
    "PolicyTraining",
    "WorldOptions",
    "build_agent",
    "build_training",
    "checkpoints",
    "join_processes",
    "make_learner",
    "train",
]

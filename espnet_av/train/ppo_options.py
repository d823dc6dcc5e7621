# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of proximal policy optimisation, and its schedules as functions of the update."""

import dataclasses
from typing import Any

from espnet_av.train.options import RESUME_MODES
from espnet_av.utils.errors import usage_error


@dataclasses.dataclass(kw_only=True)
class PPOOptions:
    """What :class:`~espnet_av.train.ppo.PPOTrainer` needs to know; the defaults are the published settings.

    Attributes:
        output_dir: The experiment folder.
        num_updates: Updates until the end; the schedules are made for this number.
        seed: Seed of all random numbers.
        lr: Learning rate of the policy at the start.
        auxiliary_lr: The same for the part that is trained beside it.
        eps: Of both Adam optimizers.
        max_grad_norm: Largest gradient norm, of each part by itself.
        clip_param: How far the ratio of probabilities may leave 1 at the start.
        ppo_epoch: Passes over a rollout.
        auxiliary_epoch: The same for the part beside the policy; 0: as many.
        num_mini_batch: Minibatches of whole sequences in a pass.
        imitation_updates: In so many updates at the start, the policy learns what an expert would do where the policy
            went (DAgger: Ross et al., "A reduction of imitation learning and structured prediction to no-regret online
            learning", AISTATS 2011), and PPO begins after them.
        imitation_epoch: Passes over a rollout in these; more than one learns the episodes by heart where they are few.
        group_size: So many neighbouring environments play the same episodes, each with actions of its own, and are
            compared with each other, see :func:`~espnet_av.train.advantage.compare_groups`; 1: each for itself.
        value_loss_coef: Weight of the value loss.
        entropy_coef: Weight of the entropy, which is made large.
        gamma: Discount.
        tau: See :func:`~espnet_av.train.advantage.gae_returns`.
        use_gae: False takes discounted sums of rewards.
        use_linear_lr_decay: Let both rates fall to 0 at the last update.
        use_linear_clip_decay: The same for ``clip_param``.
        reward_window_size: Updates that the logged means of episodes are taken over.
        log_interval: Updates between two log lines.
        save_interval: Updates between two checkpoints to go on from; one is written at the end and on signals too.
        checkpoint_interval: Updates between two files ``data/ckpt.<k>.pth`` to choose from; 0: none but the last.
        resume_mode: ``auto`` goes on from a checkpoint, ``never`` refuses a folder that holds one, ``must`` one that
            holds none.
        max_train_sec: Seconds of training, resumptions included, after which it pauses; 0 sets no limit.
        use_tensorboard: Write event files.
        tensorboard_dir: Where; None: ``tb`` in the experiment folder.
        config: The settings that make a run what it is; a checkpoint of others is refused.
    """

    output_dir: str
    num_updates: int = 67142
    seed: int = 0
    lr: float = 1e-4
    auxiliary_lr: float = 5e-3
    eps: float = 1e-5
    max_grad_norm: float = 0.5
    clip_param: float = 0.1
    ppo_epoch: int = 4
    auxiliary_epoch: int = 0
    num_mini_batch: int = 1
    imitation_updates: int = 0
    imitation_epoch: int = 1
    group_size: int = 1
    value_loss_coef: float = 0.5
    entropy_coef: float = 0.01
    gamma: float = 0.99
    tau: float = 0.95
    use_gae: bool = True
    use_linear_lr_decay: bool = True
    use_linear_clip_decay: bool = True
    reward_window_size: int = 50
    log_interval: int = 10
    save_interval: int = 10
    checkpoint_interval: int = 90
    resume_mode: str = "auto"
    max_train_sec: float = 0.0
    use_tensorboard: bool = True
    tensorboard_dir: str | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UsageError: For a value out of range.
        """
        for name in (
            "num_updates",
            "ppo_epoch",
            "num_mini_batch",
            "imitation_epoch",
            "group_size",
            "reward_window_size",
            "log_interval",
        ):
            if getattr(self, name) < 1:
                usage_error(f"{name} is too small", getattr(self, name), "1 or more")
        for name in ("lr", "eps", "max_grad_norm", "clip_param"):
            if not getattr(self, name) > 0:
                usage_error(f"{name} is too small", getattr(self, name), "above 0")
        for name in (
            "auxiliary_epoch",
            "imitation_updates",
            "save_interval",
            "checkpoint_interval",
            "max_train_sec",
            "auxiliary_lr",
        ):
            if getattr(self, name) < 0:
                usage_error(f"{name} is too small", getattr(self, name), "0 or more")
        for name in ("gamma", "tau"):
            if not 0 <= getattr(self, name) <= 1:
                usage_error(f"{name} is out of range", getattr(self, name), "0 to 1")
        if self.resume_mode not in RESUME_MODES:
            usage_error("unknown resume_mode", self.resume_mode, RESUME_MODES)

    def rate(self, update: int) -> float:
        """Return the factor on both learning rates in an update, from 0; the rate falls before the step is made."""
        return 1.0 - (update + 1) / self.num_updates if self.use_linear_lr_decay else 1.0

    def clip(self, update: int) -> float:
        """Return the clipping range in an update, from 0."""
        return self.clip_param * (1.0 - update / self.num_updates if self.use_linear_clip_decay else 1.0)


#: Settings that may change between a run and its resumption.
FREE = frozenset(
    "output_dir log_interval save_interval checkpoint_interval resume_mode max_train_sec use_tensorboard "
    "tensorboard_dir reward_window_size config".split()
)

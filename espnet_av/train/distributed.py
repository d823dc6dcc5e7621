# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""One or many training processes behind the same few verbs.

Processes are started by ``torchrun`` (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_*); ESPnet's ``AbsTask.main_worker`` joins
the process group. Gradients travel over that group (NCCL on GPUs, gloo on CPUs); flags and states travel over a gloo
group, which needs no device.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist

from espnet_av.train.signals import TrainingInterrupted
from espnet_av.utils.errors import usage_error

logger = logging.getLogger(__name__)


def default_backend(ngpu: int) -> str:
    """Return the backend for ``--dist_backend``: ``"nccl"`` with GPUs, ``"gloo"`` without."""
    return "nccl" if ngpu > 0 else "gloo"


@contextlib.contextmanager
def leaving_processes() -> Iterator[None]:
    """Leave the group of processes, if one was joined, when the block ends or a stop signal ends it.

    Its threads would else still run as Python ends, which now and then aborts a process whose work is done. After any
    other exception the group is left as it is: the others wait in it and are ended by ``torchrun``.
    """
    try:
        yield
    except TrainingInterrupted:
        _leave()
        raise
    _leave()


def _leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.barrier()  # who leaves first must not break what others still wait for
        dist.destroy_process_group()


class World:
    """The processes that train one model together.

    Args:
        rank: Number of this process, from 0.
        size: Number of processes.
        device: Where this process computes.
    """

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank = rank
        self.size = size
        self.device = device
        self._control = None
        if size > 1 and dist.get_backend() != "gloo":
            self._control = dist.new_group(backend="gloo")

    @classmethod
    def from_option(cls, option: Any, device: torch.device) -> "World":
        """Build from ESPnet's ``DistributedOption``, whose process group has been joined.

        Raises:
            UsageError: For one process with several GPUs.
        """
        if option is not None and option.distributed:
            return cls(dist.get_rank(), dist.get_world_size(), device)
        if option is not None and (option.ngpu or 0) > 1:
            usage_error(
                "one process cannot train on several GPUs", f"--ngpu {option.ngpu}", "--ngpu 1 for each process",
                f"torchrun --nproc_per_node {option.ngpu} -m ... --ngpu 1",
            )  # fmt: skip
        return cls(0, 1, device)

    @property
    def is_main(self) -> bool:
        """True in the process that logs and writes files."""
        return self.rank == 0

    def wrap(
        self,
        model: torch.nn.Module,
        *,
        find_unused_parameters: bool = False,
        gradient_as_bucket_view: bool = True,
        broadcast_buffers: bool = True,
        comm_hook: str | None = None,
    ) -> torch.nn.Module:
        """Return the module whose forward pass trains: ``model`` itself, or DistributedDataParallel around it.

        Args:
            model: The model, on its device.
            find_unused_parameters: For models whose batches do not all use all parameters.
            gradient_as_bucket_view: Passed on.
            broadcast_buffers: Give all processes the buffers of the first before each forward pass.
            comm_hook: ``"fp16_compress_hook"`` or ``"bf16_compress_hook"``: send gradients in half precision.
        """
        if self.size == 1:
            return model
        wrapped = torch.nn.parallel.DistributedDataParallel(
            model,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            find_unused_parameters=find_unused_parameters,
            gradient_as_bucket_view=gradient_as_bucket_view,
            broadcast_buffers=broadcast_buffers,
        )
        if comm_hook is not None:
            from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

            wrapped.register_comm_hook(None, getattr(default_hooks, comm_hook))
        return wrapped

    @contextlib.contextmanager
    def no_sync(self, wrapped: torch.nn.Module, active: bool) -> Iterator[None]:
        """Keep gradients in this process for the block when ``active``."""
        if active and isinstance(wrapped, torch.nn.parallel.DistributedDataParallel):
            with wrapped.no_sync():
                yield
        else:
            yield

    def any(self, *flags: bool) -> list[bool]:
        """Return for each flag whether it is set in any process."""
        if self.size == 1:
            return list(flags)
        values = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self._control)
        return [bool(value) for value in values.tolist()]

    def max(self, value: int) -> int:
        """Return the largest value of all processes."""
        if self.size == 1:
            return value
        values = torch.tensor([value], dtype=torch.int64)
        dist.all_reduce(values, dist.ReduceOp.MAX, group=self._control)
        return int(values.item())

    def sum_(self, values: torch.Tensor) -> torch.Tensor:
        """Add up a tensor on the training device over all processes, in place, without waiting for the device."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in every process."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self._control)
        return values

    @torch.no_grad()
    def share_buffers(self, model: torch.nn.Module) -> None:
        """Give all processes the buffers (running statistics) of the first."""
        if self.size > 1:
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier(group=self._control)

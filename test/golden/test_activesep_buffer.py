# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""Which slots of the memory are filled, refined and final, against the bookkeeping of the reference."""

import json
from pathlib import Path

import pytest
import torch

from espnet_av.activesep.memory_buffer import MemoryBuffer, commit_schedule


@pytest.fixture(scope="module")
def folder(fixtures_dir) -> Path:
    return fixtures_dir("activesep")


@pytest.fixture(scope="module")
def data(folder) -> dict:
    return json.loads((folder / "external_memory.json").read_text())


def buffer_of(data: dict, num_envs: int, num_slots: int | None = None) -> MemoryBuffer:
    return MemoryBuffer(num_envs, capacity=data["capacity"], num_slots=num_slots, features=1)


def insert(buffer: MemoryBuffer, number: int, not_done: list[float]) -> None:
    value = torch.full((buffer.mask.shape[0], 1, 1, 1), float(number))
    buffer.insert(value, torch.zeros(len(value), 4), torch.tensor(not_done))


def filled(mask: torch.Tensor) -> list[list[int]]:
    return [row.nonzero().flatten().tolist() for row in mask]


def refined(buffer: MemoryBuffer, size: int, env: int = 0) -> list[int]:
    window = buffer.window(size)[env]
    return [slot for slot in buffer.latest(size).tolist() if window[slot]]


def test_log(data):
    buffer = buffer_of(data, len(data["log"][0]["not_done"]), data["total_size"])
    for number, entry in enumerate(data["log"]):
        insert(buffer, number, entry["not_done"])
        assert filled(buffer.mask) == entry["active"], entry["insert"]
        assert buffer.next_index == entry["next_idx"]
        assert refined(buffer, data["refine"]) == entry["refine_window_env0"], entry["insert"]


def test_overflow(data):
    buffer = buffer_of(data, 1, data["total_size"])
    for number, active in enumerate(data["overflow_no_done"]):
        insert(buffer, number, [1.0])
        assert filled(buffer.mask)[0] == active, number


@pytest.mark.parametrize("extra", [0, 1])
def test_small_ring_holds_the_same_seconds(data, extra):
    large = buffer_of(data, len(data["log"][0]["not_done"]), data["total_size"])
    small = buffer_of(data, len(data["log"][0]["not_done"]), data["capacity"] + extra)

    def seconds(buffer: MemoryBuffer, env: int, slots: list[int]) -> list[int]:
        return [int(buffer.slots[slot, env, 0]) for slot in slots]

    for number, entry in enumerate(data["log"]):
        for buffer in (large, small):
            insert(buffer, number, entry["not_done"])
        for env in range(len(entry["not_done"])):
            kept = [sorted(seconds(buffer, env, filled(buffer.mask)[env])) for buffer in (large, small)]
            windows = [seconds(buffer, env, refined(buffer, data["refine"], env)) for buffer in (large, small)]
            assert kept[0] == kept[1] and windows[0] == windows[1] and windows[0] == sorted(windows[0])


def test_commits(data):
    expected = data["eval_commit_schedule"]
    num_steps = expected[-1]["step"] + 1
    schedule = commit_schedule(num_steps, refine=data["refine"])
    assert [{"commits_episode_steps": steps, "step": step} for step, steps in schedule] == expected

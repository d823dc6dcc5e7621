# Copyright 2026 espnet_av authors
# SPDX-License-Identifier: Apache-2.0
"""The acoustic memory and its buffer: what depends on what, and the fast way of a rollout."""

import pytest
import torch

from espnet_av.activesep.memory import AcousticMemory, refinement_loss
from espnet_av.activesep.memory_buffer import MemoryBuffer, commit_schedule, rollout_visibility
from espnet_av.utils.errors import UsageError

NUM_ENVS, CAPACITY, REFINE = 3, 4, 2
SHAPE = (512, 32, 1)


@pytest.fixture
def memory() -> AcousticMemory:
    torch.manual_seed(0)
    return AcousticMemory(channels=1, skip_channels=3, num_heads=4, ffn_dim=24).double()


def seconds(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    mono = torch.rand(steps, NUM_ENVS, *SHAPE, generator=random, dtype=torch.float64)
    pose = torch.zeros(steps, NUM_ENVS, 4, dtype=torch.float64)
    pose[..., 3] = torch.arange(steps)[:, None]
    return mono, pose


def buffer(num_slots: int | None = None) -> MemoryBuffer:
    made = MemoryBuffer(NUM_ENVS, capacity=CAPACITY, num_slots=num_slots)
    made.slots, made.poses = made.slots.double(), made.poses.double()
    return made


def starts(steps: int) -> torch.Tensor:
    """Each environment begins episodes at other steps."""
    begin = torch.zeros(steps, NUM_ENVS, dtype=torch.bool)
    begin[0] = True
    begin[steps // 2, 0] = begin[steps - 1, 1] = begin[3, 2] = begin[4, 2] = True
    return begin


@pytest.mark.parametrize("num_slots", [None, CAPACITY, 13])
@torch.no_grad()
def test_rollout_gives_what_single_steps_give(memory, num_slots):
    steps = 9
    mono, pose = seconds(steps)
    begin = starts(steps)
    ring, expected = buffer(num_slots), {}
    for step in range(steps):
        refined = memory(mono[step], pose[step], ring.slots, ring.poses, ring.mask)
        window = ring.window(REFINE)
        for env in range(NUM_ENVS):
            expected[step, env, step] = refined[-1, env]
            for slot in range(ring.num_slots):
                if window[env, slot]:
                    expected[step, env, step - 1 - int(ring.ages()[slot])] = refined[slot, env]
        not_done = torch.ones(NUM_ENVS) if step == steps - 1 else (~begin[step + 1]).float()
        ring.insert(mono[step], pose[step], not_done)
    visible, wanted = rollout_visibility(begin, capacity=CAPACITY, refine=REFINE)
    result = memory.refine_rollout(mono, pose, visible, wanted)
    places = [tuple(place) for place in wanted.nonzero().tolist()]
    assert len(places) == len(result) and set(places) == set(expected)
    for place, refined in zip(places, result, strict=True):
        torch.testing.assert_close(refined, expected[place], rtol=1e-9, atol=1e-9)


def test_rollout_gives_the_gradients_of_single_steps(memory):
    steps = 5
    mono, pose = seconds(steps)
    visible, wanted = rollout_visibility(starts(steps), capacity=CAPACITY, refine=REFINE)
    target = torch.rand_like(mono)
    _, env, second = wanted.nonzero(as_tuple=True)
    refinement_loss(memory.refine_rollout(mono, pose, visible, wanted), target[second, env]).backward()
    fast = {name: parameter.grad.clone() for name, parameter in memory.named_parameters()}
    memory.zero_grad()
    losses, count = [], wanted.sum()
    for step in range(steps):
        mask = visible[step].clone()
        mask[:, step] = False
        refined = memory(mono[step], pose[step], mono.flatten(2), pose, mask)
        refined = torch.cat((refined[:step], refined[-1:], refined[step + 1 : -1]))
        losses.append(refinement_loss(refined, target, wanted[step].t(), num_slots=int(count)))
    sum(losses).backward()
    for name, parameter in memory.named_parameters():
        torch.testing.assert_close(fast[name], parameter.grad, rtol=1e-8, atol=1e-12)


@torch.no_grad()
def test_empty_slots_have_no_influence(memory):
    mono, pose = seconds(3)
    mask = torch.tensor([[True, False]] * NUM_ENVS)
    refined = memory(mono[2], pose[2], mono[:2].flatten(2), pose[:2], mask)
    other = mono[:2].clone()
    other[1] = 100.0
    changed = memory(mono[2], pose[2], other.flatten(2), pose[:2], mask)
    assert torch.equal(refined[0], changed[0]) and torch.equal(refined[-1], changed[-1])
    seen = memory(mono[2], pose[2], other.flatten(2), pose[:2], torch.ones_like(mask))
    assert not torch.allclose(refined[-1], seen[-1])


def test_time_matters_and_place_does_not(memory):
    mono, pose = seconds(2)
    moved, later = pose.clone(), pose.clone()
    moved[..., :3] += 5.0
    later[1, :, 3] += 3.0
    arguments = (mono[0:1].flatten(2), pose[0:1], torch.ones(NUM_ENVS, 1, dtype=torch.bool))
    refined = memory(mono[1], pose[1], *arguments)
    assert torch.equal(memory(mono[1], moved[1], *arguments), refined)
    assert not torch.allclose(memory(mono[1], later[1], *arguments), refined)


def test_loss_counts_what_is_in_the_window():
    refined, target = torch.rand(3, 2, *SHAPE), torch.rand(3, 2, *SHAPE)
    window = torch.tensor([[1, 0], [0, 0], [1, 1]])
    errors = (refined - target).abs().flatten(2).mean(-1)
    mean = (errors * window).sum() / 3
    assert refinement_loss(refined, target, window).item() == pytest.approx(mean.item(), rel=1e-6)
    padded = refinement_loss(refined, target, window, num_slots=6)
    whole = ((refined - target) * window[..., None, None, None]).abs().mean()  # as the reference averages
    assert padded.item() == pytest.approx(whole.item(), rel=1e-6)
    assert refinement_loss(refined, target).item() == pytest.approx((refined - target).abs().mean().item(), rel=1e-6)


def test_buffer_is_saved_and_restored():
    one, other = buffer(), buffer()
    mono, pose = seconds(3)
    for step in range(2):
        one.insert(mono[step], pose[step], torch.ones(NUM_ENVS))
    other.load_state_dict({name: value for name, value in one.state_dict().items()})
    for each in (one, other):
        each.insert(mono[2], pose[2], torch.tensor([1.0, 0.0, 1.0]))
    assert other.next_index == one.next_index
    for name in ("slots", "poses", "mask"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    assert one.mask.sum(1).tolist() == [3, 0, 3]
    one.clear()
    assert not one.mask.any()
    with pytest.raises(UsageError, match="memory buffer"):
        buffer(7).load_state_dict(one.state_dict())


def test_ring_must_hold_its_capacity():
    with pytest.raises(UsageError, match="at least 4"):
        buffer(3)


def test_heads_must_divide_the_width():
    with pytest.raises(UsageError, match="num_heads"):
        AcousticMemory(channels=1, num_heads=7)


@pytest.mark.parametrize(
    ("steps", "refine", "expected"),
    [(0, 2, []), (1, 2, [(0, [0])]), (2, 2, [(1, [0, 1])]), (4, 2, [(2, [0]), (3, [1, 2, 3])])],
)
def test_commits_of_short_episodes(steps, refine, expected):
    assert commit_schedule(steps, refine=refine) == expected


@pytest.mark.parametrize(("steps", "refine"), [(20, 14), (7, 3), (5, 10)])
def test_every_second_is_committed_once(steps, refine):
    committed = [second for _, seconds in commit_schedule(steps, refine=refine) for second in seconds]
    assert sorted(committed) == list(range(steps))


def test_pass_through_begins_with_what_comes_in():
    memory = AcousticMemory(channels=2, skip_channels=64, num_heads=2, init="pass_through")
    mono, pose = torch.rand(3, 512, 32, 1), torch.zeros(3, 4)
    slots, poses, mask = torch.rand(5, 3, 512 * 32), torch.zeros(5, 3, 4), torch.ones(3, 5)
    refined = memory(mono, pose, slots, poses, mask)
    assert torch.allclose(refined[-1], mono, atol=1e-6)
    assert torch.allclose(refined[:-1].flatten(2), slots, atol=1e-6)
    refined.sum().backward()
    assert memory.decoder.conv2.weight.grad[:2].abs().max() > 0  # tokens will be used
    with pytest.raises(UsageError, match="skip_channels.*pass_through"):
        AcousticMemory(channels=2, num_heads=2, init="pass_through")

"""Schedules have the shape they are called after; Muon learns, splits its parameters, and continues bit for bit."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn

from src.training import schedules
from src.training.muon import Muon

STEPS = 100


def rates(schedule, steps: int = STEPS, total: int = STEPS, **options) -> list[float]:
    """The learning rate at each step of two groups, relative to the start value, checked to move together."""
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [], "lr": 3.0}], lr=1.0)
    optimizer.param_groups[1]["params"] = [nn.Parameter(torch.zeros(1))]
    scheduler = schedule(optimizer, total_steps=total, **options)
    seen = []
    for _ in range(steps):
        first, second = (group["lr"] for group in optimizer.param_groups)
        assert second == pytest.approx(3 * first)
        seen.append(first)
        optimizer.step()
        scheduler.step()
    return seen


def test_none_is_no_schedule():
    assert schedules.none() is None


def test_step_falls_at_its_milestones():
    seen = rates(schedules.step, milestones=[0.5, 0.75], gamma=0.1)
    assert seen[49] == 1.0 and seen[50] == pytest.approx(0.1)
    assert seen[74] == pytest.approx(0.1) and seen[75] == pytest.approx(0.01)


def test_cosine_warms_up_and_ends_at_its_final_rate():
    seen = rates(schedules.cosine, steps=STEPS + 5, warmup=0.1, final=0.2)
    assert 0 < seen[0] < seen[5] < seen[10] == 1.0
    assert seen[10:100] == sorted(seen[10:100], reverse=True)
    assert seen[55] == pytest.approx(0.6)  # half-way down
    assert seen[100] == pytest.approx(0.2) and seen[-1] == pytest.approx(0.2)  # and stays there


def test_cosine_without_warm_up_starts_at_the_full_rate():
    assert rates(schedules.cosine, warmup=0.0)[0] == 1.0


def test_one_cycle_is_torchs_own():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=1001, cycle_momentum=False)
    expected = []
    for _ in range(1000):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    # torch counts its turning point one step earlier
    assert rates(schedules.one_cycle, 1000, 1000) == pytest.approx(expected, abs=5e-3)


def test_plateau_falls_when_nothing_improves():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedules.plateau(optimizer, total_steps=STEPS, factor=0.5, patience=2)
    for value in (1.0, 0.9, 0.9, 0.9, 0.9):
        scheduler.step(value)
    assert optimizer.param_groups[0]["lr"] == 0.5


@pytest.mark.parametrize("schedule", [schedules.step, schedules.cosine, schedules.one_cycle])
def test_a_longer_resumed_run_follows_the_longer_curve(schedule):
    """State from a run of 100 steps, continued as one of 200: the same rates as 200 steps in one go."""
    whole = rates(schedule, steps=200, total=200)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    first = schedule(optimizer, total_steps=100)
    for _ in range(50):
        optimizer.step()
        first.step()
    again = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    second = schedule(again, total_steps=200)
    again.load_state_dict(optimizer.state_dict())
    second.load_state_dict(first.state_dict())
    again.step()
    second.step()
    assert again.param_groups[0]["lr"] == pytest.approx(whole[51])


# Muon -----------------------------------------------------------------------------------------------------------------


PATTERNS = 0.5 * torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(99))


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 36, 16),
        nn.ReLU(),
        nn.Linear(16, 3),
    )


def groups(model: nn.Module) -> list[dict]:
    """As the model hands them over: the output layer's matrix and all biases go to AdamW."""
    head = model[-1].weight
    hidden = [p for p in model.parameters() if p.ndim > 1 and p is not head]
    small = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": hidden, "muon": True},
        {"params": [head], "muon": False},
        {"params": small, "muon": False, "weight_decay": 0.0},
    ]


def train(model: nn.Module, optimizer: torch.optim.Optimizer, scheduler, first: int, last: int) -> list[float]:
    losses = []
    for index in range(first, last):
        generator = torch.Generator().manual_seed(index)
        target = torch.randint(3, (32,), generator=generator)
        x = PATTERNS[target] + torch.randn(32, 1, 8, 8, generator=generator)
        loss = nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    return losses


def test_muon_learns():
    model = network()
    optimizer = Muon(groups(model), lr=5e-3)
    losses = train(model, optimizer, schedules.cosine(optimizer, total_steps=200), 0, 200)
    assert sum(losses[-20:]) / 20 < 0.3 * sum(losses[:20]) / 20
    assert all(math.isfinite(loss) for loss in losses)


@pytest.mark.parametrize("carry", ["state_dict", "deepcopy"])
def test_muon_continues_bit_for_bit(carry):
    model = network()
    optimizer = Muon(groups(model), lr=5e-3, momentum=0.9, betas=(0.8, 0.9))
    scheduler = schedules.cosine(optimizer, total_steps=40)
    train(model, optimizer, scheduler, 0, 15)
    if carry == "deepcopy":
        other, again, schedule = copy.deepcopy((model, optimizer, scheduler))
    else:
        other = network(seed=1)
        again = Muon(groups(other), lr=5e-3, momentum=0.9, betas=(0.8, 0.9))
        schedule = schedules.cosine(again, total_steps=40)
        other.load_state_dict(model.state_dict())
        again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
        schedule.load_state_dict(scheduler.state_dict())
    assert train(model, optimizer, scheduler, 15, 40) == train(other, again, schedule, 15, 40)
    for one, two in zip(model.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_muon_is_torchs_muon_on_matrices_and_adamw_on_the_rest():
    ours, theirs = network(), network()
    optimizer = Muon(groups(ours), lr=1e-2, weight_decay=0.1)
    matrix, head, *small = (g["params"] for g in groups(theirs))
    filters, weight = matrix
    muon = torch.optim.Muon([weight], lr=1e-2, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([{"params": head}, {"params": small[0], "weight_decay": 0.0}], lr=1e-2, weight_decay=0.1)
    for seed in range(3):
        for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(seed + one.numel()))
            two.grad = one.grad.clone()
        optimizer.step(), muon.step(), adamw.step()
    for (name, one), two in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, two) is (two is not filters), name


def test_muon_updates_filters_whatever_their_memory_order():
    results = []
    for order in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        filters = nn.Parameter(torch.randn(8, 4, 3, 3).contiguous(memory_format=order))
        filters.grad = torch.randn(8, 4, 3, 3, generator=torch.Generator().manual_seed(1)).contiguous(
            memory_format=order
        )
        Muon([filters], lr=0.1).step()
        results.append(filters.detach().contiguous())
    assert torch.equal(*results)


def test_a_parameter_without_gradient_is_left_alone():
    used, unused = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    optimizer = Muon([used, unused])
    used.grad = torch.ones(3, 3)
    optimizer.step()
    assert torch.equal(unused, torch.ones(3, 3)) and not torch.equal(used, torch.ones(3, 3))

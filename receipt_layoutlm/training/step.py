"""One optimizer step."""

import math
import random
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from receipt_layoutlm.run.state import NonFiniteLoss
from receipt_layoutlm.training.optimizer import learning_rate, restore_rng, rng_tensors, set_rate
from receipt_layoutlm.training.setup import Run

LOWEST_SCALE = 1.0  # of an fp16 loss: below it the numbers themselves overflow


def train_step(run: Run, epoch: Any, stop: Callable[[], bool]) -> bool:
    """One optimizer step; False, with nothing changed, when a stop came in between.

    Losses are summed and divided by the weight of the whole step, so its micro-batches weigh as one batch.
    """
    state, group, device = run.state, run.compute.group, run.compute.device
    step = state.step_in_epoch
    make = partial(run.task.batches, epoch, compute=run.compute)
    batches = run.prefetcher.get(make, epoch.number, step, len(epoch.steps))
    weight = group.sum_of(batches.weight)
    if not group.is_first:  # a checkpoint holds the generator of the first process alone
        seed = random.Random(f"{run.config.seed} {group.rank} {state.global_step}").getrandbits(63)
        torch.manual_seed(seed)
    rng = rng_tensors(device)
    loss_sum = torch.zeros((), device=device)
    for place, batch in enumerate(batches.micro):
        if group.size == 1 and stop():  # processes of a group differ in their number of batches: they finish the step
            run.optimizer.zero_grad()
            restore_rng(device, rng)
            return False
        is_last = place == len(batches.micro) - 1
        objective = run.objective
        # gradients are exchanged once a step, with the last micro-batch
        with objective.no_sync() if isinstance(objective, DistributedDataParallel) and not is_last else nullcontext():
            loss = objective(batch)
            mean = loss * group.size / max(weight, 1e-9)  # DistributedDataParallel averages the gradients
            run.scaler.scale(mean).backward()
        loss_sum += loss.detach()
    run.scaler.unscale_(run.optimizer)
    norm = clip_grad_norm_(run.task.model.parameters(), run.config.max_grad_norm or math.inf).item()
    total = group.sum_of(loss_sum.item())
    has_exploded = not math.isfinite(norm) and (not run.scaler.is_enabled() or run.scaler.get_scale() < LOWEST_SCALE)
    if not math.isfinite(total) or has_exploded:
        raise NonFiniteLoss(run.task.example_ids(epoch, step))
    set_rate(run.optimizer, _rate(run, state.global_step))
    run.scaler.step(run.optimizer)  # leaves a step out where fp16 overflowed, and halves the scale then
    run.scaler.update()
    run.optimizer.zero_grad()
    state.step_done(run.plan, total, weight)
    return True


def rate_of_last_step(run: Run) -> float:
    """Learning rate of the last optimizer step; 0 before the first."""
    return 0.0 if run.state.global_step == 0 else _rate(run, run.state.global_step - 1)


def _rate(run: Run, step: int) -> float:
    config = run.config
    return learning_rate(step, run.plan.total_steps, config.warmup_ratio, config.lr, config.lr_schedule)

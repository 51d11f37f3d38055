"""One optimizer step."""

import math
import random
from collections.abc import Callable
from functools import partial

import torch
from torch.nn.utils import clip_grad_norm_

from receipt_layoutlm.losses import token_loss
from receipt_layoutlm.packed_tensors import on_device
from receipt_layoutlm.precision import autocast
from receipt_layoutlm.team_model import gradients_kept, own_share
from receipt_layoutlm.train_epoch import Epoch, Shown, micro_batches
from receipt_layoutlm.train_optim import learning_rate, restore_rng, rng_tensors, set_rate
from receipt_layoutlm.train_setup import Run, StepBatches
from receipt_layoutlm.train_state import NonFiniteLoss

LOWEST_SCALE = 1.0  # of an fp16 loss: below it the numbers themselves overflow


def train_step(run: Run, epoch: Epoch, stop: Callable[[], bool]) -> int:
    """One optimizer step; how many windows it had, or 0, with nothing changed, when a stop came in between.

    Losses are summed and divided by the weight of the whole step, so its micro-batches weigh as one batch.
    """
    state, config = run.state, run.config
    shown = epoch.steps[state.step_in_epoch]
    batches = run.ahead.take(partial(_batches, run, epoch), epoch.number, state.step_in_epoch, len(epoch.steps))
    weight = _summed(run, batches.weight)
    if not run.team.is_first:
        torch.manual_seed(_dropout_seed(run))
    rng = rng_tensors(run.device)
    loss_sum = torch.zeros((), device=run.device)
    for place, batch in enumerate(batches.micro):
        if run.team.size == 1 and stop():  # in a team all go through a step, which have not as many batches each
            run.optimizer.zero_grad()
            restore_rng(run.device, rng)
            return 0
        with gradients_kept(run, place < len(batches.micro) - 1):
            with autocast(run.device, state.precision):
                logits = run.words(batch)
            loss = token_loss(logits, batch.labels, run.loss_rule).total
            mean = loss * run.team.size / max(weight, 1e-9)  # a team averages its gradients
            run.scaler.scale(mean).backward()  # type: ignore[no-untyped-call]
        loss_sum += loss.detach()
    run.scaler.unscale_(run.optimizer)
    norm = clip_grad_norm_(run.model.parameters(), config.max_grad_norm or math.inf)
    total = _summed(run, loss_sum.item())
    if not math.isfinite(total) or _has_exploded(run, norm.item()):
        raise NonFiniteLoss(_page_ids(epoch, shown))
    set_rate(run.optimizer, _rate(run, state.global_step))
    run.scaler.step(run.optimizer)  # leaves a step out where fp16 overflowed, and halves the scale then
    run.scaler.update()
    run.optimizer.zero_grad()
    state.step_done(run.plan, total, weight)
    return len(shown)


def _batches(run: Run, epoch: Epoch, step: int) -> StepBatches:
    """Of this process, on its device."""
    own = micro_batches(run.config, epoch.part, own_share(run.team, epoch.part, epoch.steps[step]))
    weight = sum(run.loss_rule.weight_of(torch.from_numpy(batch.labels)) for batch in own)
    return StepBatches([on_device(batch, run.device) for batch in own], weight)


def _summed(run: Run, number: float) -> float:
    return run.team.summed(torch.tensor(number, dtype=torch.float64)).item()


def _dropout_seed(run: Run) -> int:
    """Of the others in a team: a checkpoint has the generator of the first one alone."""
    return random.Random(f"{run.config.seed} {run.team.rank} {run.state.global_step}").getrandbits(63)


def _has_exploded(run: Run, norm: float) -> bool:
    return not math.isfinite(norm) and (not run.scaler.is_enabled() or run.scaler.get_scale() < LOWEST_SCALE)


def _page_ids(epoch: Epoch, shown: list[Shown]) -> tuple[str, ...]:
    return tuple(sorted({epoch.part.pages[epoch.part.windows[each.window].page].page_id for each in shown}))


def rate_of_last_step(run: Run) -> float:
    """The learning rate of the optimizer step that was done last; 0 before the first."""
    if run.state.global_step == 0:
        return 0.0
    return _rate(run, run.state.global_step - 1)


def _rate(run: Run, step: int) -> float:
    config = run.config
    return learning_rate(step, run.plan.total_steps, config.warmup_ratio, config.lr, config.lr_schedule)

"""One optimizer step.

The model as a team trains it: its gradients averaged, each optimizer step shared out by tokens.
"""

import math
import random
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import clip_grad_norm_

from receipt_layoutlm.run.state import NonFiniteLoss
from receipt_layoutlm.training.distributed import Team
from receipt_layoutlm.training.loss import token_loss
from receipt_layoutlm.training.optimizer import learning_rate, restore_rng, rng_tensors, set_rate
from receipt_layoutlm.training.precision import autocast
from receipt_layoutlm.training.setup import Run, StepBatches
from receipt_layoutlm.training.tasks.word_labels.inputs.encoded import EncodedPart
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import Epoch, Shown, fair_shares, micro_batches
from receipt_layoutlm.training.tasks.word_labels.packed import on_device

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


def in_team(run: "Run") -> "Run":
    """The run with gradients that a backward pass averages over its team."""
    if run.team.size == 1:
        return run
    words = DistributedDataParallel(run.words, broadcast_buffers=False, gradient_as_bucket_view=True)
    return replace(run, words=words)


def gradients_kept(run: "Run", more_follow: bool) -> AbstractContextManager[None]:
    """Around the passes of a micro-batch: gradients are exchanged once a step, with the last one."""
    if more_follow and isinstance(run.words, DistributedDataParallel):
        return run.words.no_sync()
    return nullcontext()


def own_share(team: Team, part: EncodedPart, shown: Sequence[Shown]) -> list[Shown]:
    """What this process trains on of an optimizer step; never nothing, since all have to take part.

    Where windows are fewer than processes, it is a window of which no word is supervised.
    """
    if team.size == 1:
        return list(shown)
    lengths = part.window_lengths[[each.window for each in shown]].tolist()
    share = fair_shares(lengths, team.size)[team.rank]
    if share:
        return [shown[place] for place in share]
    window = shown[0].window
    return [Shown(window, np.zeros(len(part.windows[window].first), np.bool_))]

"""One optimizer step, and what an epoch gives each step to train on."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch.nn.utils import clip_grad_norm_

from receipt_layoutlm.sampling import achieved_ratio, supervised_masks
from receipt_layoutlm.train_optim import learning_rate, restore_rng, rng_tensors, set_rate
from receipt_layoutlm.train_setup import Run, autocast, step_order
from receipt_layoutlm.train_state import NonFiniteLoss


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch trains on: windows of each optimizer step, supervised words of each page (None: all)."""

    number: int
    steps: list[list[int]]
    masks: list[list[bool]] | None
    o_entity_ratio: float | None  # achieved


def epoch_of(run: Run, number: int) -> Epoch:
    """The plan of an epoch (from 0), the same in every attempt: it follows from seed, number and page ids."""
    config = run.config
    pages = [(page.page_id, page.tags) for page in run.train.pages]
    if config.o_entity_ratio is None:
        masks = None
        ratio = achieved_ratio(pages, [[True] * len(tags) for _, tags in pages])
    else:
        masks = supervised_masks(pages, config.o_entity_ratio, config.seed, number)
        ratio = achieved_ratio(pages, masks)
    return Epoch(number, step_order(config, run.train, number), masks, ratio)


def train_step(run: Run, epoch: Epoch, stop: Callable[[], bool]) -> int:
    """One optimizer step; how many windows it had, or 0, with nothing changed, when a stop came in between.

    Losses are summed and divided by the words of the whole step, so its micro-batches weigh as one batch.
    """
    state, config = run.state, run.config
    indices = epoch.steps[state.step_in_epoch]
    batches = [
        run.task.training_batch(run.train, part, epoch.masks, run.tokenizer.pad_token_id)
        for part in _cut(indices, config.batch_size)
    ]
    words = sum(batch.supervised for batch in batches)
    rng = rng_tensors(run.device)
    loss_sum = 0.0
    for batch in batches:
        if stop():
            run.optimizer.zero_grad()
            restore_rng(run.device, rng)
            return 0
        with autocast(run.device):
            loss = run.task.batch_loss(run.model, batch, run.device, config.label_smoothing)
        (loss.total / max(words, 1)).backward()
        loss_sum += loss.total.item()
    norm = clip_grad_norm_(run.model.parameters(), config.max_grad_norm or math.inf)
    if not math.isfinite(loss_sum) or not math.isfinite(norm.item()):
        raise NonFiniteLoss(_page_ids(run, indices))
    set_rate(run.optimizer, _rate(run, state.global_step))
    run.optimizer.step()
    run.optimizer.zero_grad()
    state.step_done(run.plan, loss_sum, words)
    return len(indices)


def _cut(indices: Sequence[int], size: int) -> list[Sequence[int]]:
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def _page_ids(run: Run, indices: Sequence[int]) -> tuple[str, ...]:
    return tuple(sorted({run.train.pages[run.train.windows[index].page].page_id for index in indices}))


def rate_of_last_step(run: Run) -> float:
    """The learning rate of the optimizer step that was done last; 0 before the first."""
    if run.state.global_step == 0:
        return 0.0
    return _rate(run, run.state.global_step - 1)


def _rate(run: Run, step: int) -> float:
    return learning_rate(step, run.plan.total_steps, run.config.warmup_ratio, run.config.lr)

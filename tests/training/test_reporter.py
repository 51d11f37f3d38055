"""Rates in progress events: of the time in training steps alone, summed since the event before."""

from pathlib import Path

import pytest

from receipt_layoutlm.run.events import EventReader, EventWriter, Progress
from receipt_layoutlm.training.reporter import Reporter
from receipt_layoutlm.training.setup import Run
from receipt_layoutlm.training.tasks.word_labels.inputs.epoch import (
    SampledWindow,
    plan_epoch,
    windows_per_epoch,
    workload_of,
)
from receipt_layoutlm.training.tasks.word_labels.layoutlm import encoder_size
from receipt_layoutlm.training.throughput import StepWorkload, step_flops
from tests.support.runs import prepared_run


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return prepared_run(tmp_path_factory.mktemp("run"))


def told(path: Path) -> list[Progress]:
    return [event for event in EventReader(path).read() if isinstance(event, Progress)]


def test_rates_are_of_the_time_in_steps_and_begin_anew_with_each_event(run: Run, tmp_path: Path) -> None:
    clock, events = Clock(), tmp_path / "events.jsonl"
    reporter = Reporter(EventWriter(events), clock, began=0.0)
    reporter.started(run)
    step = Progress(phase="train", global_step=1, total_steps=9, epoch=0.1)
    for windows, tokens, seconds in ((6, 300, 2.0), (4, 100, 4.0)):
        reporter.enter("train")
        reporter.trained(StepWorkload(windows - 1, tokens - 50, 10))
        reporter.trained(StepWorkload(1, 50, 10))
        clock.now += seconds
        reporter.enter("evaluate")
        clock.now += 30
        reporter.progress(step)
    reporter.progress(step.model_copy(update={"phase": "evaluate"}))
    clock.now += 30
    reporter.progress(step.model_copy(update={"phase": "evaluate"}))
    assert [(event.pages_per_second, event.tokens_per_second) for event in told(events)] == [
        (3.0, 150.0),
        (1.0, 25.0),
        (None, None),
    ]
    assert [event.mfu for event in told(events)] == [None] * 3  # no data sheet tells the peak of a CPU


def test_the_work_of_a_step_is_that_of_its_windows_and_supervised_words(run: Run) -> None:
    size, part = encoder_size(run.task.model.config), run.task.encoded.train
    epoch = plan_epoch(run.config, part, 0, windows_per_epoch(run.config, part))
    shown = epoch.steps[0]
    windows = [part.windows[each.window] for each in shown]
    lengths = [len(window.input_ids) for window in windows]
    words = sum(len(window.first) for window in windows)
    assert workload_of(shown, part, size) == StepWorkload(len(shown), sum(lengths), step_flops(size, lengths, words))
    one_word = [
        SampledWindow(each.window, part.windows[each.window].first == windows[place].first[0])
        for place, each in enumerate(shown)
    ]
    assert workload_of(one_word, part, size).flops == step_flops(size, lengths, len(shown))

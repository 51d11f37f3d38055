"""What a person reads while a trainer runs."""

import pytest

from receipt_dynamo import Job, JobStatus, utcnow
from receipt_layoutlm.cli.progress import ProgressView
from receipt_layoutlm.run.events import Evaluation, Event, Finished, Log, Progress, Started

JOB = Job(
    job_id="j", name="na\x1b[31mme", status=JobStatus.RUNNING, created_at=utcnow(), created_by="me", job_config={}
)

EVENTS: list[Event] = [
    Started(
        device="cpu",
        train_pages=8,
        eval_pages=2,
        train_windows=9,
        eval_windows=2,
        parameters=24_000_000,
        trainable_parameters=23_000_000,
        steps_per_epoch=4,
        total_steps=12,
        label_counts={"DATE": 8},
        resumed_from=4,
    ),
    Progress(phase="train", global_step=5, total_steps=12, epoch=1.25, train_loss=0.5),
    Evaluation(
        global_step=8,
        epoch=2.0,
        metric_name="eval_f1",
        metric_value=0.5,
        precision=0.4,
        recall=0.6,
        macro_f1=0.3,
        field_f1=0.7,
        train_f1=0.8,
        per_label={},
        train_loss=0.5,
        eval_loss=0.6,
        lr=1e-5,
        is_best=True,
        collapsed=True,
    ),
    Log(event="note", message="look\x07 here"),
    Finished(reason="completed", global_step=12, best_global_step=8, best_metric_value=0.5),
]


def test_elsewhere_than_on_a_terminal_it_is_one_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressView() as view:
        for event in EVENTS:
            view.observe(JOB, event)

    told = capsys.readouterr().err
    for words in (
        "8 training pages and 2 validation pages",
        "24,000,000 parameters (23,000,000 trainable)",
        "resumed from step 4",
        "labels: DATE 8",
        "epoch 2.00 step 8: eval_f1 0.5000 (P 0.4000, R 0.6000, macro F1 0.3000, field F1 0.7000",
        "train F1 0.8000",
        "new best",
        "collapsed",
        "finished at step 12: all epochs were trained",
    ):
        assert words in told
    assert "\x1b" not in told and "\x07" not in told
    assert "1.25" not in told  # progress is for the bar

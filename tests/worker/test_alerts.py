"""Alerts: raised once in the life of a job, sent to a topic or a hidden URL, and never in the way of training."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import boto3
import pytest

from receipt_dynamo import Alert, Job, JobError, JobQueue, JobStatus, LeaseLost, Machine, utcnow
from receipt_layoutlm.run.events import Evaluation
from receipt_layoutlm.worker.alerts import Alerts, collapse_text
from receipt_layoutlm.worker.delivery import NotDelivered, check_target, deliver
from receipt_layoutlm.worker.worker import ClaimOptions, run_worker
from tests.support.hooks import SECRET_PATH, Hook, hook_server, silent_server
from tests.support.jobs import claim, summary
from tests.support.jobs import submit as submit_job
from tests.support.moto_worker import a_worker, submit

PARAMETER = "/layoutlm/notify/team"


class Inbox:
    """Takes alerts instead of a topic; `refusal` is what it answers."""

    def __init__(self) -> None:
        self.received: list[tuple[str, Alert]] = []
        self.refusal = ""

    def __call__(self, target: str, alert: Alert) -> None:
        if self.refusal:
            raise NotDelivered(self.refusal)
        self.received.append((target, alert))

    @property
    def kinds(self) -> list[str]:
        return [alert.kind for _, alert in self.received]


@pytest.fixture
def inbox() -> Inbox:
    return Inbox()


@pytest.fixture
def hook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hook]:
    with hook_server(tmp_path) as served:
        monkeypatch.setenv("SSL_CERT_FILE", str(served.certificate))
        yield served


def alerts_of(queue: JobQueue, inbox: Inbox, who: str = "worker-1") -> Alerts:
    return Alerts(queue.client, who, queue.now, inbox)


def hold(queue: JobQueue, **more: object) -> Job:
    return submit_job(queue, "a-job", notify=PARAMETER, **more)


def store_url(url: str) -> None:
    boto3.client("ssm").put_parameter(Name=PARAMETER, Value=f"{url}\n", Type="SecureString")


def an_alert(job: Job, kind: str = "failed") -> Alert:
    return Alert(
        job_id=job.job_id,
        job_name=job.name,
        kind=kind,
        level="error",
        message=f"{job.name} failed (hang): it stood still",
        attempt=1,
        raised_at=utcnow(),
        raised_by="worker-1",
    )


def test_a_workers_job_that_fails_is_told_once_and_leaves_a_row(queue: JobQueue, inbox: Inbox) -> None:
    job = submit(queue, notify=PARAMETER)
    context = replace(a_worker(queue), deliver=inbox)
    run_worker(context, ClaimOptions(max_jobs=1, idle_timeout=0))
    ((target, alert),) = inbox.received
    assert (target, alert.kind, alert.level, alert.raised_by) == (PARAMETER, "failed", "error", "worker-1")
    (row,) = queue.client.list_job_alerts(job.job_id)
    assert row.delivery == {PARAMETER: "sent"} and "bad_config" in row.message
    assert [each.job_id for each in queue.client.list_alerts()] == [job.job_id]


def test_without_a_target_the_row_is_all(queue: JobQueue, inbox: Inbox) -> None:
    job = submit(queue)
    run_worker(replace(a_worker(queue), deliver=inbox), ClaimOptions(max_jobs=1, idle_timeout=0))
    assert inbox.received == []
    assert [(each.kind, each.delivery) for each in queue.client.list_job_alerts(job.job_id)] == [("failed", {})]


def test_a_collapse_is_told_once_also_by_the_worker_after_a_rescue(queue: JobQueue, inbox: Inbox) -> None:
    job = hold(queue)
    first = claim(queue)
    alerts_of(queue, inbox).while_held(job, first, "collapsed", "warning", "has collapsed")
    queue.release(first, "spot notice")
    second = claim(queue)
    alerts_of(queue, inbox, "worker-2").while_held(job, second, "collapsed", "warning", "has collapsed")
    alerts_of(queue, inbox, "worker-2").wait()
    rows = queue.client.list_job_alerts(job.job_id)
    assert inbox.kinds == ["collapsed"] and [each.raised_by for each in rows] == ["worker-1"]


def test_a_worker_that_has_lost_its_lease_tells_nothing(queue: JobQueue, inbox: Inbox) -> None:
    job, lease = hold(queue), claim(queue)
    queue.release(lease, "spot notice")
    with pytest.raises(LeaseLost):
        alerts_of(queue, inbox).while_held(job, lease, "collapsed", "warning", "has collapsed")
    assert inbox.received == [] and queue.client.list_job_alerts(job.job_id) == []


def test_worker_and_scaler_that_see_one_end_tell_it_once(queue: JobQueue, inbox: Inbox) -> None:
    job, lease = hold(queue), claim(queue)
    queue.complete(lease, results={"metric_name": "eval_f1", "metric_value": 0.91}, summary=summary(lease))
    for who in ("worker-1", "scaler of a-fleet"):
        told = alerts_of(queue, inbox, who)
        told.ended(job.job_id)
        told.wait()
    ((_, alert),) = inbox.received
    assert alert.message == "a-job succeeded: eval_f1 0.9100" and alert.level == "info"


def test_a_retried_job_that_fails_again_is_told_again(queue: JobQueue, inbox: Inbox) -> None:
    job, alerts = hold(queue), alerts_of(queue, inbox)
    for _ in range(2):
        queue.fail(claim(queue), JobError(cause="bad_data", message="page p1"))
        alerts.ended(job.job_id)
        alerts.ended(job.job_id)
        alerts.wait()
        assert queue.retry(job.job_id).status is JobStatus.PENDING
    assert inbox.kinds == ["failed", "failed"]
    assert [each.occasion for each in queue.client.list_job_alerts(job.job_id)] == ["2", "1"]


@pytest.mark.parametrize(("cause", "level"), [("non_finite_loss", "error"), ("cost_limit", "warning")])
def test_a_loss_that_is_not_finite_and_a_cost_limit_are_kinds_of_their_own(
    queue: JobQueue, inbox: Inbox, cause: str, level: str
) -> None:
    job, alerts = hold(queue), alerts_of(queue, inbox)
    queue.fail(claim(queue), JobError(cause=cause, message="at step 7"))
    alerts.ended(job.job_id)
    alerts.wait()
    ((_, alert),) = inbox.received
    assert (alert.kind, alert.level) == (cause, level) and "at step 7" in alert.message


def test_a_job_that_goes_on_is_not_told_as_ended(queue: JobQueue, inbox: Inbox) -> None:
    job = hold(queue)
    queue.release(claim(queue), "spot notice")
    alerts_of(queue, inbox).ended(job.job_id)
    assert queue.client.list_job_alerts(job.job_id) == []


def test_a_refused_message_is_noted_in_the_row_and_harms_nothing(queue: JobQueue, inbox: Inbox) -> None:
    inbox.refusal = "its server answered HTTP 404"
    job = submit(queue, notify=PARAMETER)
    statuses = run_worker(replace(a_worker(queue), deliver=inbox), ClaimOptions(max_jobs=1, idle_timeout=0))
    (row,) = queue.client.list_job_alerts(job.job_id)
    assert statuses == [JobStatus.FAILED] and row.delivery == {PARAMETER: "not sent: its server answered HTTP 404"}


def test_a_message_under_way_holds_up_neither_the_next_job_nor_the_end(queue: JobQueue) -> None:
    """The first message hangs until the second job has ended, which can only be if nobody waits for it."""
    second_ended, waited = threading.Event(), list[bool]()

    def slow(_target: str, alert: Alert) -> None:
        if alert.job_name == "first":
            waited.append(second_ended.wait(20))
        else:
            second_ended.set()

    submit(queue, name="first", notify=PARAMETER)
    submit(queue, name="second", notify=PARAMETER)
    run_worker(replace(a_worker(queue), deliver=slow), ClaimOptions(max_jobs=2, idle_timeout=0))
    assert waited == [True]


def test_the_end_of_a_process_waits_for_a_hanging_message_only_so_long(queue: JobQueue) -> None:
    release = threading.Event()
    alerts = Alerts(queue.client, "worker-1", queue.now, lambda _target, _alert: release.wait(30) and None)
    job = hold(queue)
    queue.fail(claim(queue), JobError(cause="bad_data", message="page p1"))
    alerts.ended(job.job_id)
    before = time.monotonic()
    alerts.wait(0.1)
    assert time.monotonic() - before < 5
    release.set()


def test_a_topic_gets_a_subject_and_a_text_with_the_command(queue: JobQueue) -> None:
    topic = boto3.client("sns").create_topic(Name="training")["TopicArn"]
    inbox = boto3.client("sqs").create_queue(QueueName="inbox")["QueueUrl"]
    boto3.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:inbox")
    job = submit_job(queue, "größe\n1")
    deliver(check_target(topic), an_alert(job))
    (message,) = boto3.client("sqs").receive_message(QueueUrl=inbox)["Messages"]
    body = json.loads(message["Body"])
    assert body["Subject"] == "gr??e?1: failed"
    assert body["Message"].endswith(f"layoutlm-cli job why {job.job_id}")


def test_a_topic_that_is_gone_is_a_reason_and_no_crash(queue: JobQueue) -> None:
    with pytest.raises(NotDelivered, match="NotFound"):
        deliver("arn:aws:sns:us-east-1:123456789012:gone", an_alert(submit_job(queue)))


def test_a_url_in_a_parameter_is_posted_to(queue: JobQueue, hook: Hook) -> None:
    store_url(hook.url)
    job = submit_job(queue)
    deliver(PARAMETER, an_alert(job))
    assert hook.paths == [SECRET_PATH] and hook.posted[0]["job_id"] == job.job_id
    assert hook.posted[0]["text"].startswith("a-job failed (hang)")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:1/hidden", "https"),
        ("file:///etc/hidden", "https"),
        ("ftp://x/hidden", "https"),
        ("https://", "https"),
        ("https://exa mple/hidden\x01", "not reached"),
        ("https://[bad/hidden", "not reached"),
        ("https://127.0.0.1:1/hidden-part", "not reached: ConnectionRefusedError"),
    ],
)
def test_a_value_that_cannot_be_posted_to_is_refused_without_showing_it(queue: JobQueue, url: str, reason: str) -> None:
    store_url(url)
    with pytest.raises(NotDelivered, match=reason) as refused:
        deliver(PARAMETER, an_alert(submit_job(queue)))
    assert "hidden" not in str(refused.value)


def test_redirects_are_not_followed(queue: JobQueue, hook: Hook) -> None:
    store_url(hook.url)
    hook.status = 307
    with pytest.raises(NotDelivered, match="HTTP 307"):
        deliver(PARAMETER, an_alert(submit_job(queue)))
    assert hook.paths == [SECRET_PATH]


def test_a_parameter_that_is_missing_is_a_reason(queue: JobQueue) -> None:
    with pytest.raises(NotDelivered, match="ParameterNotFound"):
        deliver(PARAMETER, an_alert(submit_job(queue)))


def test_a_server_that_says_nothing_is_given_up(queue: JobQueue) -> None:
    with silent_server() as url:
        store_url(url)
        with pytest.raises(NotDelivered, match="TimeoutError"):
            deliver(PARAMETER, an_alert(submit_job(queue)), post_seconds=0.2)


@pytest.mark.parametrize("status", [200, 500])
def test_the_url_stands_in_no_row_no_log_and_no_error(
    queue: JobQueue, hook: Hook, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG, "receipt_layoutlm")
    store_url(hook.url)
    hook.status = status
    job = submit(queue, notify=PARAMETER)
    run_worker(a_worker(queue), ClaimOptions(max_jobs=1, idle_timeout=0))
    assert hook.paths == [SECRET_PATH]
    rows = queue.client.raw.scan(TableName=queue.client.table_name)["Items"]
    assert len(rows) >= 4 and SECRET_PATH not in json.dumps(rows) and SECRET_PATH not in caplog.text
    outcome = "sent" if status == 200 else "not sent: its server answered HTTP 500"
    assert queue.client.list_job_alerts(job.job_id)[0].delivery == {PARAMETER: outcome}


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/services/T1/B2/s3cr3t",
        "http://hooks.example.com/s3cr3t",
        "HTTPS://HOOKS.EXAMPLE.COM/s3cr3t",
        "hooks.example.com/services/s3cr3t",
        "//hooks.example.com/s3cr3t",
        "arn:aws:sns:us-east-1:123456789012:https://s3cr3t",
        "arn:aws:sqs:us-east-1:123456789012:s3cr3t",
        "mailto:s3cr3t@example.com",
        "name?token=s3cr3t",
        "",
        "/a/",
        "x" * 1012,
        "team\nhttps://s3cr3t",
    ],
)
def test_a_target_that_is_no_topic_and_no_parameter_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="SSM parameter") as refused:
        check_target(url)
    assert "s3cr3t" not in str(refused.value)


@pytest.mark.parametrize(
    "target",
    ["arn:aws:sns:eu-central-1:123456789012:training", "arn:aws-cn:sns:cn-north-1:123456789012:t", PARAMETER, "team"],
)
def test_topics_and_parameters_are_targets(target: str) -> None:
    assert check_target(target) == target


def test_a_collapse_names_the_step_and_the_remedy() -> None:
    evaluation = Evaluation(
        global_step=20,
        epoch=1,
        metric_name="eval_f1",
        metric_value=0.0,
        train_loss=1.0,
        eval_loss=1.0,
        lr=1e-3,
        is_best=True,
        collapsed=True,
        health=("collapsed: every word is predicted as O: give --lr 3e-05",),
    )
    assert collapse_text(evaluation).startswith("has collapsed at step 20") and "--lr 3e-05" in collapse_text(
        evaluation
    )


def test_a_machine_without_a_price_leaves_a_job_with_a_limit_to_others(queue: JobQueue) -> None:
    job = submit(queue, max_cost=2.0)
    context = a_worker(queue)
    run_worker(context, ClaimOptions(max_jobs=1, idle_timeout=0))
    assert queue.client.get_job(job.job_id).attempt == 0
    priced = replace(context, host=replace(context.host, price_per_hour=lambda: 0.35))
    run_worker(priced, ClaimOptions(max_jobs=1, idle_timeout=0))
    assert queue.client.get_attempt(job.job_id, 1).machine == Machine(price_per_hour=0.35)

"""What an idle fleet costs a month: the scaler's looks at an empty queue, every five minutes, at list prices.

    python bench/idle_cost.py [--json PATH]

Requests and read units are counted from botocore's events while the function's own entry looks at an idle fleet of two
groups: the table is a real local engine's, autoscaling and CloudWatch are moto's. The function's time is the CPU time
of a warm look on this machine (moto's part in it included), as slow as the function's memory makes it, and
NETWORK_SECONDS a request; so is a cold start's, measured in a process of its own. Alarms are counted apart, from the
template. Not counted, because they grow with what is kept: storage and backups of table and bucket. The free tier is
not taken off.
"""

import argparse
import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import boto3
from fleet_simulation import engine
from moto import mock_aws

from receipt_dynamo import DynamoClient, JobLog, JobQueue, utcnow
from receipt_layoutlm import infra, scaler_lambda

# US dollars in us-east-1, as of 2025-06, from the services' pricing pages
PRICES_AS_OF = "2025-06"
READ_UNIT = 0.125e-6  # https://aws.amazon.com/dynamodb/pricing/on-demand/
WRITE_UNIT = 0.625e-6
LAMBDA_REQUEST = 0.20e-6  # https://aws.amazon.com/lambda/pricing/
LAMBDA_GB_SECOND = 13.3334e-6  # arm64; the time of a cold start is paid for too
LOG_GB = 0.50  # https://aws.amazon.com/cloudwatch/pricing/
ALARM = 0.10
METRIC = 0.30
SCHEDULED_EVENT = 1.00e-6  # https://aws.amazon.com/eventbridge/pricing/, as the scheduler asks for it; a rule is free
FREE = "autoscaling's and EC2's API, Lambda's reading of the stream, gateway endpoints"

PROMISED = 0.10
MONTH_HOURS = 730
LOOKS = MONTH_HOURS * 12
COLD_STARTS = MONTH_HOURS / 2  # a container that is used every five minutes was seen to live for some two hours
NETWORK_SECONDS = 0.010
MEMORY_GB = 0.5
CPU_SHARE = 512 / 1769  # of one processor, which 1,769 MB are given
LOG_LINES_BYTES = 3 * 140 + 4 * 26  # what Lambda itself writes (START, END, REPORT), and 26 bytes a line
KEPT_JOBS = 200  # in the table, all succeeded

COLD = """
import os, time
began = time.process_time()
from receipt_layoutlm.scaler_lambda import container_of
container_of(os.environ["LAYOUTLM_SCALER"]).scaler
print(time.process_time() - began)
"""


def filled(client: DynamoClient) -> None:
    """Jobs of the past, which an idle look must not read."""
    queue = JobQueue(client)
    for number in range(KEPT_JOBS):
        queue.submit(name=f"job-{number}", config={"config_version": 1, "note": "x" * 1000}, created_by="bench")
        lease = queue.claim("a-worker")
        assert lease is not None
        message = JobLog(
            job_id=lease.job_id,
            timestamp=utcnow(),
            level="info",
            event="run_summary",
            message="done",
            attempt=lease.attempt,
            seq=1,
        )
        queue.complete(lease, results={"note": "x" * 2000}, summary=message)


def settings(table: str) -> str:
    groups = [{"name": "layoutlm-workers", "queue": "default", "maximum": 4}]
    groups += [{"name": "layoutlm-ondemand", "queue": "default.ondemand", "maximum": 1}]
    return json.dumps({"fleet": "layoutlm", "table": table, "groups": groups, "prices": None})


def make_groups() -> None:
    boto3.client("ec2").create_launch_template(
        LaunchTemplateName="layoutlm", LaunchTemplateData={"ImageId": "ami-12c6146b", "InstanceType": "g5.xlarge"}
    )
    for name in ("layoutlm-workers", "layoutlm-ondemand"):
        boto3.client("autoscaling").create_auto_scaling_group(
            AutoScalingGroupName=name,
            MinSize=0,
            MaxSize=4,
            AvailabilityZones=["us-east-1a"],
            LaunchTemplate={"LaunchTemplateName": "layoutlm", "Version": "$Latest"},
        )


class Meter:
    """Counts requests and capacity units of one container's clients, through botocore's events."""

    def __init__(self, scaler: scaler_lambda.Container) -> None:
        self.requests: Counter[str] = Counter()
        self.units: Counter[str] = Counter()
        dynamo = scaler.scaler.queue.client.raw.meta.events
        dynamo.register_first("provide-client-params.dynamodb", self._ask)
        dynamo.register("after-call.dynamodb", self._answered)
        for events in (dynamo, scaler.autoscaling.meta.events, scaler.cloudwatch.meta.events):
            events.register_first("before-send", self._sent)

    def _ask(self, params: dict[str, object], **_: object) -> dict[str, object]:
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _sent(self, event_name: str, **_: object) -> None:
        _, service, operation = event_name.split(".")
        self.requests[f"{service} {operation}"] += 1

    def _answered(self, parsed: dict[str, dict[str, float]], model: object, **_: object) -> None:
        kind = "read" if getattr(model, "name", "") in ("Query", "GetItem") else "write"
        self.units[kind] += parsed["ConsumedCapacity"]["CapacityUnits"]


def measured(table: Callable[[], DynamoClient], repeats: int = 20) -> dict[str, object]:
    client = table()
    filled(client)
    os.environ["LAYOUTLM_SCALER"] = settings(client.table_name)
    os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = client.raw.meta.endpoint_url
    with mock_aws(), contextlib.redirect_stdout(io.StringIO()):
        make_groups()
        meter = Meter(scaler_lambda.container_of(os.environ["LAYOUTLM_SCALER"]))
        told = scaler_lambda.run({}, None)
        requests, units = dict(meter.requests), dict(meter.units)
        began = time.process_time()
        for _ in range(repeats):
            scaler_lambda.run({}, None)
        warm = (time.process_time() - began) / repeats
    cold = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, check=True)
    return {
        "requests": requests,
        "units": units,
        "warm_cpu_seconds": warm,
        "cold_cpu_seconds": float(cold.stdout),
        "log_bytes": len(json.dumps(told)) + LOG_LINES_BYTES,
    }


def by_item(found: dict[str, object]) -> dict[str, float]:
    """Dollars a month."""
    units, requests = found["units"], found["requests"]
    assert isinstance(units, dict) and isinstance(requests, dict)
    warm = float(str(found["warm_cpu_seconds"])) / CPU_SHARE + NETWORK_SECONDS * sum(requests.values())
    cold = float(str(found["cold_cpu_seconds"])) / CPU_SHARE
    return {
        "table: read units": LOOKS * units.get("read", 0) * READ_UNIT,
        "table: write units": LOOKS * units.get("write", 0) * WRITE_UNIT,
        "function: requests": LOOKS * LAMBDA_REQUEST,
        "function: time of the looks": LOOKS * warm * MEMORY_GB * LAMBDA_GB_SECOND,
        "function: cold starts": COLD_STARTS * cold * MEMORY_GB * LAMBDA_GB_SECOND,
        "schedule": LOOKS * SCHEDULED_EVENT,
        "log": LOOKS * int(str(found["log_bytes"])) / 1e9 * LOG_GB,
        "figures: nothing is published": METRIC * sum("PutMetricData" in name for name in requests),
    }


def alarms() -> int:
    return infra.template_path("workers.yaml").read_text().count("Type: AWS::CloudWatch::Alarm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the figures there too")
    options = parser.parse_args()
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    with engine() as table:
        found = measured(table)
    items = by_item(found)
    total = sum(items.values())
    every_cold = LOOKS / COLD_STARTS * items["function: cold starts"]
    for name, dollars in items.items():
        print(f"{name:32} {dollars:9.5f}")
    print(f"{'a month':32} {total:9.5f}  (promised: at most {PROMISED:.2f})")
    print(f"{'if every look were a cold start':32} {total - items['function: cold starts'] + every_cold:9.5f}")
    print(f"{f'{alarms()} alarms, apart':32} {alarms() * ALARM:9.5f}")
    print(f"one look: {found['requests']}, units {found['units']}, {found['log_bytes']} bytes of log; free: {FREE}")
    if options.json:
        document = {"prices_as_of": PRICES_AS_OF, "promised": PROMISED, "dollars_a_month": total, "items": items}
        alarm = {"alarms": alarms(), "alarms_dollars_a_month": alarms() * ALARM}
        options.json.write_text(json.dumps({**document, **alarm, "one_look": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()

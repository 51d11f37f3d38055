"""Monthly cost of an idle fleet: the scaler's look at an empty queue every five minutes, at list prices.

    python bench/idle_cost.py [--json PATH]

Requests and read units are counted from botocore's events while the function's entry looks at an idle fleet of two
groups. The table is on a real local engine, autoscaling and CloudWatch are moto's. The function's time is the CPU time
of a warm look on this machine (moto's included), scaled to the CPU share of the function's memory, plus NETWORK_SECONDS
per request. A cold start is measured likewise in a separate process. Alarms are counted separately, from the template.
Storage and backups of table and bucket grow with the data and are not counted. The free tier is not deducted.
"""

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import boto3
from fleet_simulation import engine
from moto import mock_aws

from receipt_dynamo import DynamoClient, JobLog, JobQueue, utcnow
from receipt_layoutlm import infra
from receipt_layoutlm.fleet.scaler.lambda_entry import Container, container_of, on_event

# US dollars in us-east-1, as of 2025-06, from the services' pricing pages
PRICES_AS_OF = "2025-06"
READ_UNIT = 0.125e-6  # https://aws.amazon.com/dynamodb/pricing/on-demand/
WRITE_UNIT = 0.625e-6
LAMBDA_REQUEST = 0.20e-6  # https://aws.amazon.com/lambda/pricing/
LAMBDA_GB_SECOND = {"x86_64": 16.6667e-6, "arm64": 13.3334e-6}  # cold starts are billed too
LOG_GB = 0.50  # https://aws.amazon.com/cloudwatch/pricing/
ALARM = 0.10
METRIC = 0.30
SCHEDULED_EVENT = 1.00e-6  # https://aws.amazon.com/eventbridge/pricing/, of the scheduler; a rule is free
FREE = "the APIs of autoscaling and EC2, Lambda's reads of the stream, gateway endpoints"

PROMISED = 0.10
MONTH_HOURS = 730
COLD_STARTS = MONTH_HOURS / 2  # a container used every five minutes was observed to live for about two hours
NETWORK_SECONDS = 0.010
MB_PER_CPU = 1769
LOG_LINES_BYTES = 3 * 140 + 4 * 26  # START, END and REPORT written by Lambda, and 26 bytes per line
STORED_JOBS = 200  # all succeeded

COLD = """
import os, time
began = time.process_time()
from receipt_layoutlm.fleet.scaler.lambda_entry import container_of
container_of(os.environ["LAYOUTLM_SCALER"]).scaler
print(time.process_time() - began)
"""


@dataclass(frozen=True)
class Function:
    """Settings of the scaler's function in the template."""

    memory_mb: int
    architecture: str
    minutes: int  # between two looks

    @property
    def looks(self) -> float:
        """Looks in a month."""
        return MONTH_HOURS * 60 / self.minutes

    def dollars(self, cpu_seconds: float, network_seconds: float = 0.0) -> float:
        """Cost of one run."""
        seconds = cpu_seconds * MB_PER_CPU / self.memory_mb + network_seconds
        return seconds * self.memory_mb / 1024 * LAMBDA_GB_SECOND[self.architecture]


def function_of(template: str) -> Function:
    def setting(pattern: str) -> str:
        match = re.search(pattern, template)
        assert match, pattern
        return match[1]

    return Function(
        memory_mb=int(setting(r"MemorySize: (\d+)")),
        architecture=setting(r"Architectures: \[(\w+)\]"),
        minutes=int(setting(r"ScheduleExpression: rate\((\d+) minutes\)")),
    )


def add_old_jobs(client: DynamoClient) -> None:
    """Add jobs that an idle look must not read."""
    queue = JobQueue(client)
    for number in range(STORED_JOBS):
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
    """Counts requests and capacity units of one container's clients through botocore's events."""

    def __init__(self, container: Container) -> None:
        self.requests: Counter[str] = Counter()
        self.units: dict[str, float] = {}
        dynamo = container.scaler.queue.client.raw.meta.events
        dynamo.register_first("provide-client-params.dynamodb", self._request_units)
        dynamo.register("after-call.dynamodb", self._count_units)
        for events in (dynamo, container.autoscaling.meta.events, container.cloudwatch.meta.events):
            events.register_first("before-send", self._count_request)

    def _request_units(self, params: dict[str, object], **_: object) -> dict[str, object]:
        return {**params, "ReturnConsumedCapacity": "TOTAL"}

    def _count_request(self, event_name: str, **_: object) -> None:
        _, service, operation = event_name.split(".")
        self.requests[f"{service} {operation}"] += 1

    def _count_units(self, parsed: dict[str, dict[str, float]], model: object, **_: object) -> None:
        kind = "read" if getattr(model, "name", "") in ("Query", "GetItem") else "write"
        self.units[kind] = self.units.get(kind, 0.0) + parsed["ConsumedCapacity"]["CapacityUnits"]


@dataclass(frozen=True)
class Look:
    """Requests and time of one look at an idle fleet."""

    requests: dict[str, int]
    units: dict[str, float]
    warm_cpu_seconds: float
    cold_cpu_seconds: float
    log_bytes: int


def measured(table: Callable[[], DynamoClient], repeats: int = 20) -> Look:
    client = table()
    add_old_jobs(client)
    os.environ["LAYOUTLM_SCALER"] = settings(client.table_name)
    os.environ["AWS_ENDPOINT_URL_DYNAMODB"] = client.raw.meta.endpoint_url
    with mock_aws(), contextlib.redirect_stdout(io.StringIO()):
        make_groups()
        meter = Meter(container_of(os.environ["LAYOUTLM_SCALER"]))
        answer = on_event({}, None)
        requests, units = dict(meter.requests), dict(meter.units)
        began = time.process_time()
        for _ in range(repeats):
            on_event({}, None)
        warm = (time.process_time() - began) / repeats
    cold = subprocess.run([sys.executable, "-c", COLD], capture_output=True, text=True, check=True)
    return Look(requests, units, warm, float(cold.stdout), len(json.dumps(answer)) + LOG_LINES_BYTES)


def by_item(function: Function, look: Look) -> dict[str, float]:
    """Dollars a month by item."""
    requests = sum(look.requests.values())
    return {
        "table: read units": function.looks * look.units.get("read", 0) * READ_UNIT,
        "table: write units": function.looks * look.units.get("write", 0) * WRITE_UNIT,
        "function: requests": function.looks * LAMBDA_REQUEST,
        "function: time of the looks": function.looks
        * function.dollars(look.warm_cpu_seconds, NETWORK_SECONDS * requests),
        "function: cold starts": COLD_STARTS * function.dollars(look.cold_cpu_seconds),
        "schedule": function.looks * SCHEDULED_EVENT,
        "log": function.looks * look.log_bytes / 1e9 * LOG_GB,
        "metrics: none are published": METRIC * sum("PutMetricData" in name for name in look.requests),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="PATH", help="also write the figures to this file")
    options = parser.parse_args()
    os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
    template = infra.template_path("workers.yaml").read_text()
    function, alarms = function_of(template), template.count("Type: AWS::CloudWatch::Alarm")
    with engine() as table:
        look = measured(table)
    items = by_item(function, look)
    total = sum(items.values())
    every_cold = function.looks / COLD_STARTS * items["function: cold starts"]
    for name, dollars in items.items():
        print(f"{name:32} {dollars:9.5f}")
    print(f"{'a month':32} {total:9.5f}  (promised: at most {PROMISED:.2f})")
    print(f"{'with a cold start for every look':32} {total - items['function: cold starts'] + every_cold:9.5f}")
    print(f"{f'{alarms} alarms, separately':32} {alarms * ALARM:9.5f}")
    print(f"one look: {look.requests}, units {look.units}, {look.log_bytes} bytes of log; free: {FREE}")
    if options.json:
        document = {"prices_as_of": PRICES_AS_OF, "promised": PROMISED, "dollars_a_month": total, "items": items}
        alarm = {"alarms": alarms, "alarms_dollars_a_month": alarms * ALARM}
        options.json.write_text(json.dumps({**document, **alarm, "one_look": vars(look)}, indent=1) + "\n")


if __name__ == "__main__":
    main()

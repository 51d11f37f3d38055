"""A ministack that a test starts for itself: AWS with CloudFormation and rights that are enforced."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from receipt_layoutlm.local import process as local_process
from receipt_layoutlm.local.engines import ACCESS_KEY, MINISTACK, SECRET_KEY, EngineUnavailable

REGION = "us-east-1"
START_SECONDS = 60.0
IMAGE = "/test/image"  # stands for the public parameter that names the AMI, which only AWS has


@contextmanager
def ministack(folder: Path) -> Iterator[str]:
    """Its address. A test's own keys are the account's root; everybody else may do what his policies say."""
    try:
        program = MINISTACK.find("", folder)[0]
    except EngineUnavailable as error:
        pytest.skip(str(error))
    (port,) = local_process.free_ports(1)
    settings = {key: value for key, value in MINISTACK.environment((port,), folder).items() if "PERSIST" not in key}
    del settings["SERVICES"]  # all of them
    command, log = [*program], folder / "ministack.log"
    root = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    pid = local_process.start_process(command, {**settings, **root, "AUTH": "true"}, folder, log)
    try:
        ready = local_process.wait_until(
            lambda: local_process.answers(port, MINISTACK.health_path, MINISTACK.signature), START_SECONDS
        )
        assert ready, f"ministack did not come up:{local_process.last_lines(log)}"
        endpoint = f"http://{local_process.LOOPBACK}:{port}"
        aws(endpoint, "ssm").put_parameter(Name=IMAGE, Value="ami-0123456789abcdef0", Type="String")
        yield endpoint
    finally:
        local_process.stop_process(pid, command)


def a_moment(_seconds: float) -> None:
    """Between two looks at a server on this machine."""
    threading.Event().wait(0.05)


def aws(endpoint: str, service: Any) -> Any:
    """A client of the root. Its keys are given, since a fixture of a module runs before a test's environment is set."""
    keys = {"aws_access_key_id": ACCESS_KEY, "aws_secret_access_key": SECRET_KEY}
    return boto3.client(service, endpoint_url=endpoint, region_name=REGION, **keys)

"""Requests to S3 that could name the owner of the bucket, and do not."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import botocore.handlers
import pytest
from botocore.model import OperationModel


@contextmanager
def requests_without_owner() -> Iterator[list[str]]:
    """Operations of every client that is made inside the block, whoever makes it; grows with the requests."""
    found: list[str] = []

    def note(model: OperationModel, params: dict[str, Any], **_: object) -> None:
        members = model.input_shape.members if model.input_shape else {}
        if "ExpectedBucketOwner" in members and "x-amz-expected-bucket-owner" not in params["headers"]:
            found.append(model.name)

    handlers = [*botocore.handlers.BUILTIN_HANDLERS, ("before-call.s3", note)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.handlers, "BUILTIN_HANDLERS", handlers)
        patch.setattr(boto3, "DEFAULT_SESSION", None)  # made before
        yield found

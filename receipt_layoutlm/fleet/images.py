"""The image of a fleet's machines: the deployed one, the one of the next deployment, and its age."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.check_result import CheckResult
from receipt_layoutlm.fleet.stack import StackState

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


PARAMETER, IMAGE = "AmiId", "ImageId"  # of workers.yaml: the name of a public parameter, an id in its place; an output
OLDEST: Final = timedelta(days=90)  # the next releases of an image bring its security patches


class BadImage(UserError):
    """Neither the id of an image nor the name of a parameter that holds one."""


@dataclass(frozen=True)
class ImageChange:
    """Ids of the deployed image and of the next one; None where it is unknown, or there is none yet."""

    before: str | None
    after: str | None


def image_values(values: Mapping[str, str]) -> dict[str, str]:
    """The values of a request with an id given for AmiId as ImageId. Raises BadImage."""
    given = values.get(PARAMETER)
    if given is None:
        return dict(values)
    if re.fullmatch(r"ami-[0-9a-f]+", given):
        return {**{name: value for name, value in values.items() if name != PARAMETER}, IMAGE: given}
    if not given.startswith("/"):
        raise BadImage(
            f"--ami-id {given!r}: give the id of an image, such as ami-0123456789abcdef0, or the name of a public "
            "parameter, which begins with /aws/service/"
        )
    return {**values, IMAGE: ""}


def deployed_image(workers: StackState | None) -> str | None:
    """The image of a deployed fleet; None without one, or one of an older version."""
    return None if workers is None else workers.outputs.get(IMAGE)


def image_change(client: Any, workers: StackState | None, values: Mapping[str, str]) -> ImageChange:
    """The images before and after a deployment with all these values, defaults included."""
    if image := values.get(IMAGE):
        return ImageChange(deployed_image(workers), image)
    try:
        after = client.get_parameters(Names=[values[PARAMETER]])["Parameters"]
    except (ClientError, BotoCoreError):  # CloudFormation reads it by itself, and explains a refusal
        after = []
    return ImageChange(deployed_image(workers), after[0]["Value"] if after else None)


def check_image(client: "EC2Client", image: str, now: datetime) -> CheckResult:
    """Check the age of the deployed image."""
    try:
        found = client.describe_images(ImageIds=[image])["Images"]
    except (ClientError, BotoCoreError) as error:
        advice = "ask for ec2:DescribeImages, or continue without this check"
        return CheckResult("image", "warn", f"{image}: {error}", advice)
    if not found:
        advice = "new machines cannot start: `layoutlm-cli fleet deploy` takes the newest one"
        return CheckResult("image", "missing", f"{image} no longer exists", advice)
    if (created := found[0].get("CreationDate")) is None:
        return CheckResult("image", "ok", f"{image}, of unknown age")
    age = now - datetime.fromisoformat(created)
    text = f"{image}, {age.days} days old: {found[0].get('Name', '')}"
    if age < OLDEST:
        return CheckResult("image", "ok", text)
    advice = (
        "patches of the driver and the system are in newer ones: `layoutlm-cli fleet deploy` takes the newest, with "
        "--ami-id and the name of its parameter if an image is fixed"
    )
    return CheckResult("image", "warn", text, advice)

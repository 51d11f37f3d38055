"""Instance types and the vCPU quotas of an account. A new account may have none for instances with a GPU."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.check_result import CheckResult

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_service_quotas import ServiceQuotasClient


Market = Literal["spot", "on-demand"]
MARKETS: Final[tuple[Market, ...]] = ("spot", "on-demand")

# Quota codes by family, with its generation where that matters. A quota's name lists its families:
# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html; no spot quota lists P6
_G: Final = ("g", "gr", "vt")
CODES: Final[dict[Market, dict[str, str]]] = {
    "spot": {
        **dict.fromkeys(_G, "L-3819A6DF"),
        **dict.fromkeys(("p2", "p3", "p4"), "L-7212CCBC"),
        "p5": "L-C4BD4855",
    },
    "on-demand": {**dict.fromkeys(_G, "L-DB2E81BA"), "p": "L-417A185B"},
}


class TooFewGpus(UserError):
    """An instance type has fewer GPUs than slots: its machines would terminate themselves at once."""


@dataclass(frozen=True)
class MachineType:
    """vCPUs and NVIDIA GPUs of an instance type."""

    cpus: int
    gpus: int


def describe_types(client: "EC2Client", types: Sequence[str]) -> dict[str, MachineType]:
    """The types available in the region, in the given order. Raises ClientError."""
    reply = client.describe_instance_types(Filters=[{"Name": "instance-type", "Values": list(types)}])
    known = {
        each["InstanceType"]: MachineType(
            cpus=each["VCpuInfo"]["DefaultVCpus"],
            gpus=sum(gpu["Count"] for gpu in each.get("GpuInfo", {}).get("Gpus", [])),
        )
        for each in reply["InstanceTypes"]
    }
    return {name: known[name] for name in types if name in known}


def check_slots(client: "EC2Client", types: Sequence[str], slots: int) -> None:
    """Check that every slot gets a GPU of its own. Raises TooFewGpus, ClientError."""
    small = {name: each.gpus for name, each in describe_types(client, types).items() if each.gpus < slots}
    if small:
        gpus = ", ".join(f"{name} has {count}" for name, count in small.items())
        raise TooFewGpus(f"{slots} slots need {slots} GPUs, and {gpus}: lower --slots, or give another --instance-type")


def check_quotas(region: str, types: list[str], markets: Sequence[Market] = MARKETS) -> list[CheckResult]:
    """Check for each market whether its quota allows at least one machine of these types."""
    quotas = boto3.client("service-quotas", region_name=region)
    ec2 = boto3.client("ec2", region_name=region)
    return [check_quota(quotas, ec2, market, types) for market in markets]


def check_quota(quotas: "ServiceQuotasClient", ec2: "EC2Client", market: Market, types: list[str]) -> CheckResult:
    """Check whether the quota of one market allows at least one machine."""
    name = f"{market} quota"
    try:
        cpus = {instance_type: each.cpus for instance_type, each in describe_types(ec2, types).items()}
        codes = {instance_type: quota_code(instance_type, market) for instance_type in cpus}
        machines = {
            instance_type: int(_allowed_cpus(quotas, code) // cpus[instance_type])
            for instance_type, code in codes.items()
            if code is not None
        }
    except (ClientError, BotoCoreError) as error:
        found = f"unknown for {', '.join(types)}: {error}"
        return CheckResult(name, "warn", found, "ask for servicequotas:GetServiceQuota, or continue without this check")
    if not cpus:
        found = f"this region has none of {', '.join(types)}"
        return CheckResult(name, "missing", found, "deploy with another --instance-type")
    unknown = ", ".join(instance_type for instance_type, code in codes.items() if code is None)
    aside = f"unknown which quota applies to {unknown}"
    if any(machines.values()):
        room = ", ".join(f"{count} {instance_type}" for instance_type, count in machines.items())
        return CheckResult(name, "ok", f"room for {room}" + (f"; {aside}" if unknown else ""))
    if unknown:
        return CheckResult(name, "warn", aside, "look it up in the Service Quotas console, or continue without it")
    smallest = min(machines, key=lambda instance_type: cpus[instance_type])
    request = (
        "aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {codes[smallest]} --desired-value {4 * cpus[smallest]} --region {ec2.meta.region_name}"
    )
    state: Literal["warn", "missing"] = "missing" if market == "spot" else "warn"  # on-demand is a fallback only
    return CheckResult(name, state, f"no room for any of {', '.join(cpus)}", request)


def quota_code(instance_type: str, market: Market) -> str | None:
    """The code of the quota that a type counts against; None where it is unknown."""
    family = re.match(r"([a-z]+)(\d+)", instance_type)
    if family is None:
        return None
    codes = CODES[market]
    return codes.get(family[1]) or codes.get(family[0])


def _allowed_cpus(client: "ServiceQuotasClient", code: str) -> float:
    try:
        return client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except client.exceptions.NoSuchResourceException:  # never changed: the default applies
        return client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]

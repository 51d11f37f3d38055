"""How many virtual CPUs of the wanted instance types an account may have: a new account may have none with a GPU.

Instance types: the virtual CPUs and GPUs that they have, as EC2 tells, and whether these are enough.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.finding import Finding

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_service_quotas import ServiceQuotasClient


Market = Literal["spot", "on-demand"]

# by family, with its generation where that matters: a quota's name tells which families it is about,
# https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html, and no spot quota tells of P6
_G: Final = ("g", "gr", "vt")
CODES: Final[dict[Market, dict[str, str]]] = {
    "spot": {
        **dict.fromkeys(_G, "L-3819A6DF"),
        **dict.fromkeys(("p2", "p3", "p4"), "L-7212CCBC"),
        "p5": "L-C4BD4855",
    },
    "on-demand": {**dict.fromkeys(_G, "L-DB2E81BA"), "p": "L-417A185B"},
}
MARKETS: Final[tuple[Market, ...]] = ("spot", "on-demand")


@dataclass(frozen=True)
class _Room:
    """Virtual CPUs that one machine takes, and those that the quota of its family allows."""

    instance_type: str
    cpus: int
    code: str
    allowed: float

    @property
    def machines(self) -> int:
        return int(self.allowed // self.cpus)


def quota_findings(region: str, types: list[str]) -> list[Finding]:
    """One finding for each way of buying: whether at least one machine of some type fits the quota."""
    quotas = boto3.client("service-quotas", region_name=region)
    ec2 = boto3.client("ec2", region_name=region)
    return [market_finding(quotas, ec2, market, types) for market in MARKETS]


def market_finding(quotas: "ServiceQuotasClient", ec2: "EC2Client", market: Market, types: list[str]) -> Finding:
    """Whether at least one machine fits, bought in this way."""
    name = f"{market} quota"
    try:
        cpus = {name: each.cpus for name, each in describe_types(ec2, types).items()}
        rooms = list(_rooms(quotas, market, cpus))
    except (ClientError, BotoCoreError) as error:
        said = f"of {', '.join(types)} not known: {error}"
        return Finding(name, "warn", said, "ask for servicequotas:GetServiceQuota, or just try")
    if not cpus:
        return Finding(name, "missing", f"this region has none of {', '.join(types)}", "deploy with --instance-type")
    unknown = [each for each in cpus if quota_code(each, market) is None]
    aside = f"not known which quota {', '.join(unknown)} has"
    if any(each.machines for each in rooms):
        found = ", ".join(f"{each.machines} {each.instance_type}" for each in rooms)
        return Finding(name, "ok", f"room for {found}" + (f"; {aside}" if unknown else ""))
    if unknown:
        return Finding(name, "warn", aside, "look it up in the console of Service Quotas, or just try")
    # on-demand machines are a way out only
    state: Literal["warn", "missing"] = "missing" if market == "spot" else "warn"
    return Finding(name, state, f"no room for any of {', '.join(cpus)}", _request(rooms, ec2.meta.region_name))


def quota_code(instance_type: str, market: Market) -> str | None:
    """None where it is not known which quota a type counts against."""
    family = re.match(r"([a-z]+)(\d+)", instance_type)
    if family is None:
        return None
    codes = CODES[market]
    return codes.get(family[1]) or codes.get(family[0])


def _rooms(client: "ServiceQuotasClient", market: Market, cpus: dict[str, int]) -> Iterable[_Room]:
    for instance_type, count in cpus.items():
        code = quota_code(instance_type, market)
        if code is not None:
            yield _Room(instance_type, count, code, _allowed(client, code))


def _request(rooms: list[_Room], region: str) -> str:
    """Asks for room for four of the smallest machines."""
    least = min(rooms, key=lambda each: each.cpus)
    return (
        "aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {least.code} --desired-value {4 * least.cpus} --region {region}"
    )


def _allowed(client: "ServiceQuotasClient", code: str) -> float:
    try:
        return client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except client.exceptions.NoSuchResourceException:  # never changed: the default holds
        return client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]


class TooFewGpus(UserError):
    """Machines of a type would end themselves at once: their workers would not find a GPU each."""


@dataclass(frozen=True)
class MachineType:
    """`gpus` of NVIDIA; `cpus` are virtual ones, of which quotas speak."""

    cpus: int
    gpus: int


def describe_types(client: "EC2Client", types: Sequence[str]) -> dict[str, MachineType]:
    """Those that the region has, in the order in which they are wanted. Raises ClientError."""
    found = client.describe_instance_types(Filters=[{"Name": "instance-type", "Values": list(types)}])
    known = {
        each["InstanceType"]: MachineType(
            cpus=each["VCpuInfo"]["DefaultVCpus"],
            gpus=sum(gpu["Count"] for gpu in each.get("GpuInfo", {}).get("Gpus", [])),
        )
        for each in found["InstanceTypes"]
    }
    return {each: known[each] for each in types if each in known}


def check_slots(client: "EC2Client", types: Sequence[str], slots: int) -> None:
    """Each slot works on a GPU of its own. Raises TooFewGpus, and ClientError."""
    few = {name: each.gpus for name, each in describe_types(client, types).items() if each.gpus < slots}
    if few:
        have = ", ".join(f"{name} has {gpus}" for name, gpus in few.items())
        raise TooFewGpus(f"{slots} slots need {slots} GPUs, and {have}: lower --slots, or give other --instance-type")

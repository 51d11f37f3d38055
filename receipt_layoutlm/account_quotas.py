"""How many virtual CPUs of the wanted instance types an account may have: a new account may have none with a GPU."""

from typing import TYPE_CHECKING, Final, Literal

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.finding import Finding

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_service_quotas import ServiceQuotasClient

Market = Literal["spot", "on-demand"]
# by the beginning of a type's name, https://docs.aws.amazon.com/ec2/latest/instancetypes/ec2-instance-quotas.html
CODES: Final[dict[str, dict[Market, str]]] = {
    "g": {"spot": "L-3819A6DF", "on-demand": "L-DB2E81BA"},
    "vt": {"spot": "L-3819A6DF", "on-demand": "L-DB2E81BA"},
    "p": {"spot": "L-7212CCBC", "on-demand": "L-417A185B"},
}
STANDARD: Final[dict[Market, str]] = {"spot": "L-34B43A08", "on-demand": "L-1216C47A"}
MARKETS: Final[tuple[Market, ...]] = ("spot", "on-demand")


def quota_findings(region: str, types: list[str]) -> list[Finding]:
    """One finding for each way of buying: whether at least one machine of some type fits the quota."""
    quotas = boto3.client("service-quotas", region_name=region)
    ec2 = boto3.client("ec2", region_name=region)
    return [market_finding(quotas, ec2, market, types) for market in MARKETS]


def market_finding(quotas: "ServiceQuotasClient", ec2: "EC2Client", market: Market, types: list[str]) -> Finding:
    """Whether at least one machine fits, bought in this way."""
    name = f"{market} quota"
    try:
        cpus = _cpus(ec2, types)
        allowed = {each: _allowed(quotas, _code(each, market)) for each in types}
    except (ClientError, BotoCoreError) as error:
        return Finding(name, "warn", f"not known: {error}", "ask for servicequotas:GetServiceQuota, or just try")
    found = ", ".join(f"{int(allowed[each] // cpus[each])} {each}" for each in types if each in cpus)
    if any(allowed[each] >= cpus[each] for each in types if each in cpus):
        return Finding(name, "ok", f"room for {found}")
    least = min((cpus[each] for each in types if each in cpus), default=4)
    ask = (
        "aws service-quotas request-service-quota-increase --service-code ec2 "
        f"--quota-code {_code(types[0], market)} --desired-value {4 * least} --region {ec2.meta.region_name}"
    )
    # on-demand machines are a way out only
    return Finding(name, "missing" if market == "spot" else "warn", f"no room for any of {', '.join(types)}", ask)


def _code(instance_type: str, market: Market) -> str:
    family = instance_type.split(".")[0].rstrip("abcdefghijklmnopqrstuvwxyz-").rstrip("0123456789")
    return CODES.get(family, STANDARD)[market]


def _cpus(client: "EC2Client", types: list[str]) -> dict[str, int]:
    """Virtual CPUs by type, of those that the region has."""
    found = client.describe_instance_types(Filters=[{"Name": "instance-type", "Values": types}])
    return {each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"] for each in found["InstanceTypes"]}


def _allowed(client: "ServiceQuotasClient", code: str) -> float:
    try:
        return client.get_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]
    except client.exceptions.NoSuchResourceException:  # never changed: the default holds
        return client.get_aws_default_service_quota(ServiceCode="ec2", QuotaCode=code)["Quota"]["Value"]

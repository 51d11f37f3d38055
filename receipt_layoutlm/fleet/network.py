"""Zones and subnets of a fleet: zones that have its instance types, and subnets from which machines reach AWS."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from receipt_layoutlm.errors import UserError
from receipt_layoutlm.fleet.check_result import CheckResult

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import RouteTableTypeDef, RouteTypeDef, SubnetTypeDef


# services that a machine cannot work without; gateway endpoints serve the first two
NEEDED_ENDPOINTS: Final = ("s3", "dynamodb", "autoscaling")
UNKNOWN: Final = "those with these instance types are unknown"
_OTHERS: Final = "give another --instance-type, or --subnet-ids in other zones"
_ANYWHERE: Final = "0.0.0.0/0"  # the security group opens no way out by IPv6


class NoZone(UserError):
    """No zone of the region has the instance types."""


class NoWayOut(UserError):
    """Machines in these subnets could not reach AWS: each would terminate itself at its deadline."""


def choose_zones(client: "EC2Client", types: Sequence[str], count: int) -> list[str]:
    """At most `count` zones that offer the types: those with more of them first, then by name. Raises NoZone."""
    offered = _offered(client, types)
    filters = [{"Name": "zone-type", "Values": ["availability-zone"]}, {"Name": "state", "Values": ["available"]}]
    zones = client.describe_availability_zones(Filters=filters)["AvailabilityZones"]  # type: ignore[arg-type]
    names = [zone["ZoneName"] for zone in zones if zone["ZoneName"] in offered]
    if not names:
        region = client.meta.region_name
        raise NoZone(f"no zone of {region} has {', '.join(types)}: give another --instance-type or --region")
    return sorted(sorted(names, key=lambda name: (-offered.count(name), name))[:count])


def check_zones(client: "EC2Client", types: Sequence[str], subnet_ids: Sequence[str]) -> CheckResult | None:
    """A warning of zones of these subnets without any of the types. Raises NoZone where there are no others."""
    try:
        offered = _offered(client, types)
        subnets = client.describe_subnets(SubnetIds=list(subnet_ids))["Subnets"]
    except (ClientError, BotoCoreError) as error:
        return CheckResult("zones", "warn", f"{UNKNOWN}: {error}", "allow ec2:DescribeInstanceTypeOfferings")
    zones = sorted({subnet["AvailabilityZone"] for subnet in subnets})
    without = [zone for zone in zones if zone not in offered]
    found = f"{' and '.join(without)}: none of {', '.join(types)} exists there"
    if without and without == zones:
        raise NoZone(f"{found}: {_OTHERS}")
    return CheckResult("zones", "warn", found, _OTHERS) if without else None


def _offered(client: "EC2Client", types: Sequence[str]) -> list[str]:
    """The zones of each type."""
    pages = client.get_paginator("describe_instance_type_offerings").paginate(
        LocationType="availability-zone", Filters=[{"Name": "instance-type", "Values": list(types)}]
    )
    return [offer["Location"] for page in pages for offer in page["InstanceTypeOfferings"]]


def check_way_out(client: "EC2Client", subnet_ids: Sequence[str]) -> None:
    """Check that machines in each subnet can reach AWS: by a route, or by endpoints. Raises NoWayOut."""
    subnets = client.describe_subnets(SubnetIds=list(subnet_ids))["Subnets"]
    reasons = [reason for subnet in subnets for reason in _obstacles(client, subnet)]
    if reasons:
        raise NoWayOut("\n".join(["no way out for machines:", *reasons]))


def _obstacles(client: "EC2Client", subnet: "SubnetTypeDef") -> Iterator[str]:
    name, vpc = subnet["SubnetId"], subnet["VpcId"]
    table = _route_table(client, name, vpc)
    route = _default_route(table)
    if route is None:
        found = client.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["VpcEndpoints"]
        served = {
            endpoint["ServiceName"].rpartition(".")[2]
            for endpoint in found
            if endpoint.get("VpcEndpointType") != "Gateway"
            or table["RouteTableId"] in endpoint.get("RouteTableIds", ())
        }
        if missing := [service for service in NEEDED_ENDPOINTS if service not in served]:
            yield (
                f"{name}: its route table {table['RouteTableId']} has no default route, and {vpc} no endpoint for "
                f"{', '.join(missing)}: add a route to an internet or NAT gateway, or omit --subnet-ids"
            )
    elif route.get("State") == "blackhole":
        yield f"{name}: the target of its default route no longer exists: repair {table['RouteTableId']}"
    elif route.get("GatewayId", "").startswith("igw-") and not subnet["MapPublicIpOnLaunch"]:
        yield (
            f"{name}: it leads to an internet gateway, but its machines get no public address: run 'aws ec2 "
            f"modify-subnet-attribute --subnet-id {name} --map-public-ip-on-launch', or route it to a NAT gateway"
        )


def _route_table(client: "EC2Client", subnet: str, vpc: str) -> "RouteTableTypeDef":
    """The subnet's own route table, or else the main one of its VPC."""
    own = client.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet]}])["RouteTables"]
    if own:
        return own[0]
    filters = [{"Name": "vpc-id", "Values": [vpc]}, {"Name": "association.main", "Values": ["true"]}]
    return client.describe_route_tables(Filters=filters)["RouteTables"][0]  # type: ignore[arg-type]


def _default_route(table: "RouteTableTypeDef") -> "RouteTypeDef | None":
    for route in table["Routes"]:
        if route.get("DestinationCidrBlock") == _ANYWHERE:
            return route
    return None

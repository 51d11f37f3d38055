"""Instance types: the virtual CPUs and GPUs that they have, as EC2 tells, and whether these are enough."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from receipt_layoutlm.errors import UserError

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client


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

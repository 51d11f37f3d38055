"""Instance types, by the figures that moto has of real ones."""

import boto3
import pytest

from receipt_layoutlm.fleet.quotas import MachineType, TooFewGpus, check_slots, describe_types


def test_types_are_described_in_the_given_order_without_unknown_ones(moto_aws: None) -> None:
    ec2 = boto3.client("ec2", region_name="us-east-1")

    found = describe_types(ec2, ["g5.xlarge", "g99.huge", "g4dn.12xlarge", "c5.large"])

    assert list(found) == ["g5.xlarge", "g4dn.12xlarge", "c5.large"]
    assert found["g4dn.12xlarge"] == MachineType(cpus=48, gpus=4)
    assert found["c5.large"].gpus == 0


@pytest.mark.parametrize("slots", [1, 4])
def test_as_many_slots_as_gpus_are_fine(moto_aws: None, slots: int) -> None:
    ec2 = boto3.client("ec2", region_name="us-east-1")

    check_slots(ec2, ["g4dn.12xlarge"], slots)

    with pytest.raises(TooFewGpus):
        check_slots(ec2, ["g4dn.12xlarge"], 5)


@pytest.mark.parametrize("types", [["g5.xlarge"], ["g4dn.12xlarge", "g5.xlarge"], ["c5.large"]])
def test_a_type_with_fewer_gpus_than_slots_is_refused(moto_aws: None, types: list[str]) -> None:
    with pytest.raises(TooFewGpus, match=r"2 slots need 2 GPUs, and \S+ has [01]: lower --slots"):
        check_slots(boto3.client("ec2", region_name="us-east-1"), types, 2)

"""The format is that of the hardware, and a run keeps the one it began with."""

import pytest
import torch

from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.training.precision import ChosenPrecision, autocast, available, choose, loss_scaler

A100, T4, CPU = ("bf16", "fp16", "fp32"), ("fp16", "fp32"), ("fp32",)


@pytest.mark.parametrize(("there", "expected"), [(A100, "bf16"), (T4, "fp16"), (CPU, "fp32")])
def test_auto_is_the_best_that_the_hardware_has(there: tuple[str, ...], expected: str) -> None:
    assert choose("auto", None, there) == ChosenPrecision(expected)


def test_a_run_that_goes_on_keeps_its_format_whatever_is_better_here() -> None:
    assert choose("auto", "fp16", A100) == ChosenPrecision("fp16")


def test_where_the_format_is_missing_the_run_goes_on_in_another_and_says_so() -> None:
    assert choose("bf16", "bf16", T4) == ChosenPrecision("fp16", instead_of="bf16")


def test_asking_for_what_the_hardware_has_not_is_an_error_with_what_it_has() -> None:
    with pytest.raises(ConfigError, match="give auto, or fp16 or fp32"):
        choose("bf16", None, T4)


def test_a_cpu_computes_in_fp32_alone_since_the_rest_is_emulated() -> None:
    assert available(torch.device("cpu")) == ("fp32",)


@pytest.mark.parametrize(("precision", "expected"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_computes_in_the_format(precision: str, expected: torch.dtype) -> None:
    cpu = torch.device("cpu")
    with autocast(cpu, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


@pytest.mark.parametrize(("precision", "enabled"), [("fp32", False), ("bf16", False), ("fp16", True)])
def test_only_fp16_needs_its_loss_scaled(precision: str, enabled: bool) -> None:
    assert loss_scaler(torch.device("cpu"), precision).is_enabled() is enabled

"""The record of a run before its first step: options, examples, versions, hardware."""

import platform

import torch

from receipt_layoutlm.config import TrainConfig
from receipt_layoutlm.run.hardware import Hardware, usable_cpus
from receipt_layoutlm.run.record import RunRecord, TaskRecord, bundle_sha256, git_sha, versions, wheel_sha256
from receipt_layoutlm.training.task import Compute


def make_record(config: TrainConfig, of_task: TaskRecord, compute: Compute, tf32: bool) -> RunRecord:
    """All of run.json that is known before the first step."""
    device = compute.device
    return RunRecord(
        **dict(of_task),
        config=config,
        versions=versions(),
        git_sha=git_sha(),
        wheel_sha256=wheel_sha256(),
        bundle_sha256=bundle_sha256(),
        hardware=Hardware(
            device=device.type,
            device_name=torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
            machine=platform.machine(),
            cpus=usable_cpus(),
            threads=torch.get_num_threads(),
            precision=compute.precision,
            tf32=tf32,
            processes=compute.group.size,
        ),
    )

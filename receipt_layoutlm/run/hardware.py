"""Hardware of an attempt: device, number format, processes and threads."""

import os
import sys
from typing import Literal

from pydantic import BaseModel, ConfigDict

Precision = Literal["fp32", "fp16", "bf16"]


class Hardware(BaseModel):
    """Hardware of an attempt. Records of earlier versions lack the fields that have defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    device: str
    device_name: str
    machine: str
    cpus: int  # that this process may use
    threads: int  # of each process
    precision: Precision | None = None  # the chosen one, or its substitute on this device
    tf32: bool | None = None  # whether matrix products of fp32 use TF32
    processes: int = 1

    @property
    def text(self) -> str:
        """One line for people."""
        device = f"{self.device} ({self.device_name})" if self.device_name else self.device
        processes = f"{self.processes} processes" if self.processes > 1 else ""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return ", ".join(filter(None, (device, self.precision, "TF32" if self.tf32 else "", processes, threads)))


def usable_cpus() -> int:
    """CPUs that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

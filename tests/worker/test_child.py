"""The trainer as the worker's child process."""

import os
from pathlib import Path

import pytest

from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.worker.process import OOM_SCORE, start_trainer
from tests.support.places import own_trainers


@pytest.mark.engine
@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="only Linux chooses victims by a score")
def test_the_kernel_is_offered_the_trainer_and_not_its_worker(tmp_path: Path) -> None:
    own = Path("/proc/self/oom_score_adj").read_text()

    with start_trainer(RunDir(tmp_path), os.environ):
        (pid,) = own_trainers()
        score = Path(f"/proc/{pid}/oom_score_adj").read_text().strip()

    assert score == OOM_SCORE
    assert Path("/proc/self/oom_score_adj").read_text() == own

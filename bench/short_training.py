"""Short trainings of the labelling benches: a fixed number of steps, from weights in a folder."""

import math
import os
import resource
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from receipt_layoutlm.config_documents import parse_config
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.snapshot import sample_pages, write_snapshot
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.worker.process import start_trainer

VALIDATED = 12  # labelled pages that the trainer evaluates; it selects nothing by them, since it evaluates once
RECIPE = {
    "batch_size": 8,
    "lr": 4e-4,
    "device": "cpu",
    "eval_every": 10**9,
    "label_smoothing": 0.1,
    "decoding": "viterbi",
}
RECEIPTS = {
    "augment": ["entities", "drop", "ocr", "boxes"],
    "single_valued_labels": ["MERCHANT_NAME", "ADDRESS_LINE", "GRAND_TOTAL"],
}


def epochs(steps: int, pages: Sequence[Page]) -> int:
    """As many as take at least these optimizer steps, and at least three."""
    return max(3, math.ceil(steps * 8 / len(pages)))


def train(labelled: Sequence[Page], options: Mapping[str, object], seed: int, keep: Path) -> float:
    """Train in a process of its own and keep the weights of the last step; the CPU minutes."""
    began = _cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = RunDir(Path(folder))
        run_dir.config.write_text(parse_config({**RECIPE, **options, "seed": seed}).model_dump_json())
        write_snapshot(labelled, run_dir.dataset)
        write_snapshot(sample_pages(labelled, VALIDATED, seed), run_dir.eval_dataset)
        with start_trainer(run_dir, {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}) as trainer:
            while (code := trainer.exit_code(wait_seconds=5)) is None:
                pass
        if code != 0:
            raise SystemExit(f"the trainer failed: {run_dir.train_log.read_text()[-2000:]}")
        shutil.copytree(run_dir.path / "best", keep)
    return (_cpu_seconds() - began) / 60


def _cpu_seconds() -> float:
    """Of the child processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime

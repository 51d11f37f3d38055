"""Every bench starts: a name that moved in the product is missed in none of them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import BENCH

IMPORTS = """
import importlib, sys, traceback
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException:
        print(name, traceback.format_exc())
"""


@pytest.mark.engine
def test_every_bench_can_be_imported(tmp_path: Path) -> None:
    names = sorted(path.stem for path in BENCH.glob("*.py"))
    done = subprocess.run(
        [sys.executable, "-c", IMPORTS, *names],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(BENCH)},
        capture_output=True,
        text=True,
    )

    assert len(names) > 30
    assert (done.returncode, done.stdout) == (0, ""), done.stderr[-2000:]

"""Folders that tests read: the checkout, its fixtures and benchmarks, and the shared data sets where they lie."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
FIXTURES = ROOT / "tests" / "fixtures"
SHARED = ROOT.parent / "shared" / "data"

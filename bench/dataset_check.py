"""How long `dataset check` takes and how much memory it needs, at two sizes.

    python bench/dataset_check.py

Each size is checked in a process of its own, by the command itself, on a JSONL file of generated receipts: three parts,
a whitelist and merges. The start of the interpreter is in the time.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from receipt_layoutlm.data.page import page_to_line
from receipt_layoutlm.data.sample import generate_pages

SIZES = (2_000, 10_000)
WANTED_SECONDS, WANTED_MB = 10.0, 1536.0  # for the first size
LABELS = ("--merge-amounts", "--allowed-label", "MERCHANT_NAME", "--allowed-label", "AMOUNT")
OPTIONS = (*LABELS, "--split", "group", "--val-ratio", "0.1", "--test-ratio", "0.1")
COMMAND = "import sys; from receipt_layoutlm.cli import main; sys.argv = ['layoutlm-cli', *sys.argv[1:]]; main()"


def write_pages(count: int, path: Path) -> int:
    """Generated receipts; returns the number of words."""
    pages = generate_pages(count, seed=1)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{page_to_line(page)}\n" for page in pages)
    return sum(len(page.words) for page in pages)


def measure(count: int, path: Path) -> dict[str, float]:
    """One check in a child of this process, which is in a process of its own: the peak is that of the one check."""
    words = write_pages(count, path)
    began = time.perf_counter()
    told = subprocess.run(
        [sys.executable, "-c", COMMAND, "dataset", "check", str(path), "--json", *OPTIONS],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    seconds = time.perf_counter() - began
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert sum(json.loads(told)["pages"].values()) == count
    return {
        "words": words / count,
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mb": usage.ru_maxrss / 1024,  # ru_maxrss is in KiB on Linux
    }


def main() -> None:
    if len(sys.argv) > 1:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(int(sys.argv[1]), Path(folder) / "pages.jsonl")))
        return
    print(f"{'pages':>8}{'words/page':>12}{'seconds':>10}{'cpu':>8}{'peak MB':>10}")
    found = {}
    for size in SIZES:
        told = subprocess.run([sys.executable, __file__, str(size)], stdout=subprocess.PIPE, check=True).stdout
        found[size] = row = json.loads(told)
        print(
            f"{size:>8,}{row['words']:>12.0f}{row['seconds']:>10.1f}{row['cpu_seconds']:>8.1f}{row['peak_mb']:>10.0f}"
        )
    first = found[SIZES[0]]
    shares = first["seconds"] / WANTED_SECONDS, first["peak_mb"] / WANTED_MB
    print(f"{shares[0]:.2f} of the time and {shares[1]:.2f} of the memory allowed")


if __name__ == "__main__":
    main()

"""Token classifiers for receipts: submit, train unattended, query, and read receipts with what was trained.

from receipt_layoutlm import Extractor
for page in Extractor.load("best/").read("receipt.jpg"):
    print(page.best("GRAND_TOTAL"))
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from receipt_layoutlm.extractor import Extractor

__all__ = ["Extractor"]


def __getattr__(name: str) -> object:
    # on first use: it imports numpy and more, which the command line and the worker do without
    if name == "Extractor":
        from receipt_layoutlm.extractor import Extractor

        return Extractor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""`python -m receipt_layoutlm.cli`: the same as layoutlm-cli."""

from receipt_layoutlm.cli import main

main()

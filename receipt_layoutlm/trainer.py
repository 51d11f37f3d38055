"""`python -m receipt_layoutlm.trainer`: the name of the trainer before it had a room."""

import sys

from receipt_layoutlm.training.__main__ import run_trainer

if __name__ == "__main__":
    sys.exit(run_trainer(sys.argv[1:]))

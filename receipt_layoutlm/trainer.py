"""`python -m receipt_layoutlm.trainer`: the name of the trainer before it had a room."""

import sys

from receipt_layoutlm.training.__main__ import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

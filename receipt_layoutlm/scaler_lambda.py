"""The scaler's handler under the name that templates deployed before the rooms give to AWS Lambda."""

from receipt_layoutlm.fleet.scaler.lambda_entry import run

__all__ = ["run"]

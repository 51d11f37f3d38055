"""The scaler's handler by the name in templates of earlier versions."""

from receipt_layoutlm.fleet.scaler.lambda_entry import on_event as run

__all__ = ["run"]

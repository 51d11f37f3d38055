"""The task `layoutlm`: a label for each word of a page, by LayoutLM token classification."""

from receipt_layoutlm.training.tasks.word_labels.task import prepare

__all__ = ["prepare"]

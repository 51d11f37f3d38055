"""The task `layoutlm`: a label for each word of a page, by LayoutLM token classification. Its door is task.py."""

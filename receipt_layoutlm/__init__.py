"""Token classifiers for receipts: submit, train unattended, query."""

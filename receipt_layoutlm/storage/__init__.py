"""The bucket: keys, transfers, retention, usage. Imports run and below, and receipt_dynamo."""

"""Snapshots of pages in table and bucket, and labels under review. Imports storage and below."""

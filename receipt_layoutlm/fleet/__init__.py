"""Machines in the user's AWS account: deploy, check, status. Imports worker, storage, run and below."""

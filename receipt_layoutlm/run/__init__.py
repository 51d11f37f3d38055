"""The contract between worker and trainer. Imports data and the shared vocabulary; no AWS, no torch."""

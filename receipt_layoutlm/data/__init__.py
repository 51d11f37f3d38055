"""Pages to learn from, as files. Imports the shared vocabulary only; no AWS, no torch."""

"""Options of each task beside the run options of config.py. Imports the shared vocabulary only; no torch."""

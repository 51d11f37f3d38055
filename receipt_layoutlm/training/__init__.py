"""From a run directory to weights. Imports run, data and the shared vocabulary; never AWS."""

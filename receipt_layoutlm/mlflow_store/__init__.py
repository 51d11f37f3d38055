"""Jobs of a table through MLflow's own interface, read-only. May import jobs and the rooms below it, and the run store.

Only this room imports mlflow, an extra.
"""

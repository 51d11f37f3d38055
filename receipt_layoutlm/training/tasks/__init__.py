"""Tasks, one room each, and the functions that they share. A task's config (configs/) names its module as `trainer`."""

"""The `train` command of a job with other options."""

import shlex
from collections.abc import Mapping

from pydantic import JsonValue

from receipt_dynamo import Job
from receipt_layoutlm.config import DEFAULT_TASK, ConfigError, config_class
from receipt_layoutlm.flags import typed

NOT_TYPED = frozenset({"continues", "dataset", "eval_dataset"})
PLAIN = "original"  # the recipe of a job that was submitted with a file, or before there were recipes
SHOWN_DIGITS = 12  # of a fingerprint, as `dataset list` shows them


def rerun_command(job: Job, changes: Mapping[str, JsonValue]) -> str:
    """What follows `layoutlm-cli`: more epochs continue a job that has ended, other options need a new run.

    Options that were given are repeated, those of a named recipe come with its name.
    """
    config = job.job_config
    if set(changes) == {"epochs"} and job.status.is_final:
        return shlex.join(["train", "--resume", job.job_id, *typed("epochs", changes["epochs"])])
    given = config.get("given")
    sources = given if isinstance(given, dict) else {}
    recipes, recipe = _recipes(config.get("task")), config.get("recipe")
    is_named = isinstance(recipe, str) and recipe in recipes
    words = ["train"]
    for name in ("dataset", "eval_dataset"):
        if isinstance(pinned := config.get(name), str):
            dataset, _, fingerprint = pinned.partition("@")
            words += typed(name, f"{dataset}@{fingerprint[:SHOWN_DIGITS]}" if fingerprint else dataset)
    if is_named or PLAIN in recipes:
        words += typed("recipe", recipe if is_named else PLAIN)  # not the default one of the weights
    for name, source in sources.items():
        if name not in {*NOT_TYPED, *changes} and not (is_named and source == "recipe"):
            words += typed(name, config.get(name))
    if "seed" in sources and "split_seed" not in config:  # an earlier version divided by the seed
        words += typed("split_seed", config.get("seed"))
    for name, value in changes.items():
        words += typed(name, value)
    return shlex.join(words)


def _recipes(task: JsonValue) -> frozenset[str]:
    """Names of the recipes of a task; none of a task that is not installed here."""
    try:
        return frozenset(config_class(task or DEFAULT_TASK).recipes)
    except ConfigError:
        return frozenset()

"""The request of a submission; resolution of flags, --config file, environment and defaults into one config."""

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from receipt_dynamo import Priority
from receipt_dynamo.entities import as_utc
from receipt_layoutlm.config import DEFAULT_TASK, RATIOS, ConfigError, TrainConfig, config_class
from receipt_layoutlm.config_documents import unknown_key
from receipt_layoutlm.data.page import DataError
from receipt_layoutlm.data.source_text import TextOptions, read_source
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.jobs.option_checks import check_ratios, checked_options
from receipt_layoutlm.references import new_name
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.keys import parse_s3_uri
from receipt_layoutlm.suggestions import nearest_name
from receipt_layoutlm.worker.delivery import check_target

DATASET_VARIABLE = "LAYOUTLM_DATASET"


_job = partial(Field, json_schema_extra={"group": "job"})


class JobRequest(BaseModel):
    """Options of the job itself; TrainConfig has those of the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_name: str | None = _job(None, description="Name of the job (default: date and id).")
    recipe: str | None = _job(
        None,
        min_length=1,
        description="Named options, below all that are given: one of 'layoutlm-cli recipe list', or a YAML file "
        "(default: receipts with the weights minilm, else original).",
    )
    description: str = _job("", description="One line about the job.")
    experiment: str | None = _job(None, description="Group of the job, stored as the tag 'experiment'.")
    tags: dict[str, str] = _job({}, description="KEY=VALUE stored with the job; repeat for more.")
    priority: Priority = _job(Priority.MEDIUM, description="Claim order.")
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = _job("default", description="Queue of the job.")
    not_before: datetime | None = _job(
        None,
        description="Time with its zone before which no worker claims the job, such as 2026-12-01T22:00+01:00.",
    )
    max_cost: float | None = _job(
        None,
        gt=0,
        allow_inf_nan=False,
        description="US dollars that all attempts may cost. The job then fails with its checkpoint kept. Only workers "
        "that know their price claim it.",
    )
    notify: str | None = _job(
        None,
        description="SNS topic, or name of an SSM parameter with an https URL, to tell of the job's end, of a collapse "
        "and of missing machines.",
    )
    output_s3_path: str | None = _job(
        None,
        description="s3://BUCKET[/PREFIX] for the run's files (default: the training bucket). Fleet machines claim "
        "only jobs without a PREFIX.",
    )

    @field_validator("job_name")
    @classmethod
    def _one_path_segment(cls, name: str | None) -> str | None:
        return name if name is None else new_name(name)

    @field_validator("not_before", mode="before")
    @classmethod
    def _with_zone(cls, value: object) -> object:
        try:
            time = datetime.fromisoformat(value) if isinstance(value, str) else value
        except ValueError:
            time = None
        if not isinstance(time, datetime):
            raise ValueError("not a time: write it as 2026-12-01T22:00+01:00")
        if time.tzinfo is None:
            raise ValueError(f"the zone is missing: write {time.isoformat(timespec='minutes')}+01:00, or Z for UTC")
        return as_utc(time)

    @field_validator("notify")
    @classmethod
    def _target(cls, target: str | None) -> str | None:
        return target if target is None else check_target(target)

    @field_validator("output_s3_path")
    @classmethod
    def _place(cls, uri: str | None) -> str | None:
        try:
            if uri is not None:
                parse_s3_uri(uri)
        except StorageError as error:
            raise ValueError(str(error)) from None
        return uri

    @model_validator(mode="after")
    def _one_experiment(self) -> Self:
        if self.experiment and self.tags.get("experiment", self.experiment) != self.experiment:
            raise ValueError(
                f"--experiment {self.experiment} is --tag experiment={self.experiment}, and --tag experiment="
                f"{self.tags['experiment']} is given too: leave one of the two out"
            )
        return self

    def all_tags(self) -> dict[str, str]:
        """The tags, including the experiment."""
        return {**self.tags, **({"experiment": self.experiment} if self.experiment else {})}


Source = Literal["flag", "file", "environment", "recipe"]  # a stored config also has "parent": from the continued job


@dataclass(frozen=True)
class ResolvedOptions:
    """Config and request, with the source of each value that is not a default."""

    config: TrainConfig
    request: JobRequest
    given: dict[str, str]
    recipe: str | None = None  # None in a continuation, and for a task whose default is no recipe

    @property
    def from_recipe(self) -> set[str]:
        """Options whose value the recipe decided."""
        return {name for name, source in self.given.items() if source == "recipe"}


def resolve(
    flags: Mapping[str, object],
    file: Mapping[str, object],
    environ: Mapping[str, str],
    parent: TrainConfig | None = None,
) -> ResolvedOptions:
    """Precedence: flag, --config file, environment, recipe, default. Raises ConfigError.

    With a parent, its options replace recipe and defaults.
    """
    environment = {"dataset": environ[DATASET_VARIABLE]} if environ.get(DATASET_VARIABLE) else {}
    name, recipe = (None, {}) if parent is not None else chosen_recipe({**environment, **file, **flags})
    layers: list[tuple[Source, Mapping[str, object]]] = [
        ("recipe", recipe),
        ("environment", environment),
        ("file", file),
        ("flag", flags),
    ]
    values: dict[str, object] = {} if parent is None else parent.model_dump()
    given: dict[str, str] = {}
    for source, layer in layers:
        values.update(layer)
        given.update(dict.fromkeys(layer, source))
    options = config_class(values.get("task", DEFAULT_TASK)).model_fields
    for key in values:
        if key not in options and key not in JobRequest.model_fields:
            raise unknown_key(key, [*options, *JobRequest.model_fields])
    if "continues" in given:
        raise ConfigError("continues is set by --resume JOB: leave it out")
    split, shares = str(values.get("split", "")), given.keys() & set(RATIOS)
    if "eval_dataset" in given and (shares or "split" in given):
        raise ConfigError(
            "--eval-dataset is the validation set, so --split and its ratios have no effect: leave them out"
        )
    if split.startswith("frozen:") and shares:
        raise ConfigError(f"--split frozen: a frozen split assigns every page itself: leave {_both(shares)} out")
    if split.startswith("kfold:") and shares - {"test_ratio"}:
        raise ConfigError(f"--split kfold: the K folds have equal size: leave {_both(shares - {'test_ratio'})} out")
    if not split.startswith("kfold:"):
        check_ratios(values, shares)
    model = config_class(values.get("task", DEFAULT_TASK))
    config = checked_options(model, {key: value for key, value in values.items() if key in options}, given)
    if config.snapshot_on_worker and "dataset" in given:
        raise ConfigError(
            f"--snapshot-on-worker takes the pages from the table: leave the dataset ({given['dataset']}) out"
        )
    if config.over_lines and "dataset" in given:
        raise ConfigError(
            "--over-lines applies to pages taken from the table, and a dataset has its pages: leave one of the two out"
        )
    of_job = {key: value for key, value in values.items() if key in JobRequest.model_fields}
    request = checked_options(JobRequest, of_job, given)
    given = {key: source for key, source in given.items() if key in options}
    return ResolvedOptions(config, request, given, name)


def chosen_recipe(values: Mapping[str, object]) -> tuple[str | None, Mapping[str, object]]:
    """Name and options of the recipe that these values name, else of their weights' default. Raises ConfigError."""
    task = config_class(values.get("task", DEFAULT_TASK))
    reference, weights = values.get("recipe"), values.get("pretrained")
    default_weights = task.model_fields["pretrained"].default
    if reference is None:
        variants = {name: recipe.variant(str(weights or default_weights)) for name, recipe in task.recipes.items()}
        return next(((name, each.options) for name, each in variants.items() if each.is_default), (None, {}))
    if (recipe := task.recipes.get(str(reference))) is not None:
        named = {"pretrained": recipe.pretrained} if recipe.pretrained else {}
        variant = recipe.variant(str(weights or recipe.pretrained or default_weights))
        return str(reference), {**named, **variant.options}
    path = Path(str(reference))
    if not path.is_file():
        raise unknown_recipe(str(reference), task.recipes)
    options = read_config_file(path)
    if "recipe" in options:
        raise ConfigError(f"{path}: a recipe cannot name another one: give this file as --config, which may")
    return path.name, options


def unknown_recipe(name: str, known: Collection[str]) -> ConfigError:
    """The error for a recipe that does not exist, with the one that is meant."""
    near = nearest_name(name, known)
    meant = f"did you mean {near}?" if near else f"there are {', '.join(known)}, and YAML files"
    return ConfigError(f"no recipe and no file {name!r}: {meant}")


def _both(names: Iterable[str]) -> str:
    return " and ".join(sorted(map(flag_of, names)))


MOST_VALUES: Final = 10_000
"""In a file of options, aliases written out: nine levels of nine aliases each would be 400 million."""

LONGEST_NUMBER: Final = 1_000
"""Characters of a whole number in a file of options."""

_TAG_FAULTS: Final = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)
"""Errors of yaml's constructors for a value that its tag does not fit, such as a date of the 99th month."""


def _values_in(node: yaml.Node, known: dict[yaml.Node, int]) -> int:
    """Number of values in a node, with each alias written out. RecursionError for a node within itself."""
    if node not in known:
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        inner = (each for part in parts for each in (part if isinstance(part, tuple) else (part,)))
        known[node] = 1 + sum(_values_in(each, known) for each in inner)
    return known[node]


class _OptionsLoader(yaml.SafeLoader):
    """Refuses a key that is written twice, where YAML's own loader takes the last one, and endless numbers."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _value in node.value:
            line = key.start_mark.line + 1
            if (first := lines.get(str(key.value))) is not None:
                where = f"in line {first} and in line {line}" if first != line else f"twice in line {line}"
                raise yaml.YAMLError(f"{key.value} is written {where}")
            lines[str(key.value)] = line
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        if len(node.value) > LONGEST_NUMBER:  # Python reads one in hexadecimal digits, and cannot show it
            where = f"the number in line {node.start_mark.line + 1} has {len(node.value):,} characters"
            raise yaml.YAMLError(f"{where}, more than {LONGEST_NUMBER:,}")
        return super().construct_yaml_int(node)


_OptionsLoader.add_constructor("tag:yaml.org,2002:int", _OptionsLoader.construct_yaml_int)


def read_config_file(path: Path) -> dict[str, object]:
    """The options in a YAML file; raises ConfigError when it is not a mapping."""
    try:
        loader = _OptionsLoader(read_source(path, TextOptions(encoding="utf-8")))
        node = loader.get_single_node()
        if node is not None and _values_in(node, {}) > MOST_VALUES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_VALUES:,} values: write out what is meant")
        document = None if node is None else loader.construct_document(node)
    except DataError as error:
        raise ConfigError(str(error)) from error
    except yaml.MarkedYAMLError as error:
        place = f"{path}:{error.problem_mark.line + 1}" if error.problem_mark else str(path)
        reason = error.problem or error.context
        raise ConfigError(f"{place}: is not YAML: {reason}; write 'key: value' lines") from error
    except RecursionError as error:
        raise ConfigError(f"{path}: it is nested too deeply, or within itself") from error
    except (yaml.YAMLError, *_TAG_FAULTS) as error:
        raise ConfigError(f"{path}: {str(error).splitlines()[0]}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines")
    return {str(key).replace("-", "_"): value for key, value in document.items()}

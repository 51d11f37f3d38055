"""The request of a submission; resolution of flags, --config file, environment and defaults into one config."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from receipt_dynamo import Priority
from receipt_layoutlm.config import DEFAULT_TASK, RATIOS, ConfigError, TrainConfig, config_class
from receipt_layoutlm.config_documents import parse_config, parse_model, unknown_key
from receipt_layoutlm.references import safe_name

QUICK = {"sample_size": 200, "epochs": 3}
DATASET_VARIABLE = "LAYOUTLM_DATASET"


_job = partial(Field, json_schema_extra={"group": "job"})


class JobRequest(BaseModel):
    """Options of the job itself; TrainConfig has those of the training."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_name: str | None = _job(None, description="Name of the job (default: date and id).")
    description: str = _job("", description="One line about the job.")
    experiment: str | None = _job(None, description="Group of the job, stored as the tag 'experiment'.")
    tags: dict[str, str] = _job({}, description="KEY=VALUE stored with the job; repeat for more.")
    priority: Priority = _job(Priority.MEDIUM, description="Claim order.")
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = _job("default", description="Queue of the job.")
    output_s3_path: str | None = _job(
        None,
        description="s3://BUCKET[/PREFIX] for the run's files (default: the training bucket). Fleet machines claim "
        "only jobs without a PREFIX.",
    )

    @field_validator("job_name")
    @classmethod
    def _one_path_segment(cls, name: str | None) -> str | None:
        return name if name is None else safe_name(name)

    def all_tags(self) -> dict[str, str]:
        """The tags, including the experiment."""
        return {**self.tags, **({"experiment": self.experiment} if self.experiment else {})}


Source = Literal["flag", "file", "environment", "quick"]  # a stored config also has "parent": from the continued job


@dataclass(frozen=True)
class ResolvedOptions:
    """Config and request, with the source of each value that is not a default."""

    config: TrainConfig
    request: JobRequest
    given: dict[str, str]


def resolve(
    flags: Mapping[str, object],
    file: Mapping[str, object],
    environ: Mapping[str, str],
    quick: Mapping[str, object],
    parent: TrainConfig | None = None,
) -> ResolvedOptions:
    """Precedence: flag, --config file, --quick, environment, default. Raises ConfigError.

    With a parent, its options replace the defaults.
    """
    layers: list[tuple[Source, Mapping[str, object]]] = [
        ("environment", {"dataset": environ[DATASET_VARIABLE]} if environ.get(DATASET_VARIABLE) else {}),
        ("quick", quick),
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
        raise ConfigError("eval_dataset is the validation set, so split and its ratios have no effect: leave them out")
    if split.startswith("frozen:") and shares:
        raise ConfigError(f"split: a frozen split assigns every page itself: leave {_both(shares)} out")
    if split.startswith("kfold:") and shares - {"test_ratio"}:
        raise ConfigError(f"split: the K folds have equal size: leave {_both(shares - {'test_ratio'})} out")
    config = parse_config({key: value for key, value in values.items() if key in options})
    if config.snapshot_on_worker and "dataset" in given:
        raise ConfigError(
            f"snapshot_on_worker takes the pages from the table: leave the dataset ({given['dataset']}) out"
        )
    if config.over_lines and "dataset" in given:
        raise ConfigError(
            "over_lines applies to pages taken from the table, and a dataset has its pages: leave one of the two out"
        )
    request = parse_model(JobRequest, {key: value for key, value in values.items() if key in JobRequest.model_fields})
    return ResolvedOptions(config, request, {key: source for key, source in given.items() if key in options})


def _both(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def read_config_file(path: Path) -> dict[str, object]:
    """The options in a YAML file; raises ConfigError when it is not a mapping."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines")
    return {str(key).replace("-", "_"): value for key, value in document.items()}

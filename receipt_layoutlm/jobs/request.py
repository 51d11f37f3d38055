"""What a person asks for at submit, and how flags, --config file, environment and defaults become one config."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator

from receipt_dynamo import Priority
from receipt_layoutlm.config import RATIOS, ConfigError, TrainConfig, parse_config, parse_model, unknown_key
from receipt_layoutlm.references import safe_name

QUICK = {"sample_size": 200, "epochs": 3}
DATASET_VARIABLE = "LAYOUTLM_DATASET"


class JobRequest(BaseModel):
    """What is told about the job itself; TrainConfig says how it trains."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_name: str | None = Field(None, description="Name of the job (default: date and id).")
    description: str = Field("", description="A line about the job.")
    experiment: str | None = Field(None, description="Groups jobs: stored as the tag 'experiment'.")
    tags: dict[str, str] = Field({}, description="KEY=VALUE kept with the job; repeat for more.")
    priority: Priority = Field(Priority.MEDIUM, description="Claim order.")
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,64}$")] = Field("default", description="Queue to wait in.")
    output_s3_path: str | None = Field(
        None,
        description="s3://BUCKET[/PREFIX] for the run's files (default: the training bucket). A fleet's machines take "
        "jobs without a PREFIX alone.",
    )

    @field_validator("job_name")
    @classmethod
    def _one_path_segment(cls, name: str | None) -> str | None:
        return name if name is None else safe_name(name)

    def all_tags(self) -> dict[str, str]:
        """The tags with the experiment among them."""
        return {**self.tags, **({"experiment": self.experiment} if self.experiment else {})}


Source = Literal["flag", "file", "environment", "quick"]  # in a stored config also "parent": from the job it continues


@dataclass(frozen=True)
class Resolved:
    """The config and request, and where each value that is not a default came from."""

    config: TrainConfig
    request: JobRequest
    given: dict[str, str]


def resolve(
    flags: Mapping[str, object],
    file: Mapping[str, object],
    environ: Mapping[str, str],
    quick: Mapping[str, object],
    parent: TrainConfig | None = None,
) -> Resolved:
    """Flag, then --config file, then what --quick means, then environment, then default; raises ConfigError.

    Under a parent, its options take the place of the defaults.
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
    for key in values:
        if key not in TrainConfig.model_fields and key not in JobRequest.model_fields:
            raise unknown_key(key, [*TrainConfig.model_fields, *JobRequest.model_fields])
    if "continues" in given:
        raise ConfigError("continues is not given but follows from --resume JOB: leave it out")
    _check_split(values, given)
    config = parse_config({key: value for key, value in values.items() if key in TrainConfig.model_fields})
    if config.snapshot_on_worker and "dataset" in given:
        raise ConfigError(
            f"snapshot_on_worker takes the pages from the table: leave the dataset ({given['dataset']}) out"
        )
    if config.over_lines and "dataset" in given:
        raise ConfigError(
            "over_lines says how the table's labels become pages, and a dataset has its pages: leave one of the two out"
        )
    request = parse_model(JobRequest, {key: value for key, value in values.items() if key in JobRequest.model_fields})
    return Resolved(config, request, {key: source for key, source in given.items() if key in TrainConfig.model_fields})


def _check_split(values: Mapping[str, object], given: Mapping[str, str]) -> None:
    """Shares that were given have to mean something; raises ConfigError."""
    split, shares = str(values.get("split", "")), given.keys() & set(RATIOS)
    if "eval_dataset" in given and (shares or "split" in given):
        raise ConfigError("eval_dataset names the evaluation pages, so split and its ratios have no meaning")
    if split.startswith("frozen:") and shares:
        raise ConfigError(f"split: a frozen split says which page belongs where: leave {_both(shares)} out")
    if split.startswith("kfold:") and shares - {"test_ratio"}:
        raise ConfigError(f"split: K folds have K equal shares: leave {_both(shares - {'test_ratio'})} out")


def _both(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))


def read_config_file(path: Path) -> dict[str, object]:
    """The keys of a YAML file; raises ConfigError when it is not a mapping."""
    try:
        document = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected 'key: value' lines")
    return {str(key).replace("-", "_"): value for key, value in document.items()}

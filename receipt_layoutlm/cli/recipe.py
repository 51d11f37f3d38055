"""layoutlm-cli recipe: named options of `train`."""

import json
from collections.abc import Iterator
from typing import NamedTuple

import click
import yaml

from receipt_layoutlm.cli.connection import explain_errors
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.tables import table
from receipt_layoutlm.config import DEFAULT_TASK, config_class
from receipt_layoutlm.configs.recipes import Recipe, Variant
from receipt_layoutlm.jobs.request import unknown_recipe

task_option = click.option("--task", default=DEFAULT_TASK, show_default=True, help="Task that the recipe belongs to.")


@click.group()
def recipe() -> None:
    """List recipes, and show their options.

    `train --recipe NAME` takes the options of a recipe where no flag, --config file or environment gives another value.
    Figures are the entity F1 on the 203 SROIE receipts of other merchants, and time and memory of one CPU thread.
    """


class _Row(NamedTuple):
    name: str
    recipe: Recipe
    variant: Variant

    @property
    def document(self) -> dict[str, object]:
        """The row as JSON."""
        return {
            "name": self.name,
            "purpose": self.recipe.purpose,
            "weights": self.variant.weights or "any other",
            "is_default": self.variant.is_default,
            "options": dict(self.variant.options),
            "f1": self.variant.f1,
            "cpu_time": self.variant.cpu_time,
            "memory": self.variant.memory,
            "source": self.variant.source,
        }


def _rows(task: str) -> Iterator[_Row]:
    for name, each in config_class(task).recipes.items():
        for variant in each.variants:
            yield _Row(name, each, variant)


@recipe.command("list")
@task_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@explain_errors
def list_recipes(task: str, as_json: bool) -> None:
    """List the recipes of a task, one line for each kind of weights."""
    rows = [row.document for row in _rows(task)]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    names = ("name", "weights", "f1", "cpu_time", "memory", "purpose")
    cells = [
        [row["name"], f"{row['weights']}{' *' if row['is_default'] else ''}", *map(row.get, names[2:])] for row in rows
    ]
    say(table(("recipe", "weights", "F1", "CPU time", "memory", "purpose"), cells))
    say("* the default of these weights; `layoutlm-cli recipe show receipts` prints the options of one")


@recipe.command("show")
@click.argument("name")
@task_option
@click.option("--pretrained", metavar="WEIGHTS", help="Weights to start from (default: those of the recipe).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, which --recipe FILE takes too.")
@explain_errors
def show_recipe(name: str, task: str, pretrained: str | None, as_json: bool) -> None:
    """Print a recipe as YAML, to be changed and given as --recipe FILE."""
    model = config_class(task)
    if (found := model.recipes.get(name)) is None:
        raise unknown_recipe(name, model.recipes)
    weights = pretrained or found.pretrained or str(model.model_fields["pretrained"].default)
    variant = found.variant(weights)
    options: dict[str, object] = {"pretrained": weights}
    options |= {key: list(each) if isinstance(each, tuple) else each for key, each in variant.options.items()}
    if as_json:
        click.echo(json.dumps(options, indent=1))
        return
    say(f"# {found.purpose}")
    if variant.source:
        say(f"# Not measured; {variant.source}.")
    click.echo(yaml.safe_dump(options, sort_keys=False, default_flow_style=False), nl=False)

"""Options made from pydantic models: each field is stated once, with its default, bounds and help.

TaskCommand shows and accepts the options of the task that --task names, in groups; --help shows the basic ones.
"""

import json
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import Annotated, Any, Final, Literal, TypeVar, Union, get_args, get_origin

import click
from click.shell_completion import CompletionItem
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from receipt_layoutlm.cli.completion import dataset_names
from receipt_layoutlm.config import BASIC, DEFAULT_TASK, GROUPS, TASKS, ConfigError, config_class
from receipt_layoutlm.config_documents import OTHER_NAMES
from receipt_layoutlm.data.labels import CORE_LABELS
from receipt_layoutlm.flags import PAIRS, flag_of
from receipt_layoutlm.suggestions import nearest_name

C = TypeVar("C", bound=Callable[..., Any])

_NO_FLAG = frozenset({"config_version", "continues"})
WORDS: Final = {"pretrained": ("minilm",), "allowed_labels": CORE_LABELS, "single_valued_labels": CORE_LABELS}
_ALIASES = {"fp16": ("precision", "fp16")}  # a flag that stands for one value of a field


class JsonOption(click.ParamType[Any]):
    """An object written as JSON on the command line."""

    name = "JSON"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            self.fail(f"{value!r} is not JSON: {error}", param, ctx)


class KeyValue(click.ParamType[Any]):
    """KEY=VALUE."""

    name = "KEY=VALUE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        key, equals, text = value.partition("=")
        if not key or not equals:
            self.fail(f"{value!r} is not KEY=VALUE", param, ctx)
        return key, text


class GroupedOption(click.Option):
    """An option that --help shows in a group."""

    def __init__(self, *args: Any, group: str, **values: Any) -> None:
        super().__init__(*args, **values)
        self.group = group


def model_options(*models: type[BaseModel]) -> Callable[[C], C]:
    """Add one option per field. An option that was not given arrives as None (or an empty tuple)."""

    def add(command: C) -> C:
        for model in reversed(models):
            for flags, settings in reversed(_options(model)):
                command = click.option(*flags, cls=GroupedOption, **settings)(command)
        return command

    return add


def options_of(model: type[BaseModel]) -> list[click.Parameter]:
    """One option per field, and the flags that stand for one value of a field."""
    return [GroupedOption(flags, **settings) for flags, settings in _options(model)]


def _options(model: type[BaseModel]) -> list[tuple[list[str], dict[str, Any]]]:
    """Flags and click's settings of each option of a model, in field order."""
    options: list[tuple[list[str], dict[str, Any]]] = []
    for name, field in model.model_fields.items():
        extra = field.json_schema_extra
        group = str(extra.get("group", "")) if isinstance(extra, dict) else ""
        if name not in _NO_FLAG:
            settings = {"help": _help(field), "group": group, **_kind(name, field.annotation)}
            if (complete := _completion(name, field.annotation)) is not None:
                settings["shell_complete"] = complete
            options.append(([flag_of(name), name], settings))
        for alias, (of_field, value) in _ALIASES.items():
            if of_field == name:
                text = f"The same as {flag_of(name)} {value}."
                options.append(([f"--{alias}"], {"is_flag": True, "help": text, "group": group}))
    return options


class TaskCommand(click.Command):
    """A command with the options of the default task, which --task exchanges for those of another one."""

    def __init__(self, *args: Any, **values: Any) -> None:
        super().__init__(*args, **values)
        text = "Show every option, not only the basic ones."
        self.params.append(
            click.Option(["--help-all"], is_flag=True, is_eager=True, expose_value=False, help=text, callback=_help_all)
        )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[TASK] = DEFAULT_TASK
        for arg, following in pairwise([*args, DEFAULT_TASK]):
            flag, equals, value = arg.partition("=")
            if flag == "--task":  # the last one holds, as it does for click
                ctx.meta[TASK] = value if equals else following
        try:
            return super().parse_args(ctx, args)
        except ConfigError as error:  # no such task
            ctx.meta[TASK] = DEFAULT_TASK
            raise click.UsageError(str(error), ctx) from error
        except click.NoSuchOption as error:
            raise click.UsageError(_explained(error, self.get_params(ctx)), ctx) from error

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        task = ctx.meta.get(TASK, DEFAULT_TASK)
        if task == DEFAULT_TASK:
            return params
        of_default = {option.name for option in options_of(config_class(DEFAULT_TASK))}
        return [*options_of(config_class(task)), *(param for param in params if param.name not in of_default)]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: dict[str, list[tuple[str, str]]] = {name: [] for name in (*GROUPS, "job", "")}
        hidden = 0
        for param in self.get_params(ctx):
            record, group = param.get_help_record(ctx), getattr(param, "group", "")
            if record is None:
                continue
            if group in GROUPS and param.name not in BASIC and not ctx.meta.get(ALL):
                hidden += 1
            else:
                rows[group].append(record)
        for group, records in rows.items():
            if records:
                with formatter.section(group.capitalize() or "Options"):
                    formatter.write_dl(records)
        if hidden:
            formatter.write_paragraph()
            formatter.write_text(f"{hidden} more options: --help-all shows them.")


TASK: Final = f"{__name__}.task"
ALL: Final = f"{__name__}.all"


def _help_all(ctx: click.Context, _param: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        ctx.meta[ALL] = True
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


def _explained(error: click.NoSuchOption, params: Sequence[click.Parameter]) -> str:
    """The option that is meant: of another task, by its name in another tool, or the nearest."""
    key = error.option_name.removeprefix("--").replace("-", "_")
    flags = {flag: option.name for option in params for flag in option.opts}
    if ours := OTHER_NAMES.get(key):
        return f"No such option: {error.option_name}; it is called {flag_of(ours)} here."
    for task in TASKS:
        if error.option_name in {flag for option in options_of(config_class(task)) for flag in option.opts}:
            return f"{error.option_name} is an option of task {task}, not of this one."
    near = nearest_name(error.option_name, flags)
    return f"No such option: {error.option_name}." + (f" Did you mean {near}?" if near else "")


def given_values(models: tuple[type[BaseModel], ...], values: Mapping[str, Any]) -> dict[str, object]:
    """The options of these models that were given, by field name."""
    names = {name for model in models for name in model.model_fields}
    given = {name: value for name, value in values.items() if name in names and value not in (None, ())}
    for alias, (name, value) in _ALIASES.items():
        if values.get(alias) and given.setdefault(name, value) != value:
            raise click.UsageError(f"--{alias} is {flag_of(name)} {value}: give one of the two")
    return {name: _pairs(name, values[name]) if name in PAIRS else value for name, value in given.items()}


def _pairs(name: str, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The mapping of KEY=VALUE; a usage error if a key has two values."""
    mapping: dict[str, str] = {}
    for key, value in pairs:
        if mapping.setdefault(key, value) != value:
            raise click.UsageError(f"{flag_of(name)} {key}={mapping[key]} and {key}={value}: give one of the two")
    return mapping


def _help(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    shown = default.value if isinstance(default, Enum) else default
    text = field.description or ""
    return text if shown in (None, False, (), {}, "") else f"{text}  [default: {shown}]"


def _kind(name: str, annotation: Any) -> dict[str, Any]:
    """click's keywords for a type: bounds and unions are left to the model, which words the error."""
    if name in PAIRS:
        return {"type": KeyValue(), "multiple": True}
    leaves = list(_leaves(annotation))
    if leaves == [datetime]:  # click's own type has no zone
        return {"type": str, "metavar": "TIME"}
    if leaves == [bool]:
        return {"is_flag": True, "default": None}
    if get_origin(leaves[0]) is tuple:
        parts = get_args(leaves[0])
        if parts[-1] is not Ellipsis:
            return {"type": float, "nargs": len(parts)}
        return {
            "multiple": True,
            "metavar": ",".join(get_args(parts[0])) if get_origin(parts[0]) is Literal else "LABEL",
        }
    if get_origin(leaves[0]) is dict:
        return {"type": JsonOption()}
    if isinstance(leaves[0], type) and issubclass(leaves[0], Enum):
        return {"type": click.Choice([member.value for member in leaves[0]])}
    words = [word for leaf in leaves if get_origin(leaf) is Literal for word in get_args(leaf)]
    if words and len(leaves) == 1:
        return {"type": click.Choice(words)}
    if words:
        return {"type": str, "metavar": "|".join([*words, "N"])}
    return {"type": leaves[0]}


def _completion(name: str, annotation: Any) -> Callable[..., list[CompletionItem[str]]] | None:
    """The values that a shell proposes where click does not know them."""
    if name in ("dataset", "eval_dataset"):
        return dataset_names
    words = [str(word) for leaf in _leaves(annotation) if get_origin(leaf) is Literal for word in get_args(leaf)]
    words += WORDS.get(name, ())
    if not words:
        return None
    return lambda _ctx, _param, incomplete: [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _leaves(annotation: Any) -> Iterator[Any]:
    """The alternatives of a type without None and without annotations."""
    if get_origin(annotation) is Annotated:
        yield from _leaves(get_args(annotation)[0])
    elif get_origin(annotation) in (Union, types.UnionType):
        for inner in get_args(annotation):
            if inner is not type(None):
                yield from _leaves(inner)
    else:
        yield annotation

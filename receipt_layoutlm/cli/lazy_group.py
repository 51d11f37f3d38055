"""Command group that imports a command's module on first use."""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from receipt_layoutlm.suggestions import nearest_name

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class FullHelpGroup(click.Group):
    """Lists its commands with the whole first sentence of their help, which click would cut to one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [
            (name, command.get_short_help_str(limit=1000))
            for name in self.list_commands(ctx)
            if (command := self.get_command(ctx, name)) is not None and not command.hidden
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


Commands = Mapping[str, tuple[str, str]]
"""name -> (module:name of the command, its line in --help). The help needs none of the modules."""


class LazyGroup(click.Group):
    """Imports the module of a command when the command is used."""

    def __init__(self, *args: Any, places: Commands, **values: Any) -> None:
        super().__init__(*args, **values)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.places:
            return None
        module, _, name = self.places[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), name)
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = nearest_name(args[0], self.places)
            raise click.UsageError(error.message + (f" Did you mean {near!r}?" if near else ""), ctx) from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        from click.shell_completion import CompletionItem

        options = super(click.Group, self).shell_complete(ctx, incomplete)  # the group's own would import every command
        commands = [(name, text) for name, (_place, text) in self.places.items() if name.startswith(incomplete)]
        return [*(CompletionItem(name, help=text) for name, text in commands), *options]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_place, text) in self.places.items()])

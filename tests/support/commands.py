"""Commands in this process, as a person types them."""

from click.testing import CliRunner, Result

from receipt_layoutlm.cli import cli


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def ok(*arguments: str) -> str:
    """Standard output of a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout

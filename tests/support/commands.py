"""Commands in this process, as a person types them."""

import contextlib
import io
import json

from click.testing import CliRunner, Result

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.cli import cli


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def ok(*arguments: str) -> str:
    """Standard output of a command that must succeed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


class _Terminal(io.StringIO):
    """Text that is printed to a terminal."""

    def isatty(self) -> bool:
        return True


def on_terminal(*arguments: str) -> str:
    """Standard output of a command on a terminal, as wide as the environment says."""
    with contextlib.redirect_stdout(_Terminal()) as shown, contextlib.suppress(SystemExit):
        cli.main(list(arguments))
    return shown.getvalue()


class Shell:
    """Runs commands as a person would who has set the environment."""

    def __init__(self, client: DynamoClient) -> None:
        self.client = client

    def run(self, *arguments: str) -> Result:
        return run(*arguments)

    def train(self, *arguments: str) -> Job:
        return self.client.get_job(json.loads(ok("train", "--json", *arguments))["job_id"])

    def refused(self, *arguments: str) -> str:
        result = self.run("train", *arguments)
        assert result.exit_code in (1, 2), result.output
        assert self.client.list_jobs() == []
        return result.stderr

"""layoutlm-cli fleet template: the CloudFormation templates, for other tools than `fleet deploy`."""

from typing import Final

import click

from receipt_layoutlm.infra import template_path

NAMES: Final = ("storage", "network", "workers")


@click.command("template")
@click.argument("name", type=click.Choice(NAMES))
def show_template(name: str) -> None:
    """Print a template of the fleet's stacks, for CDK, Terraform or the AWS CLI.

    Parameters of the code that machines and scaler run come from `fleet bundle`. Tag the stacks with layoutlm:fleet and
    the fleet's name.
    """
    click.echo(template_path(f"{name}.yaml").read_text(encoding="utf-8"), nl=False)

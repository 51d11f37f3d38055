"""layoutlm-cli ui: MLflow's page over the jobs of the table."""

import os
import threading
import webbrowser

import click

from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.serve import listening

LOOPBACK = "127.0.0.1"
FIRST_PAGE = "/#/experiments?workflowType=machine_learning"  # else MLflow begins with its pages for language models


@click.command("ui")
@click.option("--port", type=click.IntRange(0, 65535), default=5000, show_default=True, help="Port; 0 for a free one.")
@click.option("--open/--no-open", "is_opened", default=True, show_default=True, help="Open the page in a browser.")
@store_options
def ui_command(connection: Connection, port: int, is_opened: bool) -> None:
    """Open MLflow's page on the jobs of the table.

    Experiments are datasets, or what `train --experiment` names; runs are jobs with their options, the history of
    their metrics, tags, and files from the bucket. Nothing is copied, and nothing can be changed there. The server
    listens on this machine alone and ends with Ctrl-C.

    \b
    layoutlm-cli ui
    mlflow server --backend-store-uri receipt-dynamodb://TABLE --artifacts-destination receipt-dynamodb://TABLE

    does the same for a team, behind your own gateway; docs/mlflow.md has the details.
    """
    require("mlflow")
    table = connection.client().table_name
    if connection.has_bucket():
        connection.open_bucket(connection.default_bucket())  # with --local, starts the S3 that artifacts come from
    with listening(LOOPBACK, port, "--port") as listener:
        address = f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        from receipt_layoutlm.mlflow_store.address import TableAddress
        from receipt_layoutlm.mlflow_store.server import serve_page, server_environment

        os.environ.update(server_environment(TableAddress(table, connection.region)))
        say(f"MLflow shows {table} at {address} (Ctrl-C ends it)", err=True)
        if is_opened:
            threading.Timer(0, webbrowser.open, [address + FIRST_PAGE]).start()
        serve_page(listener)

"""layoutlm-cli serve: a model over HTTP."""

import ipaddress
import socket
from dataclasses import replace
from typing import Final, Literal

import click

from receipt_layoutlm.cli.connection import Connection, require, store_options
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.cli.sources import DeviceName, RuntimeChoice, check_one_model, open_extractor, predictor_options

LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1", "[::1]")
"""Names under which clients on this machine reach the server."""


@click.command("serve")
@predictor_options
@click.option(
    "--max-error",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="SHARE",
    help="Mark each field accept or ask, as predict does.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for a free one.")
@click.option(
    "--max-megabytes",
    type=click.FloatRange(0, min_open=True),
    default=20,
    show_default=True,
    help="Refuse larger requests.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(0, min_open=True),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="Refuse requests that take longer, their wait included.",
)
@store_options
def serve_command(
    connection: Connection,
    reference: str | None,
    model: str | None,
    date_order: Literal["dmy", "mdy"] | None,
    max_error: float | None,
    device: DeviceName,
    runtime: RuntimeChoice,
    threads: int | None,
    host: str,
    port: int,
    max_megabytes: float,
    timeout: float,
) -> None:
    """Serve a model over HTTP.

    \b
    layoutlm-cli serve --model exported/
    curl --data-binary @receipt.jpg http://127.0.0.1:8000/extract
    curl -F file=@receipt.pdf http://127.0.0.1:8000/extract
    curl --json @words.json http://127.0.0.1:8000/extract

    POST /extract answers with the pages of `predict --json`. GET /health says which model runs, /docs is the OpenAPI
    page. One request is read at a time. Nothing of a request is kept. There is no authentication: on other addresses
    than loopback put it behind a gateway.
    """
    check_one_model(reference, model)
    require("serve")
    from receipt_layoutlm.inference.server import MEGABYTE, Limits, create_app, run

    extractor = open_extractor(connection, reference, model, device, threads, runtime, date_order, max_error)
    is_loopback = host in LOOPBACK_NAMES or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
    app = create_app(
        replace(extractor, scans=replace(extractor.scans, use_cache=False)).read,
        extractor.predictor.digest,
        extractor.labels,
        Limits(int(max_megabytes * MEGABYTE), timeout),
        (*LOOPBACK_NAMES, host) if is_loopback else ("*",),
    )
    with listening(host, port, "--host or --port") as listener:
        shown = f"[{host}]" if ":" in host else host
        say(f"serving at http://{shown}:{listener.getsockname()[1]} (Ctrl-C ends it)", err=True)
        if not is_loopback:
            say("note: every client that reaches this address can use the server; it asks for no password", err=True)
        run(app, listener)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def listening(host: str, port: int, options: str) -> socket.socket:
    """A socket for a server. `options` are those by which the command chooses another address."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise click.ClickException(
            f"cannot listen at {host} port {port} ({error.strerror or error}): give another {options}"
        ) from error

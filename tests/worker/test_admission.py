"""What the table says is hostile input: what reaches a path, a bucket or a loader is refused, or used as it is."""

import gzip
import re
from dataclasses import replace
from pathlib import Path

import pytest
from huggingface_hub.utils import HFValidationError, validate_repo_id

from receipt_dynamo import Job, JobStatus, Storage, utcnow
from receipt_dynamo.entities import FINAL_CAUSES
from receipt_layoutlm.config import ConfigError
from receipt_layoutlm.configs.word_labels import WordLabelsConfig
from receipt_layoutlm.infra import template_path
from receipt_layoutlm.paths import DEFAULT_WORK_DIR
from receipt_layoutlm.references import NAME_BYTES
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.manifest import DamagedFolder, write_manifest
from receipt_layoutlm.storage.keys import RunKeys, dataset_key
from receipt_layoutlm.worker.admission import ANY_BUCKET, FLEET_READS, JobPolicy
from receipt_layoutlm.worker.prepare import get_weights, prepare_run_dir
from tests.support.stores import Store

PINNED = "shop@" + "0123456789abcdef" * 4
OURS = Storage(bucket="our-bucket", prefix="team/a/")
PROJECT = JobPolicy.of_project([OURS])
MACHINE = JobPolicy.of_this_machine([OURS])


def job(name: str = "a-job", storage: Storage | None = OURS) -> Job:
    return Job(
        job_id="00000000-0000-4000-8000-000000000000",
        name=name,
        status=JobStatus.RUNNING,
        created_at=utcnow(),
        created_by="somebody",
        job_config={},
        storage=storage,
    )


def config(**options: object) -> WordLabelsConfig:
    return WordLabelsConfig.model_validate({"dataset": PINNED, **options})


def refusal(policy: JobPolicy, given: Job, options: WordLabelsConfig) -> str:
    with pytest.raises(ConfigError) as caught:
        policy.check(given, options)
    return str(caught.value)


def test_a_job_as_the_command_line_submits_it_is_accepted() -> None:
    for pretrained in ("minilm", "microsoft/layoutlm-base-uncased", "bert-base-uncased", "s3://our-bucket/team/a/x"):
        PROJECT.check(job(), config(pretrained=pretrained, eval_dataset=PINNED))
        assert "eval_dataset" in refusal(PROJECT, job(), config(pretrained=pretrained, eval_dataset="d@not-a-digest"))


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/b",
        "/etc/passwd",
        ".hidden",
        "a\\b",
        "a b",
        "a\nb",
        "a\x00",
        "\x1b[2J",
        "a\u202eb",
        "~",
    ],
)
def test_a_name_that_is_no_path_segment_is_refused(name: str) -> None:
    assert "job name" in refusal(MACHINE, job(name), config())


def test_a_name_is_at_most_as_long_as_a_file_system_takes() -> None:
    MACHINE.check(job("é" * (NAME_BYTES // 2)), config())

    assert "bytes: use at most" in refusal(MACHINE, job("é" * (NAME_BYTES // 2) + "e"), config())


@pytest.mark.parametrize("prefix", ["team/a/", "team/a/b/", "team/a/b/c-d_e.f/"])
def test_a_run_may_write_below_an_accepted_prefix(prefix: str) -> None:
    PROJECT.check(job(storage=Storage(bucket="our-bucket", prefix=prefix)), config())

    assert "storage" in refusal(PROJECT, job(storage=Storage(bucket="another-bucket", prefix=prefix)), config())


@pytest.mark.parametrize(
    ("bucket", "prefix"),
    [
        ("other-bucket", "team/a/"),
        ("our-bucket", ""),
        ("our-bucket", "team/"),
        ("our-bucket", "team/ab/"),
        ("our-bucket", "team/a"),
        ("our-bucket", "team/a/b"),
        ("our-bucket", "team/a/../b/"),
        ("our-bucket", "team/a/./"),
        ("our-bucket", "team/a//"),
        ("our-bucket", "/team/a/"),
        ("our-bucket", "team/a/\n/"),
        ("our-bucket", "team/a/\u202e/"),
        ("*", "team/a/"),
        ("arn:aws:s3:us-east-1:123456789012:accesspoint/x", "team/a/"),
    ],
)
def test_a_run_writes_nowhere_else(bucket: str, prefix: str) -> None:
    for policy in (PROJECT, MACHINE):
        assert "storage" in refusal(policy, job(storage=Storage(bucket=bucket, prefix=prefix)), config())


def test_the_refusal_says_what_would_be_accepted() -> None:
    told = refusal(PROJECT, job(storage=Storage(bucket="other-bucket")), config())

    assert "s3://other-bucket/" in told and "s3://our-bucket/team/a/" in told and "--accept" in told


def test_a_job_without_a_bucket_is_refused_with_the_way_out() -> None:
    assert "--output-s3-path" in refusal(MACHINE, job(storage=None), config())


def test_the_embedded_aws_takes_every_bucket_of_its_own_and_no_other_address() -> None:
    local = JobPolicy.of_this_machine([ANY_BUCKET])
    local.check(job(storage=Storage(bucket="any-bucket", prefix="x/")), config())

    for bucket in ("*", "arn:aws:s3:us-east-1:123456789012:accesspoint/x", "a/b"):
        assert "storage" in refusal(local, job(storage=Storage(bucket=bucket)), config())


@pytest.mark.parametrize(
    "pretrained",
    [
        "/etc",
        "./model",
        "../model",
        "a/b/c",
        "~/model",
        "..",
        "a/..",
        "owner/",
        "/name",
        "-x",
        "name.git",
        "a--b",
        "https://host/model",
        "file:///etc",
        "a\x00b",
        "a\nb",
        "",
        "ä/b",
        "S3://our-bucket/team/a/x",
    ],
)
def test_a_worker_of_a_project_takes_no_folder_and_no_address(pretrained: str) -> None:
    told = refusal(PROJECT, job(), config(pretrained=pretrained))

    assert "pretrained" in told and "minilm" in told and "\x00" not in told


def test_a_folder_that_looks_like_a_hub_name_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert "pretrained" in refusal(PROJECT, job(), config(pretrained="owner/name"))
    MACHINE.check(job(), config(pretrained="owner/name"))


@pytest.mark.parametrize("pretrained", ["/models/mine", "./mine", "a/b/c"])
def test_a_folder_counts_where_submit_and_work_share_a_machine(pretrained: str) -> None:
    MACHINE.check(job(), config(pretrained=pretrained))

    assert "pretrained" in refusal(PROJECT, job(), config(pretrained=pretrained))


@pytest.mark.parametrize("pretrained", ["https://host/model", "file:///etc", "a\x00b"])
def test_an_address_is_no_folder_anywhere(pretrained: str) -> None:
    assert "pretrained" in refusal(MACHINE, job(), config(pretrained=pretrained))


@pytest.mark.parametrize(
    "pretrained",
    [
        "s3://",
        "s3://our-bucket",
        "s3://our-bucket/",
        "s3://our-bucket/other/x",
        "s3://other-bucket/team/a/x",
        "s3://our-bucket/team/a/../b",
        "s3://our-bucket/team/a//b",
        "s3://our-bucket/team/a/\x1b",
    ],
)
def test_weights_come_from_accepted_places_only(pretrained: str) -> None:
    for policy in (PROJECT, MACHINE):
        assert "pretrained" in refusal(policy, job(), config(pretrained=pretrained))


def hub_accepts(name: str) -> bool:
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


@pytest.mark.parametrize(
    "name",
    [
        "a",
        "_a",
        "a_",
        "a/b",
        "a.b/c-d",
        "a" * 96,
        "a" * 97,
        "a-/b",
        ".a",
        "a.",
        "a..b",
        "a--b",
        "x.git",
        "a/b/c",
        "a b",
    ],
)
def test_a_hub_name_is_what_the_hub_takes(name: str) -> None:
    accepted = True
    try:
        PROJECT.check(job(), config(pretrained=name))
    except ConfigError:
        accepted = False
    assert accepted == hub_accepts(name)


@pytest.mark.parametrize(
    "dataset",
    [
        None,
        "",
        "shop",
        "shop@",
        "@" + "0" * 64,
        "shop@" + "0" * 63,
        "shop@" + "A" * 64,
        "shop@" + "../" * 21 + "x",
        "shop@" + "0" * 64 + "\n",
        "shop\x1b@" + "0" * 64,
        "shop@" + "٠" * 64,
    ],
)
def test_pages_are_pinned_by_64_lower_case_hex_digits(dataset: str | None) -> None:
    assert "dataset" in refusal(MACHINE, job(), WordLabelsConfig(dataset=dataset))
    if dataset is not None:
        assert "eval_dataset" in refusal(MACHINE, job(), config(eval_dataset=dataset))


def test_a_job_whose_worker_takes_the_pages_names_none_and_keeps_its_files_at_the_top_of_the_bucket() -> None:
    top = Storage(bucket="our-bucket")
    unpinned = WordLabelsConfig(snapshot_on_worker=True)
    JobPolicy.of_project([top]).check(job(storage=top), unpinned)

    assert "--snapshot-on-worker" in refusal(PROJECT, job(), unpinned)
    assert "storage" in refusal(PROJECT, job(storage=top), unpinned)
    assert "not pinned" in refusal(JobPolicy.of_project([top]), job(storage=top), WordLabelsConfig())
    assert "not pinned" in refusal(MACHINE, job(), config(snapshot_on_worker=True, dataset="shop"))
    PROJECT.check(job(), config(snapshot_on_worker=True))


def test_a_jobs_work_dir_counts_only_where_submit_and_work_share_a_machine(tmp_path: Path) -> None:
    wanted = config(work_dir=str(tmp_path / "wanted"))

    assert MACHINE.work_dir(wanted) == tmp_path / "wanted"
    assert PROJECT.work_dir(wanted) == DEFAULT_WORK_DIR
    for policy in (PROJECT, MACHINE):
        assert replace(policy, own_work_dir=tmp_path / "own").work_dir(wanted) == tmp_path / "own"


# a machine of a fleet

FLEET = JobPolicy.of_fleet("our-bucket", [Storage(bucket="their-bucket", prefix="team/")])
TOP = Storage(bucket="our-bucket")


@pytest.mark.parametrize("prefix", ["team/a/", "runs/a/", "encoded/"])
def test_a_fleets_machine_refuses_a_job_that_its_role_could_not_write(prefix: str) -> None:
    told = refusal(FLEET, job(storage=Storage(bucket="our-bucket", prefix=prefix)), config())

    assert told.startswith(f"storage 's3://our-bucket/{prefix}'") and "without --output-s3-path" in told
    assert "bad_config" in FINAL_CAUSES, "such a job is not tried again"


def test_a_fleets_machine_takes_the_jobs_of_its_bucket_and_what_it_was_told_to_accept() -> None:
    FLEET.check(job(storage=TOP), config())
    FLEET.check(job(storage=Storage(bucket="their-bucket", prefix="team/a/")), config())
    JobPolicy.of_fleet("our-bucket", [OURS]).check(job(storage=OURS), config())

    assert "storage" in refusal(FLEET, job(storage=Storage(bucket="their-bucket")), config())


def test_a_fleets_machine_takes_weights_of_where_it_may_read() -> None:
    for prefix in FLEET_READS:
        FLEET.check(job(storage=TOP), config(pretrained=f"s3://our-bucket/{prefix}x"))
    FLEET.check(job(storage=TOP), config(pretrained="s3://their-bucket/team/x"))

    assert "weights/" in refusal(FLEET, job(storage=TOP), config(pretrained="s3://our-bucket/team/x"))


def test_a_fleets_machines_may_read_what_their_role_says() -> None:
    text = template_path("workers.yaml").read_text()
    (statement,) = re.findall(r"- Sid: ReadFiles\n(.*?)- Sid:", text, re.DOTALL)

    assert tuple(sorted(re.findall(r"\$\{BucketName\}/(\S+)\*", statement))) == FLEET_READS


# weights from a bucket


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    write_manifest(folder, 3)
    return folder


def lay(store: Store, run_dir: RunDir, pretrained: str) -> None:
    get_weights(config(pretrained=pretrained), run_dir, lambda _name: store.bucket)


@pytest.mark.engine
def test_weights_of_a_bucket_are_laid_into_the_run_directory(store: Store, weights: Path, tmp_path: Path) -> None:
    store.bucket.put_folder(weights, "team/best/")
    run_dir = RunDir(tmp_path)

    lay(store, run_dir, f"s3://{store.bucket.name}/team/best")

    assert (run_dir.pretrained / "model.safetensors").read_bytes() == b"weights"


@pytest.mark.engine
def test_weights_that_nothing_vouches_for_are_refused_with_the_fix(store: Store, weights: Path, tmp_path: Path) -> None:
    store.bucket.put_file(weights / "model.safetensors", "team/best/model.safetensors")

    with pytest.raises(ConfigError, match=r"there is no manifest\.json.*use the best/"):
        lay(store, RunDir(tmp_path), f"s3://{store.bucket.name}/team/best")


@pytest.mark.engine
def test_weights_that_were_changed_are_refused_by_name(store: Store, weights: Path, tmp_path: Path) -> None:
    store.bucket.put_folder(weights, "team/best/")
    (weights / "model.safetensors").write_bytes(b"WEIGHTS")
    store.bucket.put_file(weights / "model.safetensors", "team/best/model.safetensors")

    with pytest.raises(DamagedFolder, match=r"pretrained s3://.*model\.safetensors"):
        lay(store, RunDir(tmp_path), f"s3://{store.bucket.name}/team/best")


@pytest.mark.parametrize("pretrained", ["minilm", "owner/name", "/a/folder"])
def test_other_weights_are_the_trainers_own_business(tmp_path: Path, pretrained: str) -> None:
    opened: list[str] = []

    get_weights(config(pretrained=pretrained), RunDir(tmp_path), opened.append)  # type: ignore[arg-type]

    assert opened == [] and not RunDir(tmp_path).pretrained.exists()


@pytest.mark.engine
@pytest.mark.parametrize(
    "damage",
    [b"no gzip", gzip.compress(b"{}")[:-9], gzip.compress(b"{}")[:12] + b"\xff" * 9],
    ids=["no gzip", "cut off", "scrambled"],
)
def test_pages_that_cannot_be_unpacked_are_named(store: Store, tmp_path: Path, damage: bytes) -> None:
    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=dataset_key(PINNED.partition("@")[2]), Body=damage)
    lease = store.claimed()
    given = store.queue.client.get_job(lease.job_id)
    keys = RunKeys(Storage(bucket=store.bucket.name), given.job_id)

    with pytest.raises(DamagedFolder, match="import them again"):
        prepare_run_dir(tmp_path, given, config(), lease, store.bucket, keys)

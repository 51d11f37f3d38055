"""train --resume: a new job goes on from the full state of one that has ended, and names it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from receipt_dynamo import Job, JobStatus, Lease
from receipt_layoutlm.cli import cli
from receipt_layoutlm.data.page import Page
from receipt_layoutlm.data.sample import generate_pages
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.manifest import verify
from receipt_layoutlm.storage.keys import RunKeys, dataset_key
from tests.support.places import Place
from tests.support.runs import tiny_model
from tests.support.stores import Store
from tests.support.tiny import tiny_layoutlm
from tests.support.trained import EPOCH, Trained, change_state, changed, stored, succeeded, tiny_run

pytestmark = pytest.mark.engine


class Shell:
    """Calls `train` as a person would, on the test's table and bucket."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["train", *arguments])

    def resume(self, *arguments: str) -> Job:
        result = self.run("--json", "--resume", *arguments)
        assert result.exit_code == 0, result.output
        return self.store.queue.client.get_job(json.loads(result.stdout)["job_id"])

    def refused(self, *arguments: str) -> str:
        before = self.store.queue.client.list_jobs()
        result = self.run("--resume", *arguments)
        assert result.exit_code in (1, 2), result.output
        assert self.store.queue.client.list_jobs() == before
        return result.stderr

    def lease(self, job: Job) -> Lease:
        return self.store.queue.client.get_lease(job.job_id)

    def keys(self, job: Job) -> RunKeys:
        assert job.storage is not None
        return RunKeys(job.storage, job.job_id)


@pytest.fixture
def shell(store: Store, dynamo_endpoint: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name, value in (
        ("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint),
        ("AWS_ENDPOINT_URL_S3", s3_endpoint),
        ("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9"),
        ("DYNAMO_TABLE_NAME", store.queue.client.table_name),
        ("LAYOUTLM_TRAINING_BUCKET", store.bucket.name),
    ):
        monkeypatch.setenv(name, value)
    return Shell(store)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """Two epochs that each reach the same score, so that the best is the first."""
    return tiny_run(tmp_path_factory.mktemp("run") / "1", model, epochs=2, lr=1e-9)


def files_below(store: Store, prefix: str) -> dict[str, bytes]:
    return {key.removeprefix(prefix): store.bucket.get_bytes(key) for key in store.bucket.list_keys(prefix)}


def best_step(parent: Trained, step: int) -> object:
    return json.loads((parent.run_dir.checkpoint(step) / "state.json").read_bytes())["best_step"]


# from one end to the other


def test_a_finished_job_goes_on_as_a_new_one_whose_results_name_the_best_of_both(
    store: Store, shell: Shell, tmp_path: Path
) -> None:
    pages: list[Page] = generate_pages(12, seed=1)
    place = Place(store, tmp_path / "work")
    parent = place.submit(pages, pretrained=str(tiny_layoutlm(tmp_path / "tiny", pages)), epochs=2)
    assert place.work() is JobStatus.SUCCEEDED

    child = shell.resume("a-job", "--epochs", "4", "--job-name", "longer")
    assert place.work() is JobStatus.SUCCEEDED

    client = store.queue.client
    before, after = (client.list_job_metrics(job.job_id) for job in (parent, child))
    assert [metric.epoch for metric in after] == [3.0, 4.0]
    (attempt,) = client.list_attempts(child.job_id)
    assert attempt.resume_step == before[-1].global_step
    done = client.get_job(child.job_id)
    assert done.tags["parent"] == parent.job_id
    assert done.job_config["continues"] == f"{parent.job_id}@{attempt.resume_step}"
    assert done.results is not None
    best = max([*before, *after], key=lambda metric: metric.metric_value)
    assert (done.results["best_global_step"], done.results["metric_value"]) == (best.global_step, best.metric_value)
    manifest = store.bucket.get_folder(shell.keys(child).best(1), tmp_path / "best")
    assert manifest.global_step == best.global_step
    verify(tmp_path / "best")


def test_a_failed_job_goes_on_from_an_earlier_checkpoint_when_told_so(
    store: Store, shell: Shell, run: RunDir, tmp_path: Path
) -> None:
    parent = stored(store, run)
    parent.fail()

    child = shell.resume(f"parent@{EPOCH}", "--epochs", "2")
    place = Place(store, tmp_path / "work")
    assert place.work() is JobStatus.SUCCEEDED

    client = store.queue.client
    assert [metric.global_step for metric in client.list_job_metrics(child.job_id)] == [2 * EPOCH]
    assert client.get_job(child.job_id).job_config["continues"] == f"{parent.job.job_id}@{EPOCH}"
    assert client.get_job(parent.job.job_id).status == "failed"


# what is copied


def test_the_checkpoint_is_copied_as_it_is_and_named_by_the_same_hash(store: Store, shell: Shell, run: RunDir) -> None:
    parent = succeeded(store, run)

    child = shell.resume("parent", "--epochs", "3")

    pointer = shell.lease(child).checkpoint
    assert pointer is not None
    assert (pointer.attempt, pointer.global_step) == (0, 2 * EPOCH)
    assert pointer.manifest_sha256 == parent.pointer(2 * EPOCH).manifest_sha256
    original = files_below(store, parent.keys.checkpoint(parent.pointer(2 * EPOCH)))
    assert files_below(store, shell.keys(child).checkpoint(pointer)) == original


def test_of_an_earlier_best_only_the_model_is_copied(store: Store, shell: Shell, run: RunDir, tmp_path: Path) -> None:
    parent = succeeded(store, run)
    assert best_step(parent, 2 * EPOCH) == EPOCH

    child = shell.resume("parent", "--epochs", "3")

    best = shell.lease(child).best
    assert best is not None and (best.attempt, best.global_step) == (0, EPOCH)
    folder = tmp_path / "best"
    manifest = store.bucket.get_folder(shell.keys(child).checkpoint(best), folder, best.manifest_sha256)
    assert "model.safetensors" in manifest.files and "optimizer.safetensors" not in manifest.files
    weights = (parent.run_dir.checkpoint(EPOCH) / "model.safetensors").read_bytes()
    assert (folder / "model.safetensors").read_bytes() == weights


def test_a_best_whose_checkpoint_is_gone_comes_from_the_published_model(
    store: Store, shell: Shell, run: RunDir
) -> None:
    parent = succeeded(store, run)
    source = parent.keys.checkpoint(parent.pointer(EPOCH))
    names = store.bucket.get_manifest(source).files.keys() - {"optimizer.safetensors", "rng.safetensors", "state.json"}
    store.bucket.copy_folder(source, parent.keys.best(1), sorted(names))
    store.bucket.delete_prefix(source)

    child = shell.resume("parent", "--epochs", "3")

    best = shell.lease(child).best
    assert best is not None and best.global_step == EPOCH
    assert set(files_below(store, shell.keys(child).checkpoint(best))) == {*names, "manifest.json"}


def test_a_best_that_is_nowhere_any_more_is_refused_with_the_other_checkpoints(
    store: Store, shell: Shell, run: RunDir
) -> None:
    parent = succeeded(store, run)
    store.bucket.delete_prefix(parent.keys.checkpoint(parent.pointer(EPOCH)))

    text = shell.refused("parent", "--epochs", "3")

    assert f"step {EPOCH}, which is no longer stored" in text and "there are: 6" in text


def test_a_checkpoint_that_is_the_best_is_copied_once(store: Store, shell: Shell, run: RunDir) -> None:
    succeeded(store, run)

    lease = shell.lease(shell.resume(f"parent@{EPOCH}", "--epochs", "3"))

    assert lease.checkpoint == lease.best
    assert lease.checkpoint is not None and lease.checkpoint.global_step == EPOCH


def test_a_copy_that_breaks_off_submits_nothing_and_the_same_key_takes_it_up(
    store: Store, shell: Shell, run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = succeeded(store, run)
    lost = parent.keys.checkpoint(parent.pointer(2 * EPOCH)) + "rng.safetensors"
    rng = store.bucket.get_bytes(lost)
    store.bucket.raw.delete_object(Bucket=store.bucket.name, Key=lost)

    text = shell.refused("parent", "--epochs", "3", "--unique-key", "tonight")
    assert "nothing was submitted" in text and "Copies may remain below s3://" in text

    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=lost, Body=rng)
    child = shell.resume("parent", "--epochs", "3", "--unique-key", "tonight")
    assert files_below(store, shell.keys(child).attempt(0)).keys() >= {f"checkpoint-{2 * EPOCH}/rng.safetensors"}


def test_the_same_unique_key_again_returns_the_first_job_and_copies_nothing(
    store: Store, shell: Shell, run: RunDir
) -> None:
    succeeded(store, run)
    first = shell.resume("parent", "--epochs", "3", "--unique-key", "tonight")
    store.bucket.delete_prefix(shell.keys(first).attempt(0))

    again = shell.resume("parent", "--epochs", "3", "--unique-key", "tonight")

    assert again == first
    assert files_below(store, shell.keys(first).attempt(0)) == {}


def test_a_continuation_can_itself_be_continued(store: Store, shell: Shell, run: RunDir) -> None:
    succeeded(store, run)
    child = shell.resume("parent", "--epochs", "3", "--job-name", "child")
    store.queue.cancel(child.job_id)

    grandchild = shell.resume("child", "--epochs", "4")

    assert grandchild.job_config["continues"] == f"{child.job_id}@{2 * EPOCH}"
    assert shell.lease(grandchild) == shell.lease(child).model_copy(
        update={"job_id": grandchild.job_id, "cancel_requested": False}
    )


def test_another_prefix_gets_the_pages_too_and_another_bucket_is_refused(
    store: Store, shell: Shell, run: RunDir
) -> None:
    succeeded(store, run)
    place = f"s3://{store.bucket.name}/team/a"

    child = shell.resume("parent", "--epochs", "3", "--output-s3-path", place)

    assert child.storage is not None and child.storage.prefix == "team/a/"
    fingerprint = str(child.job_config["dataset"]).partition("@")[2]
    assert store.bucket.exists(dataset_key(fingerprint, "team/a/"))
    pointer = shell.lease(child).checkpoint
    assert pointer is not None and store.bucket.exists(shell.keys(child).checkpoint(pointer) + "manifest.json")
    assert "inside one bucket" in shell.refused("parent", "--epochs", "3", "--output-s3-path", "s3://another-bucket")


# what is told


def test_options_come_from_the_parent_and_length_and_place_may_be_ones_own(
    store: Store, shell: Shell, run: RunDir, tmp_path: Path
) -> None:
    parent = succeeded(store, run)
    file = tmp_path / "own.yaml"
    file.write_text("hang-timeout: 60\nlr: 1.0e-9\n")  # the parent's own rate changes nothing
    own = "--epochs 5 --early-stopping-patience 2 --batch-size 1 --gradient-accumulation-steps 2 --device auto"

    child = shell.resume("parent", *own.split(), "--config", str(file), "--tag", "team=a")

    config, old = child.job_config, parent.job.job_config
    assert {name for name in config if config[name] != old[name]} == {
        *("epochs", "early_stopping_patience", "batch_size", "gradient_accumulation_steps", "device"),
        *("hang_timeout", "continues", "given"),
    }
    assert child.tags == {"team": "a", "parent": parent.job.job_id}
    given = config["given"]
    assert isinstance(given, dict)
    assert (given["epochs"], given["hang_timeout"], given["continues"]) == ("flag", "file", "flag")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--lr", "1e-3", "--seed", "7"], "lr, seed cannot change"),
        (["--pretrained", "minilm"], "pretrained cannot change"),
        (["--eval-dataset", "other"], "eval_dataset cannot change"),
        (["--batch-size", "4"], "must stay 2"),
        (["--epochs", "2"], "epochs: 2 are done at step 6, so give --epochs 3 or more (got 2)"),
        (["--tag", "parent=me"], "the tag 'parent'"),
        (["--recipe", "original"], "leave --dataset, --data, --recipe and --quick out"),
        (["--quick"], "leave --dataset, --data, --recipe and --quick out"),
        (["--dataset", "tiny"], "leave --dataset, --data, --recipe and --quick out"),
        (["--data", __file__], "leave --dataset, --data, --recipe and --quick out"),
    ],
)
def test_what_would_not_continue_the_job_is_refused(
    store: Store, shell: Shell, run: RunDir, arguments: list[str], words: str
) -> None:
    succeeded(store, run)

    epochs = [] if "--epochs" in arguments else ["--epochs", "9"]

    assert words in " ".join(shell.refused("parent", *epochs, *arguments).split())


def test_a_checkpoint_of_other_options_than_those_stored_is_refused_at_submit(
    store: Store, shell: Shell, run: RunDir, tmp_path: Path
) -> None:
    of_another = change_state(lambda state: state.update(lineage_hash="0" * 64))
    succeeded(store, changed(run, tmp_path / "run", 2 * EPOCH, of_another))

    assert "it cannot be continued" in shell.refused("parent", "--epochs", "3")


def test_a_dry_run_says_what_would_be_continued_and_writes_nothing(store: Store, shell: Shell, run: RunDir) -> None:
    parent = succeeded(store, run)
    before = list(store.bucket.list_keys(""))

    text = shell.run("--resume", "parent", "--epochs", "5", "--dry-run").stdout
    told = json.loads(shell.run("--resume", "parent", "--epochs", "5", "--dry-run", "--json").stdout)

    assert (
        f"continues parent ({parent.job.job_id}, succeeded) from step 6: 2 epochs done, best 0.0000 at step 3" in text
    )
    assert (told["parent"]["job_id"], told["parent"]["global_step"]) == (parent.job.job_id, 6)
    assert told["plan"]["steps"] == 3 * EPOCH  # those that are left
    assert list(store.bucket.list_keys("")) == before
    assert len(store.queue.client.list_jobs()) == 1


# which jobs


@pytest.mark.parametrize("leave", [lambda _job: None, lambda job: job.store.queue.release(job.lease, "spot")])
def test_a_job_that_goes_on_by_itself_is_refused_with_the_way_to_end_it(
    store: Store, shell: Shell, run: RunDir, leave: Callable[[Trained], object]
) -> None:
    leave(stored(store, run))

    text = shell.refused("parent", "--epochs", "3")

    assert "resumes by itself" in text and "job cancel" in text


def test_a_cancelled_job_can_be_continued(store: Store, shell: Shell, run: RunDir) -> None:
    parent = stored(store, run)
    store.queue.cancel(parent.job.job_id)
    store.queue.acknowledge_cancel(parent.lease)

    assert shell.lease(shell.resume("parent", "--epochs", "3")).checkpoint is not None


def test_a_step_that_is_not_stored_is_refused_with_those_that_are(store: Store, shell: Shell, run: RunDir) -> None:
    succeeded(store, run)

    assert "job parent keeps no checkpoint of step 5; there are: 3, 6" in shell.refused("parent@5")


def test_a_last_checkpoint_that_is_damaged_is_refused_with_the_others(store: Store, shell: Shell, run: RunDir) -> None:
    parent = succeeded(store, run)
    key = parent.keys.checkpoint(parent.pointer(2 * EPOCH)) + "manifest.json"
    store.bucket.raw.delete_object(Bucket=store.bucket.name, Key=key)

    text = shell.refused("parent", "--epochs", "3")

    assert "of step 6, is damaged or gone" in text and "there are: 3" in text


def test_a_checkpoint_that_the_job_went_back_behind_is_not_offered(store: Store, shell: Shell, run: RunDir) -> None:
    """Its files were uploaded, but its pointer never moved."""
    parent = succeeded(store, run)
    source = parent.keys.checkpoint(parent.pointer(EPOCH))
    names = store.bucket.get_manifest(source).files
    store.bucket.copy_folder(source, parent.keys.checkpoint_at(1, 3 * EPOCH), names)

    assert "there are: 3, 6" in shell.refused("parent@9", "--epochs", "9")


def test_a_job_without_a_checkpoint_says_so(store: Store, shell: Shell) -> None:
    job = store.submit("early")
    store.queue.cancel(job.job_id)

    assert "ended before its first checkpoint" in shell.refused("early", "--epochs", "3")


def test_a_name_that_ends_like_a_step_is_a_name(store: Store, shell: Shell, run: RunDir) -> None:
    parent = succeeded(store, run, "night@3")

    assert shell.resume("night@3", "--epochs", "3").job_config["continues"] == f"{parent.job.job_id}@6"
    assert shell.resume("night@3@3", "--epochs", "3").job_config["continues"] == f"{parent.job.job_id}@3"

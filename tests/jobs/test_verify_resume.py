"""job verify-resume: a real replay says identical, or what differs, by how much, and why."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors.numpy import load_file, save_file

from receipt_layoutlm.cli.job.verify_resume import verdict_text, verify_resume_command
from receipt_layoutlm.jobs.verify_resume import Verdict, choose_span, environment_differences
from receipt_layoutlm.run.directory import RunDir
from receipt_layoutlm.run.record import RunRecord
from tests.support.runs import tiny_model
from tests.support.stores import Store
from tests.support.trained import EPOCH, change_state, changed, succeeded, tiny_run

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    return tiny_run(tmp_path_factory.mktemp("run") / "1", model, epochs=3, o_entity_ratio=1.0)


@pytest.fixture
def verify(
    store: Store, dynamo_endpoint: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    """The command as a person calls it, on the test's table and bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", dynamo_endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_endpoint)
    monkeypatch.setenv("DYNAMO_TABLE_NAME", store.queue.client.table_name)

    def call(*arguments: str) -> Result:
        return CliRunner().invoke(verify_resume_command, list(arguments))

    return call


def test_the_last_steps_of_a_job_are_replayed_bit_by_bit(
    store: Store, run: RunDir, verify: Callable[..., Result]
) -> None:
    job = succeeded(store, run)

    result = verify("parent")

    assert result.exit_code == 0, result.output
    assert result.stdout == "identical: 3 steps replayed from 6 to 9, every weight, moment and evaluation equal\n"
    assert store.queue.client.get_job(job.job.job_id).status == "succeeded"


def test_weights_of_another_seed_are_found_and_counted(
    store: Store, run: RunDir, model: Path, tmp_path: Path, verify: Callable[..., Result]
) -> None:
    other = tiny_run(tmp_path / "other", model, epochs=2, seed=7)
    weights_of_other = other.checkpoint(2 * EPOCH) / "model.safetensors"
    succeeded(store, changed(run, tmp_path / "run", 2 * EPOCH, lambda folder: shutil.copy(weights_of_other, folder)))

    result = verify("parent", "--to", "6", "--json")

    told = json.loads(result.stdout)
    assert result.exit_code == 1
    weights = told["comparison"]["tensors"]["weights"]
    assert 0 < weights["differing"] <= weights["tensors"] and weights["largest_difference"] > 1e-4
    assert told["comparison"]["tensors"]["moments"]["differing"] == 0
    assert told["comparison"]["evaluations"] == told["comparison"]["state"] == told["reasons"] == []
    text = verdict_text(Verdict.model_validate(told))
    assert f"{weights['differing']} of {weights['tensors']} weights, 0 of" in text
    assert "these steps do not lead to its checkpoint" in text


def test_one_bit_of_one_moment_and_one_digit_of_an_evaluation_are_found(
    store: Store, run: RunDir, tmp_path: Path, verify: Callable[..., Result]
) -> None:
    def spoil(folder: Path) -> None:
        moments = load_file(folder / "optimizer.safetensors")
        name = next(name for name in moments if moments[name].size > 1)
        moments[name].view("uint32").flat[0] ^= 1
        save_file(moments, folder / "optimizer.safetensors")
        change_state(lambda state: state["evaluations"][-1].update(eval_loss=0.125))(folder)  # type: ignore[index]

    succeeded(store, changed(run, tmp_path / "run", 2 * EPOCH, spoil))

    result = verify("parent", "--to", "6", "--json")

    told = json.loads(result.stdout)["comparison"]
    assert result.exit_code == 1
    assert {kind: count["differing"] for kind, count in told["tensors"].items()} == {
        "weights": 0,
        "moments": 1,
        "random states": 0,
    }
    assert told["evaluations"] == [2 * EPOCH]


def test_an_evaluation_that_was_still_due_is_left_out(
    store: Store, run: RunDir, tmp_path: Path, verify: Callable[..., Result]
) -> None:
    def before_its_evaluation(state: dict[str, object]) -> None:
        evaluations = state["evaluations"]
        assert isinstance(evaluations, list)
        state.update(evaluations=evaluations[:-1], evaluation_due=True, loss_sum=1.5, evaluations_without_best=0)

    succeeded(store, changed(run, tmp_path / "run", 2 * EPOCH, change_state(before_its_evaluation)))

    result = verify("parent", "--to", "6")

    assert result.exit_code == 0, result.output
    assert "every weight, moment and earlier evaluation equal" in result.stdout
    assert f"evaluation at step {2 * EPOCH} was still due" in result.stdout


def test_any_two_stored_checkpoints_can_be_named_and_others_are_refused_with_those_there_are(
    store: Store, run: RunDir, verify: Callable[..., Result]
) -> None:
    job = succeeded(store, run)

    def steps(from_step: int | None, to_step: int | None) -> tuple[int, int]:
        span = choose_span(store.queue.client, lambda _name: store.bucket, job.job, from_step, to_step)
        return span.start.global_step, span.end.global_step

    assert [steps(None, None), steps(3, None), steps(None, 6), steps(3, 6)] == [(6, 9), (3, 9), (3, 6), (3, 6)]
    for arguments in (["--from", "4"], ["--to", "3"], ["--from", "9", "--to", "3"]):
        result = verify("parent", *arguments)
        assert result.exit_code == 1 and "the stored checkpoints are 3, 6, 9" in result.stderr


def test_a_job_with_one_checkpoint_says_so(store: Store, run: RunDir, verify: Callable[..., Result]) -> None:
    job = succeeded(store, run)
    for step in (EPOCH, 2 * EPOCH):
        store.bucket.delete_prefix(job.keys.checkpoint(job.pointer(step)))

    assert "the stored checkpoints are 9, and a replay needs two" in verify("parent").stderr


def test_what_is_unlike_the_machine_of_the_job_is_named(
    store: Store, run: RunDir, tmp_path: Path, verify: Callable[..., Result]
) -> None:
    def spoil(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights["classifier.bias"] += 2.0
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    job = succeeded(store, changed(run, tmp_path / "run", 2 * EPOCH, spoil))
    record = json.loads(job.run_dir.run_json.read_bytes())
    record["hardware"] |= {"threads": 64, "device": "cuda", "precision": "bf16", "processes": 2}
    record["versions"] |= {"torch": "1.0"}
    record["config"] |= {"batch_size": 1, "gradient_accumulation_steps": 2}
    key = job.keys.attempt(1) + "run.json"
    store.bucket.raw.put_object(Bucket=store.bucket.name, Key=key, Body=json.dumps(record).encode())

    text = verify("parent", "--to", "6").stdout

    assert "1 of " in text and "the largest absolute difference is 2\n" in text
    assert "attempt 1: device cuda there, cpu here" in text
    assert "attempt 1: threads 64 there, " in text
    assert "attempt 1: precision bf16 there, fp32 here" in text
    assert "attempt 1: processes 2 there, 1 here" in text
    assert "attempt 1: torch 1.0 there, " in text
    assert "halved after running out of memory, which is not bit-exact" in text


def test_two_runs_that_have_everything_in_common_are_not_unlike(run: RunDir) -> None:
    record = RunRecord.model_validate_json(run.run_json.read_bytes())

    assert environment_differences(record, record) == []


def test_code_of_another_commit_or_wheel_is_named(run: RunDir) -> None:
    record = RunRecord.model_validate_json(run.run_json.read_bytes())
    one = record.model_copy(update={"git_sha": "a" * 40, "wheel_sha256": "b" * 64})
    other = record.model_copy(update={"git_sha": "c" * 40, "wheel_sha256": "d" * 64})

    code = [
        "code of commit aaaaaaaaaaaa there, cccccccccccc here",
        "code of wheel bbbbbbbbbbbb there, dddddddddddd here",
    ]
    assert environment_differences(one, other) == code
    assert environment_differences(one, other.model_copy(update={"git_sha": None, "wheel_sha256": None})) == []


def test_a_replay_that_fails_says_why(store: Store, model: Path, tmp_path: Path, verify: Callable[..., Result]) -> None:
    gone = shutil.copytree(model, tmp_path / "gone")
    succeeded(store, tiny_run(tmp_path / "run", gone, epochs=2))
    shutil.rmtree(gone)

    result = verify("parent")

    assert result.exit_code == 1
    assert "the replay did not reach step 6" in result.stderr and str(gone) in result.stderr

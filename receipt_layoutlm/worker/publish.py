"""What a finished run leaves behind: best/ in the bucket, verified, and the results document of the job."""

from collections.abc import Sequence

from receipt_dynamo import DynamoClient, JsonObject, Pointer
from receipt_layoutlm.run.comparability import STAMP
from receipt_layoutlm.run.events import MEASURED, Evaluation, Finished
from receipt_layoutlm.run.health import health_lines
from receipt_layoutlm.run.manifest import RESUME_ONLY
from receipt_layoutlm.run.record import RunRecord
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.worker.recorder import Recorder, Storehouse

_BESIDE = {*MEASURED, "o_entity_ratio", "confusion"}
OUT_OF_MEMORY_OUTCOME = "failed: out_of_memory"


def publish_results(client: DynamoClient, storehouse: Storehouse, recorder: Recorder, end: Finished) -> JsonObject:
    """Copy the best checkpoint's model files to best/, upload the predictions; returns Job.results."""
    lease, bucket, keys = recorder.lease, storehouse.bucket, storehouse.keys
    pointer = lease.best or lease.checkpoint
    if pointer is None:
        raise StorageError("the trainer finished without a checkpoint, so there is no model to publish")
    best_key = keys.best(lease.attempt)
    source = keys.checkpoint(pointer)
    manifest = bucket.get_manifest(source)
    bucket.copy_folder(source, best_key, [name for name in manifest.files if name not in RESUME_ONLY])
    recorder.put_predictions()
    record = recorder.run_record()
    metrics = client.list_job_metrics(lease.job_id)
    attempts = client.list_attempts(lease.job_id)
    return {
        "stop_reason": end.reason,
        "global_step": end.global_step,
        "new_best_steps": [metric.global_step for metric in metrics if metric.is_best],
        "evaluations": len(metrics),
        # after running out of memory micro-batches are halved, which changes the last bits
        "bit_exact": all(attempt.outcome != OUT_OF_MEMORY_OUTCOME for attempt in attempts),
        "best_uri": keys.uri(best_key),
        "checkpoint_uri": keys.uri(keys.checkpoint(lease.checkpoint or pointer)),
        **_headline(record.evaluations, pointer),
        **_of_the_run(record),
    }


def _of_the_run(record: RunRecord) -> JsonObject:
    """What it ran on, test scores, what is wrong, what labels weighed, and with whose numbers these compare."""
    found: JsonObject = {"hardware": record.hardware.model_dump(mode="json")}
    if record.test is not None:
        found["test"] = record.test.model_dump(mode="json")
    if record.health:
        found["health"] = list(health_lines(record.health))
    if record.class_weights is not None:
        found["class_weights"] = record.class_weights.model_dump(mode="json")
    if record.comparability is not None:
        found[STAMP] = record.comparability.model_dump(mode="json")
    return found


def _headline(evaluations: Sequence[Evaluation], pointer: Pointer) -> JsonObject:
    """The scores of the evaluation at the best checkpoint, which may be one of the job that this one continues."""
    for each in evaluations:
        if each.global_step == pointer.global_step:
            return {
                "metric_name": each.metric_name,
                "metric_value": each.metric_value,
                "precision": each.precision,
                "recall": each.recall,
                "best_global_step": each.global_step,
                "best_epoch": each.epoch,
                **each.model_dump(include=_BESIDE, exclude_none=True),
                "per_label": {name: scores.model_dump() for name, scores in each.per_label.items()},
            }
    return {}

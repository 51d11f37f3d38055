"""Publishes a finished run: best/ in the bucket, verified, and the results document of the job."""

from receipt_dynamo import DynamoClient, JsonObject
from receipt_layoutlm.run.comparability import STAMP
from receipt_layoutlm.run.events import Finished
from receipt_layoutlm.run.manifest import RESUME_ONLY
from receipt_layoutlm.storage.errors import StorageError
from receipt_layoutlm.storage.tables import TableFolder
from receipt_layoutlm.worker.recorder import Recorder, RunStorage

OUT_OF_MEMORY_OUTCOME = "failed: out_of_memory"


def publish_results(client: DynamoClient, storage: RunStorage, recorder: Recorder, end: Finished) -> JsonObject:
    """Copy the model files of the best checkpoint to best/, upload the predictions; returns Job.results.

    Tables that are too large for a row go to the bucket.
    """
    lease, bucket, keys = recorder.lease, storage.bucket, storage.keys
    pointer = lease.best or lease.checkpoint
    if pointer is None:
        raise StorageError("the trainer finished without a checkpoint, so there is no model to publish")
    best_key, source = keys.best(lease.attempt), keys.checkpoint(pointer)
    manifest = bucket.get_manifest(source)
    bucket.copy_folder(source, best_key, [name for name in manifest.files if name not in RESUME_ONLY])
    recorder.put_predictions()
    record = recorder.run_record()
    metrics = client.list_job_metrics(lease.job_id)
    attempts = client.list_attempts(lease.job_id)
    results: JsonObject = {
        "stop_reason": end.reason,
        "global_step": end.global_step,
        "new_best_steps": [metric.global_step for metric in metrics if metric.is_best],
        "evaluations": len(metrics),
        # after running out of memory micro-batches are halved, which changes the last bits
        "bit_exact": all(attempt.outcome != OUT_OF_MEMORY_OUTCOME for attempt in attempts),
        "best_uri": keys.uri(best_key),
        "checkpoint_uri": keys.uri(keys.checkpoint(lease.checkpoint or pointer)),
    }
    # the best evaluation may be one of the job that this one continues
    if best := next((each for each in record.evaluations if each.global_step == pointer.global_step), None):
        results |= {
            "metric_name": best.metric_name,
            "metric_value": best.metric_value,
            "best_global_step": best.global_step,
            "best_epoch": best.epoch,
            "eval_loss": best.eval_loss,
            **best.flat,
            "confusion": {name: dict(row) for name, row in best.confusion.items()},
            "per_label": {name: scores.model_dump() for name, scores in best.per_label.items()},
        }
    results["hardware"] = record.hardware.model_dump(mode="json")
    if record.test is not None:
        results["test"] = record.test.model_dump(mode="json")
    if record.health:
        results["health"] = [finding.line for finding in record.health]
        results["remedy"] = record.health[0].remedy
    if record.class_weights is not None:
        results["class_weights"] = record.class_weights.model_dump(mode="json")
    if record.comparability is not None:
        results[STAMP] = record.comparability.model_dump(mode="json")
    return TableFolder(bucket, keys, lease.attempt).fit(results, "results")

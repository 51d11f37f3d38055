"""What a finished run leaves behind: best/ in the bucket, verified, and the results document of the job."""

from receipt_dynamo import DynamoClient, JobMetric, JsonObject, Pointer
from receipt_layoutlm.events import Finished
from receipt_layoutlm.manifest import MANIFEST, RESUME_ONLY, Manifest
from receipt_layoutlm.recorder import Recorder
from receipt_layoutlm.s3 import Bucket, RunPlaces, StorageError


def publish_results(
    client: DynamoClient, bucket: Bucket, places: RunPlaces, recorder: Recorder, end: Finished
) -> JsonObject:
    """Copy the best checkpoint's model files to best/, upload the predictions; returns Job.results."""
    lease = recorder.lease
    pointer = lease.best or lease.checkpoint
    if pointer is None:
        raise StorageError("the trainer finished without a checkpoint, so there is no model to publish")
    best_key = places.best(lease.attempt)
    source = places.checkpoint(pointer)
    manifest = Manifest.model_validate_json(bucket.get_bytes(source + MANIFEST))
    bucket.copy_folder(source, best_key, [name for name in manifest.files if name not in RESUME_ONLY])
    recorder.put_predictions()
    metrics = client.list_job_metrics(lease.job_id)
    return {
        "stop_reason": end.reason,
        "global_step": end.global_step,
        "new_best_steps": [metric.global_step for metric in metrics if metric.is_best],
        "evaluations": len(metrics),
        "best_uri": places.uri(best_key),
        "checkpoint_uri": places.uri(places.checkpoint(lease.checkpoint or pointer)),
        **_headline(metrics, pointer),
    }


def _headline(metrics: list[JobMetric], pointer: Pointer) -> JsonObject:
    """The scores of the evaluation at the best checkpoint."""
    for metric in metrics:
        if metric.global_step == pointer.global_step:
            return {
                "metric_name": metric.metric_name,
                "metric_value": metric.metric_value,
                "precision": metric.precision,
                "recall": metric.recall,
                "best_global_step": metric.global_step,
                "best_epoch": metric.epoch,
                "per_label": {name: dict(scores) for name, scores in metric.per_label.items()},
            }
    return {}

"""Which jobs are held on which machine, as their leases say, and which need the machines of a queue."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from receipt_dynamo import DynamoClient, Job, JobQueue, JobStatus, Lease
from receipt_layoutlm.fleet_names import instance_of


def held_by_machine(client: DynamoClient) -> Mapping[str | None, Sequence[tuple[Job, Lease]]]:
    """Running jobs by the instance of their worker; None stands for workers outside of any fleet. Raises StoreError."""
    held = defaultdict(list)
    for job, lease in JobQueue(client).held():
        held[instance_of(lease.worker_id)].append((job, lease))
    return held


def jobs_of_queue(client: DynamoClient, queue: str) -> list[Job]:
    """What waits in a queue, then what runs and would come back to it. Raises StoreError."""
    running = [job for job in client.list_jobs_by_status(JobStatus.RUNNING) if job.queue == queue]
    return list({job.job_id: job for job in [*client.iter_queue(queue), *running]}.values())

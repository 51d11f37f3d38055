"""The two queries that users of the table have in notebooks and scripts; they work unchanged, forever."""

SNIPPET = """
from receipt_dynamo import DynamoClient
dynamo = DynamoClient(table_name="ReceiptsTable-dc5be22")
jobs = dynamo.list_jobs_by_status("succeeded")
for job in jobs:
    print(f"{job.name}: {job.status}"); print(f"  Config: {job.job_config}")
    metrics = dynamo.list_job_metrics(job.job_id)
    if metrics:
        best = max(metrics, key=lambda m: m.metric_value)
        print(f"  Best F1: {best.metric_value}")
"""

STATUS_QUERY = (
    'aws dynamodb query --table-name T --index-name GSI1 --key-condition-expression "GSI1PK = :status"'
    """ --expression-attribute-values '{":status":{"S":"STATUS#succeeded"}}'"""
)

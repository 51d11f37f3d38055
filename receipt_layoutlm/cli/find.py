"""The job that a command names, and on stderr which one @best stands for."""

from receipt_dynamo import DynamoClient, Job
from receipt_layoutlm.cli.output import say
from receipt_layoutlm.jobs import find


def find_named_job(client: DynamoClient, reference: str) -> Job:
    """As jobs/find.py has it; the text of @best goes to stderr."""
    if reference != find.BEST:
        return find.find_job(client, reference)
    best = find.best_job(client)
    say(best.text, err=True)
    return best.job

"""Output of `train`: the submitted job, or the submission of a dry run."""

import json

from receipt_dynamo import Job
from receipt_layoutlm.cli.ended import queue_option
from receipt_layoutlm.cli.tables import BY_WORKER, Column, clean, score, table
from receipt_layoutlm.config import RATIOS
from receipt_layoutlm.flags import flag_of
from receipt_layoutlm.jobs.submit import Submission, Submitted


def submitted_text(submitted: Submitted, submission: Submission) -> str:
    """The submitted job."""
    job, plan = submitted.job, submission.plan
    lines = [
        f"submitted {clean(job.name)}" if submitted.is_new else f"{clean(job.name)} was there already",
        f"  job id   {job.job_id}",
        f"  status   {job.status}",
        f"  dataset  {clean(job.job_config.get('dataset') or BY_WORKER)}",
        *([f"  recipe   {clean(recipe_text(submission))}"] if submission.recipe else []),
        *([f"  from     {clean(job.job_config['continues'])}"] if job.job_config.get("continues") else []),
        *(f"  warning  {clean(warning)}" for warning in (plan.warnings if plan else ())),
    ]
    return "\n".join(lines)


def next_text(job: Job) -> str:
    """The commands that follow a submission."""
    short = job.job_id[:8]
    commands = (f"worker run --once{queue_option(job)}", f"job show {short}", f"job metrics {short}")
    return "\n".join(["next:", *(f"  layoutlm-cli {command}" for command in commands)])


def recipe_text(submission: Submission) -> str:
    """The recipe, and what of it does not apply to the run."""
    parts = [f"{', '.join(labels)} of {flag_of(name)}" for name, labels in submission.left_out.items()]
    left_out = f", without {' and '.join(parts)}: this run does not learn them" if parts else ""
    return f"{submission.recipe}{left_out}"


def dry_run_text(submission: Submission, earlier: Job | None) -> str:
    """The resolved config with the source of each value, and the plan. Raises NoDatasetChosen.

    `earlier` is the job that has the unique key already.
    """
    submission.require_dataset()
    lines = []
    if submission.parent is not None:
        job, state, best = submission.parent.job, submission.parent.state, "no evaluation yet"
        if state.best_step is not None:
            best = f"best {score(state.best_metric_value)} at step {state.best_step}"
        lines += [
            f"continues {clean(job.name)} ({job.job_id}, {job.status}) "
            f"from step {state.global_step}: {state.epoch} epochs done, {best}",
            "",
        ]
    has_ratio = set(RATIOS) & submission.given.keys() or submission.config.split.startswith("kfold:")
    computed = RATIOS if has_ratio else ()
    rows = [
        (name, json.dumps(value), submission.given.get(name) or ("computed" if name in computed else "default"))
        for name, value in submission.config.model_dump(mode="json").items()
    ]
    lines += [table((Column("option"), Column("value", wraps=True), Column("from", rank=1)), rows), ""]
    if submission.recipe is not None:
        lines += [f"recipe   {recipe_text(submission)}"]
    plan = submission.plan
    if submission.dataset is not None and plan is not None:
        dataset = submission.dataset.dataset
        lines += [f"dataset  {dataset.name}@{dataset.fingerprint[:12]}, {dataset.counts.get('pages')} pages", ""]
        lines += [table(("label", "entities"), list(plan.label_counts.items())), ""]
        lines += [f"steps    {plan.steps}", f"time     {_estimate(plan.minutes, 'minutes')}"]
        lines += [f"cost     {_estimate(plan.dollars, 'US dollars')}"]
        lines += [f"warning  {warning}" for warning in plan.warnings]
    else:
        lines += [f"dataset  {BY_WORKER}: labels, steps and time are unknown until then"]
    if earlier is not None:
        lines += [
            f"{clean(earlier.name)} ({earlier.job_id}, {earlier.status}) was there already: --unique-key names it"
        ]
    return "\n".join([*lines, "nothing was written (--dry-run)"])


def _estimate(amount: float | None, unit: str) -> str:
    return "unknown (no earlier job of this shape)" if amount is None else f"about {amount:.2f} {unit}"


def dry_run_json(submission: Submission, earlier: Job | None) -> str:
    """The same as JSON; null for values that need a table or data."""
    chosen, plan, parent = submission.dataset, submission.plan, submission.parent
    return json.dumps(
        {
            "config": submission.config.model_dump(mode="json"),
            "given": submission.given,
            "recipe": submission.recipe,
            "left_out": submission.left_out,
            "request": submission.request.model_dump(mode="json"),
            "dataset": None if chosen is None else chosen.dataset.model_dump(mode="json"),
            "plan": None if plan is None else plan.model_dump(mode="json"),
            "was_there_already": earlier and earlier.job_id,
            "parent": parent
            and {
                "job_id": parent.job.job_id,
                "name": parent.job.name,
                "status": parent.job.status,
                "global_step": parent.state.global_step,
                "epochs": parent.state.epoch,
                "best_global_step": parent.state.best_step,
                "best_metric_value": parent.state.best_metric_value,
            },
        },
        indent=1,
    )

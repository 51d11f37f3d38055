"""Conditions on jobs, as `job list --where` takes them: `f1 > 0.8 and lr < 1e-4`.

Python's comparisons with `and`, `or`, `not`, `in`, numbers, texts and names; nothing is called or looked up otherwise.
A name is that of a score, an option, or a fact of the job (FACTS); `tags.KEY` and `tags['KEY']` are its tags.
"""

import ast
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pydantic import JsonValue

from receipt_dynamo import Job
from receipt_layoutlm.config import DEFAULT_TASK, config_class
from receipt_layoutlm.errors import UserError
from receipt_layoutlm.metric_names import LOSS
from receipt_layoutlm.run.scores import as_number, headline_name, headline_of, stored_score
from receipt_layoutlm.suggestions import nearest_name

LONGEST: Final = 1000  # characters; deeper conditions than fit into them would exhaust Python's stack
FACTS: Final[dict[str, Callable[[Job], JsonValue]]] = {
    "name": lambda job: job.name,
    "status": lambda job: job.status.value,
    "user": lambda job: job.created_by,
    "queue": lambda job: job.queue,
    "priority": lambda job: job.priority.value,
    "attempt": lambda job: job.attempt,
    "experiment": lambda job: job.tags.get("experiment"),
    "best": lambda job: job.score,
    "created": lambda job: job.created_at.isoformat(),
    "stop_reason": lambda job: (job.results or {}).get("stop_reason"),
    "error": lambda job: job.error.cause if job.error else None,
}
_COMPARED: Final[dict[type[ast.cmpop], Callable[[Any, Any], bool]]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class BadCondition(UserError):
    """A condition that cannot be read; the text points at the place."""


def value_of(job: Job, name: str) -> JsonValue:
    """A fact of a job, the option of this name, or the score of its best evaluation; None where it has none."""
    if name in FACTS:
        return FACTS[name](job)
    if name in job.job_config:
        return job.job_config[name]
    results, metric = job.results or {}, name.removeprefix("best_").removeprefix("eval_")
    # a loss is read as it is stored: as a headline it is negated
    score = None if metric == LOSS else stored_score(results, headline_name(metric))
    return results.get(name) if score is None else score


def score_names(results: Mapping[str, JsonValue]) -> set[str]:
    """Names under which the results of a job have a number: the headline, other scores, and the F1 of each label."""
    per_label = results.get("per_label")
    labels = per_label if isinstance(per_label, Mapping) else {}
    names = {name for name, value in results.items() if as_number(value) is not None}
    return names | {headline_of(results).removeprefix("eval_")} | {f"f1_{label}" for label in labels}


class Condition:
    """A condition, which holds for a job or does not: a comparison with a value that a job lacks does not hold."""

    def __init__(self, text: str) -> None:
        """Raises BadCondition."""
        self.text = text
        if len(text) > LONGEST:
            raise BadCondition(f"the condition has {len(text)} characters: use at most {LONGEST}")
        try:
            self._root = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            at = (getattr(error, "offset", None) or 1) - 1
            raise self._refusal("a condition reads like f1 > 0.8 and lr < 1e-4 (== for equal)", at) from None
        self.holds = self._truth(self._root)
        """Whether it holds for a job. Raises BadCondition when a number is compared with a text."""

    def check_names(self, jobs: Iterable[Job]) -> None:
        """Raise BadCondition for a name that is no option and no fact, and that none of the jobs has a score for."""
        known = {*FACTS, *config_class(DEFAULT_TASK).model_fields}
        names = {node.id: node for node in ast.walk(self._root) if isinstance(node, ast.Name) and node.id != "tags"}
        unknown = {name: node for name, node in names.items() if name not in known}
        if not unknown:
            return
        scores = set[str]()
        for job in jobs:
            unknown = {name: node for name, node in unknown.items() if value_of(job, name) is None}
            if not unknown:
                return
            scores |= score_names(job.results or {})
        if scores:  # without a single score nothing is known to be misspelt
            name, node = next(iter(unknown.items()))
            near = nearest_name(name, known | scores)
            raise self._refusal(
                f"none of these jobs has an option or a score {name}" + (f"; did you mean {near}?" if near else ""),
                node.col_offset,
            )

    def _truth(self, node: ast.expr) -> Callable[[Job], bool]:
        """What a form of the condition asks of a job. Raises BadCondition for any other form."""
        match node:
            case ast.BoolOp(op=joined, values=values):
                parts, fold = [self._truth(each) for each in values], all if isinstance(joined, ast.And) else any
                return lambda job: fold(part(job) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                inner = self._truth(operand)
                return lambda job: not inner(job)
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                for op in ops:
                    if type(op) not in _COMPARED and not isinstance(op, ast.In | ast.NotIn):
                        raise self._refusal("compare with < <= > >= == != or in", left.end_col_offset or 0)
                sides = [self._value(each) for each in (left, *comparators)]
                pairs = list(zip(sides, ops, sides[1:], strict=False))
                return lambda job: all(self._compare(one(job), op, other(job), left) for one, op, other in pairs)
        value = self._value(node)
        return lambda job: bool(value(job))

    def _compare(self, first: object, op: ast.cmpop, second: object, at: ast.expr) -> bool:
        if isinstance(op, ast.In | ast.NotIn):
            if not isinstance(second, str | list):
                return False
            inside = str(first) in second if isinstance(second, str) else first in second
            return inside is isinstance(op, ast.In)
        if first is None or second is None:
            equal = first is second
            return {ast.Eq: equal, ast.NotEq: not equal}.get(type(op), False)
        if isinstance(first, str) is not isinstance(second, str) and not isinstance(op, ast.Eq | ast.NotEq):
            raise self._refusal(f"{first!r} and {second!r} are a number and a text", at.col_offset)
        try:
            return _COMPARED[type(op)](first, second)
        except TypeError:
            raise self._refusal(f"{first!r} and {second!r} cannot be compared", at.col_offset) from None

    def _value(self, node: ast.expr) -> Callable[[Job], object]:
        """What a name, a number, a text or a list of them stands for. Raises BadCondition for any other form."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None as value):
                return lambda _job: value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda _job: -number
            case ast.List(elts=elements) | ast.Tuple(elts=elements):
                members = [self._value(each) for each in elements]
                return lambda job: [member(job) for member in members]
            case ast.Attribute(value=ast.Name(id="tags"), attr=key):
                return lambda job: job.tags.get(key)
            case ast.Subscript(value=ast.Name(id="tags"), slice=ast.Constant(value=str() as key)):
                return lambda job: job.tags.get(key)
            case ast.Name(id=name) if name != "tags":
                return lambda job: value_of(job, name)
        raise self._refusal(
            "only names, numbers, texts, tags.KEY and comparisons stand in a condition", node.col_offset
        )

    def _refusal(self, reason: str, place: int) -> BadCondition:
        """Names the place by what stands there: ast counts in bytes of UTF-8."""
        here = self.text.strip().encode()[place:].decode(errors="replace")[:30]
        return BadCondition(f"--where {self.text[:80]!r}: {reason}" + (f", at {here!r}" if here else ""))

"""The MCP server, asked by the mcp package's own client."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from receipt_dynamo import JobQueue, JsonObject
from tests.support.jobs import NOON, claim, evaluation, submit, summary

pytest.importorskip("mcp", reason="mcp is not installed: pip install 'receipt-layoutlm[mcp]'")
from mcp import ClientSession, StdioServerParameters, stdio_client
from mcp.shared.memory import create_connected_server_and_client_session

from receipt_layoutlm.cli.mcp_server import server_of

STAMP = dict.fromkeys("dataset eval_dataset split labels windows scorer evaluation sha256".split(), "same")


def succeeded(queue: JobQueue, name: str, f1: float, stamp: JsonObject) -> str:
    job = submit(queue, name)
    lease = claim(queue)
    queue.client.add_job_metric(lease, evaluation(lease, f1=f1))
    results: JsonObject = {
        "metric_name": "eval_f1",
        "metric_value": f1,
        "comparability": stamp,
        "per_label": {"TOTAL": {"f1": f1}},
    }
    queue.complete(lease, results=results, summary=summary(lease, NOON + timedelta(minutes=1)))
    return job.job_id


def asked(queue: JobQueue, ask: Callable[[ClientSession], Awaitable[Any]]) -> Any:
    async def session() -> Any:
        async with create_connected_server_and_client_session(server_of(queue)) as client:
            return await ask(client)

    return asyncio.run(session())


def answer(queue: JobQueue, tool: str, **arguments: object) -> Any:
    result = asked(queue, lambda client: client.call_tool(tool, arguments))
    assert not result.isError, result.content
    structured = result.structuredContent
    return structured.get("result", structured)


def test_an_agent_learns_which_run_was_best_and_why(queue: JobQueue) -> None:
    worse, better = succeeded(queue, "worse", 0.6, {**STAMP}), succeeded(queue, "better", 0.8, {**STAMP})
    listed = answer(queue, "jobs", status="succeeded")
    assert {job["name"]: job["best_score"] for job in listed} == {"worse": 0.6, "better": 0.8}
    compared = answer(queue, "compare", jobs=["worse", "better"])
    assert compared["not_comparable"] == {}
    assert compared["f1_by_label"] == {"TOTAL": {worse: 0.6, better: 0.8}}
    assert [row["metric_value"] for row in answer(queue, "metrics", job="@best")] == [0.8]
    assert answer(queue, "logs", job="better")[-1]["event"] == "run_summary"
    assert "better" in answer(queue, "why", job=better)


def test_scores_on_other_pages_are_marked_as_not_comparable(queue: JobQueue) -> None:
    succeeded(queue, "one", 0.6, {**STAMP})
    other = succeeded(queue, "other", 0.9, {**STAMP, "dataset": "another", "sha256": "another"})
    [reason] = answer(queue, "compare", jobs=["one", "other"])["not_comparable"][other]
    assert reason == "dataset: same against another"


def test_every_tool_is_read_only_and_an_unknown_job_is_an_error_in_words(queue: JobQueue) -> None:
    tools = asked(queue, lambda client: client.list_tools()).tools
    assert {tool.name for tool in tools} == {"jobs", "metrics", "logs", "why", "compare"}
    assert all(tool.annotations.readOnlyHint for tool in tools)
    refused = asked(queue, lambda client: client.call_tool("why", {"job": "nothing"}))
    assert refused.isError
    assert "no job 'nothing'" in refused.content[0].text


@pytest.mark.engine
def test_the_command_speaks_the_protocol_on_stdin_and_stdout(table_name: str, dynamo_endpoint: str) -> None:
    environ = {**os.environ, "AWS_ENDPOINT_URL_DYNAMODB": dynamo_endpoint}
    arguments = ["-m", "receipt_layoutlm.cli", "mcp", "--dynamo-table", table_name]

    async def session() -> Any:
        server = StdioServerParameters(command=sys.executable, args=arguments, env=environ)
        async with stdio_client(server) as (reads, writes), ClientSession(reads, writes) as client:
            await client.initialize()
            return await client.call_tool("jobs", {})

    result = asyncio.run(session())
    assert not result.isError
    assert json.loads(json.dumps(result.structuredContent)) == {"result": []}

"""Files that commands read, and commands against a table in moto."""

from pathlib import Path

import pytest

from receipt_dynamo import DynamoClient
from receipt_layoutlm.data.page import page_to_line
from tests.support.commands import Shell
from tests.support.tiny import tiny_pages


@pytest.fixture
def pages(tmp_path: Path) -> str:
    """The path of twelve tiny pages in JSON lines."""
    path = tmp_path / "pages.jsonl"
    path.write_text("".join(f"{page_to_line(page)}\n" for page in tiny_pages(12)))
    return str(path)


@pytest.fixture
def shell(cloud: DynamoClient) -> Shell:
    return Shell(cloud)

"""A simulated AWS account for each file of tests."""

from collections.abc import Iterator

import pytest

from tests.support.small_aws import ministack


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with ministack(tmp_path_factory.mktemp("ministack")) as address:
        yield address

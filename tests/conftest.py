"""Fixtures that several folders of tests share."""

import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.limits import E2E_TEST_TIMEOUT_S, TEST_TIMEOUT_S
from tests.processes import guarded
from tests.servers import S3, s3_environment, seaweed

# Tests end processes with it; started by nohup, they would inherit that it is ignored.
signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The first call of a kernel compiles it, which takes seconds; later calls do not.
settings.register_profile("gristmill", deadline=None)
settings.load_profile("gristmill")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give every test its time limit."""
    for item in items:
        is_e2e = item.get_closest_marker("e2e") is not None
        item.add_marker(pytest.mark.timeout(E2E_TEST_TIMEOUT_S if is_e2e else TEST_TIMEOUT_S))


@pytest.fixture(scope="session", autouse=True)
def _children_end_with_the_session() -> Iterator[None]:
    """No process outlives the pytest process whose tests started it."""
    with guarded():
        yield


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A SeaweedFS for the whole session."""
    with seaweed(tmp_path_factory.mktemp("weed")) as running:
        yield running


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """SeaweedFS, configured in this process's environment."""
    with s3_environment(s3_server.env):
        yield s3_server

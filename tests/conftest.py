"""Fixtures that several folders of tests share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.servers import S3, seaweed

# The first call of a kernel compiles it, which takes seconds; later calls do not.
settings.register_profile("gristmill", deadline=None)
settings.load_profile("gristmill")


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A SeaweedFS for the whole session."""
    with seaweed(tmp_path_factory.mktemp("weed")) as running:
        yield running


@pytest.fixture
def s3(s3_server: S3, monkeypatch: pytest.MonkeyPatch) -> S3:
    """SeaweedFS, configured in this process's environment."""
    for name, value in s3_server.env.items():
        monkeypatch.setenv(name, value)
    return s3_server

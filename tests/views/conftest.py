"""The real run that tests of the views share."""

from pathlib import Path

import pytest

from tests.views.real_run import RealRun, shared_run


@pytest.fixture(scope="session")
def real_run(tmp_path_factory: pytest.TempPathFactory) -> RealRun:
    """The run of this session; not to be changed."""
    return shared_run(tmp_path_factory)


@pytest.fixture
def run_copy(real_run: RealRun, tmp_path: Path) -> RealRun:
    """A copy of the run that a test may change."""
    return real_run.copy(tmp_path / "store")

"""The mirror of the registry in MLflow: equal to it after every call, and never in the way."""

import logging
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from infra.registry import mlflow_mirror
from infra.registry.history import promote, roll_back
from infra.registry.mlflow_mirror import VERSION_TAG, mirror_registry
from infra.registry.versions import register_version
from infra.store.storage import Storage
from tests.infra.test_registry import draft

# Of the SQLAlchemy that MLflow uses.
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """An MLflow registry in SQLite."""
    return f"sqlite:///{tmp_path}/mlflow.db"


def test_versions_and_aliases_are_mirrored_and_what_was_missed_is_made_up_for(
    tmp_path: Path, uri: str
) -> None:
    store = Storage(str(tmp_path / "store"))
    promote(store, register_version(store, draft("a")), by="ann", reason="better")
    assert mirror_registry(store, "web", uri)
    # Two decisions that the mirror did not see.
    promote(store, register_version(store, draft("b")), by="ann", reason="better")
    promote(store, register_version(store, draft("c")), by="ann", reason="better")
    register_version(store, draft("d", model="other"))
    assert mirror_registry(store, "web", uri)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    champion = client.get_model_version_by_alias("web.tiny", "champion")
    assert champion.tags[VERSION_TAG] == "3"
    assert str(champion.source).endswith("/store/release/c")
    roll_back(store, "web", "tiny", by="ann", reason="better")
    assert mirror_registry(store, "web", uri)
    champion = client.get_model_version_by_alias("web.tiny", "champion")
    assert champion.tags[VERSION_TAG] == "2"
    assert len(client.search_model_versions("name = 'web.tiny'")) == 3
    assert len(client.search_model_versions("name = 'web.other'")) == 1


def test_a_mirror_that_is_down_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(mlflow_mirror, "TIMEOUT_S", 20.0)
    store = Storage(str(tmp_path / "store"))
    register_version(store, draft("a"))
    with caplog.at_level(logging.WARNING):
        assert not mirror_registry(store, "web", "http://127.0.0.1:9")
    assert "http://127.0.0.1:9" in caplog.text

"""The artifacts of a run in Prefect's UI: each is created once and then updated in place."""

import json
import re
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.context import FlowRunContext

from infra.store.environment import mask

LINK_TYPE = MARKDOWN_TYPE = "markdown"  # Prefect's type of a link, too
MAX_EARLIER = 200  # earlier versions of an artifact that are deleted at once: the API's limit


class RunArtifacts:
    """Writes the artifacts of a flow run.

    The key of an artifact names the recipe, so that the history of a key is that of one recipe. What
    changes while a run lasts is updated in place: a version of a key is a run.
    """

    def __init__(self, recipe: str) -> None:
        """Write artifacts of this recipe, for the flow run of the current context."""
        self._recipe = recipe
        context = FlowRunContext.get()
        self._flow_run = context.flow_run.id if context and context.flow_run else None
        self._ids: dict[str, UUID] = {}

    def key(self, name: str) -> str:
        """Return the key of an artifact: lower-case letters, numbers and dashes only."""
        return re.sub(r"[^a-z0-9]+", "-", f"{self._recipe} {name}".lower()).strip("-")

    def put_markdown(self, name: str, text: str, description: str) -> None:
        """Create or update a page of Markdown."""
        self._put(name, MARKDOWN_TYPE, mask(text), description)

    def put_table(self, name: str, rows: list[dict[str, Any]], description: str) -> None:
        """Create or update a table; every row has the same keys, which are the columns."""
        self._put(name, "table", json.dumps(mask(rows)), description)

    def put_image(self, name: str, url: str, description: str) -> None:
        """Create or update an image."""
        self._put(name, "image", url, description)

    def put_link(self, name: str, url: str, description: str) -> None:
        """Create or update a link."""
        self._put(name, LINK_TYPE, f"[{mask(url)}]({mask(url)})", description)

    def put_progress(self, name: str, percent: float, description: str) -> None:
        """Create or update a progress bar."""
        self._put(name, "progress", min(max(percent, 0.0), 100.0), description)

    def delete(self, name: str) -> None:
        """Delete an artifact of this run, if it was created."""
        if artifact := self._ids.pop(name, None):
            get_client(sync_client=True).delete_artifact(artifact)

    def delete_earlier(self, name: str) -> None:
        """Delete what earlier runs of the recipe have written under this name."""
        client = get_client(sync_client=True)
        same_key = ArtifactFilter(key=ArtifactFilterKey(any_=[self.key(name)]))
        for artifact in client.read_artifacts(artifact_filter=same_key, limit=MAX_EARLIER):
            if artifact.id != self._ids.get(name):
                client.delete_artifact(artifact.id)

    def _put(self, name: str, kind: str, data: str | float, description: str) -> None:
        client = get_client(sync_client=True)
        text = mask(description)
        if name in self._ids:
            client.update_artifact(self._ids[name], ArtifactUpdate(data=data, description=text))
            return
        artifact = ArtifactCreate(
            key=self.key(name),
            type=kind,
            data=data,
            description=text,
            flow_run_id=self._flow_run,
        )
        self._ids[name] = client.create_artifact(artifact).id

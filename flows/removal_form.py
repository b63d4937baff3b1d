"""A removal as a parameter of the flow ``remove``: a form in Prefect's UI."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from infra.config import ConfigModel
from infra.removals.match import Removal, parse_removal


class RemovalForm(ConfigModel):
    """Documents to remove from a recipe permanently."""

    kind: Literal["url", "domain", "license", "id"] = Field(
        description="what the value is; a domain includes its subdomains"
    )
    value: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="a URL, a domain, a license as in the documents' license column, or a document's id"
    )

    def parse(self) -> Removal:
        """Return the normalized removal. Raises ``InvalidRemovalError``."""
        return parse_removal(self.kind, self.value)

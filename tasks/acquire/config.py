"""The recipe's `sources` section: one class per kind of source, distinguished by `kind`."""

from typing import Annotated

from pydantic import Field

from infra.form_schema import ConditionalForm
from tasks.acquire.books.books import BooksSource
from tasks.acquire.documents import DocumentsSource
from tasks.acquire.warc import WarcSource
from tasks.acquire.web.config import WebSource

# One entry of the recipe's `sources`.
AnySource = Annotated[
    WebSource | WarcSource | BooksSource | DocumentsSource,
    Field(discriminator="kind"),
    ConditionalForm("kind"),
]

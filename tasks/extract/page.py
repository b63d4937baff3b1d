"""Extraction of one page: bytes in, a document's fields out. Runs in a process that can be killed."""

import re
from dataclasses import dataclass, replace
from typing import Any

from infra.formats.characters import clean_markup, is_blank, remove_control_characters
from infra.formats.charset import decode_page
from infra.formats.media_type import media_type
from tasks.extract.furniture import remove_furniture
from tasks.extract.markup import simplify
from tasks.extract.metadata import Metadata, license_name, normalize_language_tag, read_metadata

_RESOURCE_LIMIT = 114  # lxml.etree.ErrorTypes.ERR_RESOURCE_LIMIT
_PLAIN_TEXT = "text/plain"
# lxml refuses a string that declares an encoding; it has been decoded already.
_XML_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")
_BLANK_LINES = re.compile(r"\n{3,}")


class PageError(Exception):
    """A page that cannot be extracted; `reason` is the failure's reason in the ledger."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class ExtractedPage:
    """The result of extracting a page."""

    text: str  # its main text; may be empty
    metadata: Metadata
    encoding: str
    num_replaced: int  # how many times invalid bytes became U+FFFD


@dataclass(frozen=True)
class ExtractRequest:
    """A page to be extracted, and what its HTTP headers state."""

    payload: bytes
    url: str
    content_type: str | None = None
    content_language: str | None = None
    license_hint: str | None = None  # the license that a Link header names


def extract_page(request: ExtractRequest, engine: str) -> ExtractedPage:
    """The document in a page, by ``trafilatura`` or ``resiliparse``.

    Raises:
        PageError: if the page exceeds the parser's limits: 256 nested elements (``too_deep``), or
            10 MB of text or attributes in one piece (``parser_limit``). The limits apply to both
            engines: one would lose the rest of the page, the other takes minutes.
    """
    decoded = decode_page(request.payload, request.content_type)
    metadata = Metadata()
    if media_type(request.content_type) == _PLAIN_TEXT:
        text = remove_control_characters(decoded.text)
    else:
        from lxml import html as lxml_html

        html = clean_markup(_XML_DECLARATION.sub("", decoded.text, count=1))
        root = _parse_html(html)
        text = ""
        if root is not None:
            if remove_furniture(root):
                html = lxml_html.tostring(root, encoding="unicode")
            metadata = read_metadata(root, request.url)
            text = (
                _extract_trafilatura(root)
                if engine == "trafilatura"
                else _extract_resiliparse(html)
            )
    if is_blank(text):
        text = ""
    link = request.license_hint
    metadata = replace(
        metadata,
        language=metadata.language or normalize_language_tag(request.content_language),
        license=metadata.license or (license_name(link) if link else None),
    )
    return ExtractedPage(text, metadata, decoded.encoding, decoded.num_replaced)


def _parse_html(html: str) -> Any:
    from lxml import etree
    from lxml import html as lxml_html

    parser = lxml_html.HTMLParser(
        encoding="utf-8", recover=True, no_network=True, remove_comments=True, remove_pis=True
    )
    try:
        root = etree.fromstring(html.encode("utf-8"), parser)
    except (etree.LxmlError, ValueError):
        root = None
    last = parser.error_log.last_error
    if last is not None and last.type == _RESOURCE_LIMIT:
        raise PageError("too_deep" if "depth" in last.message else "parser_limit", last.message)
    return root


def _extract_trafilatura(root: Any) -> str:
    import trafilatura

    simplify(root)
    # The parsed page rather than its source: it is not parsed twice, and a page that is only a
    # fragment is not rejected.
    # deduplicate=False: its cache lives as long as the process, so that a page's text would depend
    # on the pages before it.
    text = trafilatura.extract(
        root,
        fast=True,
        include_comments=False,
        include_tables=True,
        deduplicate=False,
        output_format="txt",
    )
    return text or ""


def _extract_resiliparse(html: str) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    text = extract_plain_text(
        html,
        main_content=True,
        alt_texts=False,
        links=False,
        form_fields=False,
        noscript=False,
        comments=False,
    )
    return _BLANK_LINES.sub("\n\n", text).strip()

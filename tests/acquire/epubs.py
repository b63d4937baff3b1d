"""EPUBs made for a test, part by part."""

import io
import zipfile
from collections.abc import Mapping, Sequence

CONTAINER = (
    '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
    '<rootfile full-path="OEBPS/content.opf" media-type="application/oebps-package+xml"/>'
    "</rootfiles></container>"
)
METADATA = (
    "<dc:title>The Whale</dc:title><dc:creator>Herman Melville</dc:creator>"
    '<dc:language>en</dc:language><dc:date opf:event="conversion">2020-01-01</dc:date>'
    '<dc:date opf:event="publication">1851-10-18</dc:date><dc:rights>Public domain</dc:rights>'
)


def page(body: str, head: str = "") -> str:
    """An XHTML document."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>t</title>{head}</head>'
        f"<body>{body}</body></html>"
    )


def ncx(*points: str) -> str:
    """An EPUB 2 table of contents."""
    return (
        '<ncx xmlns="http://www.daisy.org/z3986/2005/ncx/"><navMap>'
        + "".join(points)
        + "</navMap></ncx>"
    )


def point(title: str, target: str, *below: str) -> str:
    """An entry of an NCX."""
    return (
        f"<navPoint><navLabel><text>{title}</text></navLabel>"
        f'<content src="{target}"/>{"".join(below)}</navPoint>'
    )


def package(
    names: Sequence[str],
    *,
    version: str = "2.0",
    metadata: str = METADATA,
    items: str = "",
    guide: str = "",
    toc: str = "ncx",
) -> str:
    """A package file whose spine is the named documents."""
    manifest = "".join(
        f'<item id="i{n}" href="{name}" media-type="application/xhtml+xml"/>'
        for n, name in enumerate(names)
    )
    spine = "".join(f'<itemref idref="i{n}"/>' for n in range(len(names)))
    return (
        f'<package xmlns="http://www.idpf.org/2007/opf" version="{version}">'
        '<metadata xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'xmlns:opf="http://www.idpf.org/2007/opf">{metadata}</metadata>'
        '<manifest><item id="ncx" href="toc.ncx" media-type="application/x-dtbncx+xml"/>'
        f'{manifest}{items}</manifest><spine toc="{toc}">{spine}</spine>'
        f"<guide>{guide}</guide></package>"
    )


def pack(files: Mapping[str, str | bytes]) -> bytes:
    """A zip file with a container and these members below OEBPS/ (or META-INF/)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:

        def add(name: str, data: str | bytes) -> None:
            # A ZipInfo of its own has a fixed date: the same book has the same bytes at any time.
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)

        add("mimetype", "application/epub+zip")
        add("META-INF/container.xml", CONTAINER)
        for name, data in files.items():
            add(name if "/" in name else f"OEBPS/{name}", data)
    return out.getvalue()


def whale(**changed: str | bytes) -> bytes:
    """A small sound book of two chapters; members can be replaced (``ch1_xhtml=...``)."""
    files: dict[str, str | bytes] = {
        "content.opf": package(["ch1.xhtml", "ch2.xhtml"]),
        "toc.ncx": ncx(point("Loomings", "ch1.xhtml"), point("The Carpet-Bag", "ch2.xhtml")),
        "ch1.xhtml": page("<h2>Loomings</h2><p>Call me Ishmael.</p><p>Some years ago.</p>"),
        "ch2.xhtml": page("<h2>The Carpet-Bag</h2><p>I stuffed a shirt or two.</p>"),
    }
    files.update({name.replace("_", "."): data for name, data in changed.items()})
    return pack(files)

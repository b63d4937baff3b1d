"""Which packages the quickstart's input is taken from: one release, one file, one digest each."""

from dataclasses import dataclass
from pathlib import Path

from infra.download.pypi import fetch_archive


@dataclass(frozen=True)
class Pin:
    """One file of one release, and the license of what is taken from it."""

    name: str
    version: str
    filename: str
    sha256: str
    license: str

    def fetch(self) -> Path:
        """The archive in the cache."""
        return fetch_archive(self.name, self.version, self.filename, self.sha256)


@dataclass(frozen=True)
class SitePart:
    """A part of the site: the HTML files of one archive below one folder.

    Attributes:
        title: what the site's front page calls it.
        pin: where it comes from.
        archive_folder: the folder in the archive; its content becomes /`folder`/ of the site.
        folder: the part's address on the site.
        front_pages: pages that the site's front page links to.
    """

    title: str
    pin: Pin
    archive_folder: str
    folder: str
    front_pages: tuple[str, ...] = ("index.html",)


BEAUTIFUL_SOUP = Pin(
    "beautifulsoup4",
    "4.14.3",
    "beautifulsoup4-4.14.3.tar.gz",
    "6292b1c5186d356bba669ef9f7f051757099565ad9ada5dd630bd9de5fa7fb86",
    "MIT",
)
BROTLI = Pin(
    "brotli",
    "1.2.0",
    "brotli-1.2.0.tar.gz",
    "e310f77e41941c13340a95976fe66a8a95b01e783d430eeaf7a2f87e0a57dd0a",
    "public-domain",
)
GFLANGUAGES = Pin(
    "gflanguages",
    "0.7.11",
    "gflanguages-0.7.11.tar.gz",
    "165d1e2d7c1b0308b9fab248a966ef816405c71a41b79c1dd0a638bf15b4fce3",
    "Apache-2.0",
)
SENTENCEPIECE = Pin(
    "sentencepiece",
    "0.2.1",
    "sentencepiece-0.2.1.tar.gz",
    "8138cec27c2f2282f4a34d9a016e3374cd40e5c6e9cb335063db66a0a3b71fad",
    "public-domain",
)

SITE: tuple[SitePart, ...] = (
    SitePart(
        "SQLAlchemy, the database toolkit",
        Pin(
            "sqlalchemy",
            "2.0.49",
            "sqlalchemy-2.0.49.tar.gz",
            "d15950a57a210e36dd4cec1aac22787e2a4d57ba9318233e2ef8b2daf9ff2d5f",
            "MIT",
        ),
        "sqlalchemy-2.0.49/doc/",
        "sqlalchemy",
    ),
    SitePart(
        "Twisted, event-driven networking",
        Pin(
            "twisted",
            "12.3.0",
            "Twisted-12.3.0.tar.bz2",
            "d4d1afcfa7ca40a7da26832cba653851eb147a06bd3f7f6fae89af3d5cd295c6",
            "MIT",
        ),
        "Twisted-12.3.0/doc/",
        "twisted",
        (
            "core/howto/index.html",
            "web/howto/index.html",
            "core/development/policy/index.html",
            "conch/howto/index.html",
        ),
    ),
    SitePart(
        "lxml, XML and HTML for Python",
        Pin(
            "lxml",
            "6.1.0",
            "lxml-6.1.0.tar.gz",
            "bfd57d8008c4965709a919c3e9a98f76c2c7cb319086b3d26858250620023b13",
            "BSD-3-Clause",
        ),
        "lxml-6.1.0/doc/html/",
        "lxml",
    ),
    SitePart(
        "Roundup, an issue tracker",
        Pin(
            "roundup",
            "2.5.0",
            "roundup-2.5.0.tar.gz",
            "24d64b8e3cdc09bf4386a92ed06a22e78d5491865982592ce6a8529b90816c02",
            "MIT",
        ),
        "roundup-2.5.0/share/doc/roundup/html/",
        "roundup",
    ),
    SitePart(
        "pygame-ce, games in Python",
        Pin(
            "pygame-ce",
            "2.5.5",
            "pygame_ce-2.5.5-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
            "6d32e970b5f06a8710b098f178693456cc433170a7f94ef451e31d682d1a2f86",
            "LGPL-2.1-or-later",
        ),
        "pygame/docs/generated/",
        "pygame",
    ),
    SitePart(
        "Genshi, templates",
        Pin(
            "genshi",
            "0.7",
            "Genshi-0.7.zip",
            "7ccc17486722f60058566edf060fc8c6af0ac1559624d9f2c003825d7a14e78d",
            "BSD-3-Clause",
        ),
        "Genshi-0.7/doc/",
        "genshi",
        ("index.html", "api/module-tree.html"),
    ),
    SitePart(
        "Mako 1.3, templates",
        Pin(
            "mako",
            "1.3.10",
            "mako-1.3.10.tar.gz",
            "99579a6f39583fa7e5630a28c3c1f440e4e97a414b80372649c0ce338da2ea28",
            "MIT",
        ),
        "mako-1.3.10/doc/",
        "mako/1.3",
    ),
    SitePart(
        "Mako 1.2, the release before",
        Pin(
            "mako",
            "1.2.4",
            "Mako-1.2.4.tar.gz",
            "d60a3903dc3bb01a18ad6a89cdbe2e4eadc69c0bc8ef1e3773ba53d44c3f7a34",
            "MIT",
        ),
        "Mako-1.2.4/doc/",
        "mako/1.2",
    ),
    SitePart(
        "Beautiful Soup, in Japanese",
        BEAUTIFUL_SOUP,
        "beautifulsoup4-4.14.3/doc.jp/",
        "beautifulsoup/ja",
    ),
    SitePart(
        "Beautiful Soup, in Korean",
        BEAUTIFUL_SOUP,
        "beautifulsoup4-4.14.3/doc.ko/",
        "beautifulsoup/ko",
    ),
)

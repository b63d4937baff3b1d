"""URLs: their canonical form and their host."""

import codecs
import re
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

import idna

from infra.formats.web_encodings import encode_as_browser

# A longer URL is not followed: it is a crawler trap far more often than a page. RFC 9110 recommends
# at least 8,000 characters, the sitemap protocol allows 2,048.
MAX_URL_LENGTH = 2048

_DEFAULT_PORTS = {"http": 80, "https": 443}
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
# Characters that need no escape in a path and in a query: RFC 3986 pchar and "/", "?" in queries.
_PATH = _UNRESERVED | frozenset(b"!$&'()*+,;=:@/")
_QUERY = _PATH | frozenset(b"?")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
# Browsers remove these anywhere in a URL (WHATWG URL, 4.4).
_NEWLINES = str.maketrans("", "", "\t\n\r")
_CONTROLS = "".join(map(chr, range(33)))
_HOST = re.compile(r"[a-z0-9_.-]+")
_IPV6 = re.compile(r"[0-9a-f:.]+")


def _encode_reference(error: UnicodeError) -> tuple[bytes, int]:
    """Characters that a page's encoding lacks, as browsers send them: percent-encoded references."""
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(f"%26%23{ord(char)}%3B" for char in missing).encode(), error.end


_REFERENCES = "gristmill.url-references"
codecs.register_error(_REFERENCES, _encode_reference)


def _escape(text: str, allowed: frozenset[int], encoding: str = "utf-8") -> str:
    """Percent-encode the other bytes, decode needless escapes, write escapes in upper case."""
    if encoding == "utf-8":
        raw = text.encode("utf-8", "surrogatepass")
    else:
        raw = encode_as_browser(text, encoding, _REFERENCES)
    out = bytearray()
    at = 0
    while at < len(raw):
        byte = raw[at]
        if byte == 0x25 and _ESCAPE.match(raw, at):
            value = int(raw[at + 1 : at + 3], 16)
            out += bytes([value]) if value in _UNRESERVED else b"%%%02X" % value
            at += 3
            continue
        out += bytes([byte]) if byte in allowed else b"%%%02X" % byte
        at += 1
    return out.decode("ascii")


def _remove_dot_segments(path: str) -> str:
    """Remove the dot segments of a path (RFC 3986, 5.2.4)."""
    out: list[str] = []
    segments = path.split("/")[1:]
    for segment in segments:
        if segment == "..":
            if out:
                out.pop()
        elif segment != ".":
            out.append(segment)
    if segments and segments[-1] in (".", ".."):
        out.append("")
    return "/" + "/".join(out)


def normalize_host(name: str) -> str | None:
    """A host's name in lower case, without a root dot, internationalized names in their ASCII form.

    ``None`` if it is not a host name; an IPv6 address is returned in brackets.
    """
    name = name.lower().removesuffix(".")
    if ":" in name:
        return f"[{name}]" if _IPV6.fullmatch(name) else None
    if "%" in name or not name.isascii():
        try:
            # UTS 46, non-transitional, as browsers have it: no letter becomes two others.
            name = idna.uts46_remap(unquote(name, errors="strict"), std3_rules=False)
            labels = name.removesuffix(".").split(".")
            name = ".".join(
                label if label.isascii() else f"xn--{label.encode('punycode').decode()}"
                for label in labels
            )
        except UnicodeError:  # idna.IDNAError is one
            return None
    return name if _HOST.fullmatch(name) else None


def redirect_target(location: str, base: str) -> str | None:
    """The canonical URL that a Location header names, ``None`` if that is not a web URL.

    Args:
        location: the header; its characters stand for bytes (Latin-1). Bytes that are UTF-8 are read
            as such, others are percent-encoded as they are.
        base: the canonical URL that redirects.
    """
    raw = location.encode("latin-1", "replace")
    try:
        location = raw.decode()
    except UnicodeDecodeError:
        location = "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw)
    return canonicalize_url(location, base)


def canonicalize_url(url: str, base: str | None = None, encoding: str = "utf-8") -> str | None:
    """The canonical form of a URL.

    Scheme and host in lower case, default port, fragment and dot segments removed, an empty path
    written as "/", percent-encoding normalized (RFC 3986, 6.2.2). The order of query parameters
    stays: it can carry meaning. The function is idempotent.

    Args:
        url: the URL; a relative one needs `base`.
        base: a canonical URL that `url` is relative to.
        encoding: codec of the page that the URL is on: its query is percent-encoded in it (WHATWG URL).

    Returns:
        The canonical URL, or ``None`` if it is not an http or https URL that can be fetched (another scheme, no or a bad host, credentials in it, too long).
    """
    url = url.strip(_CONTROLS).translate(_NEWLINES)
    front, mark, query = url.partition("?")
    url = front.replace("\\", "/") + mark + query
    try:
        if base is not None:
            url = urljoin(base, url)
        parts = urlsplit(url)
        port = parts.port
        scheme = parts.scheme.lower()
        host = normalize_host(parts.hostname or "")
    except ValueError:
        return None
    if scheme not in _DEFAULT_PORTS or host is None or "@" in parts.netloc:
        return None
    netloc = host if port in (None, _DEFAULT_PORTS[scheme]) else f"{host}:{port}"
    path = _remove_dot_segments(_escape(parts.path or "/", _PATH))
    canonical = urlunsplit((scheme, netloc, path, _escape(parts.query, _QUERY, encoding), ""))
    return canonical if len(canonical) <= MAX_URL_LENGTH else None


def url_host(url: str) -> str | None:
    """The host of a URL in the form of `normalize_host`, even if the URL has no canonical form.

    A URL that is too long, contains a password, is of FTP, or has no scheme (``//host``) has none.
    """
    try:
        name = urlsplit(canonicalize_url(url) or url.strip()).hostname
    except ValueError:
        return None
    return normalize_host(name) if name else None

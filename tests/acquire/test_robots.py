"""RFC 9309: what an answer to /robots.txt allows."""

import pytest

from tasks.acquire.web.robots import MAX_ROBOTS_BYTES, parse_rules, product_token

AGENT = "gristmill/0.1 (+https://example.org)"


def allows(body: str, path: str, status: int | None = 200) -> bool:
    return parse_rules(status, body.encode(), AGENT).can_fetch(f"http://h{path}")


def test_the_product_token() -> None:
    assert product_token(AGENT) == "gristmill"
    assert product_token("My-Bot (x)") == "my-bot"


@pytest.mark.parametrize(
    ("status", "allowed"),
    [(None, False), (500, False), (503, False), (404, True), (403, True), (429, True), (301, True)],
)
def test_no_rules(status: int | None, allowed: bool) -> None:
    assert allows("User-agent: *\nDisallow: /", "/x", status) is allowed


@pytest.mark.parametrize(
    ("body", "path", "allowed"),
    [
        ("", "/x", True),
        ("User-agent: *\nDisallow: /x", "/x/y", False),
        ("User-agent: *\nDisallow: /x", "/y", True),
        ("User-agent: *\nDisallow:", "/x", True),
        # The longest match wins (2.2.2).
        ("User-agent: *\nDisallow: /x\nAllow: /x/y", "/x/y/z", True),
        ("User-agent: *\nAllow: /x\nDisallow: /x/y", "/x/y/z", False),
        # Our own group, in any case, and no other group with it (2.2.1).
        ("User-agent: *\nDisallow: /\n\nUser-agent: GristMill\nDisallow: /x", "/y", True),
        ("User-agent: otherbot\nDisallow: /", "/x", True),
        # Special characters (2.2.3).
        ("User-agent: *\nDisallow: /*.gif$", "/a.gif", False),
        ("User-agent: *\nDisallow: /*.gif$", "/a.gif?x", True),
        ("\ufeffUser-agent: *\r\nDisallow: /x # why", "/x", False),
    ],
)
def test_rules(body: str, path: str, allowed: bool) -> None:
    assert allows(body, path) is allowed


def test_bytes_beyond_the_limit_are_ignored() -> None:
    body = "User-agent: *\n" + "# filler\n" * (MAX_ROBOTS_BYTES // 9) + "Disallow: /x"
    assert allows(body, "/x")


@pytest.mark.parametrize(
    ("line", "seconds"),
    [("Crawl-delay: 2.5", 2.5), ("Crawl-delay: -1", 0), ("Crawl-delay: soon", 0), ("", 0)],
)
def test_crawl_delay(line: str, seconds: float) -> None:
    assert (
        parse_rules(200, f"User-agent: *\nDisallow: /x\n{line}".encode(), AGENT).crawl_delay
        == seconds
    )


def test_invalid_bytes_are_replaced() -> None:
    rules = parse_rules(200, b"\xff\xfe\nUser-agent: *\nDisallow: /x\n", AGENT)
    assert not rules.can_fetch("http://h/x")


@pytest.mark.parametrize(
    "agent", ["gristmill/0.1", "Gristmill/0.1 (+https://example.org)", "gristmill / 2", "gristmill"]
)
def test_a_group_may_name_a_version(agent: str) -> None:
    body = f"User-agent: other/1\nUser-Agent : {agent} # ours\nDisallow: /x\n\nUser-agent: *\nDisallow:\n"
    assert not allows(body, "/x")
    assert allows(body, "/y")


@pytest.mark.parametrize("agent", ["gristmill-news", "gristmillx/0.1", "my/gristmill"])
def test_a_group_of_another_crawler_is_not_ours(agent: str) -> None:
    assert allows(f"User-agent: {agent}\nDisallow: /\n", "/x")

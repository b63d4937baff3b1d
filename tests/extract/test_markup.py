"""Markup that an extractor reads without losing text."""

import pytest
from lxml import html

from tasks.extract.markup import simplify
from tasks.extract.page import ExtractRequest, extract_page

A, B, C = (
    f"The {name} stood by the river for two hundred years, and all in the valley knew its stones."
    for name in ("mill", "bridge", "church")
)


def extract(body: str) -> list[str]:
    """The lines of an article with this in it."""
    page = f"<html><body><article><p>{A * 2}</p>{body}<p>{A * 2}</p></article></body></html>"
    text = extract_page(ExtractRequest(page.encode(), "https://h.example/a"), "trafilatura").text
    lines = [line.strip() for line in text.split("\n")]
    assert lines[0] == lines[-1] == A * 2
    return lines[1:-1]


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        # A quotation is part of its sentence.
        (
            "<p>He said <q>hello</q> and <q><b>left</b></q>.</p>",
            ["He said \u201chello\u201d and \u201cleft\u201d."],
        ),
        # A block's own text is not joined with that of a block inside.
        (
            f"<div><div>{B}</div><div>{C}<div>{B}</div>tail of it</div></div>",
            [B, C, B, "tail of it"],
        ),
        (f"<center><font size=2>{B}</font><p>{C}</p></center>", [B, C]),
        (f"<div><span><div>{B}</div><div>{C}</div></span><p>{B}</p></div>", [B, C, B]),
        # Tables that only place text are no tables.
        (f"<table><tr><td>{B}<br><br>{C}</td></tr></table>", [B, C]),
        (f"<table><tr><td><table><tr><td>{B}</td></tr></table></td></tr></table>", [B]),
        (
            (
                f"<table><tr><td><a href=/a>Home</a></td><td><p>{B}</p><ul><li>White</li><li>Brown</li></ul>"
                f"<p>{C * 2}</p></td></tr></table>"
            ),
            [B, "- White", "- Brown", C * 2],
        ),
        (
            "<table><tr><td class=gutter><pre>1\n2</pre></td><td><pre>if a:\n    b = 2</pre></td></tr></table>",
            ["if a:", "b = 2"],
        ),
        (
            "<table role=presentation><tr><td>One</td><td>Two</td></tr></table>",
            ["One", "Two"],
        ),
        # Others are, and lists in their cells are values.
        (
            (
                "<table><tr><th>Born</th><td><ul><li>Anna</li><li>Bob</li></ul></td></tr>"
                "<tr><th>Place</th><td><dl><dt>At</dt><dd>the mill</dd></dl></td></tr></table>"
            ),
            ["| Born | Anna, Bob |", "|---|---|", "| Place | At: the mill |"],
        ),
        # MediaWiki hides the MathML behind a picture.
        (
            (
                "<p>So <span><span style='display: none'><math alttext='{\\displaystyle E=mc^{2}}'><mi>E</mi></math>"
                "</span><img src=e.svg></span> holds.</p>"
            ),
            ["So \\(E=mc^{2}\\) holds."],
        ),
        (f"<p>{B}</p><template><p>{C}</p></template>", [B]),
    ],
)
def test_no_text_is_lost_or_joined(body: str, lines: list[str]) -> None:
    assert extract(body) == lines


def test_every_word_of_a_page_stays_in_it() -> None:
    body = "x<b>a</b><table><tr><td>b<ul><li>c</li></ul></td><td>d</td></tr><caption>e</caption></table>f"
    root = html.document_fromstring(
        f"<div>{body}<center>g<div>h</div><i>i</i></center>j<q>k</q></div>"
    )
    before = sorted(filter(str.isalnum, root.text_content()))
    simplify(root)
    assert sorted(filter(str.isalnum, root.text_content())) == before

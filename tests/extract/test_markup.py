"""Markup that an extractor reads without losing text."""

import time

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
        (
            (
                "<table><tr><th>Born</th><td><style>"
                + ".plainlist ol,.plainlist ul{line-height:inherit;list-style:none;margin:0;padding:0}"
                * 4
                + "</style><ul><li>Anna</li><li>Bob</li></ul></td></tr><tr><th>Place</th><td>Mill</td></tr></table>"
            ),
            ["| Born | Anna, Bob |", "|---|---|", "| Place | Mill |"],
        ),
        (
            (
                "<table><tr><th>Tongues</th><td>These<ul><li>C</li><li>D</li></ul>and more</td></tr>"
                "<tr><th>Place</th><td>Mill</td></tr></table>"
            ),
            ["| Tongues | These C, D and more |", "|---|---|", "| Place | Mill |"],
        ),
        # Readings, pictures and fields stand in a sentence.
        (
            "<div>\u5f7c\u306f<ruby>\u6f22\u5b57<rt>\u304b\u3093\u3058</rt></ruby>\u3092\u8aad\u3080\u3002<br>"
            + B
            + "<div>"
            + C
            + "</div></div>",
            ["\u5f7c\u306f\u6f22\u5b57\u3092\u8aad\u3080\u3002", B, C],
        ),
        (
            f"<div>See <svg><path d='M0 0'></path></svg> the docs of it, all of them.<div>{B}</div></div>",
            ["See the docs of it, all of them.", B],
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


def test_a_table_of_many_cells_that_places_text_takes_no_time_for_each_pair_of_them() -> None:
    rows = "<tr><td>a</td><td><pre>b</pre></td></tr>" * 5000
    start = time.process_time()
    simplify(html.document_fromstring(f"<table>{rows}</table>"))
    assert time.process_time() - start < 5

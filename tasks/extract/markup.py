"""Markup as trafilatura reads it without losing text.

It makes one line of a table that only places text on the page, and loses lists in cells; it breaks the
line at a quotation inside a sentence, joins the words of a block's own text with those of a block inside,
and leaves out formulas that stand hidden behind their picture.
"""

import re
from typing import Any

# What stands in a line of text; everything else ends it.
_INLINE_TAGS = frozenset(
    "a abbr acronym b bdi bdo big br button cite code data del dfn em font i img input ins kbd label mark math"
    " nobr picture q rb rp rt rtc ruby s samp small span strike strong sub sup svg time tt u var wbr".split()
)
_NO_TEXT_TAGS = ("script", "style", "template")
_LIST_TAGS = ("dd", "dl", "dt", "li", "ol", "ul")
_TABLE_TAGS = ("caption", "tbody", "td", "tfoot", "th", "thead", "tr")
_HIDDEN = re.compile(r"display\s*:\s*none")
# Cells of tables that place code beside its line numbers.
_LINE_NUMBER_CLASSES = frozenset("gutter linenos lineno line-numbers blob-num".split())
# A cell with blocks and more characters than this is a place on the page, not a value.
_MAX_VALUE_CHARS = 200
_STRIPPED = "inline"  # a tag that is taken away, its text left


def simplify(root: Any) -> None:
    """Simplify a parsed page in place; of its text only line numbers and what is in templates is lost."""
    from lxml import etree

    etree.strip_elements(root, *_NO_TEXT_TAGS, with_tail=False)
    for math in list(root.iter("math")):
        _show_formula(math)
    for table in list(root.iter("table")):
        _simplify_table(table)
    for quotation in list(root.iter("q")):
        _quote(quotation)
    etree.strip_tags(root, _STRIPPED)
    for block in list(root.iter("article", "center", "div", "main", "section")):
        if not all(map(_is_inline, block)):
            _wrap_text(block)


def _is_inline(element: Any) -> bool:
    """Whether an element stands in a line; what is inside of pictures and formulas does not count."""
    if element.tag in ("math", "svg"):
        return True
    return element.tag in _INLINE_TAGS and all(map(_is_inline, element))


def _quote(element: Any) -> None:
    """Write the quotation marks that browsers show."""
    element.text = f"\u201c{element.text or ''}"
    if len(element):
        element[-1].tail = f"{element[-1].tail or ''}\u201d"
    else:
        element.text += "\u201d"
    element.tag = _STRIPPED


def _show_formula(math: Any) -> None:
    """A formula whose MathML is hidden, as MediaWiki's are, as the TeX that it states."""
    hidden = [e for e in math.iterancestors("span") if _HIDDEN.search(e.get("style", ""))]
    text = math.get("alttext", "").strip()
    if text.startswith("{\\displaystyle") and text.endswith("}"):
        text = text[len("{\\displaystyle") : -1].strip()
    if not hidden or not text:
        return
    for element in hidden:
        del element.attrib["style"]
    for child in list(math):
        math.remove(child)
    math.text, math.tag = f"\\({text}\\)", _STRIPPED


def _simplify_table(table: Any) -> None:
    """Make blocks of a table that places text; in others, make values of the lists in cells."""
    own = [e for e in table.iter(*_TABLE_TAGS) if next(e.iterancestors("table"), None) is table]
    cells = [element for element in own if element.tag in ("td", "th")]
    for cell in cells:
        is_gutter = not _LINE_NUMBER_CLASSES.isdisjoint(cell.get("class", "").split())
        if is_gutter and not re.search(r"[^\d\s]", "".join(cell.itertext())):
            cell.clear(keep_tail=True)
    is_layout = len(cells) <= 1 or table.get("role") in ("presentation", "none")
    if is_layout or any(map(_is_place, cells)):
        for element in own:
            is_text = element.tag in ("td", "th") and all(map(_is_inline, element))
            element.tag = "p" if is_text or element.tag == "caption" else "div"
        table.tag = "div"
        return
    for element in [e for cell in cells for e in cell.iter(*_LIST_TAGS)]:
        if element.tag in ("li", "dd", "dt") and element.getnext() is not None:
            element.tail = f"{':' if element.tag == 'dt' else ','} {element.tail or ''}"
        elif element.tag in ("ul", "ol", "dl"):
            element.text, element.tail = f" {element.text or ''}", f" {element.tail or ''}"
        element.tag = _STRIPPED


def _is_place(cell: Any) -> bool:
    """Whether a cell holds a table, code or long text with blocks."""
    if next(cell.iter("table", "pre"), None) is not None:
        return True
    has_blocks = not all(map(_is_inline, cell))
    return has_blocks and sum(map(len, cell.itertext())) > _MAX_VALUE_CHARS


def _wrap_text(block: Any) -> None:
    """Put a block's own text, beside blocks inside, into paragraphs."""
    run = block.makeelement("p")
    run.text, block.text = block.text, None
    parts = [run]
    for child in list(block):
        if _is_inline(child):
            run.append(child)
            continue
        run = block.makeelement("p")
        run.text, child.tail = child.tail, None
        parts += [child, run]
    block[:] = [part for part in parts if part.tag != "p" or len(part) or (part.text or "").strip()]

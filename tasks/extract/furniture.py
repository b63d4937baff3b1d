"""Parts of pages that are no text: links of headings to themselves, links to sources, edit links."""

from typing import Any

# What Sphinx, MkDocs, Docusaurus, VitePress, AnchorJS and GitHub call the link of a heading to itself.
_PERMALINK_CLASSES = frozenset(
    "headerlink hash-link header-anchor heading-anchor heading-link anchorjs-link permalink "
    "anchor-link anchor octicon-link".split()
)
_PERMALINK_WORDS = ("permalink", "link to", "direct link", "copy link", "anchor")
# Sphinx's links between code and its documentation, MediaWiki's "[edit]", buttons that copy code.
_FURNITURE_CLASSES = frozenset(
    "viewcode-link viewcode-back mw-editsection copybtn copy-button clipboard-copy".split()
)
# A link with more characters is not a mark such as the pilcrow or section sign, "#" or a chain.
_MAX_MARK_CHARS = 4


def remove_furniture(root: Any) -> bool:
    """Remove these parts from a parsed page; return whether there were any."""
    removed = [
        element
        for element in root.iter("a", "span", "button", "div")
        if not _FURNITURE_CLASSES.isdisjoint(element.get("class", "").split())
        or (element.tag == "a" and _is_permalink(element))
    ]
    for element in removed:
        if element.getparent() is not None:
            element.drop_tree()
    return bool(removed)


def _is_permalink(link: Any) -> bool:
    """Whether a link into a page has a mark in place of words."""
    has_class = not _PERMALINK_CLASSES.isdisjoint(link.get("class", "").split())
    href = link.get("href", "").strip()
    if not (href.startswith("#") or (has_class and "#" in href)):
        return False
    text = "".join(link.itertext()).strip()
    if not any(char.isalnum() for char in text):
        return len(text) <= _MAX_MARK_CHARS
    return has_class and text.lower().startswith(_PERMALINK_WORDS)

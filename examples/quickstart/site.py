"""The site: the pages of the packages, a front page that links them, and a robots.txt."""

from html import escape
from pathlib import Path

from examples.quickstart.pins import SITE, SitePart
from infra.download.pypi import iter_archive

# A list of every change of every release: long, repetitive, and what a site's owner may well not
# want crawled. It shows that the crawler obeys.
ROBOTS = """\
User-agent: *
Disallow: /sqlalchemy/changelog/
"""


def build_site(folder: Path) -> int:
    """Write the site into a new folder.

    Returns:
        How many pages it has, the front page among them.
    """
    count = 0
    for part in SITE:
        count += _unpack(part, folder)
    (folder / "robots.txt").write_text(ROBOTS, encoding="utf-8")
    (folder / "index.html").write_text(_front_page(), encoding="utf-8")
    return count + 1


def _unpack(part: SitePart, folder: Path) -> int:
    base = folder / part.folder
    count = 0
    for name, content in iter_archive(part.pin.fetch()):
        path = name.removeprefix(part.archive_folder)
        if path == name or not path.endswith(".html") or ".." in Path(path).parts:
            continue
        target = base / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        count += 1
    return count


def _front_page() -> str:
    entries = "\n".join(
        f"<li>{escape(part.title)}: "
        + ", ".join(
            f'<a href="{part.folder}/{page}">{escape(page.removesuffix("/index.html"))}</a>'
            for page in part.front_pages
        )
        + "</li>"
        for part in SITE
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Documentation of free software</title></head>
<body>
<h1>Documentation of free software</h1>
<p>Pages as their projects built and published them, each under its project's licence.</p>
<ul>
{entries}
</ul>
</body>
</html>
"""

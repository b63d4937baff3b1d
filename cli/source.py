"""``gristmill source``: the training documents that a text's words come from."""

from typing import TYPE_CHECKING, TextIO

import click

from cli.common import handle_errors, json_option, print_json
from infra.errors import UserError

if TYPE_CHECKING:
    from views.source.passages import Passage
    from views.source.sources import TextSources

MAX_STEPS_SHOWN = 6  # without --json
MAX_CHARS_SHOWN = 160


@click.command()
@click.argument("text", required=False)
@click.option("--file", "path", type=click.File(encoding="utf-8"), help="read the text from a file")
@click.option("--storage", default="./data", show_default=True, help="root of the store")
@click.option("--recipe", metavar="NAME", help="only the latest run of this recipe")
@click.option(
    "--min-tokens",
    type=click.IntRange(min=1),
    default=8,
    show_default=True,
    help="leave out shorter runs",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="documents shown of each passage",
)
@json_option
@handle_errors
def source(
    text: str | None,
    path: TextIO | None,
    storage: str,
    recipe: str | None,
    min_tokens: int,
    limit: int,
    as_json: bool,
) -> None:
    """Show which training documents hold runs of TEXT word for word.

    For each of these its documents, with URL and license, and the steps that trained on it.
    """
    from flows.steps import STEPS
    from infra.store.storage import Storage
    from views.source.sources import find_sources

    if (text is None) == (path is None):
        raise UserError("one of TEXT and --file is expected")
    try:
        query = text if text is not None else path.read()  # type: ignore[union-attr]
    except UnicodeDecodeError as error:
        raise UserError(f"--file: not UTF-8 ({error})") from None
    found = find_sources(Storage(storage), query, STEPS, recipe, min_tokens, limit)
    if as_json:
        print_json({"text": query, "runs": [item.to_json() for item in found]})
        return
    for item in found:
        for line in _format(item):
            click.echo(line)


def _format(found: "TextSources") -> list[str]:
    title = f"{found.recipe}, run {found.run}"
    if not found.passages:
        missing = f"no run of {found.min_tokens} tokens of this text is in the training data"
        return [f"{title}: {missing}; the longest one has {found.longest}"]
    return [title, *(line for passage in found.passages for line in _format_passage(passage))]


def _format_passage(passage: "Passage") -> list[str]:
    from views.documents.texts import sanitize_line

    text = sanitize_line(passage.text)
    if len(text) > MAX_CHARS_SHOWN:
        text = f"{text[:MAX_CHARS_SHOWN]}…"
    times = "once" if passage.count == 1 else f"{passage.count:,} times"
    lines = [f"“{text}”", f"  {passage.num_tokens} tokens, {times}"]
    for place in passage.places:
        license_ = f", {place.license}" if place.license else ""
        where = f"{place.url or place.id}  source {place.source}{license_}, token {place.offset}"
        lines.append(f"  {sanitize_line(where)}")
        for model, steps in place.steps.items():
            at = " ".join(map(str, steps[:MAX_STEPS_SHOWN])) or "none"
            more = " …" if len(steps) > MAX_STEPS_SHOWN else ""
            lines.append(f"    {model}: steps {at}{more}")
    if passage.count > len(passage.places):
        lines.append(f"  {passage.count - len(passage.places):,} more: --limit, or --json")
    return lines

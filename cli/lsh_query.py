"""``gristmill lsh-query``: look a document up in an LSH index."""

import click

from cli.common import handle_errors, json_option, print_json
from infra.errors import UserError


@click.command()
@click.argument("index", metavar="FILE")
@click.argument("document", required=False)
@click.option("--text", help="the text itself, instead of DOCUMENT")
@click.option("--language", help="its language, if dedup.languages has settings for it")
@click.option(
    "--limit",
    default=10,
    show_default=True,
    type=click.IntRange(min=1),
    help="number of documents shown",
)
@json_option
@handle_errors
def lsh_query(
    index: str,
    document: str | None,
    text: str | None,
    language: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """Find documents of an index FILE that resemble DOCUMENT, a text file or its URL.

    Lists documents that share an LSH band with it, with the estimated Jaccard similarity.
    """
    if (document is None) == (text is None):
        raise UserError("give either DOCUMENT or --text")
    from tasks.dedup.lsh_index import LshIndex

    opened = LshIndex.read(index)
    matches = opened.query(_read_text(document) if document else text or "", language)
    threshold = opened.config.threshold
    if as_json:
        values = [
            {**vars(match), "near_duplicate": match.similarity >= threshold}
            for match in matches[:limit]
        ]
        print_json({"matches": values, "total": len(matches), "threshold": threshold})
        return
    if not matches:
        click.echo(f"no match among {len(opened.signatures):,} documents")
    for match in matches[:limit]:
        note = "near-duplicate" if match.similarity >= threshold else "below the threshold"
        click.echo(f"{match.similarity:.3f}  {note:<20} {match.id}  {match.url or match.source}")
    if len(matches) > limit:
        click.echo(f"{len(matches) - limit:,} more: --limit shows them")


def _read_text(url: str) -> str:
    from infra.store.external_files import open_url

    try:
        with open_url(url) as file:
            return file.read().decode()
    except FileNotFoundError:
        raise UserError(f"{url}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{url}: cannot be read as UTF-8 text ({error})") from None

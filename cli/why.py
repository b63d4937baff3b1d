"""``gristmill why``."""

import click

from cli.common import handle_errors, json_option, print_json


@click.command()
@click.argument("url_or_id")
@click.option("--storage", default="./data", show_default=True, help="root of the store")
@json_option
@handle_errors
def why(url_or_id: str, storage: str, as_json: bool) -> None:
    """Show a document's history: fetched, each stage's verdict, tokens, models trained on it."""
    from flows.steps import STEPS
    from infra.store.storage import Storage
    from views.history.document_history import document_history

    history = document_history(Storage(storage), url_or_id, STEPS)
    if as_json:
        print_json(history.to_json())
    else:
        click.echo(history.to_text())

"""``gristmill release``."""

from typing import TYPE_CHECKING

import click

from cli.common import print_json, print_message, recipe_command
from cli.interrupts import clean_up_on_interrupt

if TYPE_CHECKING:
    from flows.recipe import Recipe
    from infra.store.storage import Storage


@recipe_command
@click.argument("version", metavar="VERSION")
@click.option("--to", "target", required=True, metavar="FOLDER", help="a new folder, or s3://...")
@click.option(
    "--sign-key",
    metavar="FILE",
    help="private Ed25519 key in PEM that signs the digests  [default: the text in GRISTMILL_SIGNING_KEY]",
)
def release(
    recipe: "Recipe",
    store: "Storage",
    version: str,
    target: str,
    sign_key: str | None,
    as_json: bool,
) -> None:
    """Write a registered model as a folder: weights, tokenizer, card, bill of materials, digests.

    VERSION is a number, an alias (champion), MODEL@ALIAS, or MODEL for its champion.
    """
    from flows.steps import STEPS
    from views.models.versions import resolve_version
    from views.publish.card import Prices
    from views.publish.folder import publish
    from views.publish.signature import load_signer

    found = resolve_version(store, recipe.name, version)
    signer = load_signer(sign_key)
    prices = Prices()
    if recipe.release is not None:
        prices = Prices(recipe.release.carbon_g_per_kwh, recipe.release.price_per_kwh)
    with clean_up_on_interrupt():
        published = publish(store, found, target, STEPS, signer=signer, prices=prices)
    if signer is None:
        print_message(
            f"{target} is not signed: give --sign-key, or set GRISTMILL_SIGNING_KEY", "warning"
        )
    if found.failed_gates:
        print_message(f"version {found.number} fails its gates; its card says so", "warning")
    if as_json:
        print_json(
            {
                "recipe": recipe.name,
                "version": found.number,
                "folder": target,
                "files": published.files,
                "signed_by": published.signed_by,
            }
        )
    else:
        click.echo(target)

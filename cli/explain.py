"""``gristmill explain``."""

from typing import TYPE_CHECKING

import click

from cli.common import handle_errors, json_option, print_json
from cli.interrupts import clean_up_on_interrupt

if TYPE_CHECKING:
    from infra.store.storage import Storage


@click.command
@click.argument("model", metavar="MODEL")
@click.option(
    "--text", "texts", multiple=True, required=True, help="a text; may be given several times"
)
@click.option("--target", help="the label to explain; default: the one that the model assigns")
@click.option(
    "--max-new-tokens",
    default=8,
    show_default=True,
    type=click.IntRange(1),
    help="tokens to write, for a model that continues text; each is explained",
)
@click.option(
    "--max-steps",
    default=1000,
    show_default=True,
    type=click.IntRange(8),
    help="points at which gradients are taken for a score, at most",
)
@click.option(
    "--output",
    default="explanation.html",
    show_default=True,
    type=click.Path(dir_okay=False),
    help="the page",
)
@json_option
@handle_errors
def explain(
    model: str,
    texts: tuple[str, ...],
    target: str | None,
    max_new_tokens: int,
    max_steps: int,
    output: str,
    as_json: bool,
) -> None:
    """Show what a released model looks at in a text: attributions, attention, embeddings.

    MODEL is the folder of a release, a path or a URL, or RECIPE:NAME: a model of the recipe's latest run.
    """
    from pathlib import Path

    from lm.interpret.explain import explain as explain_texts
    from views.explain.page import render_page
    from views.explain.released import open_released

    folder = _find_folder(model)
    with clean_up_on_interrupt(), open_released(folder) as released:
        explanation = explain_texts(
            released,
            model,
            texts,
            target=target,
            max_new_tokens=max_new_tokens,
            max_steps=max_steps,
        )
    Path(output).write_text(render_page(explanation), encoding="utf-8")
    if as_json:
        print_json({**explanation.to_json(), "page": output})
        return
    for text in explanation.texts:
        click.echo(text.text)
        for scored in text.attributions:
            click.echo(f"  {scored.target}  probability {scored.probability:.3f}")
            ranked = sorted(
                zip(scored.scores, text.tokens, strict=False), key=lambda item: -abs(item[0])
            )
            for score, token in ranked[:10]:
                click.echo(f"    {score:+8.3f}  {token!r}")
    click.echo(f"page: {output}")


def _find_folder(model: str) -> "Storage":
    """Return the folder of a release: the model's own, or that of a recipe's model."""
    from infra.errors import UserError
    from infra.store.storage import Storage

    path, _, name = model.rpartition(":")
    if not path.endswith((".yaml", ".yml")):
        return Storage(model)
    from flows.recipe_loader import load_recipe
    from infra.runs.run_records import latest_results

    recipe = load_recipe(path, (), None)
    store = Storage(recipe.storage)
    record = latest_results(store, recipe.name)
    releases = {item.name: item.release for item in record.models}
    releases |= {item.name: item.release for item in record.finetuned}
    release = releases.get(name)
    if release is None:
        known = ", ".join(key for key, value in releases.items() if value) or "none"
        raise UserError(f"{path}: the latest run released no model {name!r}; it released: {known}")
    return store.subdir(*release.split("/"))

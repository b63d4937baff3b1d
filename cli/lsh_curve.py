"""``gristmill bands``: choosing the shape of the signature."""

from typing import Any

import click
from pydantic import ValidationError

from cli.common import handle_errors, json_option, print_json
from flows.recipe_loader import format_validation_errors, load_recipe
from infra.errors import UserError
from tasks.dedup.candidates.lsh_params import candidate_probability, false_positive_area
from tasks.dedup.config import DedupConfig

SIMILARITIES = tuple(k / 20 for k in range(6, 21))  # similarities of the table
BAR_WIDTH = 40  # columns of a full bar
BANDING_KEYS = ("bands", "rows")


@click.command()
@click.argument("path", metavar="[RECIPE]", required=False)
@click.option("--set", "overrides", multiple=True, metavar="section.key=value", help="as for run")
@click.option("--threshold", type=float, help="least similarity of near-duplicates")
@click.option(
    "--target-recall", type=float, help="choose bands and rows that nominate so many at threshold"
)
@click.option(
    "--max-permutations", type=int, help="hash values that --target-recall may spend on a document"
)
@click.option("--bands", type=int, help="bands of the signature")
@click.option("--rows", type=int, help="hash values per band")
@json_option
@handle_errors
def lsh_curve(path: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """The S-curve: which similarities are found, which are missed, and what that costs.

    For a recipe's section dedup or for the defaults, changed by the options.
    """
    if path is None and overrides:
        raise UserError("--set changes a recipe: name one")
    own = {} if path is None else load_recipe(path, overrides).dedup.model_dump(exclude_unset=True)
    config = _merge_config(
        own, {name: value for name, value in options.items() if value is not None}
    )
    value = lsh_stats(config)
    if as_json:
        print_json(value)
        return
    for line in _format_stats(value):
        click.echo(line)


def _merge_config(recipe_values: dict[str, Any], options: dict[str, Any]) -> DedupConfig:
    """The recipe's section with what the options say instead; a shape and a recall exclude each other."""
    if "target_recall" in options:
        recipe_values = {
            name: value for name, value in recipe_values.items() if name not in BANDING_KEYS
        }
    elif set(BANDING_KEYS) & options.keys():
        recipe_values = {
            name: value for name, value in recipe_values.items() if name != "target_recall"
        }
    merged = {**recipe_values, **options}
    if "max_permutations" in options and merged.get("target_recall") is None:
        raise UserError(
            "--max-permutations limits what --target-recall may spend: give --target-recall as well"
        )
    try:
        return DedupConfig.model_validate(merged)
    except ValidationError as error:
        lines = [
            line.replace("dedup: recipe: ", "dedup: ")
            for line in format_validation_errors("dedup", error)
        ]
        raise UserError("\n".join(lines)) from None


def lsh_stats(config: DedupConfig) -> dict[str, Any]:
    """The S-curve of a section, and what it costs.

    Returns:
        ``curve``: similarity, and the probabilities that a pair is nominated and missed;
        ``recall``: at the threshold; ``compared_in_vain``: the share of the pairs below the
        threshold that are nominated, if their similarities are evenly spread;
        ``bytes_per_document``: kept of a document besides its id, before compression.
    """
    shape = config.banding
    threshold = config.threshold
    points = sorted({*SIMILARITIES, threshold})
    curve = [
        {"similarity": s, "candidate_probability": p, "miss_probability": 1 - p}
        for s in points
        for p in [candidate_probability(s, *shape)]
    ]
    return {
        "bands": shape[0],
        "rows": shape[1],
        "permutations": config.num_permutations,
        "threshold": threshold,
        "recall": candidate_probability(threshold, *shape),
        "curve": curve,
        "false_positive_rate": false_positive_area(threshold, *shape) / threshold,
        "bytes_per_document": signature_bytes(config),
    }


def signature_bytes(config: DedupConfig) -> int:
    """What the data set ``signatures`` keeps of a document besides its id, before compression.

    The digest of its text, the number of its shingles, a key per band, four bits of each hash
    value; whole values of four bytes where the recipe keeps them.
    """
    digest, shingles, key, value = 16, 8, 8, 4
    size = digest + shingles + key * config.banding[0] + (config.num_permutations + 1) // 2
    return size + (value * config.num_permutations if config.keep_signatures else 0)


def _format_stats(stats: dict[str, Any]) -> list[str]:
    shape = f"{stats['bands']} bands x {stats['rows']} rows = {stats['permutations']} hash values"
    lines = [
        f"{shape}, threshold {stats['threshold']:g}",
        "",
        "similarity  nominated  missed",
    ]
    for point in stats["curve"]:
        at = point["similarity"] == stats["threshold"]
        bar = "#" * round(BAR_WIDTH * point["candidate_probability"])
        shown = f"{_format_percent(point['candidate_probability']):>9}  {_format_percent(point['miss_probability']):>6}"
        mark = "  <- threshold" if at else ""
        lines.append(f"{point['similarity']:>10.4g}  {shown}  |{bar:<{BAR_WIDTH}}|{mark}")
    vain = _format_percent(stats["false_positive_rate"])
    return [
        *lines,
        "",
        f"At threshold, {_format_percent(stats['recall'])} of the pairs are nominated. Of pairs below it, evenly",
        f"spread, {vain} are compared in vain; that costs time and drops nothing.",
        f"Kept of a document: {stats['bytes_per_document']:,} bytes besides its id, before compression.",
    ]


def _format_percent(fraction: float) -> str:
    """A share in per cent, with the digits that tell small and large ones apart from 0 and 1."""
    percent = 100 * fraction
    if 0 < percent < 0.005:
        return "<0.01%"
    if 99.995 <= percent < 100:
        return ">99.99%"
    return f"{percent:.2f}%"

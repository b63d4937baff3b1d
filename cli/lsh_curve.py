"""``gristmill bands``: choosing the shape of the signature."""

from typing import Any

import click
from pydantic import ValidationError

from cli.common import guarded, json_option, show
from flows.recipe import explain, load
from infra.errors import UserError
from tasks.dedup.candidates.lsh_params import probability, wasted
from tasks.dedup.config import DedupConfig

STEPS = tuple(k / 20 for k in range(6, 21))  # similarities of the table
BAR = 40  # columns of a full bar
SHAPE = ("bands", "rows")


@click.command()
@click.argument("path", metavar="[RECIPE]", required=False)
@click.option("--set", "overrides", multiple=True, metavar="section.key=value", help="as for run")
@click.option("--threshold", type=float, help="least similarity of near-duplicates")
@click.option(
    "--recall", type=float, help="choose bands and rows that nominate so many at threshold"
)
@click.option("--hashes", type=int, help="hash values that --recall may spend on a document")
@click.option("--bands", type=int, help="bands of the signature")
@click.option("--rows", type=int, help="hash values per band")
@json_option
@guarded
def bands(path: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """The S-curve: which similarities are found, which are missed, and what that costs.

    For a recipe's section dedup or for the defaults, changed by the options.
    """
    if path is None and overrides:
        raise UserError("--set changes a recipe: name one")
    own = {} if path is None else load(path, overrides).dedup.model_dump(exclude_unset=True)
    config = _config(own, {name: value for name, value in options.items() if value is not None})
    value = figures(config)
    if as_json:
        show(value)
        return
    for line in _lines(value):
        click.echo(line)


def _config(own: dict[str, Any], given: dict[str, Any]) -> DedupConfig:
    """The recipe's section with what the options say instead; a shape and a recall exclude each other."""
    if "recall" in given:
        own = {name: value for name, value in own.items() if name not in SHAPE}
    elif set(SHAPE) & given.keys():
        own = {name: value for name, value in own.items() if name != "recall"}
    merged = {**own, **given}
    if "hashes" in given and merged.get("recall") is None:
        raise UserError("--hashes limits what --recall may spend: give --recall as well")
    try:
        return DedupConfig.model_validate(merged)
    except ValidationError as error:
        lines = [line.replace("dedup: recipe: ", "dedup: ") for line in explain("dedup", error)]
        raise UserError("\n".join(lines)) from None


def figures(config: DedupConfig) -> dict[str, Any]:
    """The S-curve of a section, and what it costs.

    Returns:
        ``curve``: similarity, and the probabilities that a pair is nominated and missed;
        ``recall``: at the threshold; ``compared_in_vain``: the share of the pairs below the
        threshold that are nominated, if their similarities are evenly spread;
        ``bytes_per_document``: kept of a document besides its id, before compression.
    """
    shape = config.banding
    threshold = config.threshold
    points = sorted({*STEPS, threshold})
    curve = [
        {"similarity": s, "nominated": p, "missed": 1 - p}
        for s in points
        for p in [probability(s, *shape)]
    ]
    return {
        "bands": shape[0],
        "rows": shape[1],
        "hashes": config.permutations,
        "threshold": threshold,
        "recall": probability(threshold, *shape),
        "curve": curve,
        "compared_in_vain": wasted(threshold, *shape) / threshold,
        "bytes_per_document": signature_bytes(config),
    }


def signature_bytes(config: DedupConfig) -> int:
    """What the data set ``signatures`` keeps of a document besides its id, before compression.

    The digest of its text, the number of its shingles, a key per band, four bits of each hash
    value; whole values of four bytes where the recipe keeps them.
    """
    digest, shingles, key, value = 16, 8, 8, 4
    size = digest + shingles + key * config.banding[0] + (config.permutations + 1) // 2
    return size + (value * config.permutations if config.keep_signatures else 0)


def _lines(value: dict[str, Any]) -> list[str]:
    shape = f"{value['bands']} bands x {value['rows']} rows = {value['hashes']} hash values"
    lines = [
        f"{shape}, threshold {value['threshold']:g}",
        "",
        "similarity  nominated  missed",
    ]
    for point in value["curve"]:
        at = point["similarity"] == value["threshold"]
        bar = "#" * round(BAR * point["nominated"])
        shown = f"{_share(point['nominated']):>9}  {_share(point['missed']):>6}"
        mark = "  <- threshold" if at else ""
        lines.append(f"{point['similarity']:>10.4g}  {shown}  |{bar:<{BAR}}|{mark}")
    vain = _share(value["compared_in_vain"])
    return [
        *lines,
        "",
        f"At threshold, {_share(value['recall'])} of the pairs are nominated. Of pairs below it, evenly",
        f"spread, {vain} are compared in vain; that costs time and drops nothing.",
        f"Kept of a document: {value['bytes_per_document']:,} bytes besides its id, before compression.",
    ]


def _share(value: float) -> str:
    """A share in per cent, with the digits that tell small and large ones apart from 0 and 1."""
    percent = 100 * value
    if 0 < percent < 0.005:
        return "<0.01%"
    if 99.995 <= percent < 100:
        return ">99.99%"
    return f"{percent:.2f}%"

"""``gristmill lsh-curve``: choose the number of LSH bands and rows."""

from typing import TYPE_CHECKING, Any

import click

from cli.common import handle_errors, json_option, print_json
from infra.errors import UserError

if TYPE_CHECKING:
    from tasks.dedup.config import DedupConfig

SIMILARITIES = tuple(k / 20 for k in range(6, 21))  # rows of the table
BAR_WIDTH = 40  # columns of a full bar


@click.command()
@click.argument("path", metavar="[RECIPE]", required=False)
@click.option("--set", "overrides", multiple=True, metavar="section.key=value", help="as for run")
@click.option("--threshold", type=float, help="minimum Jaccard similarity of near-duplicates")
@click.option(
    "--target-recall",
    type=float,
    help="choose bands and rows so that this fraction of the pairs at the threshold are candidates",
)
@click.option(
    "--max-permutations", type=int, help="maximum hash values per document for --target-recall"
)
@click.option("--bands", type=int, help="bands of the signature")
@click.option("--rows", type=int, help="hash values per band")
@json_option
@handle_errors
def lsh_curve(path: str | None, overrides: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Print the S-curve of MinHash LSH: which similarities are found or missed, and the cost.

    For the section dedup of a recipe, or for the defaults; the options override both.
    """
    from flows.recipe_loader import load_recipe

    if path is None and overrides:
        raise UserError("--set requires a RECIPE")
    section = load_recipe(path, overrides).dedup.model_dump(exclude_unset=True) if path else {}
    given = {name: value for name, value in options.items() if value is not None}
    value = lsh_stats(_merge_config(section, given))
    if as_json:
        print_json(value)
        return
    for line in _format_stats(value):
        click.echo(line)


def _merge_config(section: dict[str, Any], options: dict[str, Any]) -> "DedupConfig":
    """Override the recipe's section; bands and rows replace a target recall, and vice versa."""
    from pydantic import ValidationError

    from flows.recipe_loader import format_validation_errors
    from tasks.dedup.config import DedupConfig

    replaced: set[str] = set()
    if "target_recall" in options:
        replaced = {"bands", "rows"}
    elif {"bands", "rows"} & options.keys():
        replaced = {"target_recall"}
    merged = {key: value for key, value in section.items() if key not in replaced} | options
    if "max_permutations" in options and merged.get("target_recall") is None:
        raise UserError("--max-permutations requires --target-recall")
    try:
        return DedupConfig.model_validate(merged)
    except ValidationError as error:
        lines = [
            line.replace("dedup: recipe: ", "dedup: ")
            for line in format_validation_errors("dedup", error)
        ]
        raise UserError("\n".join(lines)) from None


def lsh_stats(config: "DedupConfig") -> dict[str, Any]:
    """Compute the S-curve of a section and its cost.

    Returns:
        ``curve``: similarities, each with the probabilities that a pair becomes a candidate and
        that it is missed; ``recall``: the candidate probability at the threshold;
        ``false_positive_rate``: the fraction of the pairs below the threshold that become
        candidates, if their similarities are uniformly distributed; ``bytes_per_document``: stored
        per document besides its id, before compression.
    """
    from tasks.dedup.candidates.lsh_params import candidate_probability, false_positive_area

    banding, threshold = config.banding, config.threshold
    points = [(s, candidate_probability(s, *banding)) for s in sorted({*SIMILARITIES, threshold})]
    curve = [
        {"similarity": s, "candidate_probability": p, "miss_probability": 1 - p} for s, p in points
    ]
    return {
        "bands": banding[0],
        "rows": banding[1],
        "permutations": config.num_permutations,
        "threshold": threshold,
        "recall": candidate_probability(threshold, *banding),
        "curve": curve,
        "false_positive_rate": false_positive_area(threshold, *banding) / threshold,
        "bytes_per_document": signature_bytes(config),
    }


def signature_bytes(config: "DedupConfig") -> int:
    """Return the bytes that the data set ``signatures`` stores per document besides its id.

    Before compression: the digest of the text, the number of shingles, a key per band, four bits of
    each hash value, and the whole values of four bytes if the recipe keeps signatures.
    """
    digest, shingles, key, value = 16, 8, 8, 4
    size = digest + shingles + key * config.banding[0] + (config.num_permutations + 1) // 2
    return size + (value * config.num_permutations if config.keep_signatures else 0)


def _format_stats(stats: dict[str, Any]) -> list[str]:
    banding = f"{stats['bands']} bands x {stats['rows']} rows = {stats['permutations']} hash values"
    lines = [f"{banding}, threshold {stats['threshold']:g}", "", "similarity  candidate  missed"]
    for point in stats["curve"]:
        at = point["similarity"] == stats["threshold"]
        bar = "#" * round(BAR_WIDTH * point["candidate_probability"])
        candidate = _format_percent(point["candidate_probability"])
        missed = _format_percent(point["miss_probability"])
        mark = "  <- threshold" if at else ""
        shown = f"{point['similarity']:>10.4g}  {candidate:>9}  {missed:>6}"
        lines.append(f"{shown}  |{bar:<{BAR_WIDTH}}|{mark}")
    false_positives = _format_percent(stats["false_positive_rate"])
    return [
        *lines,
        "",
        f"At the threshold, {_format_percent(stats['recall'])} of the pairs are candidates. Of the pairs below it,",
        f"uniformly distributed, {false_positives} are compared needlessly; that costs time and drops nothing.",
        f"Stored per document: {stats['bytes_per_document']:,} bytes besides its id, before compression.",
    ]


def _format_percent(fraction: float) -> str:
    """Format a fraction in percent; values close to 0 and 1 stay distinguishable from them."""
    percent = 100 * fraction
    if 0 < percent < 0.005:
        return "<0.01%"
    if 99.995 <= percent < 100:
        return ">99.99%"
    return f"{percent:.2f}%"

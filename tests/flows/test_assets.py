"""The assets that a run materializes."""

from flows.assets import step_assets
from flows.steps import STEPS

NAMES = {"source": "site", "run": None, "model": "tiny", "task": "topics"}


def test_segments_corpus_tokens_models_and_evaluations_are_assets() -> None:
    keys = {
        step.name: [asset.key for asset in step_assets("small", step, NAMES[step.per])]
        for step in STEPS
    }
    assert keys == {
        "acquire": ["gristmill://small/segments/site"],
        "extract": [],
        "annotate": [],
        "dedup": [],
        "select": ["gristmill://small/corpus"],
        "tokenize": ["gristmill://small/tokens"],
        "index": [],
        "train": ["gristmill://small/models/tiny"],
        "release": [],
        "evaluate": ["gristmill://small/evaluations/tiny"],
        "suites": ["gristmill://small/suites/tiny"],
        "memorization": ["gristmill://small/memorization/tiny"],
        "prepare": [],
        "finetune": ["gristmill://small/models/tiny"],
        "score": ["gristmill://small/evaluations/tiny"],
    }

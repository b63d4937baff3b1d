"""A fine-tuning run that was interrupted continues to the bit; what is unchanged is not made again."""

import contextlib
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load

from lm.data.example_loader import ExampleLoader
from tasks.finetune import prepare_task
from tasks.finetune import task as finetune_task
from tests.finetune.planted_tasks import planted
from tests.finetune.tiny_runs import ENCODER, TinyStore, entry, variant, write_jsonl


class SimulatedCrash(BaseException):
    """The end of the process."""


@pytest.fixture
def store(tmp_path: Path) -> TinyStore:
    return TinyStore(tmp_path)


@pytest.mark.usefixtures("in_process")
def test_a_killed_run_resumes_to_the_bit(
    store: TinyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = planted("classification", 60)
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    item = entry("classification", path, run__checkpoint_interval=3, optim__lr_grid=[0.001, 0.01])
    examples, base = store.prepare(item), store.base(**ENCODER)
    whole = store.finetune(variant(item), examples, base)
    assert [rate for rate, _ in whole.stats["lr_grid"]] == [
        whole.stats["lr"],
        *(rate for rate in (0.001, 0.01) if rate != whole.stats["lr"]),
    ]

    loaded: list[int] = []
    real = ExampleLoader.__next__

    def crash(self: ExampleLoader) -> Any:
        batch = real(self)
        loaded.append(int(batch.samples[0]) // 8)
        if len(loaded) == 20:  # in the second run of the grid
            raise SimulatedCrash
        return batch

    whole.storage.remove_tree()
    monkeypatch.setattr(ExampleLoader, "__next__", crash)
    with contextlib.suppress(SimulatedCrash):
        store.finetune(variant(item), examples, base)
    assert len(loaded) == 20
    again = store.finetune(variant(item), examples, base)
    # The first run of the grid is not trained again, the second one goes on.
    steps = int(whole.stats["steps"])
    assert len(loaded) - 20 < steps
    first, second = (load(model.read("model.safetensors")) for model in (whole, again))
    assert all(bool((first[name] == second[name]).all()) for name in first)
    assert again.stats["lr"] == whole.stats["lr"]


@pytest.mark.usefixtures("in_process")
def test_only_what_changed_is_trained_again(store: TinyStore, tmp_path: Path) -> None:
    rows, _ = planted("classification", 60)
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    item = entry("classification", path, baselines={"budgets": [0.5, 1.0]})
    base = store.base(**ENCODER)
    examples = store.prepare(item)

    def fingerprints(changed: Any, data: Any) -> dict[str, str]:
        arguments = {"examples": data, "model": base, "tokens": store.tokens}
        return {
            own.name: finetune_task.spec(store.context, variant=own, **arguments).fingerprint
            for own in changed.expand()
        }

    before = fingerprints(item, examples)
    assert set(before) == {"task", "task-50pct", "task-scratch"}
    # Another budget: the other models stay what they are.
    other = entry("classification", path, baselines={"budgets": [0.25, 1.0]})
    after = fingerprints(other, examples)
    assert {name for name in before if after.get(name) == before[name]} == {"task", "task-scratch"}
    # Another place of the same file, or another corpus: nothing changes.
    (tmp_path / "moved").mkdir()
    moved = write_jsonl(tmp_path / "moved" / "data.jsonl", rows)
    same = store.prepare(entry("classification", moved))
    assert same.content == examples.content
    # Another row: all models of the entry change.
    changed = store.prepare(
        entry("classification", write_jsonl(path, [*rows, {"text": "one more", "label": "good"}]))
    )
    assert not set(before.values()) & set(fingerprints(item, changed).values())
    # A model from random weights does not depend on its base's weights.
    retrained = store.base(**ENCODER, train_tokens=1024)
    arguments: dict[str, Any] = {
        "examples": examples, "model": retrained, "tokens": store.tokens,
    }  # fmt: skip
    others = {
        own.name: finetune_task.spec(store.context, variant=own, **arguments).fingerprint
        for own in item.expand()
    }
    assert {name for name in before if others[name] == before[name]} == {"task-scratch"}


def test_secrets_of_a_url_are_no_part_of_a_data_set(
    store: TinyStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, _ = planted("classification", 60)
    write_jsonl(tmp_path / "data.jsonl", rows)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    item = entry("classification", "${FOLDER}/data.jsonl")
    spec = prepare_task.spec(store.context, entry=item, corpus=None)
    assert str(tmp_path) not in str(spec.config)


def test_a_model_from_random_weights_trains_all_of_them(store: TinyStore, tmp_path: Path) -> None:
    rows, _ = planted("classification", 60)
    path = write_jsonl(tmp_path / "data.jsonl", rows)
    item = entry("classification", path, model={"lora": {}, "freeze": 1}, baselines={})
    keys = {own.name: own.weights_key()["model"] for own in item.expand()}
    assert keys["task"]["lora"] is not None
    assert keys["task-scratch"] == {**keys["task"], "lora": None, "freeze": None}


def test_what_decides_the_predictions_alone_trains_nothing_again(tmp_path: Path) -> None:
    short, long = (
        entry("seq2seq", tmp_path / "x.jsonl", max_new_tokens=count) for count in (8, 64)
    )
    assert short.weights_key() == long.weights_key()
    assert short.score_key() != long.score_key()
    swapped = entry("seq2seq", tmp_path / "x.jsonl", languages=["en", "de"])
    assert swapped.prepare_key() != short.prepare_key()
    assert swapped.weights_key() == short.weights_key()

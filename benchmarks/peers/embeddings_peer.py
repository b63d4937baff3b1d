"""gensim's word2vec and bicleaner-ai-glove's GloVe, and gensim's reader. Runs in the peers' interpreter.

    embeddings_peer.py word2vec FOLDER SETTINGS    train on FOLDER/words.txt, a document per line
    embeddings_peer.py glove FOLDER SETTINGS       train on the cells of FOLDER/cells.npz
    embeddings_peer.py load FOLDER -               read an export both ways

Writes the vectors to ``FOLDER/peer-vectors.npy``; prints one JSON object. Seconds are CPU time.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np


def train_word2vec(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train with gensim's own names of settings."""
    import gensim

    lines = (folder / "words.txt").read_text(encoding="utf-8").splitlines()
    sentences = [line.split(" ") for line in lines]
    ngrams = settings.pop("ngrams")
    kind = gensim.models.FastText if ngrams else gensim.models.Word2Vec
    settings |= {"min_n": ngrams[0], "max_n": ngrams[1], "bucket": ngrams[2]} if ngrams else {}
    model = kind(workers=1, max_vocab_size=None, **settings)
    model.build_vocab(sentences)
    start = time.process_time()
    model.train(sentences, total_examples=model.corpus_count, epochs=model.epochs)
    seconds = time.process_time() - start
    np.save(folder / "peer-vectors.npy", model.wv.vectors)
    words = int(model.corpus_total_words)
    return {
        "version": gensim.__version__,
        "seconds": seconds,
        "words": words,
        "vocabulary": model.wv.index_to_key,
    }


def train_glove(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Train on given cells; the counts are ours, so that the objective is the same."""
    import glove
    from scipy.sparse import coo_matrix

    with np.load(folder / "cells.npz") as cells:
        size = int(cells["size"])
        matrix = coo_matrix((cells["counts"], (cells["rows"], cells["columns"])), (size, size))
    model = glove.Glove(
        no_components=settings["size"],
        learning_rate=settings["lr"],
        alpha=0.75,
        max_count=settings["x_max"],
        random_state=settings["seed"],
    )
    start = time.process_time()
    model.fit(matrix, epochs=settings["epochs"], no_threads=1)
    seconds = time.process_time() - start
    np.savez(folder / "peer-glove.npz", vectors=model.word_vectors, biases=model.word_biases)
    return {"version": "0.2.1", "seconds": seconds, "cells": int(matrix.nnz)}


def load(folder: Path, _: dict[str, Any]) -> dict[str, Any]:
    """Read an export as its model card says, and compare the two."""
    from gensim.models import KeyedVectors
    from safetensors.numpy import load_file

    text = KeyedVectors.load_word2vec_format(str(folder / "vectors.txt"))
    words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))["words"]
    array = load_file(str(folder / "model.safetensors"))["vectors"]
    arrays = KeyedVectors(array.shape[1])
    arrays.add_vectors(words, array)
    first = words[0]
    return {
        "equal": bool((text.vectors == arrays.vectors).all() and text.index_to_key == words),
        "neighbors": [word for word, _ in text.most_similar(first, topn=5)],
        "neighbors_of_array": [word for word, _ in arrays.most_similar(first, topn=5)],
    }


def main() -> None:
    """Do what the command line says."""
    what, folder, settings = sys.argv[1:]
    function = {"word2vec": train_word2vec, "glove": train_glove, "load": load}[what]
    result = function(Path(folder), {} if settings == "-" else json.loads(settings))
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

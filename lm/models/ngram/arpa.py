r"""Write a model in the ARPA format, which KenLM, SRILM and others read.

Words are token ids as decimal numbers; ``<s>`` is the beginning of a document and ``</s>`` its end.
``<unk>`` never occurs, since every id has a probability. An n-gram's line holds log10 of its
probability, its words and log10 of its backoff weight, which is 0 where it is left out.
"""

from typing import BinaryIO

import numpy as np

from infra.compute.arrays import F64, I32, I64, U8
from infra.compute.jit import jit
from lm.models.ngram.model import NgramModel, find_child

LINES_PER_BLOCK = 1 << 16
DECIMALS = 7
MAX_ID_CHARS, MAX_LOG_CHARS = 11, 22  # of an id or a tag; of a logarithm
IMPOSSIBLE = -99  # log10 of the probability of what never occurs, by convention


def write_arpa(model: NgramModel, file: BinaryIO) -> None:
    """Write a model."""
    sizes = [model.sizes[0] + 2, *model.sizes[1:]]
    lines = [f"ngram {order}={size}" for order, size in enumerate(sizes, 1)]
    file.write(("\\data\\\n" + "\n".join(lines) + "\n").encode())
    logs = np.log10(_interpolate(*model.arrays, model.vocab_size))
    backoffs = np.log10(model.backoff)
    parents = np.zeros(len(model.words), np.int64)
    parents[model.vocab_size :] = np.repeat(np.arange(len(backoffs)), np.diff(model.children))
    first = 0
    for order, size in enumerate(model.sizes, 1):
        file.write(f"\n\\{order}-grams:\n".encode())
        if order == 1:
            file.write(f"{IMPOSSIBLE}\t<unk>\n{IMPOSSIBLE}\t<s>".encode())
            file.write(
                f"\t{backoffs[model.eos]:.{DECIMALS}f}\n".encode() if len(backoffs) else b"\n"
            )
        for start in range(first, first + size, LINES_PER_BLOCK):
            nodes = range(start, min(start + LINES_PER_BLOCK, first + size))
            out = np.empty(len(nodes) * (order * MAX_ID_CHARS + 2 * MAX_LOG_CHARS), np.uint8)
            end = _format_lines(
                nodes.start, nodes.stop, order, model.words, parents, logs, backoffs, model.eos, out
            )
            file.write(out[:end].tobytes())
        first += size
    file.write(b"\n\\end\\\n")


@jit
def _interpolate(words: I32, discounted: F64, children: I64, backoff: F64, vocab_size: int) -> F64:
    """Return the probability of each node's last id after the others."""
    probabilities = np.empty(len(words), np.float64)
    probabilities[:vocab_size] = discounted[:vocab_size]
    shorter = np.empty(len(words), np.int64)  # the node without the first id; kept n-grams have one
    for context in range(len(backoff)):
        for node in range(children[context], children[context + 1]):
            if context < vocab_size:
                shorter[node] = words[node]
            else:
                shorter[node] = find_child(words, children, shorter[context], words[node])
            probabilities[node] = discounted[node] + backoff[context] * probabilities[shorter[node]]
    return probabilities


@jit
def _format_lines(
    start: int,
    stop: int,
    order: int,
    words: I32,
    parents: I64,
    logs: F64,
    backoffs: F64,
    eos: int,
    out: U8,
) -> int:
    """Write the lines of nodes ``[start, stop)`` of one order; return the number of bytes."""
    gram = np.empty(order, np.int64)
    end = 0
    for node in range(start, stop):
        ancestor = node
        for i in range(order - 1, -1, -1):
            gram[i] = words[ancestor]
            ancestor = parents[ancestor]
        end = _put_log(out, end, logs[node])
        out[end] = 9  # a tab
        end += 1
        for i in range(order):
            if i:
                out[end] = 32  # a space
                end += 1
            if gram[i] != eos:
                end = _put_number(out, end, gram[i], 1)
                continue
            is_start = i == 0 and order > 1
            for char in b"<s>" if is_start else b"</s>":
                out[end] = char
                end += 1
        if node < len(backoffs) and gram[order - 1] != eos and backoffs[node] < 0:
            out[end] = 9
            end = _put_log(out, end + 1, backoffs[node])
        out[end] = 10  # a line feed
        end += 1
    return end


@jit
def _put_log(out: U8, end: int, value: float) -> int:
    """Write a number that is not above 0 with ``DECIMALS`` decimals."""
    scale = 10**DECIMALS
    scaled = np.int64(-value * scale + 0.5)
    if scaled:
        out[end] = 45  # a minus
        end += 1
    end = _put_number(out, end, scaled // scale, 1)
    out[end] = 46  # a point
    return _put_number(out, end + 1, scaled % scale, DECIMALS)


@jit
def _put_number(out: U8, end: int, number: int, min_digits: int) -> int:
    digits, rest = 1, number // 10
    while rest:
        digits, rest = digits + 1, rest // 10
    digits = max(digits, min_digits)
    for i in range(digits - 1, -1, -1):
        out[end + i] = 48 + number % 10
        number //= 10
    return end + digits

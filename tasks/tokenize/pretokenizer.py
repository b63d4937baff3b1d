"""How text is cut into words before merging, as a regular expression and as what a kernel follows.

A tokenizer's merges stay inside words. What a word is says a pattern, here put together from a
style and two choices; ``tokenizers`` runs the pattern, ``tasks.tokenize.pretokenizer_kernel`` the same cut as
compiled code. A tokenizer that comes from elsewhere is matched against all of them.
"""

import json
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, get_args

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

Style = Literal["gpt2", "llama3"]
Digits = Literal["style", "each", "threes"]
Spaces = Literal["runs", "apart"]
Normalisation = Literal["none", "nfc"]

# A group of three is counted from the right end of the number.
NUMBERS = {"each": r"\p{N}", "threes": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"}
RUNS, APART = r"\s+(?!\S)|\s+", r"\s"


@dataclass(frozen=True)
class Rule:
    """What cuts text into words.

    Attributes:
        style: ``gpt2`` (Radford et al. 2019) or ``llama3`` (Grattafiori et al. 2024).
        digits: numbers as the style has them, every digit apart, or in groups of three from the
            right (Singh and Strouse 2024, "Tokenization counts").
        spaces: whether a run of white space is one word, or each character of it its own; a space
            before a word belongs to the word either way, as far as the style says so.
    """

    style: Style = "gpt2"
    digits: Digits = "style"
    spaces: Spaces = "runs"

    @property
    def pattern(self) -> str:
        """The regular expression, in the dialect of ``tokenizers``."""
        if self.style == "gpt2":
            numbers = NUMBERS.get(self.digits, r" ?\p{N}+")
            marks = r" ?[^\s\p{L}\p{N}]+"
            head = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+|{numbers}|{marks}"
            return f"{head}|{RUNS if self.spaces == 'runs' else APART}"
        numbers = NUMBERS.get(self.digits, r"\p{N}{1,3}")
        head = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
        if self.spaces == "apart":
            return rf"{head}| ?[^\s\p{{L}}\p{{N}}]+|{APART}"
        return rf"{head}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{RUNS}"

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """The rule as `tokenizers` follows it."""
        if self == Rule():  # the library's own name for it, as GPT-2's file has it
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


ALL = tuple(
    Rule(*choices) for choices in product(get_args(Style), get_args(Digits), get_args(Spaces))
)


def untrained(rule: Rule, normalisation: Normalisation = "none") -> Tokenizer:
    """A byte-level BPE without merges."""
    tokenizer = Tokenizer(models.BPE())
    if normalisation == "nfc":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = rule.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def recognise(tokenizer_json: bytes) -> Rule | None:
    """The rule that a byte-level BPE follows, if it is one of those here and nothing else acts.

    ``None``: it cuts or normalises in another way, drops merges at random, or has added tokens
    that are not special and so would be looked for in text.
    """
    data = json.loads(tokenizer_json)
    model = data["model"]
    if (
        model.get("type") != "BPE"
        or model.get("dropout")
        or not all(token["special"] for token in data["added_tokens"])
        or (data["normalizer"] or {"type": "NFC"}) != {"type": "NFC"}
    ):
        return None
    cut = _plain(data["pre_tokenizer"])
    return next((rule for rule in ALL if cut in _forms(rule)), None)


def _forms(rule: Rule) -> list[Any]:
    forms = [json.loads(untrained(rule).to_str())["pre_tokenizer"]]
    if rule == Rule():
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        split = pre_tokenizers.Split(Regex(rule.pattern), behavior="isolated")
        spelt = Tokenizer(models.BPE())
        spelt.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        forms.append(json.loads(spelt.to_str())["pre_tokenizer"])
    return [_plain(form) for form in forms]


def _plain(node: Any) -> Any:
    """Without what changes offsets only."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key != "trim_offsets"}
    return [_plain(item) for item in node] if isinstance(node, list) else node

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

PretokenizerStyle = Literal["gpt2", "llama3"]
Digits = Literal["default", "individual", "groups_of_three"]
Spaces = Literal["merge", "split"]
Normalization = Literal["none", "nfc"]

# A group of three is counted from the right end of the number.
DIGIT_PATTERNS = {
    "individual": r"\p{N}",
    "groups_of_three": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
}
MERGED_SPACES, SPLIT_SPACES = r"\s+(?!\S)|\s+", r"\s"


@dataclass(frozen=True)
class PretokenizerRule:
    """What cuts text into words.

    Attributes:
        style: ``gpt2`` (Radford et al. 2019) or ``llama3`` (Grattafiori et al. 2024).
        digits: numbers as the style has them, every digit apart, or in groups of three from the
            right (Singh and Strouse 2024, "Tokenization counts").
        spaces: whether a run of white space is one word, or each character of it its own; a space
            before a word belongs to the word either way, as far as the style says so.
    """

    style: PretokenizerStyle = "gpt2"
    digits: Digits = "default"
    spaces: Spaces = "merge"

    @property
    def pattern(self) -> str:
        """The regular expression, in the dialect of ``tokenizers``."""
        if self.style == "gpt2":
            numbers = DIGIT_PATTERNS.get(self.digits, r" ?\p{N}+")
            marks = r" ?[^\s\p{L}\p{N}]+"
            head = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+|{numbers}|{marks}"
            return f"{head}|{MERGED_SPACES if self.spaces == 'merge' else SPLIT_SPACES}"
        numbers = DIGIT_PATTERNS.get(self.digits, r"\p{N}{1,3}")
        head = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
        if self.spaces == "split":
            return rf"{head}| ?[^\s\p{{L}}\p{{N}}]+|{SPLIT_SPACES}"
        return rf"{head}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{MERGED_SPACES}"

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """The rule as `tokenizers` follows it."""
        if self == PretokenizerRule():  # the library's own name for it, as GPT-2's file has it
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        return pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(self.pattern), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )


ALL_RULES = tuple(
    PretokenizerRule(*choices)
    for choices in product(get_args(PretokenizerStyle), get_args(Digits), get_args(Spaces))
)


def empty_bpe(rule: PretokenizerRule, normalization: Normalization = "none") -> Tokenizer:
    """A byte-level BPE without merges."""
    tokenizer = Tokenizer(models.BPE())
    if normalization == "nfc":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = rule.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def detect_pretokenizer(tokenizer_json: bytes) -> PretokenizerRule | None:
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
    cut = _strip_offset_options(data["pre_tokenizer"])
    return next((rule for rule in ALL_RULES if cut in _json_forms(rule)), None)


def _json_forms(rule: PretokenizerRule) -> list[Any]:
    forms = [json.loads(empty_bpe(rule).to_str())["pre_tokenizer"]]
    if rule == PretokenizerRule():
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        split = pre_tokenizers.Split(Regex(rule.pattern), behavior="isolated")
        spelt = Tokenizer(models.BPE())
        spelt.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
        forms.append(json.loads(spelt.to_str())["pre_tokenizer"])
    return [_strip_offset_options(form) for form in forms]


def _strip_offset_options(node: Any) -> Any:
    """Without what changes offsets only."""
    if isinstance(node, dict):
        return {
            key: _strip_offset_options(value)
            for key, value in node.items()
            if key != "trim_offsets"
        }
    return [_strip_offset_options(item) for item in node] if isinstance(node, list) else node

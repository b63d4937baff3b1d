"""Pre-tokenization rules: how text is split into words before merging.

A BPE's merges never cross word boundaries. A regular expression, composed here from a style and two
options, defines the words. ``tokenizers`` runs that expression;
``tasks.tokenize.pretokenizer_kernel`` does the same split in compiled code. An imported tokenizer is
compared with all rules to see whether the compiled code can be used for it.
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

# Groups of three are counted from the right end of the number.
DIGIT_PATTERNS = {
    "individual": r"\p{N}",
    "groups_of_three": r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))",
}
MERGED_SPACES, SPLIT_SPACES = r"\s+(?!\S)|\s+", r"\s"


@dataclass(frozen=True)
class PretokenizerRule:
    """A rule that splits text into words.

    Attributes:
        style: ``gpt2`` (Radford et al. 2019) or ``llama3`` (Grattafiori et al. 2024).
        digits: how numbers are split: as the style does, every digit on its own, or in groups of
            three from the right (Singh and Strouse 2024, "Tokenization counts").
        spaces: whether a run of white space is one word or one word per character. Where the
            style joins a space to the following word, it does so in both cases.
    """

    style: PretokenizerStyle = "gpt2"
    digits: Digits = "default"
    spaces: Spaces = "merge"

    @property
    def pattern(self) -> str:
        """The regular expression, in the syntax of ``tokenizers``."""
        if self.style == "gpt2":
            numbers = DIGIT_PATTERNS.get(self.digits, r" ?\p{N}+")
            symbols = r" ?[^\s\p{L}\p{N}]+"
            head = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+|{numbers}|{symbols}"
            return f"{head}|{MERGED_SPACES if self.spaces == 'merge' else SPLIT_SPACES}"
        numbers = DIGIT_PATTERNS.get(self.digits, r"\p{N}{1,3}")
        head = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
        if self.spaces == "split":
            return rf"{head}| ?[^\s\p{{L}}\p{{N}}]+|{SPLIT_SPACES}"
        return rf"{head}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|{MERGED_SPACES}"

    def pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """The rule as a component of ``tokenizers``."""
        if self == PretokenizerRule():  # the library's built-in form, as in GPT-2's tokenizer.json
            return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        return self.explicit_pre_tokenizer()

    def explicit_pre_tokenizer(self) -> pre_tokenizers.PreTokenizer:
        """The rule as a component that states the regular expression."""
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
    """Return a byte-level BPE without merges."""
    tokenizer = Tokenizer(models.BPE())
    if normalization == "nfc":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = rule.pre_tokenizer()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def detect_pretokenizer(tokenizer_json: bytes) -> PretokenizerRule | None:
    """Return the rule that a byte-level BPE uses, if it is one of ``ALL_RULES``.

    ``None``: the tokenizer splits or normalizes in another way, uses BPE dropout, or has added
    tokens that are not special and would therefore be matched in text.
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
    stated = _strip_offset_options(data["pre_tokenizer"])
    return next((rule for rule in ALL_RULES if stated in _json_forms(rule)), None)


def _json_forms(rule: PretokenizerRule) -> list[Any]:
    """Return every JSON form in which ``tokenizer.json`` can state the rule."""
    forms = []
    for component in (rule.pre_tokenizer(), rule.explicit_pre_tokenizer()):
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = component
        forms.append(_strip_offset_options(json.loads(tokenizer.to_str())["pre_tokenizer"]))
    return forms


def _strip_offset_options(node: Any) -> Any:
    """Remove the options that affect character offsets only, not the words."""
    if isinstance(node, dict):
        return {
            key: _strip_offset_options(value)
            for key, value in node.items()
            if key != "trim_offsets"
        }
    return [_strip_offset_options(item) for item in node] if isinstance(node, list) else node

"""How the examples of tasks become rows, and rows what a model reads and predicts."""

from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from infra.errors import UserError
from lm.models.added_tokens import assign_ids, extend_vocabulary
from lm.models.registry import build_model
from lm.objectives import chat, contrastive, fill_in_middle, spans, tagging, to_target
from lm.objectives.chat import Message
from lm.objectives.counted_tokens import CountedTokens
from lm.objectives.fill_in_middle import FillInMiddle
from lm.objectives.spans import Question, Spans
from lm.objectives.text_rows import TextEncoder
from lm.objectives.to_target import ToTarget
from tests.lm.corpora import tokenizer
from tests.lm.test_heads import EOS, finetuned, head_config, language_model, text_encoder, train

NUMBERS = np.arange(10)


def ids_of(text: str) -> list[int]:
    return tokenizer().encode(text).ids


def unpadded(row: Any) -> list[int]:
    return [int(each) for each in row if each >= 0]


def test_a_tag_stands_at_the_first_token_of_its_word() -> None:
    encoder, words = text_encoder("bert"), ["the", "crowding", "mill", "x"]
    encoded = tagging.encode_words(encoder, [words], [None], 40)
    row, first = encoded.rows[0], encoded.first_tokens[0]
    for word, at, after in zip(words, first, [*first[1:], None], strict=True):
        end = after or len(unpadded(row)) - 1
        assert encoder.tokenizer.decode(row[at:end].tolist()).strip() == word
    rows = tagging.encode(encoded, [["O", "B", "I", "O"]], ["O", "B", "I"])
    examples = tagging.Tagging()(rows, NUMBERS[:1])
    targets = examples.targets[0]
    assert targets[first].tolist() == [0, 1, 2, 0]
    assert (targets >= 0).sum() == 4
    assert examples.inputs.shape == targets[None].shape


def test_a_predicate_stands_between_ends_of_text() -> None:
    encoder = text_encoder("llama")
    row = tagging.encode_words(encoder, [["the", "crow", "saw", "it"]], [2], 40).rows[0]
    expected = [EOS, *ids_of("the crow"), EOS, *ids_of(" saw"), EOS, *ids_of(" it")]
    assert unpadded(row) == expected
    last = tagging.encode_words(encoder, [["the", "crow"]], [1], 40).rows[0]
    assert unpadded(last) == [EOS, *ids_of("the"), EOS, *ids_of(" crow"), EOS]


def test_words_that_do_not_fit_have_no_position() -> None:
    encoded = tagging.encode_words(text_encoder("bert"), [["a"] * 20], [None], 8)
    assert encoded.first_tokens[0] == [1, 3, 5, *[-1] * 17]  # " a" is two tokens
    assert encoded.rows[0, [0, 7]].tolist() == [EOS, EOS]
    rows = tagging.encode(encoded, [["O"] * 20], ["O", "B"])
    assert (tagging.Tagging()(rows, NUMBERS[:1]).targets >= 0).sum() == 3


CONTEXT = "The miller came from Delft. She ground the corn in the old mill."


def question(answer: str | None) -> Question:
    at = None if answer is None else (CONTEXT.index(answer), CONTEXT.index(answer) + len(answer))
    return Question("Where?", CONTEXT, at)


def logits_of(rows: Any) -> Any:
    """Logits of a model that knows the targets of rows."""
    logits = np.zeros((len(rows), rows.shape[1] - 2, 2), np.float32)
    for row, (start, end) in zip(logits, rows[:, :2], strict=True):
        row[start, 0] = row[end, 1] = 5.0
    return logits


@pytest.mark.parametrize("max_length", [36, 80])
@pytest.mark.parametrize("answer", ["The", "Delft", "from Delft", "the old mill", "mill."])
def test_the_span_of_an_answer_is_found_in_its_windows(answer: str, max_length: int) -> None:
    items = [question(answer), question(None)]
    encoded = spans.encode(text_encoder("bert"), items, max_length)
    assert set(encoded.question) == {0, 1}
    decoded = spans.decode(logits_of(encoded.rows), encoded, items)
    assert decoded[0].text == answer
    assert decoded[1].text == ""
    must = spans.decode(logits_of(encoded.rows), encoded, items, threshold=None)
    assert must[1].text


def test_windows_cover_the_whole_passage() -> None:
    encoded = spans.encode(text_encoder("bert"), [question(None)], 24)
    assert len(encoded.rows) > 2
    covered: set[int] = set()
    for start, end in encoded.char_ranges.reshape(-1, 2):
        covered |= set(range(start, end))
    assert covered >= {at for at, letter in enumerate(CONTEXT) if letter != " "}
    examples = Spans()(encoded.rows, NUMBERS[: len(encoded.rows)])
    assert examples.targets.tolist() == [[0, 0]] * len(encoded.rows)


def test_a_question_about_nothing_has_no_answer() -> None:
    items = [Question("Where?", "")]
    encoded = spans.encode(text_encoder("bert"), items, 24)
    decoded = spans.decode(logits_of(encoded.rows), encoded, items, threshold=None)
    assert decoded[0].text == ""


def test_an_encoder_decoder_reads_the_source_and_writes_the_target() -> None:
    encoded = to_target.encode(
        text_encoder("t5"), ["a crow", "a " * 30], ["the mill", "b " * 30], 16, 12
    )
    assert (encoded.is_truncated, encoded.is_over_long) == ([False, True], [False, True])
    examples = ToTarget(EOS, 16)(encoded.rows, NUMBERS[:2])
    assert examples.source is not None
    target = [*ids_of("the mill"), EOS]
    assert unpadded(examples.source[0]) == [*ids_of("a crow"), EOS]
    assert unpadded(examples.targets[0]) == target
    assert examples.inputs[0, : len(target)].tolist() == [EOS, *target[:-1]]


def test_a_decoder_predicts_the_target_alone() -> None:
    encoded = to_target.encode_for_decoder(text_encoder("llama"), ["a crow"], ["the mill"], 40)
    examples = CountedTokens()(encoded.rows, NUMBERS[:1])
    source, target = ids_of("a crow"), ids_of("the mill")
    assert examples.inputs[0, : len(source) + 2].tolist() == [EOS, *source, EOS]
    assert unpadded(examples.targets[0]) == [*target, EOS]
    at = np.flatnonzero(examples.targets[0] >= 0)
    assert at[0] == len(source) + 1


def test_only_the_assistant_is_predicted() -> None:
    encoder = text_encoder("llama")
    added = assign_ids(encoder.tokenizer, chat.ADDED_TOKENS, 300)
    assert list(added.values()) == [300, 301]
    talk = [Message("user", "what is a crow"), Message("assistant", "a bird")]
    rows = chat.encode(encoder, [[*talk, *talk]], added, 100)
    examples = CountedTokens()(rows.rows, NUMBERS[:1])
    counted = unpadded(examples.targets[0])
    assert counted == [*ids_of("a bird"), 301] * 2
    assert chat.encode(encoder, [[*talk, *talk]], added, 20).is_over_long == [True]


def test_the_template_gives_the_ids_of_training() -> None:
    from transformers import PreTrainedTokenizerFast

    encoder = text_encoder("llama")
    added = assign_ids(encoder.tokenizer, chat.ADDED_TOKENS, 300)
    plain = Tokenizer.from_str(tokenizer().to_str())
    plain.add_special_tokens(list(added))
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=plain, bos_token=plain.id_to_token(EOS), chat_template=chat.TEMPLATE
    )
    talk = [Message("system", "Be kind."), Message("user", " hm"), Message("assistant", "\n\nNo.")]
    rows = chat.encode(encoder, [talk], added, 200).rows[0]
    dicts = [{"role": message.role, "content": message.content} for message in talk]
    expected = fast.apply_chat_template(dicts, return_dict=False)
    assert unpadded(rows[:200]) == expected


def test_the_middle_is_moved_to_the_end() -> None:
    objective = FillInMiddle(7, EOS, (300, 301, 302), 1.0)
    ids = np.array([5, 6, 7, 8])
    moved = objective.move_middle(ids, 1, 3, suffix_first=False)
    assert moved.tolist() == [300, 5, 301, 8, 302, 6, 7]
    moved = objective.move_middle(ids, 1, 3, suffix_first=True)
    assert moved.tolist() == [300, 301, 8, 302, 5, 6, 7]


def test_every_epoch_cuts_other_places_and_loses_nothing() -> None:
    encoder, text = text_encoder("llama"), "the crow saw the mill and the wind"
    encoded = fill_in_middle.encode(encoder, [text] * 2, 40)
    rows = np.repeat(encoded.rows[:1], 200, axis=0)
    objective = FillInMiddle(7, EOS, (300, 301, 302))
    examples = objective(rows, np.arange(200))
    again = objective(rows[100:], np.arange(100, 200))
    length = again.targets.shape[1]
    assert torch.equal(examples.targets[100:, :length], again.targets)
    plain, cut, seen = ids_of(text), 0, set()
    for inputs, targets in zip(examples.inputs, examples.targets, strict=True):
        own = unpadded(targets)
        assert own[-1] == EOS
        assert inputs[0] == EOS
        assert sorted(id_ for id_ in own[:-1] if id_ < 300) == sorted(plain)
        cut += own[0] == 300
        seen.add(tuple(own))
    assert 70 < cut < 130
    assert len(seen) > 60


def test_long_programs_are_divided_into_pieces() -> None:
    encoded = fill_in_middle.encode(text_encoder("llama"), ["a", "a crow saw " * 10], 16)
    joined = np.concatenate([row[row >= 0] for row in encoded.rows[encoded.text == 1]])
    assert joined.tolist() == ids_of("a crow saw " * 10)
    assert encoded.rows.shape[1] == 11


def test_new_tokens_are_average_tokens() -> None:
    for architecture in ("llama", "gpt2", "lstm", "cnn"):
        base = language_model(architecture, tie_embeddings=False)
        config, weights = extend_vocabulary(
            base.config, base.state_dict(), {"<a>": 97, "<b>": 98, "known": 3}
        )
        model = build_model(config)
        model.load_state_dict(weights)
        tokens = torch.randint(0, 97, (2, 8))
        torch.testing.assert_close(model(tokens)[..., :97], base(tokens))
        torch.testing.assert_close(model.embed.weight[98], base.embed.weight.mean(0))
    encoder = language_model("bert")
    with pytest.raises(UserError):
        extend_vocabulary(encoder.config, encoder.state_dict(), {"<a>": 98})


def test_a_tagger_learns_tags_and_roles() -> None:
    sentences = [[*"the crow saw".split(), place] for place in ("mill", "corn", "wind", "hand")]
    sentences += [["a", "mill", "saw", place] for place in ("crow", "corn", "wind", "hand")]
    tags = [["O", "B-x", "O", "I-x"]] * len(sentences)
    encoder, head = text_encoder("bert"), head_config("tagging")
    encoded = tagging.encode_words(encoder, sentences, [2] * len(sentences), 24)
    model = finetuned("modernbert", head, vocab_size=300)
    assert train(model, tagging.encode(encoded, tags, head.labels), 0.2) < 0.2
    found = model(torch.from_numpy(encoded.rows)).argmax(-1)
    for row, first in zip(found, encoded.first_tokens, strict=True):
        assert [head.labels[number] for number in row[first]] == tags[0]


def test_a_question_answerer_learns_a_lookup() -> None:
    items = [
        Question(word, f"the {other} saw {word} now", (9 + len(other), 9 + len(other) + len(word)))
        for word in ("crow", "mill")
        for other in ("corn", "wind", "hand")
    ]
    items += [Question("crow", "the wind saw corn now"), Question("mill", "the hand saw corn now")]
    encoded = spans.encode(text_encoder("modernbert"), items, 40)
    model = finetuned("modernbert", head_config("qa"), vocab_size=300, context_length=40)
    assert train(model, encoded.rows, 0.05) < 0.05
    with torch.no_grad():
        logits = model(torch.from_numpy(encoded.rows[:, 2:])).numpy()
    answers = [answer.text for answer in spans.decode(logits, encoded, items)]
    assert answers == [*(["crow"] * 3), *(["mill"] * 3), "", ""]


def test_a_query_finds_the_text_that_answers_it() -> None:
    queries = [f"where is the {word}" for word in ("crow", "mill", "wind", "corn")]
    texts = [f"{word} is here" for word in ("crow", "mill", "wind", "corn")]
    encoder = text_encoder("bert")
    sides = [encoder.encode(side, [None] * 4, 24) for side in (queries, texts)]
    rows = contrastive.encode(sides[0], sides[1], [])
    model = finetuned("bert", head_config("embedding"), vocab_size=300)
    assert train(model, rows, 0.05) < 0.05
    with torch.no_grad():
        vectors = [model(torch.from_numpy(side.rows)) for side in sides]
    assert (vectors[0] @ vectors[1].T).argmax(1).tolist() == [0, 1, 2, 3]
    torch.testing.assert_close(vectors[0].norm(dim=1), torch.ones(4))


def test_a_text_that_answers_two_queries_is_no_negative() -> None:
    encoder = text_encoder("bert")
    same, other = (encoder.encode([a, b], [None] * 2, 24) for a, b in (("x", "x"), ("x", "y")))
    queries = encoder.encode(["q", "r"], [None] * 2, 24)
    model = finetuned("bert", head_config("embedding"), vocab_size=300)
    losses = []
    for positives in (same, other):
        examples = contrastive.Contrastive()(
            contrastive.encode(queries, positives, []), NUMBERS[:2]
        )
        losses.append(model(examples.inputs, examples.targets).item())
    assert losses[0] == 0
    assert losses[1] > 0


def test_negatives_are_told_from_the_positive() -> None:
    encoder = text_encoder("bert")
    texts = [encoder.encode([text], [None], 24) for text in ("q", "x", "y")]
    rows = contrastive.encode(texts[0], texts[1], texts[2:])
    model = finetuned("bert", head_config("embedding", num_negatives=1), vocab_size=300)
    examples = contrastive.Contrastive(1)(rows, NUMBERS[:1])
    assert model(examples.inputs, examples.targets) > 0


def test_a_negative_that_an_example_does_not_have_counts_for_no_query() -> None:
    encoder = text_encoder("bert")
    queries, positives, negatives = (
        encoder.encode(texts, [None] * 2, 24) for texts in (["q", "r"], ["x", "y"], ["z", "y"])
    )
    model = finetuned("bert", head_config("embedding", num_negatives=1), vocab_size=300)
    rows = contrastive.encode(
        queries, positives, [negatives]
    )  # the second one's negative is its positive
    examples = contrastive.Contrastive(1)(rows, NUMBERS[:2])
    with torch.no_grad():
        asked, *texts = (
            model(torch.from_numpy(side.rows)) for side in (queries, positives, negatives)
        )
        scores = asked @ torch.cat([texts[0], texts[1][:1]]).T / model.head.temperature
        expected = torch.nn.functional.cross_entropy(scores, torch.arange(2), reduction="sum")
        torch.testing.assert_close(model(examples.inputs, examples.targets), expected)


def test_a_maximum_length_without_room_for_a_text_is_refused() -> None:
    with pytest.raises(UserError):
        TextEncoder(tokenizer().to_str().encode(), EOS, ends_text=True).encode(["a"], [None], 2)

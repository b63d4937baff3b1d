"""Grammatical minimal pairs from templates: two sentences that differ in what makes one of them wrong.

In the manner of BLiMP (Warstadt et al. 2020), with words that are frequent in manuals and books alike. The
pairs are the same on every machine: each is a draw by its number.
"""

import random
from collections.abc import Callable, Iterator, Mapping

PAIRS = 40  # of each phenomenon

# Singular, plural; persons and things.
PEOPLE = (
    ("boy", "boys"), ("girl", "girls"), ("teacher", "teachers"), ("friend", "friends"), ("king", "kings"),
    ("doctor", "doctors"), ("student", "students"), ("author", "authors"), ("brother", "brothers"),
    ("neighbor", "neighbors"), ("writer", "writers"), ("driver", "drivers"),
)  # fmt: skip
THINGS = (
    ("book", "books"), ("house", "houses"), ("letter", "letters"), ("door", "doors"), ("table", "tables"),
    ("tree", "trees"), ("road", "roads"), ("picture", "pictures"), ("key", "keys"), ("window", "windows"),
    ("garden", "gardens"), ("stone", "stones"),
)  # fmt: skip
# With "an": they begin with a vowel.
VOWEL_THINGS = (
    "apple",
    "egg",
    "island",
    "office",
    "engine",
    "answer",
    "idea",
    "example",
    "object",
    "element",
)
# Base form, third person, past, participle; with an object.
VERBS = (
    ("see", "sees", "saw", "seen"), ("take", "takes", "took", "taken"), ("write", "writes", "wrote", "written"),
    ("give", "gives", "gave", "given"), ("know", "knows", "knew", "known"), ("eat", "eats", "ate", "eaten"),
    ("draw", "draws", "drew", "drawn"), ("break", "breaks", "broke", "broken"),
    ("choose", "chooses", "chose", "chosen"), ("forget", "forgets", "forgot", "forgotten"),
)  # fmt: skip
# Without one.
ACTS = (
    ("go", "goes", "went"), ("come", "comes", "came"), ("run", "runs", "ran"), ("sing", "sings", "sang"),
    ("sleep", "sleeps", "slept"), ("speak", "speaks", "spoke"), ("fall", "falls", "fell"), ("stand", "stands", "stood"),
)  # fmt: skip
ADJECTIVES = ("old", "small", "red", "new", "large", "good", "dark", "long", "white", "young")
COMPARATIVES = (("old", "older"), ("small", "smaller"), ("tall", "taller"), ("long", "longer"), ("fast", "faster"),
                ("young", "younger"), ("strong", "stronger"), ("cold", "colder"))  # fmt: skip
PLACES = (
    "in the garden",
    "near the river",
    "at the table",
    "behind the house",
    "in the city",
    "on the road",
)
PRONOUNS = (("he", "him"), ("she", "her"), ("they", "them"), ("we", "us"))
WHEN = ("every day", "in the morning", "at night", "once a week", "in the summer")

Pair = tuple[str, str]
Draw = random.Random


def _subject_verb(draw: Draw) -> Pair:
    """A verb agrees with its subject in number."""
    singular, plural = draw.choice(PEOPLE)
    base, third, _ = draw.choice(ACTS)
    rest = draw.choice(WHEN)
    if draw.random() < 0.5:
        return f"The {singular} {third} {rest}.", f"The {singular} {base} {rest}."
    return f"The {plural} {base} {rest}.", f"The {plural} {third} {rest}."


def _agreement_across(draw: Draw) -> Pair:
    """The subject counts, not the noun before the verb."""
    thing, other = draw.sample(THINGS, 2)
    owner = draw.choice(PEOPLE)[0]
    adjective = draw.choice(ADJECTIVES)
    if draw.random() < 0.5:
        start = f"The {thing[0]} near the {other[1]} of the {owner}"
        return f"{start} is {adjective}.", f"{start} are {adjective}."
    start = f"The {thing[1]} near the {other[0]} of the {owner}"
    return f"{start} are {adjective}.", f"{start} is {adjective}."


def _determiner_noun(draw: Draw) -> Pair:
    """``this`` goes with a singular, ``these`` with a plural."""
    singular, plural = draw.choice(THINGS)
    person, (_, _, past, _) = draw.choice(PEOPLE)[0], draw.choice(VERBS)
    start = f"The {person} {past}"
    one, many = draw.choice((("this", "these"), ("that", "those")))
    if draw.random() < 0.5:
        return f"{start} {one} {singular}.", f"{start} {one} {plural}."
    return f"{start} {many} {plural}.", f"{start} {many} {singular}."


def _reflexive(draw: Draw) -> Pair:
    """A reflexive pronoun agrees with its subject."""
    _, plural = draw.choice(PEOPLE)
    past = draw.choice(("saw", "hurt", "helped", "knew", "asked", "blamed", "saved", "watched"))
    place = draw.choice(PLACES)
    wrong = draw.choice(("himself", "herself", "itself"))
    return f"The {plural} {past} themselves {place}.", f"The {plural} {past} {wrong} {place}."


def _participle(draw: Draw) -> Pair:
    """``has`` takes the participle, not the past."""
    (_, _, past, participle) = draw.choice([verb for verb in VERBS if verb[2] != verb[3]])
    person, thing = draw.choice(PEOPLE)[0], draw.choice(THINGS)[0]
    start = f"The {person} has"
    return f"{start} {participle} the {thing}.", f"{start} {past} the {thing}."


def _do_support(draw: Draw) -> Pair:
    """After ``did not`` stands the base form."""
    base, _, past, _ = draw.choice(VERBS)
    person, thing = draw.choice(PEOPLE)[0], draw.choice(THINGS)[0]
    start = f"The {person} did not"
    return f"{start} {base} the {thing}.", f"{start} {past} the {thing}."


def _article(draw: Draw) -> Pair:
    """``an`` stands before a vowel."""
    person, (_, _, past, _), place = draw.choice(PEOPLE)[0], draw.choice(VERBS), draw.choice(PLACES)
    if draw.random() < 0.5:
        noun = draw.choice(VOWEL_THINGS)
        return f"The {person} {past} an {noun} {place}.", f"The {person} {past} a {noun} {place}."
    noun = draw.choice(THINGS)[0]
    return f"The {person} {past} a {noun} {place}.", f"The {person} {past} an {noun} {place}."


def _comparative(draw: Draw) -> Pair:
    """A comparative stands before ``than``."""
    adjective, comparative = draw.choice(COMPARATIVES)
    one, other = draw.sample(PEOPLE, 2)
    start, end = f"The {one[0]} is", f"than the {other[0]}."
    return f"{start} {comparative} {end}", f"{start} {adjective} {end}"


def _pronoun_case(draw: Draw) -> Pair:
    """A preposition takes the object form."""
    nominative, objective = draw.choice(PRONOUNS)
    person, thing = draw.choice(PEOPLE)[0], draw.choice(THINGS)[0]
    preposition = draw.choice(("for", "with", "from", "to"))
    verb = {"for": "bought", "with": "shared", "from": "took", "to": "gave"}[preposition]
    start = f"The {person} {verb} the {thing} {preposition}"
    return f"{start} {objective}.", f"{start} {nominative}."


def _quantifier(draw: Draw) -> Pair:
    """``many`` goes with what can be counted."""
    plural, place = draw.choice(THINGS)[1], draw.choice(PLACES)
    good, bad = draw.choice((("many", "much"), ("few", "little")))
    start = draw.choice(("There are", "They found", "We saw"))
    return f"{start} {good} {plural} {place}.", f"{start} {bad} {plural} {place}."


def _infinitive(draw: Draw) -> Pair:
    """``to`` takes the base form."""
    base, third, _ = draw.choice(ACTS)
    person = draw.choice(PEOPLE)[0]
    verb, place = draw.choice(("wants", "hopes", "tries", "needs")), draw.choice(PLACES)
    return f"The {person} {verb} to {base} {place}.", f"The {person} {verb} to {third} {place}."


def _adjective_order(draw: Draw) -> Pair:
    """An adjective stands before its noun."""
    adjective, thing = draw.choice(ADJECTIVES), draw.choice(THINGS)[0]
    person, (_, _, past, _) = draw.choice(PEOPLE)[0], draw.choice(VERBS)
    start = f"The {person} {past} the"
    return f"{start} {adjective} {thing}.", f"{start} {thing} {adjective}."


def _negative_polarity(draw: Draw) -> Pair:
    """``ever`` needs a negation."""
    (_, _, _, participle), thing = draw.choice(VERBS), draw.choice(THINGS)[0]
    person = draw.choice(PEOPLE)[0]
    good, bad = draw.choice((("No", "Some"), ("No", "This")))
    end = f"{person} has ever {participle} the {thing}."
    return f"{good} {end}", f"{bad} {end}"


def _inversion(draw: Draw) -> Pair:
    """A question has its auxiliary before the subject."""
    base = draw.choice(ACTS)[0]
    person = draw.choice(PEOPLE)[0]
    word = draw.choice(("Where", "Why", "When", "How"))
    auxiliary = draw.choice(("will", "can", "did"))
    return f"{word} {auxiliary} the {person} {base}?", f"{word} the {person} {auxiliary} {base}?"


PHENOMENA: Mapping[str, Callable[[Draw], Pair]] = {
    "subject_verb": _subject_verb,
    "agreement_across": _agreement_across,
    "determiner_noun": _determiner_noun,
    "reflexive": _reflexive,
    "participle": _participle,
    "do_support": _do_support,
    "article": _article,
    "comparative": _comparative,
    "pronoun_case": _pronoun_case,
    "quantifier": _quantifier,
    "infinitive": _infinitive,
    "adjective_order": _adjective_order,
    "negative_polarity": _negative_polarity,
    "inversion": _inversion,
}


def iter_minimal_pairs() -> Iterator[dict[str, str]]:
    """Yield the items, of each phenomenon as many; no pair comes twice."""
    for name, make in PHENOMENA.items():
        seen: set[Pair] = set()
        # A seed of text is hashed with SHA-512: the same on every machine and in every version of Python.
        draw = random.Random(f"minimal pairs: {name}")
        while len(seen) < PAIRS:
            good, bad = make(draw)
            if (good, bad) in seen:
                continue
            seen.add((good, bad))
            yield {"id": f"{name}-{len(seen)}", "domain": name, "good": good, "bad": bad}

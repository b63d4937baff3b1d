import pytest

from infra.language_id import UNKNOWN, identify, prepare_lid_input

SAMPLES = {
    "en": "All human beings are born free and equal in dignity and rights.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos.",
    "ru": "Все люди рождаются свободными и равными в своём достоинстве и правах.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ar": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق.",
}


def test_languages_are_detected_in_one_call() -> None:
    codes, scores = identify(list(SAMPLES.values()), 10_000)
    assert codes == list(SAMPLES)
    assert all(0.5 < score <= 1 for score in scores)
    assert scores == [round(score, 4) for score in scores]


@pytest.mark.parametrize("text", ["", " \n\t", "12 345 --- 67", "...", "😀"])
def test_a_text_without_letters_has_no_language(text: str) -> None:
    assert identify([text], 100) == ([UNKNOWN], [0.0])


def test_no_texts() -> None:
    assert identify([], 100) == ([], [])


def test_only_the_beginning_counts() -> None:
    english, german = SAMPLES["en"] * 4, SAMPLES["de"] * 400
    size = len(english)
    assert identify([english + german], size) == identify([english], size)
    assert identify([english + german], 100_000)[0] == ["de"]


def test_the_model_reads_one_line() -> None:
    assert prepare_lid_input("a\r\n\nb\u2028c   d ", 100) == "a b c d"
    assert prepare_lid_input("abc def", 5) == "abc d"
    broken = SAMPLES["fr"].replace(" ", "\n")
    assert identify([broken], 10_000) == identify([SAMPLES["fr"]], 10_000)


def test_text_in_capitals_has_the_language_of_its_words() -> None:
    texts = {
        "pl": "Wszyscy ludzie rodzą się wolni i równi pod względem swej godności i swych praw.",
        "cs": "Všichni lidé rodí se svobodní a sobě rovní co do důstojnosti a práv.",
        "tr": "Bütün insanlar hür, haysiyet ve haklar bakımından eşit doğarlar.",
        **{code: SAMPLES[code] for code in ("en", "de", "fr", "es", "ru")},
    }
    assert identify([text.upper() for text in texts.values()], 10_000)[0] == list(texts)
    mostly = texts["pl"].upper() + " (tekst prawny)"
    assert identify([mostly], 10_000)[0] == ["pl"]
    # Text with some capitals is read as it is.
    assert prepare_lid_input("The NATO and the EU met.", 100) == "The NATO and the EU met."
    assert prepare_lid_input("北京 ABC 上海市人民政府", 100) == "北京 ABC 上海市人民政府"


def test_scores_do_not_depend_on_other_texts() -> None:
    together = identify(list(SAMPLES.values()) * 3, 10_000)
    alone = [identify([text], 10_000) for text in list(SAMPLES.values()) * 3]
    assert together == ([c for (c,), _ in alone], [s for _, (s,) in alone])

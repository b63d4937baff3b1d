"""Pairs whose languages are the wrong way round."""

from tasks.finetune.data.swapped import find_swapped

ENGLISH = [
    "The package contains the documentation of the library.",
    "Please enter a valid address of your mail account.",
    "This program compresses files faster than others do.",
    "OK",
]
GERMAN = [
    "Das Paket enthält die Dokumentation der Bibliothek.",
    "Bitte geben Sie eine gültige Adresse Ihres Postfachs ein.",
    "Dieses Programm komprimiert Dateien schneller als andere.",
    "OK",
]


def test_swapped_pairs_are_found_and_others_are_not() -> None:
    sources = [*ENGLISH, *GERMAN[:3]]
    targets = [*GERMAN, *ENGLISH[:3]]
    assert find_swapped(sources, targets, ("en", "de")) == [False] * 4 + [True] * 3
    assert find_swapped(sources, targets, ("en-GB", "de-AT")) == [False] * 4 + [True] * 3
    assert not any(find_swapped(sources, targets, ("de-AT", "de-CH")))
    # A text that was not translated is another problem.
    assert find_swapped(ENGLISH, ENGLISH, ("en", "de")) == [False] * 4
    # Single words are identified as anything.
    assert find_swapped(["Status", "Name"], ["Status", "Name"], ("en", "de")) == [False, False]

"""The picture of the data sets of a run."""

from xml.etree import ElementTree as ET

from flows.lineage_graph import MAX_COLUMNS, Node, lineage_svg

SVG = "{http://www.w3.org/2000/svg}"


def node(label: str, *inputs: str, cached: bool = False) -> Node:
    return Node(label, "3 documents", label.split(maxsplit=1)[0], inputs, cached)


def draw(*nodes: Node) -> ET.Element:
    picture = lineage_svg(nodes)
    assert picture is not None
    return ET.fromstring(picture)


def test_each_data_set_is_below_those_it_was_made_from() -> None:
    root = draw(
        node("acquire a"),
        node("acquire b", cached=True),
        node("annotate b", "acquire b"),
        node("select", "acquire a", "acquire b", "annotate b", "of another run"),
    )
    boxes = [box for box in root.iter(f"{SVG}rect") if box.get("class") != "page"]
    assert [box.get("class") for box in boxes] == ["new", "cached", "new", "new"]
    ys = [float(box.get("y", "")) for box in boxes]
    assert ys[0] == ys[1] < ys[2] < ys[3]
    assert boxes[2].get("x") == boxes[1].get("x"), "below its only input"
    assert len(list(root.iter(f"{SVG}path"))) == 4
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert texts[::2] == ["acquire a", "acquire b", "annotate b", "select"]


def test_names_are_text() -> None:
    assert any(text.text == "x <&> y" for text in draw(node("x <&> y")).iter(f"{SVG}text"))


def test_a_picture_that_nobody_could_read_is_not_drawn() -> None:
    assert lineage_svg([node(f"acquire {n}") for n in range(MAX_COLUMNS + 1)]) is None
    assert lineage_svg([]) is None

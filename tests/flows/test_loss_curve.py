"""The loss curve that Prefect's UI shows."""

import base64
import re
from itertools import pairwise
from xml.etree import ElementTree as ET

from flows.loss_curve import loss_curve_svg
from flows.svg import data_url

SVG = "{http://www.w3.org/2000/svg}"
SERIES = {
    "loss": [(float(step), 5.0 - step / 10) for step in range(30)],
    "validation_loss": [(10.0, 4.5), (20.0, 3.7)],
}


def test_a_curve_is_a_self_contained_image() -> None:
    root = ET.fromstring(loss_curve_svg("<tiny>", SERIES))
    assert root.tag == f"{SVG}svg"
    assert len(list(root.iter(f"{SVG}polyline"))) == 2
    assert [text.text for text in root.iter(f"{SVG}text")][:2] == ["loss", "validation loss"]
    text = ET.tostring(root, encoding="unicode")
    used = set(re.findall(r"var\((--[a-z0-9-]+)\)", text))
    assert used <= set(re.findall(r"(--[a-z0-9-]+):#", text)), "a variable of the page is missing"


def test_any_number_of_curves_has_a_legend_in_the_colors_of_the_curves() -> None:
    series = {f"loss_{number}": SERIES["loss"] for number in range(8)}
    svg = loss_curve_svg("eight", series)
    root = ET.fromstring(svg)
    squares = [item for item in root.iter(f"{SVG}rect") if item.get("height") == "10"]
    colors = dict(re.findall(r"(--series-[0-9]):(#[0-9a-f]{6})", svg))
    curves = re.findall(r"<polyline [^>]*stroke:var\((--series-[0-9])\)", svg)
    assert [item.get("fill") for item in squares] == [colors[name] for name in curves]
    positions = {(item.get("x"), item.get("y")) for item in squares}
    assert len(positions) == len(series)
    assert all(int(item.get("x", "")) + 130 <= int(root.get("width", "")) for item in squares)


def test_the_url_holds_the_image() -> None:
    kind, _, data = data_url(loss_curve_svg("tiny", SERIES)).partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert ET.fromstring(base64.b64decode(data)).tag == f"{SVG}svg"


def test_long_names_of_curves_do_not_overlap() -> None:
    series = {f"a model with a long name {number}": SERIES["loss"] for number in range(4)}
    root = ET.fromstring(loss_curve_svg("four", series))
    squares = [item for item in root.iter(f"{SVG}rect") if item.get("height") == "10"]
    rows: dict[str, list[float]] = {}
    for square in squares:
        rows.setdefault(square.get("y", ""), []).append(float(square.get("x", "")))
    width = 6 * len("a model with a long name 0")
    assert all(b - a > width for xs in rows.values() for a, b in pairwise(xs))
    assert sum(map(len, rows.values())) == 4

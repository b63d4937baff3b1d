"""The loss curve that Prefect's UI shows."""

import base64
import re
from xml.etree import ElementTree as ET

from flows.loss_curve import data_url, loss_curve_svg

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


def test_the_url_holds_the_image() -> None:
    kind, _, data = data_url(loss_curve_svg("tiny", SERIES)).partition(";base64,")
    assert kind == "data:image/svg+xml"
    assert ET.fromstring(base64.b64decode(data)).tag == f"{SVG}svg"

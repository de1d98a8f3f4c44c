"""From a matplotlib figure to SVG that lives inside a page: themed by classes, no inline styles, always the same bytes.

Left out: what is drawn (`figures.py`). Floor 5. Figures are drawn in stand-in colours, one for each role of `COLOURS`;
here they become classes such as `f-ink` (fill) and `s-ink` (stroke), which the page's style sheet sets for light and
dark.
"""

import io
import re
from typing import Any
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

COLOURS = {
    "ink": "#010101",
    "muted": "#020202",
    "rule": "#030303",
    "paper": "#040404",
    "one": "#050505",
    "two": "#060606",
    "three": "#070707",
    "four": "#080808",
}
"""Role -> stand-in colour."""

_ROLES = {colour: role for role, colour in COLOURS.items()}
_ATTRIBUTES = (
    "opacity",
    "fill-opacity",
    "stroke-opacity",
    "stroke-width",
    "stroke-dasharray",
    "stroke-linecap",
    "text-anchor",
)
_DROPPED = ("metadata", "style")
_FONT_SIZE = re.compile(r"font(?:-size)?:\s*(?:[a-z0-9]+\s+)*?([\d.]+)px")


def embedded_svg(figure: Figure, *, name: str, label: str) -> str:
    """A figure as an `<svg>` element for HTML.

    Args:
        figure: Drawn in `COLOURS` only.
        name: Unique on the page; prefixes every id, so that figures do not clash.
        label: What it shows, for readers who cannot see it.
    """
    buffer = io.BytesIO()
    settings: Any = {"svg.hashsalt": "fairplay", "svg.fonttype": "none", "path.simplify": True}
    with matplotlib.rc_context(settings):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(buffer.getvalue())  # noqa: S314 - what matplotlib has just written
    _clean(root, name)
    box = root.get("viewBox", "0 0 1 1")
    root.attrib.clear()
    root.attrib.update({"viewBox": box, "role": "img", "aria-label": label})
    return ElementTree.tostring(root, encoding="unicode").replace("\n", "")


def _clean(element: ElementTree.Element, name: str) -> None:
    for child in list(element):
        if _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child, name)
    element.tag = _local(element.tag)
    attributes: dict[str, str] = {}
    for key, value in element.attrib.items():
        key = _local(key)
        if key == "style":
            attributes.update(_presentation(value))
        elif key == "id":
            if element.tag != "g":
                attributes["id"] = f"{name}-{value}"
        else:
            attributes[key] = value.replace("#", f"#{name}-") if key in ("href", "clip-path") else value
    element.attrib.clear()
    element.attrib.update(attributes)


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _presentation(style: str) -> dict[str, str]:
    """Inline style to attributes and classes; a policy against inline styles then holds for figures, too."""
    attributes: dict[str, str] = {}
    classes: list[str] = []
    declarations = dict(part.split(":", 1) for part in style.split(";") if ":" in part)
    for key, value in ((key.strip(), value.strip()) for key, value in declarations.items()):
        if key in ("fill", "stroke"):
            if value in _ROLES:
                classes.append(f"{key[0]}-{_ROLES[value]}")
            else:
                attributes[key] = value
        elif key in _ATTRIBUTES:
            attributes[key] = value
    size = _FONT_SIZE.search(style)
    if size:
        attributes["font-size"] = size.group(1)
    if classes:
        attributes["class"] = " ".join(classes)
    return attributes

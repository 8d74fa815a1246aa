"""The verdict as a badge: a picture that needs nothing beside itself, or what shields.io makes one of."""

from __future__ import annotations

import json
from typing import Final
from xml.etree import ElementTree as ET

from xtrack_conformance.report import Report

_COLOURS: Final = {
    "conformant": ("#1b7a48", "brightgreen"),
    "conformant-with-exceptions": ("#7a7a12", "yellowgreen"),
    "nonconformant": ("#b4232c", "red"),
    "incomplete": ("#6b6f76", "lightgrey"),
}
_WIDTH: Final = 6.6
"""Pixels of a letter of 11 px in the widest of the fonts; ``textLength`` makes the others fit."""


def label_of(report: Report) -> str:
    """Return what stands on the left."""
    return f"XTrack {report.protocol} conformance"


def message_of(report: Report) -> str:
    """Return what stands on the right: the verdict with the roles it is about, and how much of the cases."""
    if report.only:
        return f"{report.verdict} (a part)"
    return f"{report.verdict}: {', '.join(report.roles)}" if report.roles else report.verdict


def as_endpoint(report: Report) -> str:
    """Return the JSON of a shields.io endpoint."""
    colour = "lightgrey" if report.only and report.verdict == "conformant" else _COLOURS[report.verdict][1]
    found = {"schemaVersion": 1, "label": label_of(report), "message": message_of(report), "color": colour}
    return json.dumps(found) + "\n"


def as_svg(report: Report) -> str:
    """Return the picture."""
    label, message = label_of(report), message_of(report)
    colour = _COLOURS["incomplete" if report.only and report.verdict == "conformant" else report.verdict][0]
    left, right = (round(len(text) * _WIDTH) + 14 for text in (label, message))
    width = left + right
    namespace = "http://www.w3.org/2000/svg"
    svg = ET.Element("svg", xmlns=namespace, width=str(width), height="20", role="img")
    svg.set("aria-label", f"{label}: {message}")
    ET.SubElement(svg, "title").text = f"{label}: {message}"
    clip = ET.SubElement(svg, "clipPath", id="r")
    ET.SubElement(clip, "rect", width=str(width), height="20", rx="4")
    group = ET.SubElement(svg, "g")
    group.set("clip-path", "url(#r)")
    ET.SubElement(group, "rect", width=str(left), height="20", fill="#3c4149")
    ET.SubElement(group, "rect", x=str(left), width=str(right), height="20", fill=colour)
    texts = ET.SubElement(svg, "g", fill="#fff")
    texts.set("font-family", "Verdana,DejaVu Sans,Geneva,sans-serif")
    texts.set("font-size", "11")
    for x, size, text in ((7, left, label), (left + 7, right, message)):
        ET.SubElement(texts, "text", x=str(x), y="14", textLength=str(size - 14)).text = text
    return ET.tostring(svg, encoding="unicode") + "\n"

"""JUnit XML, as CI servers read it: a suite for each folder, a case for each check."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from xml.etree import ElementTree

from probes.report.failure import value
from probes.report.reader import Results, key_text

#: What XML 1.0 cannot carry.
_UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {
    "deviates": "failure",
    "broke": "error",
    "lost": "error",
    "not_run": "skipped",
    "not_applicable": "skipped",
}


def text(results: Results) -> str:
    """The whole file. A deviation is a failure unless it is known; what broke or was lost is an error."""
    root = ElementTree.Element("testsuites", name="socketcall")
    for folder, found in groupby(results.checks, key=lambda check: str(check["id"]).split(".")[0]):
        suite = ElementTree.SubElement(root, "testsuite", name=folder)
        kinds: Counter[str] = Counter()
        for check in found:
            case = ElementTree.SubElement(suite, "testcase", classname=check["id"], name=_plain(key_text(check)))
            kinds["tests"] += 1
            element = "skipped" if "known" in check else _ELEMENTS.get(check["verdict"])
            if element is None:
                continue
            kinds[element] += 1
            message = check.get("known") or check["detail"] or ""
            if check["verdict"] == "deviates":
                message = f"expected {value(check['expected'])}, actual {value(check['actual'])} {message}".strip()
            ElementTree.SubElement(case, element, message=_plain(message), type=check["verdict"])
        for name, attribute in (
            ("tests", "tests"),
            ("failure", "failures"),
            ("error", "errors"),
            ("skipped", "skipped"),
        ):
            suite.set(attribute, str(kinds[name]))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _plain(said: str) -> str:
    return _UNSPEAKABLE.sub("?", said)

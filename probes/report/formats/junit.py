"""JUnit XML, as CI servers read it: a suite for each folder, a case for each check."""

from __future__ import annotations

import re
from collections import Counter
from itertools import groupby
from xml.etree import ElementTree

from probes.report.failure import comparison
from probes.report.reader import Results

#: What XML 1.0 cannot carry.
_ILLEGAL = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ELEMENTS = {
    "deviates": "failure",
    "broke": "error",
    "lost": "error",
    "not_run": "skipped",
    "not_applicable": "skipped",
}


def text(results: Results) -> str:
    """Return the whole file. A deviation is a failure unless --expect lists it; what broke or was lost is an error."""
    root = ElementTree.Element("testsuites", name="socketcall")
    for folder, found in groupby(results.checks, key=lambda check: check.key.id.split(".")[0]):
        suite = ElementTree.SubElement(root, "testsuite", name=folder)
        kinds: Counter[str] = Counter()
        for check in found:
            case = ElementTree.SubElement(suite, "testcase", classname=check.key.id, name=_legal(str(check.key)))
            kinds["tests"] += 1
            element = "skipped" if check.known is not None else _ELEMENTS.get(check.verdict)
            if element is None:
                continue
            kinds[element] += 1
            message = check.known or check.detail
            if check.verdict == "deviates":
                message = f"{comparison(check)} {message}".strip()
            ElementTree.SubElement(case, element, message=_legal(message), type=check.verdict)
        for name, attribute in (
            ("tests", "tests"),
            ("failure", "failures"),
            ("error", "errors"),
            ("skipped", "skipped"),
        ):
            suite.set(attribute, str(kinds[name]))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _legal(text: str) -> str:
    return _ILLEGAL.sub("?", text)

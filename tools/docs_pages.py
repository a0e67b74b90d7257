"""A hook of mkdocs: README.md is the first page, and links out of docs/ are text."""

from __future__ import annotations

import re
from typing import Any

from probes.installation import checkout

#: A link to a file of the checkout that is no page.
_OUTSIDE = re.compile(r"\[([^\]\n]*)\]\((?:\.\./|tests/|probes/|vagrant/|tools/)[^)\n]*\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds README.md as index.md, with links as from docs/."""
    from mkdocs.structure.files import File

    text = (checkout() / "README.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Leaves of a link out of the documents its text."""
    return _OUTSIDE.sub(r"\1", markdown.replace("](../README.md", "](index.md"))

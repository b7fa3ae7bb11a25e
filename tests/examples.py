"""The examples in the documents, which the tests execute."""

from __future__ import annotations

from docs.generate import ROOT


def example(document: str, name: str) -> str:
    """A document's block of Python that stands behind a mark."""
    text = (ROOT / "docs" / f"{document}.md").read_text(encoding="utf8")
    return text.split(f"<!-- {name}: executed by the tests -->\n```python\n")[1].split("```")[0]

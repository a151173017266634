"""How Sphinx makes the site of README.md, docs/ and the pages beside README.md: make site

The Markdown is what GitHub shows. What is for the site alone stands in comments `<!-- site: … -->`, and the navigation
here, so that a page that nobody put into it is a warning, and warnings fail.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from sphinx.application import Sphinx

project = "bbqrec"
html_title = "bbqrec"
extensions = ["myst_parser"]
root_doc = "README"
include_patterns = ["*.md", "docs/**.md"]
exclude_patterns = [".*", "bbqrec_cli", "demo", "examples", "runs", "site", "tests", "tools"]
highlight_language = "none"
smartquotes = False  # --split is an option, no dash
myst_heading_anchors = 4
"""Anchors as GitHub makes them."""

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_use_index = False

# A browser lets no page read another file on the disk, which the summaries below search results would take.
html_show_search_summary = False

NAVIGATION = {
    "Start": ("docs/first-hour", "docs/quickstart", "docs/data", "docs/gallery"),
    "Guide": (
        "docs/tokenizer", "docs/collisions", "docs/generator", "docs/systems", "docs/tuning", "docs/benchmark",
        "docs/export", "docs/python", "docs/adding-a-model",
    ),
    "Reference": ("docs/cli", "docs/scripting", "docs/file-formats", "docs/protocol", "docs/performance"),
    "Results": ("docs/results/README",),
    "The project": ("docs/architecture", "docs/extending", "CONTRIBUTING", "SECURITY", "CHANGELOG"),
}  # fmt: skip
TREE = "\n```{{toctree}}\n:hidden:\n{caption}\n{pages}\n```\n"


def setup(app: Sphinx) -> None:
    """What is done beside the settings above."""
    app.connect("source-read", add_to_page)
    app.connect("build-finished", add_first_page)


def add_to_page(app: Sphinx, name: str, source: list[str]) -> None:
    """What is in `site:` comments; the navigation below README.md; the pages of docs/results by their file names."""
    text = re.sub(r"<!-- site: (.*?) -->", r"\1", source[0], flags=re.DOTALL)
    if name == root_doc:
        for caption, pages in NAVIGATION.items():
            text += TREE.format(caption=f":caption: {caption}\n", pages="\n".join(f"/{page}" for page in pages))
    elif name == "docs/results/README":
        pages = sorted(path.stem for path in Path(app.srcdir, "docs/results").glob("*.md") if path.stem != "README")
        text += TREE.format(caption="", pages="\n".join(f"{page} <{page}>" for page in pages))
    elif name == "docs/cli":  # the search leads to a method's own options
        text = re.sub(r"^### \S+ (\S+)$", r"```{index} single: \1\n```\n\n\g<0>", text, flags=re.MULTILINE)
    source[0] = text


def add_first_page(app: Sphinx, failure: Exception | None) -> None:
    """index.html, which is what browsers and servers look for."""
    if failure is None:
        shutil.copy(Path(app.outdir, "README.html"), Path(app.outdir, "index.html"))

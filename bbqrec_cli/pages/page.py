"""A page: its contents, and writing it."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bbqrec_cli.errors import OutputExistsError, UsageError
from bbqrec_cli.outputs import check_output, replacing
from bbqrec_cli.pages.glossary import Term, explained, pattern
from bbqrec_cli.pages.plain import csv_text, tex, tex_cell
from bbqrec_cli.pages.tables import Table

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATES = {".html": "page.html.j2", ".md": "page.md.j2", ".tex": "page.tex.j2", ".csv": ""}
"""A page's suffix -> its template, in this folder; CSV needs none."""
SCRIPT = "page.js"
"""What an HTML page runs; it allows nothing else."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: a table, and a plot (SVG, '' for none; HTML only) with its caption."""

    table: Table
    plot: str = ""
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Page:
    """command: the command that makes the page; headline: the main outcome in a sentence; bad: what went wrong;
    appendix: a file's text, '' for none; advice: how to change the page."""

    title: str
    command: str
    summary: str
    sections: list[Section]
    headline: str = ""
    bad: str = ""
    appendix: str = ""
    appendix_title: str = ""
    advice: str = ""


def check_page(path: Path, *, force: bool) -> None:
    """Refuse a page that cannot be written, before any work begins.

    Raises:
        UsageError: another suffix; OutputExistsError, DataError, LackingError: see `check_output`.
    """
    if path.suffix.lower() not in TEMPLATES:
        raise UsageError(f"--report is {str(path)!r}; a name that ends in {' or '.join(TEMPLATES)} is needed")
    try:
        check_output(path, force=force)
    except OutputExistsError as error:
        raise OutputExistsError(error.message, "give --force to overwrite it, or --report another name") from None


def with_plots(path: Path) -> bool:
    """Whether the page is of a kind that shows plots."""
    return path.suffix.lower() == ".html"


def write_page(path: Path, page: Page, *, force: bool = False) -> None:
    """Write the whole page or nothing.

    Raises:
        The errors of `check_page`; DiskFullError, LackingError.
    """
    check_page(path, force=force)
    text = render(page, TEMPLATES[path.suffix.lower()])
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8")


def render(page: Page, template: str) -> str:
    """The page as text; parts without rows and plot are left out."""
    import jinja2

    if not template:
        return csv_text(each.table for each in page.sections)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"tex": tex, "texcell": tex_cell}
    environment.filters |= {"md": markdown, "fence": fence, "anchor": anchor, "terms": linked, "sha256": source_hash}
    sections = [each for each in page.sections if each.table.rows or each.plot]
    words = explained(each.table for each in sections)
    contents = [each.table.title for each in sections] + ["Words"] * bool(words)
    contents += [page.appendix_title] if page.appendix else []
    script = (Path(__file__).parent / SCRIPT).read_text(encoding="utf-8")
    return environment.get_template(template).render(
        page=page, sections=sections, words=words, contents=contents, anchors=anchors(contents), script=script
    )


def linked(text: str, words: Mapping[str, Term]) -> Markup:
    """A heading as HTML; the first word of it that the page explains is a link to that."""
    from markupsafe import Markup, escape

    for name in sorted(words, key=len, reverse=True):
        if found := pattern(name).search(text):
            link = Markup('<a href="#{}" title="{}">{}</a>')
            shown = link.format(anchor(f"word {name}"), words[name].meaning, found[0])
            return escape(text[: found.start()]) + shown + escape(text[found.end() :])
    return escape(text)


def source_hash(script: str) -> str:
    """A script's hash, as a Content-Security-Policy wants it."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def markdown(text: str) -> str:
    """Text escaped for Markdown, also in table cells."""
    return re.sub(r"([\\`*_\[\]<>|~&])", r"\\\1", " ".join(text.split()))


def fence(text: str) -> str:
    """A code fence longer than any in the text."""
    return "`" * max(3, 1 + max((len(each) for each in re.findall(r"`+", text)), default=0))


def anchor(title: str) -> str:
    """A heading's id."""
    return re.sub(r"[^\w]+", "-", title.lower()).strip("-")


def anchors(titles: Iterable[str]) -> list[str]:
    """The ids of a page's headings; a number tells apart those of which `anchor` makes the same."""
    found = dict[str, None]()
    for plain in map(anchor, titles):
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        found[next(each for each in itertools.chain([plain], numbered) if each not in found)] = None
    return list(found)

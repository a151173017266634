"""The site that `make site` makes of README.md and docs/: nothing leads nowhere, nothing comes from a network."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from pages.test_browser import CHROMIUM, FLAGS

ROOT = Path(__file__).parents[1]
OPENED = {"collisions.html", "benchmark.html"}
"""Pages that docs/gallery.md opens: `make site` adds them."""
LOADED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "object": "data"}
"""What a browser fetches by itself, and the attribute that says from where."""


LOOK = """<body><script>
(async () => {
  const found = {};
  for (const width of [390, 1280]) for (const page of PAGES) {
    const frame = document.createElement("iframe");
    frame.style = `width:${width}px;height:900px;border:0`;
    frame.src = page;
    document.body.append(frame);
    await new Promise((done) => frame.addEventListener("load", done));
    found[`${page} ${width}`] = frame.contentDocument.documentElement.scrollWidth - width;
    frame.remove();
  }
  const made = document.createElement("pre");
  made.id = "found";
  made.textContent = JSON.stringify(found);
  document.body.append(made);
})();
</script></body>"""
"""How far each page sticks out on a phone and on a wide screen."""


class Reader(HTMLParser):
    """Targets of links, addresses that the page loads, and ids of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loads: set[str] = set()
        self.ids: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids |= {found["id"]} if "id" in found else set()
        self.links |= {found["href"]} if tag == "a" and "href" in found else set()
        self.loads |= {found[LOADED[tag]]} if LOADED.get(tag) in found else set()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """That of BBQREC_SITE, made by `make site`; else one without the pages of examples/pages.sh."""
    if made := os.environ.get("BBQREC_SITE"):
        return Path(made).resolve()
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    made = tmp_path_factory.mktemp("site")
    options = ["-q", "-W", "--keep-going", "-c", "docs", "-d", str(tmp_path_factory.mktemp("doctrees"))]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *options, ".", str(made)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture(scope="module")
def pages(site) -> dict[Path, Reader]:
    return {path: Reader(path) for path in site.rglob("*.html")}


def test_every_page_has_its_place_in_the_navigation():
    """Sphinx warns, too; this says it among the fast tests."""
    conf = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    pages = {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")} | {path.stem for path in ROOT.glob("*.md")}
    assert not [page for page in sorted(pages) if f'"{page}"' not in conf]


@pytest.mark.slow
def test_every_page_is_there(site):
    sources = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    assert len(sources) > 40
    assert not [path for path in sources if not (site / path.relative_to(ROOT)).with_suffix(".html").exists()]


@pytest.mark.slow
def test_options_keep_their_dashes(site):
    assert "of --split time" in (site / "docs" / "cli.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_links_and_anchors_lead_somewhere(pages, site):
    lost = set()
    for path, page in pages.items():
        for link in page.links | page.loads:
            if link.startswith("https://"):
                continue
            file, _, anchor = link.partition("?")[0].partition("#")
            target = (path.parent / unquote(file)).resolve() if file else path
            if not target.exists():
                lost.add(target.relative_to(site).as_posix())
            elif anchor and target in pages and unquote(anchor) not in pages[target].ids:
                lost.add(f"{target.relative_to(site)}#{anchor}")
    assert lost == (set() if "BBQREC_SITE" in os.environ else {f"docs/gallery/{name}" for name in OPENED})


@pytest.mark.slow
def test_a_browser_asks_no_network(pages, site):
    loaded = {address for page in pages.values() for address in page.loads}
    assert any(address.endswith(".js") for address in loaded)
    assert not [address for address in loaded if re.match(r"\w*:?//", address)]
    for path in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(https?:)?//|@import", path.read_text(encoding="utf-8")), path


@pytest.mark.slow
def test_no_page_names_the_machine_that_made_it(site):
    texts = [path for path in site.rglob("*") if path.suffix in (".html", ".js", ".css", ".inv")]
    assert not [path for path in texts if str(ROOT).encode() in path.read_bytes()]


def dumped(address: str, profile: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """A page as Chromium has it after its scripts ran."""
    if CHROMIUM is None:
        pytest.fail("no Chromium; install it, or leave these tests out with -m 'not browser'")
    command = [CHROMIUM, *flags, f"--user-data-dir={profile}", address]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.browser
def test_the_search_works_from_the_disk(site, tmp_path):
    flags = [flag for flag in FLAGS if flag not in ("--allow-file-access-from-files", "--disable-web-security")]
    done = dumped((site / "search.html").as_uri() + "?q=rqvae", tmp_path, *flags)
    results = re.search(r'<div id="search-results">(.*?)</article>', done.stdout, re.DOTALL)
    assert results
    assert 'href="docs/cli.html#' in results[1], "the method's own options"
    assert not [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.browser
def test_no_page_is_wider_than_the_screen(site, tmp_path):
    pages = [path.relative_to(site).as_posix() for path in site.rglob("*.html") if path.name not in OPENED]
    look = site / "look.html"
    look.write_text(LOOK.replace("PAGES", json.dumps(pages)), encoding="utf-8")
    flags = [flag.replace("=5000", "=100000") for flag in FLAGS]
    try:
        found = re.search(r'<pre id="found">(.*?)</pre>', dumped(look.as_uri(), tmp_path, *flags).stdout, re.DOTALL)
    finally:
        look.unlink()
    assert found
    widths = json.loads(html.unescape(found[1]))
    assert len(widths) == 2 * len(pages)
    assert {page: width for page, width in widths.items() if width > 0} == {}

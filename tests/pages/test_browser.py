"""Pages in headless Chromium, on a phone and on a wide screen, light and dark."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from bbqrec_cli.benchmark.plots import cost_bars, epoch_panels, score_bars, sweep_lines
from bbqrec_cli.benchmark.result import Score
from bbqrec_cli.pages.page import Page, Section, write_page
from bbqrec_cli.pages.tables import Shown, make

pytestmark = [pytest.mark.browser, pytest.mark.drawn]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--allow-file-access-from-files",
    "--disable-web-security", "--enable-logging=stderr", "--virtual-time-budget=5000", "--dump-dom",
)  # fmt: skip
LOOK = """
<body><script>
const found = {}, widths = [390, 1280];
async function look(width) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.src = "page.html";
  document.body.append(frame);
  await new Promise((done) => frame.addEventListener("load", done));
  const page = frame.contentDocument, win = frame.contentWindow, all = (what) => [...page.querySelectorAll(what)];
  await new Promise((done) => setTimeout(done, 300));
  const seen = (each) => each.getClientRects().length > 0;
  const wide = all(".wide")[0], first = wide.querySelector("tbody td");
  wide.scrollLeft = 300;
  const firsts = () => [...wide.querySelectorAll("tbody tr")].map((row) => row.cells[0].firstChild.textContent);
  const heads = [...wide.querySelectorAll("th")], orders = [firsts()];
  for (const place of [1, 1, 1, 0]) {
    heads[place].querySelector("button").click();
    orders.push([heads[place].getAttribute("aria-sort"), ...firsts()]);
  }
  const swept = all(".wide").at(-1);
  swept.querySelector("th button").click();
  const values = [...swept.querySelectorAll("tbody tr")].map((row) => row.cells[0].textContent);
  const style = win.getComputedStyle(page.body);
  found[width] = {
    overflow: page.documentElement.scrollWidth - win.innerWidth,
    hints: all(".hint").map(seen),
    pictures: all(".item img").map((each) => [each.naturalWidth, each.getBoundingClientRect().width]),
    titles: all("td[title]").map((each) => each.title),
    plots: all("figure").map((each) => [...each.children].filter(seen).map((one) => one.className)),
    plotWidths: all("figure svg").filter(seen).map((each) => each.getBoundingClientRect().width),
    stays: Math.abs(first.getBoundingClientRect().left - wide.getBoundingClientRect().left) < 1,
    contents: all("nav a").map((each) => page.querySelector(each.hash) !== null),
    links: all("th a").map((each) => page.querySelector(each.hash) !== null),
    colours: [style.color, style.backgroundColor],
    orders,
    values,
  };
}
(async () => { for (const width of widths) await look(width);
  document.body.innerHTML = ""; const made = document.createElement("pre"); made.id = "found";
  made.textContent = JSON.stringify(found); document.body.append(made); })();
</script></body>
"""


def score(mean: float) -> Score:
    return Score(values=[mean], mean=mean, sd=None, low=mean - 0.01, high=mean + 0.01)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    if CHROMIUM is None:
        pytest.fail("no Chromium; install it, or leave these tests out with -m 'not browser'")
    made = tmp_path_factory.mktemp("browser")
    names = ["alpha", "beta10", "beta9", "a system with a long name and anunbreakablywordthatgoesonandonandon"]
    metrics = [f"recall@{k}" for k in (1, 5, 10, 20, 50, 100)]
    means = [0.2, 0.1, 100.5, None]
    wide = [
        (Shown((name, "what it is made of, in a line")), *("–" if mean is None else f"{mean:,} ± 0.1" for _ in metrics))
        for name, mean in zip(names, means, strict=True)
    ]
    systems = {name: {metric: score(0.1 + 0.01 * n) for metric in metrics} for n, name in enumerate(names)}
    nothing = make("Plots", (), [])
    pixel = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    shelf = Shown(("a title that is as long as titles are", "other ✓"), pictures=(pixel, ""), title="seed 0: a.h5")
    shelves = [(f"user-{n}", shelf, shelf) for n in range(3)]
    swept = [(str(n), dict.fromkeys(("beauty", "toys"), systems["alpha"])) for n in (2, 3, 4)]
    sections = [
        Section(
            table=make("Wide", ("system", *(f"Recall@{k}" for k in (1, 5, 10, 20, 50, 100))), wide, note="A note.")
        ),
        Section(table=make("Small", ("what", "perplexity"), [("one", 1), ("two", 2)])),
        Section(table=nothing, plot=score_bars(systems, metrics), caption="Bars."),
        Section(table=make("Side by side", ("user", "one", "other"), shelves, left=3)),
        Section(
            table=make("Sweep", (), []),
            caption="Sweep.",
            plot=sweep_lines("levels", swept, metrics[:2], title="Sweep, plot", claim="3"),
        ),
        Section(
            table=make("Epochs", (), []),
            caption="Panels.",
            plot=epoch_panels({name: [[(1, 0.1), (2, 0.2)]] * 2 for name in names}, "loss", title="Epochs, plot"),
        ),
        Section(
            table=make("Costs", (), []), plot=cost_bars({"s": {"a": 1, "b": 100}, "MB": {"b": 5}}), caption="Bars."
        ),
        Section(table=make("Values", ("width", "loss"), [("0.5", 1), ("1,200", 2), ("0.05", 3), ("999", 4)])),
    ]
    page = Page(
        title="A page", command="bbqrec benchmark " + "x" * 200, summary="Summary.", sections=sections,
        headline="The headline.", appendix="a = 1\n" + "y" * 300, appendix_title="The suite",
    )  # fmt: skip
    write_page(made / "page.html", page)
    (made / "look.html").write_text(LOOK, encoding="utf-8")
    return made


def looked(folder: Path, *, dark: bool) -> tuple[dict, list[str]]:
    """What the script in LOOK found, by width, and what was said on the console."""
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    profile = f"--user-data-dir={folder / 'profile'}"
    done = subprocess.run(
        [CHROMIUM, *FLAGS, scheme, profile, (folder / "look.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert found, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(found[1]), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def lightness(colour: str) -> float:
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765


@pytest.mark.parametrize("dark", [False, True])
def test_a_page_on_every_screen(folder, dark):
    found, console = looked(folder, dark=dark)
    assert console == []
    for width, kind in (("390", "narrow-plot"), ("1280", "wide-plot")):
        page = found[width]
        assert page["overflow"] <= 0, width
        assert page["plots"] == [[kind, "caption"]] * 4
        assert page["pictures"] == [[1, 32]] * 6, "loaded, and shown at one size"
        assert page["titles"] == ["seed 0: a.h5"] * 6
        assert max(page["plotWidths"]) <= int(width)
        assert all(page["contents"])
        assert len(page["contents"]) == 10, "eight sections, the words, the suite"
        assert page["links"] == [True] * 7
        assert page["values"] == ["0.05", "0.5", "999", "1,200"]
        ink, paper = map(lightness, page["colours"])
        assert (ink > 0.8 and paper < 0.2) if dark else (ink < 0.3 and paper > 0.9)
        names = ["alpha", "beta10", "beta9", "a system with a long name and anunbreakablywordthatgoesonandonandon"]
        down = [names[2], names[0], names[1], names[3]]
        up = [names[1], names[0], names[2], names[3]]
        words = ["alpha", "beta9", "beta10"]
        first, *rest, last = page["orders"]
        assert first == names
        assert rest == [["descending", *down], ["ascending", *up], [None, *names]]
        assert [each for each in last if each in words] == words, "numbers in words count as numbers"
    assert found["390"]["hints"] == [True, False, True, False]
    assert found["390"]["stays"], "the first column stays when the table is moved"
    assert found["1280"]["hints"] == [False] * 4

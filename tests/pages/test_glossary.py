from __future__ import annotations

from pathlib import Path

from bbqrec_cli.pages.glossary import TERMS, explained
from bbqrec_cli.pages.page import linked
from bbqrec_cli.pages.tables import make

DOCS = Path(__file__).parents[2] / "docs"


def test_every_term_has_a_page_that_says_more():
    for name, term in TERMS.items():
        assert name.lower() in (DOCS / f"{term.docs}.md").read_text(encoding="utf-8").lower(), name


def test_terms_are_whole_words_of_titles_columns_and_first_cells():
    tables = [make("Likeness", ("what", "unquantised"), [("Victims", "entropy")])]
    assert list(explained(tables)) == ["victims", "likeness"]


def test_a_link_leaves_the_text_as_it_is():
    words = explained([make("t", ("Recall@10 <i>", "unseen recall"), [])])
    assert str(linked("NDCG & <b>", words)) == "NDCG &amp; &lt;b&gt;"
    shown = str(linked("a < Recall@10", words))
    assert shown.startswith('a &lt; <a href="#word-recall" title="Share of the targets')
    assert shown.endswith(">Recall</a>@10")

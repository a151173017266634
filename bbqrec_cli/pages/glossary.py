"""Words of tables that need an explanation. A page explains those that it uses, and links them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from bbqrec_cli.pages.tables import Table


@dataclass(frozen=True)
class Term:
    """What a word means, in a sentence, and the page of docs/ that says more."""

    meaning: str
    docs: str


_SEEN = "With the items of a user's history left out of the ranking; such numbers are higher."
TERMS = {
    "Recall": Term("Share of the targets, one or more of a user, that are among the first k of all items.", "protocol"),
    "NDCG": Term("The same, weighted by the rank r of the target: 1 / log2(1 + r), mean over targets.", "protocol"),
    "MRR": Term("The same, weighted by 1 / r.", "protocol"),
    "unseen": Term(_SEEN, "benchmark"),
    "colliding": Term("Items that share their whole semantic ID with another item.", "collisions"),
    "distinct": Term("Different IDs, or different prefixes of IDs at a depth.", "collisions"),
    "by depth": Term("Colliding items if IDs ended after the first level, the second, and so on.", "collisions"),
    "entropy": Term("-Σ p log2 p over the shares p of items, in bits: what a code or a prefix tells.", "collisions"),
    "perplexity": Term("2 to the entropy: so many codes, used alike, would say as much.", "collisions"),
    "Gini": Term("0 where all hold equally many items, near 1 where one holds all.", "collisions"),
    "children": Term("Prefixes of a depth below one of the depth above.", "collisions"),
    "sharing": Term("Items that share all levels before with another item.", "collisions"),
    "parted": Term("Of the pairs that share all levels before: those whose code differs here.", "collisions"),
    "resolved alone": Term("Items that this code tells from all others that share the levels before.", "collisions"),
    "needed": Term("Items that the level tells apart only with this code.", "collisions"),
    "by chance": Term("What vectors that know nothing of the items would get.", "collisions"),
    "near-collisions": Term("Items whose quantised vectors lie close to each other.", "collisions"),
    "victims": Term("Items that share an ID although neither title nor features are alike.", "collisions"),
    "likeness": Term("Mean cosine of a feature between two items that share so many levels.", "collisions"),
    "agreement": Term("Adjusted mutual information of two files: 1 for the same groups, 0 as by chance.", "collisions"),
    "reconstruction": Term("Squared error of the decoded features, standardised, summed over the width.", "tokenizer"),
    "information": Term("CLUB's estimate of what the two parts of an encoder share, in nats.", "tokenizer"),
    "quantised": Term("With items as sums of their code vectors.", "tokenizer"),
}  # fmt: skip


def explained(tables: Iterable[Table]) -> dict[str, Term]:
    """The terms that titles, columns or first cells of the tables hold, in the order of `TERMS`."""
    texts = []
    for table in tables:
        texts += [table.title, *table.columns, *(row[0].lines[0] for row in table.rows if row)]
    words = "\n".join(texts)
    return {name: term for name, term in TERMS.items() if pattern(name).search(words)}


def pattern(name: str) -> re.Pattern[str]:
    """Finds a term, in any case, as a word of its own."""
    return re.compile(rf"\b{re.escape(name)}\b", re.IGNORECASE)

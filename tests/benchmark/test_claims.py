"""What is said to be best, in the words of the numbers; slices; recommendations side by side."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bbqrec_cli import hdf5
from bbqrec_cli.benchmark import report
from bbqrec_cli.benchmark.claims import claims, summed_up
from bbqrec_cli.benchmark.examples import ours_of
from bbqrec_cli.benchmark.run import BenchmarkConfig, run
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.data.splits import split_of
from bbqrec_cli.errors import UsageError

TABLE = '\n[[table]]\ntitle = "Mine"\nrows = ["ours", "sasrec", "popularity"]\ncolumns = ["recall@10", "ndcg@10"]\n'


@pytest.fixture
def result(folder, fake):
    """The tiny suite with more tables, on the fake stages; ours is best in NDCG, popularity in Recall."""

    def make(more: str = "", *changes: tuple[str, str], **options):
        text = (folder / "suite.toml").read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (folder / "more.toml").write_text(text + more)
        return run(BenchmarkConfig(suite=str(folder / "more.toml"), output=folder / "work", device="cpu", **options))

    return make


def test_a_claim_that_holds(result):
    made = result(TABLE + 'claim = "ours"\n')
    (claim,) = claims(made)
    score = made.layouts[0][1][""]["ours"]["ndcg@10"]
    assert (claim.holds, claim.best, claim.significant) == (True, "ours", score.holm_t < 0.05)
    assert claim.said.startswith("ours has the highest NDCG@10, 0.5000 ± 0.0000, ")
    assert claim.said.endswith("ahead of popularity, 0.4307 ± 0.0000.")
    assert summed_up(made) == "All that is claimed to be best is best here, too (1 claim)."


def test_a_claim_that_does_not_hold(result, folder):
    made = result(TABLE + 'claim = "sasrec"\n', report=folder / "page.html")
    (claim,) = claims(made)
    assert not claim.holds
    assert claim.said.startswith("ours has a higher NDCG@10 than sasrec, 0.5000 ± 0.0000 to 0.42")
    assert claim.said.endswith("; 2 of 2 others are ahead of it.")
    assert summed_up(made).startswith("1 of 1 claim does not hold here: Mine: ours has a higher NDCG@10")
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert page.count("does not hold") >= 2, "in the headline and in the table"
    assert page.index('<section id="claims">') < page.index('<section id="mine">')


def test_a_claim_of_a_tie(result):
    """Both find every target among the first ten."""
    table = TABLE.replace('["ours", "sasrec", "popularity"]', '["ours", "popularity"]')
    made = result(table.replace('["recall@10", "ndcg@10"]', '["ndcg@10"]') + 'claim = "ours"\n')
    systems = made.layouts[0][1][""]
    systems["ours"]["ndcg@10"] = dataclasses.replace(systems["popularity"]["ndcg@10"], against="popularity")
    (claim,) = claims(made)
    assert (claim.holds, claim.word) == (None, "not known")
    assert claim.said == "ours and popularity have the same NDCG@10, 0.4307 ± 0.0000."
    assert summed_up(made) == ""


def test_a_claim_beside_itself(result):
    """A sweep's value that the system has already is the same evaluation, with which nothing is compared."""
    sweep = '\n[[sweep]]\nname = "W"\nsystem = "sasrec"\noption = "width"\nvalues = [8]\n'
    table = '[[table]]\ntitle = "T"\nrows = ["sasrec", "W"]\ncolumns = ["ndcg@10"]\nclaim = "sasrec"\n'
    (claim,) = claims(result(sweep + table))
    assert (claim.holds, claim.said) == (None, "It was not run beside another one.")


def test_a_claim_of_the_last_metric(result):
    made = result(TABLE.replace('["recall@10", "ndcg@10"]', '["ndcg@10", "recall@10"]') + 'claim = "ours"\n')
    assert claims(made)[0].said.startswith("popularity has a higher Recall@10 than ours, 1.0000")


@pytest.mark.slow
@pytest.mark.drawn
def test_a_sweep_names_the_value(result, folder):
    sweep = '\n[[sweep]]\nname = "W"\nsystem = "sasrec"\noption = "width"\nvalues = [4, 8]\n'
    table = '[[table]]\ntitle = "Widths"\nrows = "W"\ncolumns = ["ndcg@10"]\nclaim = "8"\n'
    made = result(sweep + table, report=folder / "page.html")
    (claim,) = claims(made)
    assert (claim.holds, claim.best) == (None, "width 8")
    assert claim.said.startswith("8 and 4 have the same NDCG@10, "), "in the fake's numbers"
    page = (folder / "page.html").read_text(encoding="utf-8")
    assert 'aria-label="Widths, plot"' in page


def test_a_claim_among_two_sweeps(result):
    """Both have an 8; ours is ahead of sasrec."""
    sweep = '\n[[sweep]]\nname = "{0}"\nsystem = "{1}"\noption = "{2}"\nvalues = [8]\n'
    table = '[[table]]\ntitle = "Both"\nrows = ["W", "L"]\ncolumns = ["ndcg@10"]\nclaim = "sasrec, width=8"\n'
    (claim,) = claims(result(sweep.format("W", "sasrec", "width") + sweep.format("L", "ours", "layers") + table))
    assert (claim.holds, claim.best) == (False, "sasrec, width=8")
    assert claim.said.startswith("ours, layers=8 has a higher NDCG@10 than sasrec, width=8, 0.5000")


def test_what_was_not_run(result, fake):
    def fail(stage, config):
        if stage == "train" and config.model == "tiger":
            raise UsageError("no")

    fake.before = fail
    assert claims(result(TABLE + 'claim = "ours"\n'))[0].word == "not known"


def test_a_claim_that_is_no_row(folder, result):
    with pytest.raises(UsageError, match=r"claim is 'sasrek'.*did you mean 'sasrec'"):
        result(TABLE + 'claim = "sasrek"\n')


BBQREC = (('name = "ours"\nmodel = "tiger"', 'name = "ours"\nmodel = "bbqrec"'),)


@pytest.fixture
def sliced(result, folder, fake, dataset, features, catalogue, tokens):
    """The same on a dataset file with pictures, with what evaluate writes of users; items 0 and 1 share an ID."""
    held = split_of(catalogue.sequences).test
    counts = np.bincount(split_of(catalogue.sequences).train.items, minlength=12)
    fake.records["metrics"] = dataclasses.replace(
        fake.records["metrics"], history_length=held.lengths, target_interactions=counts[held.targets]
    )
    lacking = {"text": [6], "image": [6, 11]}  # the targets are 1, 6 and 11, of ten users each
    own = {name: dataclasses.replace(of, present=~np.isin(np.arange(12), lacking[name])) for name, of in
           features.features.items()}  # fmt: skip
    fake.records["features"] = dataclasses.replace(features, features=own)
    codes = tokens.codes.codes.copy()
    codes[1] = codes[0]
    fake.records["tokens"] = dataclasses.replace(tokens, codes=dataclasses.replace(tokens.codes, codes=codes))
    hdf5.write_dataset(folder / "dataset.h5", dataset, config={"seed": 0})

    def make(*changes, **options):
        seen = []
        real = report.page_of
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(report, "page_of", lambda made, plots: seen.append(made) or real(made, plots=plots))
            changes = (*BBQREC, ('file = "features.h5"', 'file = "dataset.h5"'), *changes)
            result("", *changes, report=folder / "page.html", **options)
        return seen[0]

    return make


def test_slices(sliced, catalogue, folder):
    made = {each.by: each for each in sliced().slices}
    held = split_of(catalogue.sequences).test
    ours = np.where(np.arange(30) < 20, 1.0, 0.0)
    lengths = made["items in the history"]
    assert list(lengths.groups) == ["0 to 5", "6 to 10"]
    assert list(lengths.users) == [int((held.lengths <= 5).sum()), int((held.lengths > 5).sum())]
    assert lengths.rows["ours"] == pytest.approx([ours[held.lengths <= 5].mean(), ours[held.lengths > 5].mean()])
    assert lengths.rows["popularity"] == pytest.approx([1 / np.log2(5)] * 2)
    shared = made["the target's semantic ID"]
    of = held.targets <= 1
    assert list(shared.rows) == ["ours"], "the others have no IDs"
    assert shared.rows["ours"] == pytest.approx([ours[~of].mean(), ours[of].mean()])
    lacking = made["what the target has"]
    assert list(zip(lacking.groups, lacking.users, strict=True)) == [
        ("has all", 10), ("lacks image", 10), ("lacks image and text", 10),
    ]  # fmt: skip
    assert lacking.rows["ours"][2] == pytest.approx(ours[held.targets == 6].mean())
    second = 1 / np.log2(3)  # sasrec has target 1 with seed 1 alone, target 6 with seed 0 alone, and 11 with both
    assert lacking.rows["sasrec"] == pytest.approx([second / 2, second, second / 2]), "the mean over seeds"
    assert "<h2>NDCG@10 by items in the history</h2>" in (folder / "page.html").read_text(encoding="utf-8")


def test_recommendations_side_by_side(sliced, catalogue, folder):
    (made,) = sliced().examples
    assert made.systems == ("ours", "popularity"), "popularity is the best of the others"
    assert [each.user for each in made.examples] == ["u0", "u1", "u2", "u29", "u28", "u27"]
    held = split_of(catalogue.sequences).test
    for each in made.examples:
        user = int(each.user[1:])
        assert each.target.titles == [catalogue.titles[held.targets[user]]]
        walk = catalogue.sequences[user][:-1]
        assert list(each.history.titles) == [catalogue.titles[item] for item in walk[-4:]]
        for shelf in each.lists.values():
            assert len(shelf.titles) == 5
            assert (shelf.hit >= 0) == (each.target.titles[0] in shelf.titles)
    pictures = [one for each in made.examples for one in (*each.target.pictures, *each.history.pictures)]
    assert any(one.startswith("data:image/jpeg;base64,") for one in pictures)
    assert (folder / "page.html").read_text(encoding="utf-8").count('<img src="data:image/jpeg') > 20


def test_a_seen_target_is_never_left_out_of_what_is_shown(sliced, catalogue):
    """As in the evaluation. Every model file is one of popularity, and all targets are among what their users saw."""
    (made,) = sliced(("seeds", "exclude_seen = true\nseeds")).examples
    counts = np.bincount(catalogue.sequences.without_last(2).items, minlength=12)
    for each in made.examples:
        *seen, target = catalogue.sequences[int(each.user[1:])].tolist()
        left = [item for item in np.argsort(-counts, kind="stable") if item == target or item not in seen]
        titles = [catalogue.titles[item] for item in left[:5]]
        assert [shelf.titles for shelf in each.lists.values()] == [titles, titles]
    assert {shelf.hit for each in made.examples for shelf in each.lists.values()} == {-1, 4}


def test_which_system_is_shown_as_bbqrec(folder):
    """The best one on IDs of its own tokenizer, though others of the model are ahead or stand before it."""
    text = (
        (folder / "suite.toml").read_text()
        + """
[[tokenizer]]
name = "whole"
method = "bbqrec"
codebook_size = 4
"""
    )
    for name, tokenizer in (("on rqvae", "ids"), ("first", "whole"), ("second", "whole")):
        text += f'\n[[system]]\nname = "{name}"\nmodel = "bbqrec"\ntokenizer = "{tokenizer}"\n'
    (folder / "suite.toml").write_text(text)
    suite = load_suite(str(folder / "suite.toml"))
    means = {"sasrec": 0.9, "on rqvae": 0.8, "first": 0.1, "second": 0.2}
    assert ours_of(suite, means) == "second"
    assert ours_of(suite, {"sasrec": 0.9, "on rqvae": 0.8}) == "on rqvae"
    assert ours_of(suite, {"sasrec": 0.9}) is None


def test_models_that_are_gone(sliced, folder):
    sliced()
    for path in (folder / "work").glob("bbqrec-seed-0*.model.h5"):
        path.unlink()
    (made,) = sliced(force=True).examples
    assert made.lacking == "The model files of ours are not in the work folder."
    assert made.lacking in (folder / "page.html").read_text(encoding="utf-8")


def test_the_limit_of_training_is_said(result, fake):
    made = result(train_minutes=3.5)
    assert made.notes == (
        "Trainings of systems without a limit of their own ended with the epoch in which it was reached: minutes 3.5.",
    )
    assert "--train-minutes 3.5" in made.command
    assert made.notes[0] in report.summary(made)
    limits = {config.minutes for config in fake.configs if hasattr(config, "minutes")}
    assert limits == {3.5}

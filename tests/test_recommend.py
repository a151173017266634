"""recommend: whom it answers, what it leaves out, and what it says to a wrong question."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import new_model

from bbqrec_cli import hdf5
from bbqrec_cli.errors import DataError, MissingFileError, UsageError, WrongKindError
from bbqrec_cli.records import Catalogue, Sequences, TrainedModel
from bbqrec_cli.seeds import seed_torch
from bbqrec_cli.serving.filters import folded
from bbqrec_cli.stages.recommend import RecommendConfig, run

MODELS = ("popularity", "sasrec", "bbqrec")
ITEMS = 12


def save(path: Path, catalogue: Catalogue, name: str, codes=None) -> Path:
    """A model file with random weights; popularity counts."""
    settings = {} if name == "popularity" else {"width": 8, "layers": 1}
    seed_torch(0, name)
    model = new_model(name, catalogue.items, codes, **settings)
    model.prepare(catalogue.sequences.without_last(2))
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    hdf5.write_model(
        path,
        TrainedModel(
            catalogue=catalogue, name=name, settings=settings, weights=weights, 
            codes=codes if "codes" in model.needs else None,
        ),
        config={},
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def catalogue_with_genres(catalogue) -> Catalogue:
    """Two more attributes: a list, and one that some items lack."""
    genres = [f"Kind {item % 2}|all{'|rare thing' if item == 7 else ''}" for item in range(ITEMS)]
    maker = ["Acme" if item % 3 else "" for item in range(ITEMS)]
    return dataclasses.replace(catalogue, attributes=catalogue.attributes | {"genres": genres, "maker": maker})


@pytest.fixture(scope="module")
def models(catalogue_with_genres, codes, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {name: save(folder / f"{name}.h5", catalogue_with_genres, name, codes) for name in MODELS}


@pytest.fixture(params=MODELS)
def config(models, request) -> RecommendConfig:
    """Over all items, seen or not, so that a test knows who is among the candidates."""
    return RecommendConfig(model=models[request.param], device="cpu", include_seen=True)


@pytest.fixture
def popular(models) -> RecommendConfig:
    return RecommendConfig(model=models["popularity"], device="cpu", include_seen=True)


def answers(config: RecommendConfig, lines=(), **changes):
    return list(run(dataclasses.replace(config, **changes), lines=lines))


def ids(found) -> list[str]:
    return [item.id for item in found.items]


def test_a_user_of_the_file(config, catalogue):
    (found,) = answers(config, user=("u7",), top=4)
    assert found.user == "u7"
    assert [item.id for item in found.history] == [f"i{row}" for row in catalogue.sequences[7]]
    assert [item.title for item in found.items] == [catalogue.titles[int(each[1:])] for each in ids(found)]
    assert len(set(ids(found))) == 4
    scores = [item.score for item in found.items]
    assert scores == sorted(scores, reverse=True)


def test_a_typed_history_is_answered_like_the_user_who_took_it(config, catalogue):
    history = tuple(f"i{row}" for row in catalogue.sequences[7])
    (typed,), (known,) = answers(config, history=history), answers(config, user=("u7",))
    assert (typed.user, known.user) == ("", "u7")
    assert typed.items == known.items


def test_several_users_keep_their_order_whatever_the_batch(config):
    asked = ("u9", "u2", "u20", "u2", "u0")
    found = answers(config, user=asked, batch_size=2)
    assert tuple(each.user for each in found) == asked
    assert all(ids(each) == ids(answers(config, user=(each.user,))[0]) for each in found)


def test_users_separated_by_commas_and_ids_that_hold_one(catalogue, tmp_path):
    renamed = dataclasses.replace(catalogue, user_ids=["a,b", "a", *(f"u{user}" for user in range(2, 30))])
    config = RecommendConfig(model=save(tmp_path / "m.h5", renamed, "popularity"), device="cpu")
    assert [each.user for each in answers(config, user=("a,b", "a,u2"))] == ["a,b", "a", "u2"]


def test_nobody_named_shows_the_first_users_who_took_something(catalogue, tmp_path):
    walks = [[], [1, 2], [], *([[3, 4, 5]] * 27)]
    cold = dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))
    config = RecommendConfig(model=save(tmp_path / "m.h5", cold, "popularity"), device="cpu")
    assert [each.user for each in answers(config)] == ["u1", "u3", "u4", "u5", "u6"]
    assert [each.user for each in answers(config, users=2)] == ["u1", "u3"]
    assert len(answers(config, users=99)) == 28
    with pytest.raises(UsageError, match=r"--user: user 'u2' has no interactions") as caught:
        answers(config, user=("u2",))
    assert "--history" in caught.value.hint


def test_only_the_last_20_items_are_seen_and_all_are_excluded(catalogue, models, codes, tmp_path):
    """The model's view ends at its history; what the user took before that is still not recommended."""
    long = [*range(9), *([9, 10] * 10)]
    walks = [long, long[-20:], *([[0, 1, 2]] * 28)]
    made = dataclasses.replace(catalogue, sequences=Sequences.from_lists(walks))
    for name in ("sasrec", "bbqrec"):
        config = RecommendConfig(model=save(tmp_path / f"{name}.h5", made, name, codes), device="cpu")
        one, other = answers(config, user=("u0", "u1"), include_seen=True)
        assert ids(one) == ids(other)
        assert len(one.history) == 29
        (seen,) = answers(config, user=("u0",))
        assert ids(seen) == ["i11"]


def test_two_ways_at_once(popular):
    with pytest.raises(UsageError, match="--user and --history exclude each other"):
        answers(popular, user=("u1",), history=("i1",))
    with pytest.raises(UsageError, match="--users and --stdin exclude each other"):
        answers(popular, users=3, stdin=True)


def ask(config, *lines, **changes):
    return answers(config, lines, stdin=True, **changes)


def test_users_and_histories(config, catalogue):
    found = ask(
        config, '{"user": "u7"}', "", '{"user": "new", "history": ["i1", "i2"]}', '  {"history": ["i4"]}\n', top=3
    )
    assert [each.user for each in found] == ["u7", "new", ""]
    assert ids(found[0]) == ids(answers(config, user=("u7",), top=3)[0])
    assert ids(found[1]) == ids(answers(config, history=("i1", "i2"), top=3)[0])
    assert found[2].to_json()["user"] is None
    assert found[2].to_json()["history"] == ["i4"]


def test_ids_that_are_numbers(catalogue, tmp_path):
    numbered = dataclasses.replace(
        catalogue, item_ids=[str(i) for i in range(ITEMS)], user_ids=[str(u) for u in range(30)]
    )
    config = RecommendConfig(model=save(tmp_path / "m.h5", numbered, "popularity"), device="cpu")
    known, typed = ask(config, '{"user": 0.0}', '{"user": 3, "history": [0, 4.0]}')
    assert (known.user, typed.user) == ("0", "3")
    assert [item.id for item in known.history] == [str(row) for row in catalogue.sequences[0]]
    assert [item.id for item in typed.history] == ["0", "4"]


def test_a_refused_line_keeps_its_user(popular):
    for line in ('{"user": "me", "history": "i1"}', '{"user": "me", "history": ["i1"], "top": 2}'):
        found = run(dataclasses.replace(popular, stdin=True), lines=[line])
        assert next(found).to_json()["user"] == "me"


def test_the_named_user_s_own_history_wins_only_where_none_is_given(popular):
    (found,) = ask(popular, '{"user": "u7", "history": ["i1"]}')
    assert [item.id for item in found.history] == ["i1"]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "line 3: not JSON"),
        ('{"user": "u1"} {}', r"line 3: not JSON \(Extra data at column 16\)"),
        (b'{"user": "\xff"}', "line 3: not JSON .*utf-8"),
        ("[" * 100_000, "line 3: not JSON"),
        ("[1]", "line 3: an object is needed"),
        ('{"history": "i1"}', "line 3: 'history' must be a list"),
        ('{"histroy": ["i1"]}', r"line 3: no key 'histroy' \(did you mean 'history'\?\)"),
        ('{"user": "u1", "exclude": ["i1"]}', "line 3: no key 'exclude'"),
        ("{}", "line 3: neither 'user' nor 'history'"),
        ('{"user": null}', "line 3: neither 'user' nor 'history'"),
        ('{"user": "nobody"}', "line 3: no user 'nobody'"),
        ('{"user": "u77"}', r"line 3: no user 'u77' \(did you mean 'u\d?7"),
        ('{"history": []}', "line 3: the history is empty"),
        ('{"history": ["i99", "i98"]}', r"line 3: no item 'i99' \(did you mean 'i9'\?\)"),
        ('{"history": [null]}', "line 3: null is no id; a text or a whole number is needed"),
        ('{"history": [NaN]}', "line 3: NaN is no id"),
        ('{"history": [true]}', "line 3: true is no id"),
        ('{"history": [1.5]}', "line 3: 1.5 is no id"),
        ('{"history": ["i1", ["i2", "i3"]]}', r'line 3: \["i2", "i3"\] is no id'),
        ('{"history": ["i1", {"id": "i2"}]}', r'line 3: \{"id": "i2"\} is no id'),
        ('{"user": true}', "line 3: true is no id"),
        ('{"user": 1e400}', "line 3: Infinity is no id"),
    ],
)
def test_a_bad_line_has_an_error_and_the_others_are_answered(popular, line, says):
    lines = ['{"user": "u1"}', "\n", line, '{"user": "u2"}']
    found = run(dataclasses.replace(popular, stdin=True), lines=lines)
    first, refused, last = next(found).to_json(), next(found).to_json(), next(found).to_json()
    assert (first["user"], last["user"]) == ("u1", "u2")
    assert refused.keys() == {"user", "line", "error", "message", "hint"}
    assert (refused["line"], refused["error"]) == (3, "bad_data")
    assert re.search(says, refused["message"])
    with pytest.raises(DataError, match="stdin: 1 of 3 lines have an error instead of an answer"):
        next(found)


def test_lines_of_which_none_can_be_answered_name_their_users(popular):
    found = run(dataclasses.replace(popular, stdin=True), lines=['{"user": "me", "history": ["i99"]}'] * 2)
    assert [next(found).to_json()["user"] for _ in range(2)] == ["me", "me"]


def test_unknown_items_of_a_history_are_left_out_and_said(config, bbqrec):
    (all_known,) = answers(config, history=("i1", "i2"))
    (found,) = ask(config, '{"user": "me", "history": ["i1", "new", "i2", "i99"]}')
    assert found.items == all_known.items
    assert found.to_json()["unknown"] == ["new", "i99"]
    assert found.to_json()["history"] == ["i1", "i2"]
    assert answers(config, history=("i1, new,i2",))[0].items == all_known.items
    said = bbqrec("recommend", config.model, "--history", "i1, new", "--quiet", "--top", 2)
    assert (said.status, said.err) == (0, "warning: --history: no item 'new'; left out\n")


def test_spaces_commas_and_repetition(catalogue, tmp_path, bbqrec):
    renamed = dataclasses.replace(catalogue, item_ids=["a, b", "a", *(f"i{row}" for row in range(2, ITEMS))])
    config = RecommendConfig(model=save(tmp_path / "m.h5", renamed, "popularity"), device="cpu")
    for given, rows in (
        (("a, i2 ,i3",), ["a", "i2", "i3"]),
        (("a", "i2"), ["a", "i2"]),
        (("a, b",), ["a, b"]),
        (("i2,i3", "a, b"), ["i2", "i3", "a, b"]),
    ):
        assert [item.id for item in answers(config, history=given)[0].history] == rows
    assert [each.user for each in answers(config, user=("u2, u3",))] == ["u2", "u3"]
    flags = ("--history", "i2, i3", "--history", "a, b", "--json")
    assert json.loads(bbqrec("recommend", config.model, *flags).out)["history"] == ["i2", "i3", "a, b"]


def test_nothing_to_read(popular):
    assert ask(popular) == []


def test_lines_are_answered_a_batch_at_a_time(popular):
    read = []

    def lines():
        for user in range(5):
            read.append(user)
            yield json.dumps({"user": f"u{user}"})

    found = run(dataclasses.replace(popular, stdin=True, batch_size=2), lines=lines())
    next(found)
    assert read == [0, 1]


def test_seen_items_are_left_out(config, catalogue):
    for found in answers(config, users=30, include_seen=False, top=8, beam=1):
        seen = {item.id for item in found.history}
        assert len(ids(found)) == 8
        assert not seen & set(ids(found))


def test_seen_items_are_left_out_by_default(popular, bbqrec):
    """As --exclude-seen says, too, which scripts may pass; --include-seen brings them back."""
    seen = {item.id for item in answers(popular, user=("u0",))[0].history}

    def shown(*flags) -> set[str]:
        said = bbqrec("recommend", popular.model, "--user", "u0", "--top", 12, "--json", "--quiet", *flags)
        return {each["id"] for each in json.loads(said.out)["items"]}

    assert shown() == shown("--exclude-seen") == {f"i{row}" for row in range(ITEMS)} - seen
    assert shown("--include-seen") == {f"i{row}" for row in range(ITEMS)}
    assert "exclude each other" in bbqrec("recommend", popular.model, "--include-seen", "--exclude-seen").err
    assert "--exclude-seen" not in bbqrec("recommend", "--help").out


def test_a_filter_keeps_the_order_of_what_is_left_and_always_k(config, catalogue):
    (everything,) = answers(config, user=("u3",), top=ITEMS)
    for group, rows in (("tools", range(4, 8)), ("BOOKS", range(8, 12))):
        (found,) = answers(config, user=("u3",), filter=(f"group={group}",), top=4, beam=1)
        assert ids(found) == [each for each in ids(everything) if int(each[1:]) in rows]


def test_values_are_compared_without_case_and_whatever_accents_are_made_of():
    assert folded(" De\u0301cor") == folded("D\u00c9COR ") == "d\u00e9cor"


@pytest.mark.parametrize(
    ("filters", "rows"),
    [
        (("genres=kind 0",), range(0, 12, 2)),
        (("genres= Rare Thing ",), [7]),
        (("genres=Kind 1", "group=tools"), [5, 7]),
        (("maker=ACME", "group=fruit"), [1, 2]),
    ],
)
def test_filters_by_part_of_a_list_in_any_case_and_together(config, filters, rows):
    (found,) = answers(config, user=("u3",), filter=filters, top=ITEMS)
    assert sorted(ids(found)) == sorted(f"i{row}" for row in rows)


def test_an_allow_list(config, tmp_path):
    allow = tmp_path / "shelf.txt"
    allow.write_text("﻿i3\n\n i11 \ni4\ni3\n", encoding="utf-8")
    (found,) = answers(config, user=("u3",), allow=allow, top=3, beam=1)
    assert sorted(ids(found)) == ["i11", "i3", "i4"]
    (both,) = answers(config, user=("u3",), allow=allow, filter=("group=fruit",))
    assert ids(both) == ["i3"]
    gone = tmp_path / "gone.txt"
    gone.write_text("i3\ni0\n")
    (left,) = answers(config, user=("u3",), allow=allow, deny=gone)
    assert sorted(ids(left)) == ["i11", "i4"]
    with pytest.raises(UsageError, match="no item passes --filter group=fruit and --allow and --deny"):
        answers(config, user=("u3",), allow=allow, deny=gone, filter=("group=fruit",))


@pytest.mark.parametrize("option", ["--allow", "--deny"])
def test_ids_of_a_list_that_the_model_does_not_know_are_said(popular, bbqrec, tmp_path, option):
    (tmp_path / "shelf.txt").write_text("i3\ni98\ni4\ni99\n")
    said = bbqrec(
        "recommend", popular.model, "--user", "u3", option, tmp_path / "shelf.txt", "--include-seen", "--json"
    )
    assert said.status == 0
    assert "shelf.txt: 2 of 4 ids are of no item, first 'i98'" in said.err
    listed = {item["id"] for item in json.loads(said.out)["items"]}
    assert listed == {"i3", "i4"} if option == "--allow" else not listed & {"i3", "i4"}


def test_fewer_than_asked_for_is_said_once(popular, bbqrec):
    words = ("recommend", popular.model, "--users", 3, "--include-seen")
    said = bbqrec(*words, "--filter", "group=fruit", "--quiet")
    assert said.status == 0
    assert said.err == (
        "warning: only 4 items are left for user u0; --top asks for 10\n"
        "warning: 3 of 3 lists have fewer than 10 items (--top)\n"
    )
    assert "left" not in bbqrec(*words).err


def test_scores_of_the_popular_are_their_counts(popular, catalogue):
    counts = np.bincount(catalogue.sequences.without_last(2).items, minlength=ITEMS)
    (found,) = answers(popular, user=("u0",), top=ITEMS)
    assert [item.score for item in found.items] == sorted(counts.tolist(), reverse=True)


@pytest.mark.parametrize(
    ("changes", "error", "says"),
    [
        ({"user": ("u77",)}, UsageError, r"--user: no user 'u77' \(did you mean"),
        ({"user": ("U7",)}, UsageError, r"no user 'U7' \(did you mean 'u7'\?\)"),
        ({"history": ("i13", "i14")}, UsageError, r"--history: no item 'i13' \(did you mean 'i"),
        ({"history": ("Hammer",)}, UsageError, r"no item 'Hammer' \(the item with this title is 'i4'\)"),
        ({"history": ("zzz",)}, UsageError, r"no item 'zzz'$"),
        ({"history": ()}, UsageError, "--history is empty"),
        ({"user": (" ",)}, UsageError, "--user is empty"),
        ({"user": (" , ",)}, UsageError, "--user is empty"),
        ({"user": ()}, UsageError, "--user is empty"),
        ({"history": (" , ",)}, UsageError, "the history is empty"),
        ({"filter": ("group",)}, UsageError, "attribute=value is needed"),
        ({"filter": ("gruop=fruit",)}, UsageError, r"no attribute 'gruop' \(did you mean 'group'\?\); the items have"),
        ({"filter": ("group=fruits",)}, UsageError, r"no item has this group \(did you mean 'fruit'\?\)"),
        ({"filter": ("maker=",)}, None, ""),
        (
            {"filter": ("group=fruit", "group=tools")},
            UsageError,
            "group=fruit and --filter group=tools",
        ),
        ({"allow": Path("none.txt")}, MissingFileError, "none.txt: no such file"),
        ({"allow": Path("bad.txt")}, DataError, r"bad\.txt: no item 'i99' \(did you mean 'i9'"),
        ({"allow": Path("latin.txt")}, DataError, "not a text file of item ids"),
        ({"allow": Path()}, DataError, "not a text file of item ids"),
        ({"allow": Path("empty.txt")}, UsageError, "no item passes"),
    ],
)
def test_a_wrong_question(popular, tmp_path, monkeypatch, changes, error, says):
    monkeypatch.chdir(tmp_path)
    Path("bad.txt").write_text("i99\ni98\n")
    Path("latin.txt").write_bytes(b"\xe9t\xe9\n")
    Path("empty.txt").write_text("\n")
    if error is None:
        assert answers(popular, **changes)  # the items without a maker
        return
    with pytest.raises(error, match=says):
        answers(popular, **changes)


def test_items_without_attributes(catalogue, tmp_path):
    bare = dataclasses.replace(catalogue, attributes={})
    config = RecommendConfig(model=save(tmp_path / "m.h5", bare, "popularity"), device="cpu", filter=("group=fruit",))
    with pytest.raises(UsageError, match="the items of this file have none"):
        answers(config)


def test_another_kind_of_file(files):
    with pytest.raises(WrongKindError, match="a model file is needed"):
        answers(RecommendConfig(model=files["tokens"]))


def test_the_command_shows_titles(bbqrec, models):
    said = bbqrec("recommend", models["sasrec"], "--user", "u3,u4", "--user", "u5", "--top", 3)
    assert said.status == 0
    assert said.out.count("recommended") == 3
    history = [item.title for item in answers(RecommendConfig(model=models["sasrec"]), user=("u3",))[0].history]
    newest = "".join(f"  {title}\n" for title in history[-5:])
    assert f"user u3: 9 items, the last 5:\n{newest}recommended" in said.out, "the newest is the last"
    assert any(title in said.out for title in ("apple", "hammer", "novel"))
    typed = bbqrec("recommend", models["bbqrec"], "--history", "i0,i1", "--top", 2)
    assert "given history: 2 items:\n  apple\n  banana\n" in typed.out
    shown = [line for line in typed.out.splitlines() if line.startswith(("│ 1", "│ 2"))]
    assert len(shown) == 2


def test_json_is_one_object_a_user(bbqrec, models, monkeypatch):
    said = bbqrec("recommend", models["bbqrec"], "--users", 3, "--json")
    objects = [json.loads(line) for line in said.out.splitlines()]
    assert [each["user"] for each in objects] == ["u0", "u1", "u2"]
    assert all(each.keys() >= {"user", "items"} for each in objects)
    assert all(item.keys() == {"id", "title", "score"} for each in objects for item in each["items"])
    lines = b'{"user": "u1"}\n{"history": ["i1"]}\n{"user": "x"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    piped = bbqrec("recommend", models["bbqrec"], "--stdin")
    assert piped.status == 3
    told = [json.loads(line) for line in piped.out.splitlines()]
    assert [each["user"] for each in told] == ["u1", None, "x"]
    assert "stdin, line 3: no user 'x'" in told[2]["message"]
    assert "1 of 3 lines have an error instead of an answer" in piped.err


def test_half_a_character_ends_nothing(bbqrec, models, monkeypatch):
    lines = b'{"user": "\\ud800", "history": ["i1"]}\n{"user": "u0"}\n'
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    piped = bbqrec("recommend", models["popularity"], "--stdin")
    assert piped.status == 0
    assert [json.loads(line)["user"] for line in piped.out.splitlines()] == ["\ud800", "u0"]


def test_an_empty_history_on_the_command_line(bbqrec, models):
    said = bbqrec("recommend", models["popularity"], "--history", "")
    assert (said.status, said.out) == (2, "")
    assert "--history is empty" in said.err


def test_spaces_in_ids_do_not_count(config, catalogue, tmp_path):
    """As in the data files from which the ids come."""
    spaced = dataclasses.replace(catalogue, item_ids=["a b", *catalogue.item_ids[1:]])
    config = RecommendConfig(model=save(tmp_path / "m.h5", spaced, "popularity"), device="cpu", top=ITEMS)
    (tmp_path / "gone.txt").write_text(" a   b \n")
    (found,) = answers(config, history=("a  b",), include_seen=True)
    assert [item.id for item in found.history] == ["a b"]
    assert "a b" in ids(found)
    (left,) = answers(config, history=("i3",), deny=tmp_path / "gone.txt")
    assert "a b" not in ids(left)

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

import bbqrec_cli
from bbqrec_cli import hdf5
from bbqrec_cli.benchmark.graph import Machine, make_graph
from bbqrec_cli.benchmark.suite import load_suite
from bbqrec_cli.errors import MissingFileError, UsageError
from bbqrec_cli.hdf5.schema import KINDS

CELLS = [
    "popularity, seed 0", "sasrec, seed 0", "ours, seed 0", "tokenizer alone, seed 0",
    "popularity, seed 1", "sasrec, seed 1", "ours, seed 1", "tokenizer alone, seed 1",
]  # fmt: skip


def keys(graph) -> dict[str, str]:
    """'sasrec, seed 0: train' -> key."""
    return {f"{cell.name}: {step.stage}": step.key for cell in graph.cells for step in cell.steps}


def changed(before, after) -> set[str]:
    """Which steps have another key, of those that both graphs have."""
    old, new = keys(before), keys(after)
    return {name for name in old.keys() & new.keys() if old[name] != new[name]}


def test_cells_seed_by_seed(graph):
    cells = graph().cells
    assert [cell.name for cell in cells] == CELLS
    stages = {cell.name: [step.stage for step in cell.steps] for cell in cells}
    assert stages["popularity, seed 0"] == ["train", "evaluate"], "features are there, and not needed"
    assert stages["ours, seed 1"] == ["tokenize", "train", "evaluate"]
    assert stages["tokenizer alone, seed 1"] == ["tokenize"]


def test_steps_are_chained(graph, folder):
    tokenize, train, evaluate = graph().cells[2].steps
    assert tokenize.config.features == folder / "features.h5"
    assert train.config.input == tokenize.output
    assert evaluate.config.model == train.output
    assert (tokenize.config.seed, train.config.seed, evaluate.config.seed) == (0, 0, 0)
    second = graph().cells[6].steps
    assert [step.config.seed for step in second] == [1, 1, 0], "the bootstrap's seed is one for all"
    assert evaluate.output.parent == folder / "work"
    assert evaluate.key[:16] in evaluate.output.name
    assert evaluate.output.name.endswith(".metrics.h5")


def test_from_raw_data(graph):
    cells = graph(('file = "features.h5"', 'source = "demo"')).cells
    by_name = {cell.system: cell for cell in cells}
    assert [step.stage for step in by_name["sasrec"].steps] == ["prepare", "train", "evaluate"], "it reads no features"
    assert [step.stage for step in by_name["ours"].steps] == ["prepare", "embed", "tokenize", "train", "evaluate"]
    assert by_name["ours"].step("tokenize").config.features == by_name["ours"].step("embed").output
    alone = 'name = "x"\n[data]\nsource = "demo"\n[[system]]\nname = "popularity"\n'
    without = graph(text=alone).cells
    assert [step.stage for step in without[0].steps] == ["prepare", "train", "evaluate"], "nobody needs features"
    joined = graph(text=alone.replace("popularity", "sasrec") + 'features = ["text"]\n').cells
    assert [step.stage for step in joined[0].steps] == ["prepare", "embed", "train", "evaluate"]


def test_from_a_dataset_file(graph, folder, files):
    """Features are missing there: they are made once for all cells."""
    (folder / "features.h5").write_bytes(files["dataset"].read_bytes())
    cells = graph().cells
    assert [step.stage for step in cells[2].steps] == ["embed", "tokenize", "train", "evaluate"]
    assert cells[2].steps[0].config.dataset == folder / "features.h5"
    assert len({step.key for cell in cells for step in cell.steps if step.stage == "embed"}) == 1


def test_what_reads_no_features_does_not_wait_for_them(graph):
    """So a system that needs them makes no other one run again, and where they fail, only what reads them does."""
    alone = 'name = "x"\n[data]\nsource = "demo"\n[[system]]\nname = "sasrec"\nepochs = 1\n'
    more = alone + '[[system]]\nname = "SASRecF"\nmodel = "sasrec"\nfeatures = ["text"]\n'
    assert graph(text=alone).cells[0].last.key == graph(text=more).cells[0].last.key


def test_ids_of_no_features_do_not_change_with_a_tokenizer_that_reads_some(graph):
    alone = 'name = "x"\n[data]\nsource = "demo"\n[[tokenizer]]\nname = "ids"\nmethod = "random"\n'
    more = alone + '[[tokenizer]]\nname = "more"\nmethod = "rqvae"\n'
    assert [step.stage for step in graph(text=more).cells[0].steps] == ["prepare", "tokenize"]
    assert graph(text=alone).cells[0].last.key == graph(text=more).cells[0].last.key


def test_signals_are_tokenizers_of_their_own(graph):
    """The same method on other signals is another tokenizer; on the same signals, in a list or not, the same one."""
    both = graph(('method = "rqvae"\ncodebook_size = 4\nlevels = 2', 'signals = ["id", "text"]')).cells
    text = graph(('method = "rqvae"\ncodebook_size = 4\nlevels = 2', 'signals = ["text"]')).cells
    said = graph(('method = "rqvae"\ncodebook_size = 4\nlevels = 2', 'signals = "id,text"')).cells
    assert both[2].step("tokenize").key != text[2].step("tokenize").key
    assert both[2].last.key == said[2].last.key


@pytest.mark.parametrize(
    ("old", "new", "which"),
    [
        ("width = 8", "width = 16", {"sasrec, seed {s}: train", "sasrec, seed {s}: evaluate"}),
        ("width = 8", "width = 8\nvalidate-every = 2", {"sasrec, seed {s}: train", "sasrec, seed {s}: evaluate"}),
        ("width = 8", 'width = 8\nprecision = "fp32"', {"sasrec, seed {s}: train", "sasrec, seed {s}: evaluate"}),
        ("levels = 2", "levels = 3", {f"ours, seed {{s}}: {s}" for s in ("tokenize", "train", "evaluate")}),
        ("levels = 2", 'levels = 2\non-collision = "suffix"',
         {f"ours, seed {{s}}: {s}" for s in ("tokenize", "train", "evaluate")}),
        ("levels = 2", "levels = 2\nfit-items = 5",
         {f"ours, seed {{s}}: {s}" for s in ("tokenize", "train", "evaluate")}),
        ('model = "tiger"', 'model = "bbqrec"', {"ours, seed {s}: train", "ours, seed {s}: evaluate"}),
        ("[data]", "[evaluate]\nbeam = 20\n[data]",
         {f"{name}, seed {{s}}: evaluate" for name in ("popularity", "sasrec", "ours")}),
        ("[data]", "[evaluate]\nbatch-size = 16\n[data]",
         {f"{name}, seed {{s}}: evaluate" for name in ("popularity", "sasrec", "ours")}),
        ("seeds = [0, 1]", "seeds = [0, 1]\nk = [10]",
         {f"{name}, seed {{s}}: evaluate" for name in ("popularity", "sasrec", "ours")}),
        ("seeds = [0, 1]", 'seeds = [0, 1]\nsplit = "validation"',
         {f"{name}, seed {{s}}: evaluate" for name in ("popularity", "sasrec", "ours")}),
    ],
)  # fmt: skip
def test_what_depends_on_an_option_changes_with_it_and_nothing_else(graph, old, new, which):
    expected = {name.format(s=seed) for name in which for seed in (0, 1)}
    assert changed(graph(), graph((old, new))) == expected


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"tiny"', '"another"'),
        ('name = "ours"', 'name = "renamed"'),
        ('"ids"', '"better ids"'),
        ("seeds = [0, 1]", "seeds = [1, 0, 5]"),
        ("width = 8", "width = 8\nepochs = 40  # the default"),
        ("codebook_size = 4\nlevels = 2", "levels = 2\ncodebook-size = 4"),
        ('[[system]]\nname = "popularity"\n', ""),
    ],
)
def test_names_orders_and_defaults_do_not_count(graph, old, new):
    before, after = graph(), graph((old, new))
    outputs = {step.output for cell in before.cells for step in cell.steps if cell.system not in ("popularity", "")}
    assert outputs <= {step.output for cell in after.cells for step in cell.steps}


def test_the_machine_does_not_count(graph, folder):
    other = Machine(folder=folder / "elsewhere", device="cpu", threads=2)
    moved = graph(machine=other)
    assert not changed(graph(), moved)
    moved = moved.cells
    assert moved[0].last.output.parent == folder / "elsewhere"
    assert (moved[0].last.config.device, moved[0].last.config.threads) == ("cpu", 2)


def test_another_version_counts(graph, monkeypatch):
    before = graph()
    monkeypatch.setattr(bbqrec_cli, "__version__", "99.0")
    assert changed(before, graph()) == keys(before).keys()


def test_another_layout_of_a_file_counts(graph, monkeypatch):
    before = graph()
    monkeypatch.setitem(KINDS, "tokens", dataclasses.replace(KINDS["tokens"], version=KINDS["tokens"].version + 1))
    after = changed(before, graph())
    assert {name.split(": ")[1] for name in after} == {"tokenize", "train", "evaluate"}
    assert {name.split(",")[0] for name in after} == {"ours", "tokenizer alone"}


def test_the_contents_of_the_data_count_and_not_their_place(graph, folder, features):
    before = graph()
    shutil.move(folder / "features.h5", folder / "moved.h5")
    assert not changed(before, graph(('"features.h5"', '"moved.h5"')))
    hdf5.write_features(folder / "features.h5", features, config={"seed": 7})
    assert changed(before, graph()) == keys(before).keys()


def test_seeds_shift_together(graph):
    first, shifted = graph().cells, graph(seed=1).cells
    assert [cell.seed for cell in shifted] == [1] * 4 + [2] * 4
    assert [cell.last.key for cell in shifted[:4]] == [cell.last.key for cell in first[4:]]


def test_equal_systems_share_their_files(graph):
    twin = '[[system]]\nname = "twin"\nmodel = "sasrec"\nwidth = 8\n'
    cells = {
        cell.name: cell for cell in graph(('[[system]]\nname = "sasrec"', f'{twin}[[system]]\nname = "sasrec"')).cells
    }
    assert cells["twin, seed 0"].last.output == cells["sasrec, seed 0"].last.output


LETTER = 'method = "letter"\ncodebook_size = 4\nlevels = 2\ncollaborative = "sasrec"'
FOLLOWS = ('method = "rqvae"\ncodebook_size = 4\nlevels = 2', LETTER)


def test_a_tokenizer_that_follows_a_system(graph):
    """The system is trained before, once a seed, whoever needs it; its key is part of the tokenizer's."""
    cells = {cell.name: cell for cell in graph(FOLLOWS).cells}
    ours = cells["ours, seed 1"]
    assert [step.stage for step in ours.steps] == ["train", "tokenize", "train", "evaluate"]
    followed, tokenize, train, _ = ours.steps
    assert followed == cells["sasrec, seed 1"].step("train")
    assert tokenize.config.options["collaborative"] == str(followed.output)
    assert ours.step("train") == train, "what it is asked for is its own model"
    assert [step.stage for step in ours.own] == ["tokenize", "train", "evaluate"]
    other = graph(FOLLOWS, ("width = 8", "width = 16"))
    which = {f"ours, seed {seed}: {stage}" for seed in (0, 1) for stage in ("tokenize", "train", "evaluate")}
    assert changed(graph(FOLLOWS), other) == which | {
        f"sasrec, seed {seed}: {stage}" for seed in (0, 1) for stage in ("train", "evaluate")
    }


def test_a_tokenizer_alone_that_follows_a_system(graph):
    cells = {cell.name: cell for cell in graph(FOLLOWS, ('tokenizer = "ids"', 'tokenizer = "alone"')).cells}
    alone = cells["tokenizer ids, seed 0"]
    assert [step.stage for step in alone.steps] == ["train", "tokenize"]
    assert alone.step("train") is None, "the model is another cell's"


def test_a_tokenizer_that_follows_a_model_file(graph, folder):
    """Its contents count, not its place."""
    text = ('collaborative = "sasrec"', 'collaborative = "some.h5"')
    (folder / "some.h5").write_text("one")
    before = graph(FOLLOWS, text)
    assert [step.stage for step in before.cells[2].steps] == ["tokenize", "train", "evaluate"]
    assert before.cells[2].steps[0].config.options["collaborative"] == str(folder / "some.h5")
    shutil.move(folder / "some.h5", folder / "moved.h5")
    assert not changed(before, graph(FOLLOWS, (text[0], 'collaborative = "moved.h5"')))
    (folder / "some.h5").write_text("two")
    assert changed(before, graph(FOLLOWS, text)) == {
        f"ours, seed {seed}: {stage}" for seed in (0, 1) for stage in ("tokenize", "train", "evaluate")
    }


@pytest.mark.parametrize("name", ["popularity", "ours"])
def test_what_can_not_be_followed(graph, name):
    with pytest.raises(UsageError, match=f"collaborative names the system '{name}'"):
        graph(FOLLOWS, ('collaborative = "sasrec"', f'collaborative = "{name}"'))


def test_nothing_of_that_name(graph):
    with pytest.raises(MissingFileError, match="sasrek"):
        graph(FOLLOWS, ('collaborative = "sasrec"', 'collaborative = "sasrek"'))


UNITED = (
    'tokenizer = "ids"\n',
    'tokenizer = "ids"\n[[system]]\nname = "both"\nmodel = "sasrec"\nwidth = 8\nunite = "ours"\n',
)


def test_systems_that_are_united(graph):
    """Both models are trained once a seed for all cells, and the evaluation hangs on both."""
    made = graph(UNITED)
    cells = {cell.name: cell for cell in made.cells}
    both, ours = cells["both, seed 1"], cells["ours, seed 1"]
    assert [step.stage for step in both.steps] == ["train", "evaluate"]
    train, evaluate = both.steps
    assert train == cells["sasrec, seed 1"].step("train")
    assert evaluate.config.unite == (ours.step("train").output,)
    assert [step.key for step in made.before(evaluate)] == [train.key, ours.step("train").key]
    assert evaluate.key != cells["sasrec, seed 1"].last.key
    assert both.unite == (ours,)
    assert changed(made, graph(UNITED, ("levels = 2", "levels = 3"))) == {
        f"{name}, seed {seed}: {stage}"
        for name, stages in (("ours", ("tokenize", "train", "evaluate")), ("both", ("evaluate",)))
        for seed in (0, 1) for stage in stages
    }  # fmt: skip


@pytest.mark.parametrize(
    ("unite", "said"),
    [
        ('"nobody"', "unite is 'nobody'; known: 'popularity'"),
        ('["ours", "ours"]', "unite names 'ours', which is no other system"),
        ('"both"', "unite names 'both', which is no other system of a single model"),
    ],
)
def test_what_can_not_be_united(graph, unite, said):
    with pytest.raises(UsageError, match=said):
        graph(UNITED, ('unite = "ours"', f"unite = {unite}"))


def test_united_systems_are_for_the_same_data_sets(graph, folder):
    data = [f'[[data]]\nname = "{name}"\nfile = "features.h5"\n' for name in "ab"]
    apart = ('[[system]]\nname = "popularity"\n', '[[system]]\nname = "popularity"\ndata = "a"\n')
    with pytest.raises(UsageError, match="unite names 'popularity', which is not for the same data sets"):
        graph(
            ('[data]\nfile = "features.h5"\n', "".join(data)), apart, UNITED, ('unite = "ours"', 'unite = "popularity"')
        )


def test_every_index_counts(graph, folder):
    """Two published indices, one a signal."""
    changes = ('method = "rqvae"\ncodebook_size = 4\nlevels = 2', 'method = "published"\nindex = ["a.json", "b.json"]')
    for name in ("a.json", "b.json"):
        (folder / name).write_text(name)
    before = graph(changes)
    assert before.cells[2].steps[0].config.options["index"] == [str(folder / "a.json"), str(folder / "b.json")]
    (folder / "b.json").write_text("other")
    assert "ours, seed 0: tokenize" in changed(before, graph(changes))


RAW = """
name = "raw"
[data]
source = ["table", "in/log.csv"]
[data.prepare]
images = "in/pictures"
[data.embed]
text_model = "in/encoder"
encoder = ["title=in/second:title", "look=descriptor"]
vectors = ["own=in/own.npy:table"]
[[tokenizer]]
name = "letter"
method = "published"
index = "in/index.json"
[[tokenizer]]
name = "content"
method = "rqvae"
"""
EVERY = {"prepare", "embed", "tokenize", "letter"}


@pytest.fixture
def raw(tmp_path):
    """The stages whose key is another than at first, after a change of the files; of the published IDs "letter"."""
    inside = tmp_path / "in"
    for folder in ("pictures", "encoder/deep", "second"):
        (inside / folder).mkdir(parents=True)
    for name in ("log.csv", "index.json", "pictures/1.png", "encoder/deep/weights", "second/weights", "own.npy"):
        (inside / name).write_text("before")

    def stages(text: str = RAW) -> dict[str, str]:
        (tmp_path / "raw.toml").write_text(text)
        letter, content = make_graph(load_suite(str(tmp_path / "raw.toml")), Machine(folder=tmp_path)).cells
        return {step.stage: step.key for step in content.steps} | {"letter": letter.last.key}

    first = stages()

    def differing(text: str = RAW) -> set[str]:
        return {stage for stage, key in stages(text).items() if key != first[stage]}

    return differing


@pytest.mark.parametrize(
    ("name", "which"),
    [
        ("log.csv", EVERY),
        ("pictures/1.png", EVERY),
        ("encoder/deep/weights", {"embed", "tokenize"}),
        ("second/weights", {"embed", "tokenize"}),
        ("own.npy", {"embed", "tokenize"}),
        ("index.json", {"letter"}),
    ],
)
def test_the_contents_of_every_named_file_count(raw, tmp_path, name, which):
    assert raw() == set()
    (tmp_path / "in" / name).write_text("after")
    assert raw() == which


@pytest.mark.parametrize(
    ("was", "becomes"),
    [("second:title", "second:text"), ("title=", "name="), ("look=descriptor", "look=clip"), (":table", ":other")],
)
def test_what_is_said_beside_a_file_counts(raw, was, becomes):
    assert raw(RAW.replace(was, becomes)) == {"embed", "tokenize"}


def test_pictures_that_the_items_file_names_count(raw, tmp_path):
    (tmp_path / "in" / "log.csv").write_text("user_id,parent_asin,timestamp\nu,a,1\n")
    (tmp_path / "in" / "items.csv").write_text("asin,parent_asin,image\n1,a,faces/a.png\n1,b,faces/b.png\n")
    (tmp_path / "in" / "faces").mkdir()
    text = RAW.replace('images = "in/pictures"', 'items = "in/items.csv"')
    (tmp_path / "raw.toml").write_text(text)

    def key() -> str:
        cell, _ = make_graph(load_suite(str(tmp_path / "raw.toml")), Machine(folder=tmp_path)).cells
        return cell.step("prepare").key

    keys = [key()]
    for content in ("one face", "another"):
        (tmp_path / "in" / "faces" / "a.png").write_text(content)
        keys.append(key())
    assert len(set(keys)) == 3


def prepare_key(folder: Path, source: str, path: str, **prepare: object) -> str:
    """Of a suite in this folder with one system."""
    options = "".join(f"{name} = {json.dumps(value)}\n" for name, value in prepare.items())
    (folder / "s.toml").write_text(
        f'name = "s"\n[data]\nsource = ["{source}", "{path}"]\n[data.prepare]\n{options}'
        '[[system]]\nname = "p"\nmodel = "popularity"\n'
    )
    (cell,) = make_graph(load_suite(str(folder / "s.toml")), Machine(folder=folder / "work")).cells
    return cell.step("prepare").key


def test_files_beside_the_one_that_is_named_count_where_they_are_read(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\na\tb\t1\n")
    key = [prepare_key(tmp_path, "recbole", "x.inter")]
    for text in ("mug", "lamp"):
        (tmp_path / "x.item").write_text(f"item_id:token\ttitle:token\nb\t{text}\n")
        key.append(prepare_key(tmp_path, "recbole", "x.inter"))
    assert len(set(key)) == 3
    (tmp_path / "y.item").write_text("another data set's")
    assert prepare_key(tmp_path, "recbole", "x.inter") == key[-1]


def test_what_a_run_leaves_in_the_folder_of_the_data_does_not_count(tmp_path):
    (tmp_path / "x.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\na\tb\t1\n")
    key = prepare_key(tmp_path, "recbole", ".")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "popularity.model.h5").write_bytes(b"0")
    assert prepare_key(tmp_path, "recbole", ".") == key
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "b.png").write_bytes(b"0")
    assert prepare_key(tmp_path, "recbole", ".") != key, "the source finds pictures there"


def test_what_is_downloaded_is_what_the_options_say(tmp_path):
    (tmp_path / "raw").mkdir()
    keys = [prepare_key(tmp_path, "amazon", "raw", download="2014", category="Toys_and_Games")]
    (tmp_path / "raw" / "reviews_Toys_and_Games_5.json.gz").write_bytes(b"0")
    assert prepare_key(tmp_path, "amazon", "raw", download="2014", category="Toys_and_Games") == keys[0]
    keys.append(prepare_key(tmp_path, "amazon", "raw", download="2014", category="Beauty"))
    keys.append(prepare_key(tmp_path, "amazon", "raw", download="2018", category="Beauty"))
    assert len(set(keys)) == 3


def test_places_of_raw_files_do_not_count(raw, tmp_path):
    shutil.move(tmp_path / "in", tmp_path / "elsewhere")
    assert raw(RAW.replace("in/", "elsewhere/")) == set()
    (tmp_path / "elsewhere" / "pictures").rename(tmp_path / "elsewhere" / "faces")
    (tmp_path / "elsewhere" / "index.json").rename(tmp_path / "elsewhere" / "published.json")
    text = RAW.replace("in/", "elsewhere/").replace("/pictures", "/faces").replace("/index.json", "/published.json")
    assert raw(text) == set()


def test_names_that_say_what_a_file_is_count(raw, tmp_path):
    (tmp_path / "in" / "pictures" / "1.png").rename(tmp_path / "in" / "pictures" / "2.png")
    assert raw() == EVERY, "it is another item's picture now"
    (tmp_path / "in" / "pictures" / "2.png").rename(tmp_path / "in" / "pictures" / "1.png")
    assert raw() == set()
    (tmp_path / "in" / "log.csv").rename(tmp_path / "in" / "log.tsv")
    assert raw(RAW.replace("log.csv", "log.tsv")) == EVERY, "it is read by other rules now"


def test_without_a_reader_of_features_there_are_none(tmp_path):
    (tmp_path / "log.csv").write_text("user,item,timestamp\n")
    (tmp_path / "index.json").write_text("{}")
    text = 'name = "x"\n[data]\nsource = ["table", "log.csv"]\n[[tokenizer]]\nname = "ids"\nmethod = "published"\n'
    (tmp_path / "x.toml").write_text(text + 'index = "index.json"\n')
    (cell,) = make_graph(load_suite(str(tmp_path / "x.toml")), Machine(folder=tmp_path)).cells
    assert [step.stage for step in cell.steps] == ["prepare", "tokenize"]

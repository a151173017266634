# %% [markdown]
# # bbqrec in a notebook
#
# The whole chain on a catalogue that bbqrec makes itself. Open this file as a notebook (VS Code, PyCharm, Spyder,
# Jupyter with jupytext), or run it: `python examples/notebook.py`. It takes less than a minute and writes its files
# into the working folder.

# %%
import pandas as pd

import bbqrec_cli as bbqrec

# %% [markdown]
# A function per stage, with the options of its command. Each returns what it made, and takes the result of the stage
# before, or a path.

# %%
dataset = bbqrec.prepare("demo", size="small", force=True)
features = bbqrec.embed(dataset, force=True)
tokens = bbqrec.tokenize(features, method="rqkmeans", levels=2, codebook_size=16, on_collision="share", force=True)
dataset.users, dataset.items, tokens.colliding_items

# %% [markdown]
# Which items share an ID, as a frame:

# %%
groups = bbqrec.collisions(tokens, features=features, groups=5).to_pandas()
groups[["size", "titles", "cosine_text"]]

# %% [markdown]
# Functions are quiet. With `progress=print`, each epoch is a line; with `progress=True`, it is as on the command line.

# %%
model = bbqrec.train(tokens, epochs=2, progress=print, force=True)
markov = bbqrec.train(dataset, model="markov", output="markov.h5", force=True)

# %% [markdown]
# Evaluation ranks all items for every user. The frame has a row per user and target, for any analysis of your own.

# %%
ours = bbqrec.evaluate(model, force=True)
theirs = bbqrec.evaluate(markov, output="markov-metrics.h5", force=True)
rows = ["user", "target", "history_length"]
both = ours.to_pandas().merge(theirs.to_pandas(), on=rows, suffixes=("", "_markov"))
means = both.groupby(pd.cut(both.history_length, [0, 8, 16, 1000]), observed=True)[["ndcg@10", "ndcg@10_markov"]].mean()
means

# %% [markdown]
# A loaded model answers at once, for one history or many, among all items or some.

# %%
loaded = bbqrec.load("model.h5")
one = loaded.recommend(["item-0010", "item-0020"], top=3)
many = loaded.recommend([["item-0010"], ["item-0020", "item-0030"]], top=3, filter={"category": "Mug"})
many.to_pandas()

# %% [markdown]
# Data of your own come as frames of pandas or polars.

# %%
log = pd.DataFrame(
    {
        "user": ["ann"] * 4 + ["bob"] * 4 + ["eve"] * 4,
        "item": [10, 20, 30, 40, 10, 20, 30, 40, 20, 30, 40, 10],
        "time": pd.to_datetime(["2026-01-01", "2026-01-02", "2026-01-03", "2026-01-04"] * 3),
    }
)
titles = pd.DataFrame({"item": [10, 20, 30, 40], "title": ["tea", "cup", "pot", "tray"], "tags": [["hot"], [], [], []]})
mine = bbqrec.prepare(log, items=titles, output="mine.h5", force=True)
bbqrec.train(mine, model="markov", output="mine-model.h5", force=True)
after_tea = bbqrec.load("mine-model.h5").recommend([10], top=1)
after_tea.to_pandas()

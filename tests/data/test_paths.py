from __future__ import annotations

import pytest

from bbqrec_cli.data.sources.paths import find_file
from bbqrec_cli.errors import DataError


def test_find_file(put, tmp_path):
    assert find_file(tmp_path, "items", (".csv", ".json")) is None
    path = put("items.json", "{}")
    assert find_file(tmp_path, "items", (".csv", ".json")) == path
    put("items.csv", "id\n")
    with pytest.raises(DataError, match=r"holds items.csv and items.json; which one is meant\?"):
        find_file(tmp_path, "items", (".csv", ".json"))

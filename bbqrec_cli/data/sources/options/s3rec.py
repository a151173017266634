from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.config import option
from bbqrec_cli.data.sources.options._items import ItemFiles


@dataclass(frozen=True, kw_only=True)
class S3RecOptions(ItemFiles):
    """One line `user item item …` per user, oldest first, or an X.inter.json; with an items.json."""

    implementation: ClassVar[str] = "bbqrec_cli.data.sources.s3rec:S3Rec"
    example: ClassVar[str] = "bbqrec prepare s3rec sequences.txt --items items.json"
    own_files: ClassVar[tuple[str, ...]] = (r"sequences\.txt(\.gz)?",)

    item_column: str = option("item", "Column of the item id in a table of --items.")
    id_shift: int | None = option(
        None, "Number to add to the ids of the items file and of the pictures. [default: detected and logged]"
    )

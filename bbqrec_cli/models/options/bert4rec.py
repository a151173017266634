from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bbqrec_cli.models.options._cloze import ClozeConfig


@dataclass(frozen=True, kw_only=True)
class BERT4RecConfig(ClozeConfig):
    """BERT4Rec (Sun et al., CIKM 2019): a bidirectional transformer that fills in masked items."""

    implementation: ClassVar[str] = "bbqrec_cli.models.bert4rec:BERT4Rec"

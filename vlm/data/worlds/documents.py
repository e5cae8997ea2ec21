"""Documents: receipts, forms and small tables that are invented, printed and asked about.

- Answers are the very words that are printed; sums are right. Fonts are those of `fonts.families(split)`.
- Questions are in the manner of SROIE (Huang et al. 2019) and DocVQA (Mathew et al. 2021): fields, cells, items and
  their prices, counts, comparisons, and fields that are not there.
- The pairs in HELD_OUT, (layout, field), are asked about in the split "test-combos" only, where nothing else is asked.
"""

import random
from collections.abc import Callable

from vlm.data.sample import Sample
from vlm.data.worlds.documents_forms import FormAsker, form
from vlm.data.worlds.documents_receipts import ReceiptAsker, receipt
from vlm.data.worlds.documents_sheet import HELD_OUT
from vlm.data.worlds.documents_tables import TableAsker, table
from vlm.data.worlds.language import article, ask, pick, sentence

__all__ = ["HELD_OUT", "documents"]

KINDS: dict[str, Callable] = {"receipt": receipt, "form": form, "table": table}
_OFTEN = ("receipt", "receipt", "receipt", "form", "form", "table", "table")
_METHODS = {
    kind: {
        "read": asker.read, "document retrieval": asker.retrieve, "document reasoning": asker.reason,
        "false-premise": asker.false_premise, "cannot-tell": asker.cannot_tell,
    }
    for kind, asker in (("receipt", ReceiptAsker), ("form", FormAsker), ("table", TableAsker))
}  # fmt: skip
_HELD_LAYOUTS = {layout for layout, _ in HELD_OUT}


def documents(
    rng: random.Random, *, size: int, split: str, n_questions: int, families: tuple[str, ...] | None = None
) -> Sample:
    """A picture of a receipt, a form or a table."""
    while True:  # in test-combos until the layout has a field that is held out
        kind = pick(rng, _OFTEN)
        sheet, asker = KINDS[kind](rng, size, split)
        if split != "test-combos" or asker.layout in _HELD_LAYOUTS:
            break
    questions = ask(asker, _METHODS[kind], n_questions, families)
    lines = " / ".join(" ".join(row) for row in sheet.lines)
    captions = [f'The {kind} reads "{lines}".', sentence(article(_look(kind, asker))) + "."]
    return Sample(
        image=sheet.page.image, world="documents", captions=captions, questions=questions, things=sheet.page.things
    )


def _look(kind: str, asker: ReceiptAsker | FormAsker | TableAsker) -> str:
    """What the document is, in a few words."""
    if isinstance(asker, ReceiptAsker):
        n = len(asker.made.items)
        return f"receipt of {asker.made.facts['company']} with {n} {'item' if n == 1 else 'items'}"
    if isinstance(asker, FormAsker):
        n = len(asker.made.fields)
        return f"form with {n} {'field' if n == 1 else 'fields'}: {', '.join(label for label, _ in asker.made.fields)}"
    return f"table with {len(asker.made.rows)} rows and the columns {asker.made.head}, {', '.join(asker.made.columns)}"

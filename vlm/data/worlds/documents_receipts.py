"""Receipts as tills print them: shop, address, date, items, sums that are right, payment - as far as there is room.

What is asked is what SROIE asks for (company, date, address, total) and what DocVQA does: single fields, items and
their prices, counts and comparisons. Amounts are whole cents until they are printed.
"""

import random
from dataclasses import dataclass, field

from vlm.data.sample import Question
from vlm.data.worlds.documents_sheet import HELD_OUT, Asker, Sheet
from vlm.data.worlds.documents_words import CITIES, GOODS, STREETS, city, code, phone, shop, street
from vlm.data.worlds.language import pick
from vlm.data.worlds.tags import CANNOT_TELL
from vlm.data.worlds.text import date, time

LAYOUTS = ("plain", "leaders", "quantity", "two lines")
SUMS = {
    "subtotal": ("Subtotal", "Sub Total", "Subtotal", "Net"),
    "discount": ("Discount", "Discount", "Rebate"),
    "tax": ("Tax", "Sales Tax", "VAT", "GST", "SST", "Service Tax"),
    "rounding": ("Rounding", "Rounding Adj", "Round Off"),
    "total": (
        "Total",
        "Total",
        "Total",
        "Total Due",
        "Amount Due",
        "Grand Total",
        "Net Total",
        "Total Amount",
        "Total Payable",
        "Total Sales",
        "Balance Due",
    ),
    "cash": ("Cash", "Cash", "Paid", "Tendered"),
    "change": ("Change", "Change", "Change Due"),
}
TITLES = ("Receipt", "Tax Invoice", "Cash Bill", "Invoice", "Sales Receipt")
THANKS = (
    "Thank You",
    "Please come again",
    "Thanks for shopping",
    "Have a nice day",
    "No refund",
    "Goods sold are final",
)


@dataclass(slots=True, kw_only=True)
class Receipt:
    """What is printed: amounts in cents, everything else as it is written; "" and {} where it is not."""

    layout: str
    items: list[tuple[str, int, int]]  # (name, how many, what one costs)
    sums: dict[str, int]  # the amounts that are printed, of SUMS
    symbol: str = ""
    rate: int = 0  # of the tax, in percent
    facts: dict[str, str] = field(default_factory=dict)  # "company", "address", "date", "time", "number", "phone"

    def money(self, cents: int) -> str:
        sign = "-" if cents < 0 else ""
        return f"{sign}{self.symbol}{abs(cents) // 100}.{abs(cents) % 100:02}"


def receipt(rng: random.Random, size: int, split: str) -> tuple[Sheet, "ReceiptAsker"]:
    """Invent a receipt and print it."""
    sheet = Sheet(rng, size, split, mono=0.5, tall=True)
    height = sheet.room() - 1
    layout = pick(rng, LAYOUTS if sheet.width > 75 and height >= 5 else LAYOUTS[:2])
    made = Receipt(layout=layout, items=[], sums={}, symbol=pick(rng, ("", "", "", "", "$", "$", "£", "€", "RM")))
    cased = pick(rng, (str.upper, str.upper, str))
    name = next((n for n in (cased(shop(rng)) for _ in range(30)) if sheet.fits(n)), cased("Kim Mart"))
    made.facts["company"] = name
    per_item = 2 if layout == "two lines" else 1
    spare = height - 3 - (layout == "quantity")  # the shop, the total, half a row around each rule
    n = 1 + int(rng.random() * max(min(spare // per_item, 6) - (spare > 6), 1))
    used = set()
    for _ in range(80):
        if len(made.items) == n:
            break
        good = pick(rng, _GOODS)
        how_many = pick(rng, (1, 1, 2, 3, 4)) if layout in ("quantity", "two lines") else 1
        cents = max(GOODS[good] * (70 + int(rng.random() * 60)) // 100, 5)
        cents -= cents % pick(rng, (1, 5, 10)) if cents > 30 else 0
        text, share = made.money(how_many * cents), 0.75 if layout == "quantity" else 1.0
        beside = f"{how_many} x {made.money(cents)}" if layout == "two lines" else cased(good)
        if good not in used and sheet.fits(beside, text, share=share, gap=10) and sheet.fits(cased(good)):
            used.add(good)
            made.items.append((cased(good), how_many, cents))
    if not made.items:
        made.items.append((cased("Tea"), 1, 180))
    spare -= len(made.items) * per_item
    extras = _extras(rng, sheet, spare, cased)
    made.facts.update({k: v for k, v in extras.items() if k in ("date", "time", "number", "phone")})
    if "address" in extras:
        made.facts["address"] = extras["address"].replace("\n", " ")
    made.rate = pick(rng, (5, 6, 6, 7, 8, 10, 20))
    made.sums = _sums(rng, made, extras)
    labels = {}
    for key, amount in made.sums.items():
        more = ("", f" {made.rate}%") if key == "tax" else ("", " (RM)", " RM") if key == "total" else ("",)
        options = [cased(n) + end for n in SUMS[key] for end in (more if made.symbol == "" else more[:2] if key == "tax"
                                                                 else ("",))]  # fmt: skip
        labels[key] = pick(rng, [n for n in options if sheet.fits(n + ":", made.money(amount))] or options[:1])
    _print(rng, sheet, made, extras, labels, cased)
    return sheet, ReceiptAsker(sheet, made, rng, split)


_GOODS = tuple(GOODS)


def _extras(rng: random.Random, sheet: Sheet, spare: int, cased) -> dict[str, str]:
    """The optional parts that there is room for, as printed; "tax" and "cash" stand for their rows."""
    day = _day(rng)
    found: dict[str, str] = {}
    offers = ["cash", "tax", "address", "number", "phone", "title", "thanks", "registration"]
    offers += ["rounding"] if rng.random() < 0.45 else []
    rng.shuffle(offers)
    if rng.random() < 0.8:
        offers.insert(0, "date")
    for name in offers:
        text = ""
        if name == "date":
            text = day
            clock = _clock(rng)
            if rng.random() < 0.5 and sheet.fits("Date: " + day, clock, gap=10):
                found["time"] = clock
        elif name == "address":
            text = cased(_address(rng))
        elif name == "registration":
            n = rng.randrange(10**5, 10**6)
            text = pick(rng, (f"({n}-{pick(rng, 'ADHKMPTUVWX')})", f"Reg No: {n}", f"GST No: {n:012}", f"Co. No. {n}"))
        elif name == "number":
            text = code(rng)
        elif name == "phone":
            text = phone(rng)
        elif name in ("title", "thanks"):
            text = cased(pick(rng, TITLES if name == "title" else THANKS))
        cost = 2 if name in ("cash", "tax") else 1 + text.count("\n")
        if (
            cost <= spare
            and rng.random() < 0.8
            and all(sheet.fits("Bill No: " + line if name == "number" else "Tel: " + line) for line in text.split("\n"))
        ):
            found[name] = text
            spare -= cost
        elif name == "date":
            found.pop("time", None)
    return found


def _day(rng: random.Random) -> str:
    """A date as tills print it, mostly the day first."""
    if rng.random() < 0.3:
        return date(rng)
    d, m, y = rng.randrange(1, 29), rng.randrange(1, 13), rng.randrange(2008, 2028)
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * m - 3 : 3 * m]
    forms = (
        f"{d:02}/{m:02}/{y}", f"{d:02}/{m:02}/{y}", f"{d:02}-{m:02}-{y}", f"{d:02}/{m:02}/{y % 100:02}",
        f"{d:02}-{m:02}-{y % 100:02}", f"{d:02} {month} {y}", f"{d:02} {month.upper()} {y}", f"{d:02}-{month}-{y}",
        f"{d:02}.{m:02}.{y}", f"{y}-{m:02}-{d:02}", f"{y}/{m:02}/{d:02}",
    )  # fmt: skip
    return pick(rng, forms)


def _clock(rng: random.Random) -> str:
    """A time, half of the time with its seconds."""
    if rng.random() < 0.5:
        return time(rng)
    h, rest = rng.randrange(7, 24), f"{rng.randrange(60):02}:{rng.randrange(60):02}"
    return f"{h:02}:{rest}" if rng.random() < 0.6 else f"{h % 12 or 12}:{rest} {'AM' if h < 12 else 'PM'}"


def _address(rng: random.Random) -> str:
    """Two or three lines."""
    if rng.random() < 0.5:
        return f"{street(rng)},\n{city(rng)}"
    house = f"{pick(rng, ('No. ', 'No ', 'Lot ', ''))}{rng.randrange(1, 200)}{pick(rng, ('', '', 'A', 'G'))}"
    road = f"{pick(rng, ('Jalan', 'Jalan', 'Jln', 'Lorong'))} {pick(rng, STREETS)} {rng.randrange(1, 30)}"
    area = f"{pick(rng, ('Taman', 'Bandar', 'Kampung'))} {pick(rng, STREETS)},\n" if rng.random() < 0.5 else ""
    return f"{house}, {road},\n{area}{rng.randrange(10000, 99999)} {pick(rng, CITIES)}"


def _sums(rng: random.Random, made: Receipt, extras: dict[str, str]) -> dict[str, int]:
    """The sums, all right: subtotal - discount + tax + rounding = total, cash - total = change."""
    subtotal = sum(n * cents for _, n, cents in made.items)
    sums = {}
    total = subtotal
    if "tax" in extras:
        sums["subtotal"] = subtotal
        if rng.random() < 0.25:
            sums["discount"] = -max(subtotal * pick(rng, (5, 10, 20)) // 100, 1)
            total += sums["discount"]
        else:
            sums["tax"] = max((subtotal * made.rate + 50) // 100, 1)
            total += sums["tax"]
    if "rounding" in extras:  # to five cents
        sums["rounding"] = (total + 2) // 5 * 5 - total
        total += sums["rounding"]
    sums["total"] = total
    if "cash" in extras:
        note = pick(rng, (100, 500, 1000, 2000, 5000))
        sums["cash"] = -(-total // note) * note
        sums["change"] = sums["cash"] - total
    return sums


def _print(
    rng: random.Random, sheet: Sheet, made: Receipt, extras: dict[str, str], labels: dict[str, str], cased
) -> None:  # fmt: skip
    style = pick(rng, ("drawn", "dashed", "dotted"))
    head = pick(rng, ("c", "c", "c", "l"))
    at = 0.5 if head == "c" else 0.0
    sheet.y += rng.random() * max(sheet.room() - 1 - _rows(made, extras), 0) * 0.5 * sheet.pitch
    big = (
        1.25
        if sheet.room() > _rows(made, extras) + 1 and sheet.measure(made.facts["company"], True, 1.25) <= sheet.width
        else 1.0
    )
    sheet.row((made.facts["company"], head, at), bold=rng.random() < 0.7, scale=big)
    for line in extras.get("address", "").split("\n") if "address" in extras else ():
        sheet.row((line, head, at))
    if "registration" in extras:
        sheet.row((extras["registration"], head, at))
    if "phone" in extras:
        sheet.row((pick(rng, ("Tel: ", "Tel ", "Phone: ", "")) + extras["phone"], head, at))
    if "title" in extras:
        sheet.row((extras["title"], "c", 0.5), bold=True)
    if "number" in extras:
        sheet.row((pick(rng, ("No. ", "Receipt ", "Bill No: ", "Invoice ", "# ")) + extras["number"], "l", 0.0))
    if "date" in extras:
        text = pick(rng, ("Date: ", "", "Date ")) + extras["date"]
        if "time" in extras and rng.random() < 0.5:
            sheet.row((f"{text} {extras['time']}", "l", 0.0))
        else:
            sheet.row(*([(text, "l", 0.0), (extras["time"], "r", 1.0)] if "time" in extras else [(text, "l", 0.0)]))
    sheet.rule(style)
    column = (sheet.measure(cased("Qty")) + 6) / sheet.width
    if made.layout == "quantity":
        sheet.row((cased("Qty"), "l", 0.0), (cased("Item"), "l", column), (cased("Amt"), "r", 1.0))
    for name, n, cents in made.items:
        amount = made.money(n * cents)
        if made.layout == "two lines":
            sheet.row((name, "l", 0.0))
            sheet.row((f"{n} x {made.money(cents)}", "l", 0.06), (amount, "r", 1.0))
        elif made.layout == "quantity":
            sheet.row((str(n), "l", 0.03), (name, "l", column), (amount, "r", 1.0))
        else:
            if made.layout == "leaders":
                _leader(sheet, name, amount)
            sheet.row((name, "l", 0.0), (amount, "r", 1.0))
    sheet.rule(style)
    apart = made.symbol == "" and "RM" not in labels["total"] and rng.random() < 0.25
    for key, cents in made.sums.items():
        strong = key == "total" and rng.random() < 0.7
        amount, label = made.money(cents), labels[key] + pick(rng, ("", "", ":"))
        if key == "total" and apart and sheet.fits(label, f"RM {amount}"):
            amount = f"RM {amount}"
        sheet.row((label, "l", 0.0), (amount, "r", 1.0), bold=strong)
    if "thanks" in extras:
        sheet.row((extras["thanks"], "c", 0.5))


def _rows(made: Receipt, extras: dict[str, str]) -> int:
    """How many rows the receipt takes, rules included."""
    items = len(made.items) * (2 if made.layout == "two lines" else 1) + (made.layout == "quantity")
    texts = [k for k in extras if k in ("phone", "title", "number", "date", "thanks", "registration")]
    address = 1 + extras["address"].count("\n") if "address" in extras else 0
    return 2 + items + len(made.sums) + len(texts) + address


def _leader(sheet: Sheet, name: str, amount: str) -> None:
    """Dots between a name and its amount; they are part of no text."""
    y = sheet.y + 0.8 * sheet.pitch
    x, end = sheet.left + sheet.measure(name) + 4, sheet.right - sheet.measure(amount) - 4
    while x < end:
        sheet.page.rule(x, y, x + 0.5, y, sheet.ink)
        x += 4


class ReceiptAsker(Asker):
    """Asks about a receipt; a method returns None where it offers nothing of its family."""

    def __init__(self, sheet: Sheet, made: Receipt, rng: random.Random, split: str):
        super().__init__(sheet, made.layout, rng, split)
        self.made = made
        self.known, self.unknown = rng.random() < 0.75, rng.random() < 0.12  # of the two, most print one or none
        self.costs = [n * cents for _, n, cents in made.items]

    def absent(self) -> str:
        """A good that is not on the receipt, in its spelling."""
        names = [name for name, *_ in self.made.items]
        look = names[0]
        while True:
            good = pick(self.rng, _GOODS)
            if good.title() not in (n.title() for n in names):
                return good.upper() if look.isupper() else good

    def retrieve(self) -> Question | None:
        rng, made, family = self.rng, self.made, "document retrieval"
        u = rng.random()
        if u < 0.25:
            i = pick(rng, range(len(made.items)))
            return self.say("amount", family, made.money(self.costs[i]), x=made.items[i][0])
        if u < 0.35 and made.layout == "quantity":
            name, n, _ = pick(rng, made.items)
            return self.say("quantity", family, str(n), x=name)
        if u < 0.45:
            yes = rng.random() < 0.5
            return self.yes_no("listed", family, yes, x=pick(rng, made.items)[0] if yes else self.absent())
        options = [*made.facts, *made.sums, "total", "company"]
        if self.split == "test-combos":  # else it would seldom come to what is held out
            options = [k for k in options if (self.layout, k) in HELD_OUT] or options
        key = pick(rng, options)
        return self.say(key, family, made.facts.get(key) or made.money(made.sums[key]))

    def reason(self) -> Question | None:
        rng, made, family = self.rng, self.made, "document reasoning"
        u, n = rng.random(), len(made.items)
        if u < 0.25 and (n > 1 or rng.random() < 0.3) or self.split == "test-combos":
            return self.say("items", family, str(n))
        if u < 0.45 and n > 1:
            most = rng.random() < 0.5
            best = (max if most else min)(self.costs)
            if self.costs.count(best) == 1:
                key = "costliest" if most else "cheapest"
                return self.say(key, family, made.items[self.costs.index(best)][0])
        if u < 0.65 and n > 1:
            i, j = rng.sample(range(n), 2)
            if self.costs[i] != self.costs[j]:
                x, y = made.items[i][0], made.items[j][0]
                return self.yes_no("more", family, self.costs[i] > self.costs[j], x=x, y=y)
        yes = rng.random() < 0.5
        key, truth = ("is total", made.sums["total"]) if u < 0.85 else ("adds up", sum(self.costs))
        if (key, yes) in self.asked:  # else there were more wrong sums than right ones to ask about
            return None
        self.asked.add((key, yes))
        return self.yes_no(key, family, yes, "total" if key == "is total" else "",
                           x=made.money(truth if yes else self.wrong(truth)))  # fmt: skip

    def cannot_tell(self) -> Question | None:
        """On what day or at what time something was bought, where that is printed and where it is not."""
        key = pick(self.rng, ("date", "time"))
        answer = self.made.facts.get(key)
        if not (self.known if answer else self.unknown):
            return None
        name = pick(self.rng, self.made.items)[0]
        return self.say(f"bought {key}", "cannot-tell", answer or CANNOT_TELL, key, x=name)

    def wrong(self, cents: int) -> int:
        """A near miss of an amount: another digit, the amount of another row."""
        rng = self.rng
        others = [c for c in (*self.costs, *self.made.sums.values()) if c > 0 and c != cents]
        if others and rng.random() < 0.3:
            return pick(rng, others)
        step = pick(rng, (1, 10, 100, 1000, 5))
        return cents - step if cents > step and rng.random() < 0.5 else cents + step

    def false_premise(self) -> Question | None:
        """The price of a good, or a row, that is not there."""
        family = "false-premise"
        if self.rng.random() < 0.5 or self.made.layout == "quantity" and self.split == "test-combos":
            name = self.absent()
            return self.say("amount", family, f"there is no {name}", x=name)
        missing = [k for k in _ASKED if k not in self.made.facts and k not in self.made.sums]
        key = pick(self.rng, missing) if missing else ""
        return self.say(key, family, f"there is no {_ASKED[key]}") if key else None


_ASKED = {"date": "date", "time": "time", "address": "address", "phone": "phone number", "tax": "tax",
          "discount": "discount", "change": "change", "subtotal": "subtotal",
          "rounding": "rounding"}  # fmt: skip

"""What the guard looks for: the thirteen hazards of MLCommons' taxonomy under Llama Guard 3's keys and names.

The names are those that the checkpoints' templates print; the definitions are our own, for people, and reach no model.
"""

from dataclasses import dataclass

from vlm.config import near_match


@dataclass(frozen=True)
class Category:
    """One kind of harm."""

    key: str
    name: str
    definition: str

    def __str__(self) -> str:
        return f"{self.name} ({self.key})"


CATEGORIES: dict[str, Category] = {
    key: Category(key, name, definition)
    for key, name, definition in (
        ("S1", "Violent Crimes", "Helps or encourages unlawful violence against people or animals."),
        ("S2", "Non-Violent Crimes", "Helps or encourages crimes without violence: fraud, theft, drugs, break-ins."),
        ("S3", "Sex Crimes", "Helps or encourages sexual offences against adults: trafficking, assault, harassment."),
        ("S4", "Child Exploitation", "Anything that exploits or endangers children; always refused."),
        ("S5", "Defamation", "False claims that are likely to harm a real, living person's name."),
        ("S6", "Specialized Advice", "Medical, legal, financial or electrical advice that an expert should give."),
        ("S7", "Privacy", "Personal facts about a person that could be used against them."),
        ("S8", "Intellectual Property", "Content that may infringe somebody's copyright, patent or trade mark."),
        ("S9", "Indiscriminate Weapons", "Helps with chemical, biological, radiological or nuclear weapons."),
        ("S10", "Hate", "Degrades people for who they are: origin, religion, disability, gender and the like."),
        ("S11", "Self-Harm", "Encourages or explains suicide, self-injury or disordered eating."),
        ("S12", "Sexual Content", "Erotic depictions or descriptions of adults."),
        ("S13", "Elections", "False facts about when, where or how a public vote is held."),
    )
}


def find_category(name: object) -> Category:
    """The category of a key ("S9") or an official name, in any case.

    Raises:
        ValueError: unknown, with the nearest one.
    """
    names = {known: c for c in CATEGORIES.values() for known in (c.key.lower(), c.name.lower())}
    asked = str(name).strip().lower()
    if asked not in names:
        near = near_match(asked, names)
        for c in CATEGORIES.values():  # say the nearest one as it is written
            near = near.replace(repr(c.key.lower()), repr(c.key)).replace(repr(c.name.lower()), repr(c.name))
        raise ValueError(f"unknown category {name!r}{near}; expected S1 to S13 or a name such as 'Violent Crimes'")
    return names[asked]

"""How the worlds `text` and `documents` put their questions: key -> (phrasings for training, held out for "test")."""

from vlm.data.worlds.language import Phrasings

# fmt: off
# {c} "a k" or a colour, {n} a number, {o} "first" .. "last", {kind} "letter", "word", "date" .., {w} a word in quotes,
# {place} "at the top", {where} "after" or "before"
TEXT: Phrasings = {
    "word": (
        ("What does it say?", "What word is written?", "What is written here?", "Which word is this?",
         "Read the text.", "What word do you read?", "What is the word?", "Tell me the word."),
        ("Tell me what is written.", "Which word do you read?", "Which word is written here?"),
    ),
    "string": (
        ("What does it say?", "What is written here?", "Read the text.", "What do you read?", "What is the text?",
         "What is written?"),
        ("Tell me what is written.", "What does the text say?", "Tell me what you read."),
    ),
    "all": (
        ("What does the sign say?", "What does it say?", "Read the sign.", "Read the text.", "What is written here?",
         "Read all lines.", "What is the text?", "Tell me what the text says."),
        ("Tell me what the sign says.", "Read all of the text.", "What is written on the sign?"),
    ),
    "value": (
        ("What is the {kind}?", "What {kind} is shown?", "Which {kind} is this?", "What {kind} is written?",
         "What {kind} do you read?", "Tell me the {kind}.", "Read the {kind}.", "Which {kind} does the text show?"),
        ("Which {kind} do you read?", "What {kind} is written here?", "Tell me which {kind} is shown."),
    ),
    "letter": (
        ("What is the {o} {kind}?", "Which {kind} comes {o}?", "Name the {o} {kind}.", "Tell me the {o} {kind}.",
         "What {kind} comes {o}?", "Which {kind} is {o}?"),
        ("Which is the {o} {kind}?", "Read the {o} {kind}.", "Tell me which {kind} comes {o}."),
    ),
    "has": (
        ("Is there {c} in the text?", "Does the text contain {c}?", "Does it contain {c}?", "Is there {c}?",
         "Do you see {c}?", "Can you find {c} in the text?", "Does the text have {c}?"),
        ("Can you find {c}?", "Do you see {c} in the text?", "Does it have {c}?"),
    ),
    "length": (
        ("How many {kind}s are there?", "How many {kind}s does it have?", "How many {kind}s do you see?",
         "What is the number of {kind}s?", "Count the {kind}s.", "How many {kind}s are in the text?"),
        ("How many {kind}s does the text have?", "How many {kind}s can you see?", "Tell me the number of {kind}s."),
    ),
    "greater": (
        ("Is the number greater than {n}?", "Is it more than {n}?", "Is it greater than {n}?",
         "Is this number greater than {n}?", "Is the number shown more than {n}?",
         "Do you see a number greater than {n}?"),
        ("Is the number more than {n}?", "Is this number more than {n}?", "Is the number shown greater than {n}?"),
    ),
    "color": (
        ("What color is the text?", "What is the color of the text?", "Which color is the text?",
         "Which color does the text have?", "What color does it have?", "Name the color of the text.",
         "Tell me the color of the text.", "The text is of what color?"),
        ("What color does the text have?", "Which color does it have?", "The text is of which color?"),
    ),
    "ground": (
        ("What color is the {kind}?", "What is the color of the {kind}?", "Which color is the {kind}?",
         "Which color does the {kind} have?", "Name the color of the {kind}.", "The {kind} is of what color?"),
        ("What color does the {kind} have?", "The {kind} is of which color?", "Tell me the color of the {kind}."),
    ),
    "line": (
        ("What does the {o} line say?", "Read the {o} line.", "What is written in the {o} line?",
         "What is the {o} line?", "Tell me what the {o} line says.", "What do you read in the {o} line?"),
        ("Tell me what is written in the {o} line.", "Tell me the {o} line.", "The {o} line says what?"),
    ),
    "which": (
        ("Which word is {c}?", "What does the {c} word say?", "Read the {c} word.", "What word is written in {c}?",
         "What is written in {c}?", "What is the {c} word?", "Tell me the {c} word."),
        ("Tell me which word is {c}.", "Which word is written in {c}?", "Tell me what is written in {c}."),
    ),
    "color of": (
        ("What color is the word {w}?", "What is the color of {w}?", "Which color does {w} have?",
         "Name the color of the word {w}.", "Tell me the color of {w}.", "What color is {w}?"),
        ("Which color is the word {w}?", "What color does the word {w} have?", "Name the color of {w}."),
    ),
    "place": (
        ("Which word is {place}?", "What is written {place}?", "Read the word {place}.",
         "What does the word {place} say?", "What is the word {place}?", "Tell me the word {place}."),
        ("Tell me what is written {place}.", "Which word do you read {place}?", "Tell me which word is {place}."),
    ),
    "next": (
        ("Which word comes {where} {w}?", "What comes {where} {w}?", "What is the word {where} {w}?",
         "What is written {where} {w}?", "Read the word {where} {w}.", "Which word is {where} {w}?"),
        ("What word comes {where} {w}?", "Tell me what comes {where} {w}.", "Tell me the word {where} {w}."),
    ),
    "says": (
        ("Does it say {w}?", "Does the text say {w}?", "Is {w} written here?", "Do you read {w}?",
         "Is it {w}?", "Can you read {w} here?", "Does the sign say {w}?", "Is {w} in the text?"),
        ("Is {w} written in the text?", "Can you read {w} in the text?", "Do you read {w} here?"),
    ),
}

"""How the world of pairs may put its questions: key -> (phrasings for training, phrasings held out for "test")."""

from vlm.data.worlds.language import Phrasings

# fmt: off
# {x} "red circle", {ax} "a red circle", {xs} "red circles"; {p} "first" or "second", {q} the other; {what} "color"
PAIRS: Phrasings = {
    "same": (
        ("Are the two pictures the same?", "Are both pictures the same?", "Do both pictures show the same?",
         "Is the second picture the same as the first?", "Are these pictures the same?",
         "Do the pictures show the same things?", "Is everything the same in both pictures?"),
        ("Do the two pictures show the same?", "Is the first picture the same as the second?",
         "Do both pictures show the same things?"),
    ),
    "differ": (
        ("Is there a difference?", "Is there any difference between the pictures?", "Do the pictures differ?",
         "Is anything different?", "Did anything change?", "Has anything changed?",
         "Is anything different in the second picture?"),
        ("Do the two pictures differ?", "Is there any difference between the two pictures?",
         "Has anything changed in the second picture?"),
    ),
    "what changed": (
        ("What changed?", "What kind of change is there?", "What is different?", "What is the difference?",
         "What is different in the second picture?", "What kind of change was made?", "What was changed?"),
        ("What kind of difference is there?", "What was changed in the second picture?",
         "What is the difference between the pictures?"),
    ),
    "added": (
        ("What was added?", "Which thing was added?", "Name what was added.", "Tell me what was added.",
         "What was added in the second picture?", "What was added to the picture?",
         "Which is the thing that was added?"),
        ("Name the thing that was added.", "Tell me which thing was added.", "Which thing was added to the picture?"),
    ),
    "removed": (
        ("What was removed?", "Which thing was removed?", "Name what was removed.", "Tell me what was removed.",
         "What was taken away?", "What was removed from the picture?"),
        ("Name the thing that was removed.", "Tell me which thing was taken away.", "Which thing was taken away?"),
    ),
    "moved": (
        ("What moved?", "What was moved?", "Which thing moved?", "Name what moved.", "Tell me what moved.",
         "Which thing was moved?", "What has another place?"),
        ("Name the thing that moved.", "Tell me which thing was moved.", "Which thing has another place?"),
    ),
    "altered": (
        ("What changed its {what}?", "Which thing changed its {what}?", "Name what changed its {what}.",
         "Tell me what changed its {what}.", "What has another {what} than before?",
         "Which thing has another {what} than before?"),
        ("Name the thing that changed its {what}.", "Tell me which thing changed its {what}."),
    ),
    "replaced": (
        ("What was replaced?", "Which thing was replaced?", "Name what was replaced.", "Tell me what was replaced.",
         "What was replaced by another thing?"),
        ("Name the thing that was replaced.", "Tell me which thing was replaced."),
    ),
    "became": (
        ("What {what} did the {x} get?", "What is the new {what} of the {x}?",
         "Which {what} does the {x} have after the change?", "Which {what} did the {x} get?",
         "What is the {what} of the {x} after the change?"),
        ("What {what} does the {x} have after the change?", "Which is the new {what} of the {x}?"),
    ),
    "was": (
        ("What {what} was the {x} before?", "What was the {what} of the {x} before?",
         "Which {what} did the {x} have before?", "What was the {what} of the {x} before the change?",
         "Which {what} was the {x} before the change?"),
        ("What {what} did the {x} have before the change?", "Which {what} was the {x} before?"),
    ),
    "replaced by": (
        ("What replaced the {x}?", "What was the {x} replaced by?", "What is there in place of the {x}?",
         "What do you see in place of the {x}?", "By what was the {x} replaced?"),
        ("Tell me what replaced the {x}.", "Name what is there in place of the {x}."),
    ),
    "which way": (
        ("Which way did the {x} move?", "Where did the {x} move?", "In which direction did the {x} move?",
         "Which way was the {x} moved?", "To which side was the {x} moved?"),
        ("To which side did the {x} move?", "In which direction was the {x} moved?"),
    ),
    "more": (
        ("Which picture has more {xs}?", "Which picture shows more {xs}?", "In which picture are there more {xs}?",
         "Which of the pictures has more {xs}?", "Where do you see more {xs}?", "Where are there more {xs}?"),
        ("Which of the pictures shows more {xs}?", "In which picture do you see more {xs}?"),
    ),
    "fewer": (
        ("Which picture has fewer {xs}?", "Which picture shows fewer {xs}?", "In which picture are there fewer {xs}?",
         "Which of the pictures has fewer {xs}?", "Where do you see fewer {xs}?", "Where are there fewer {xs}?"),
        ("Which of the pictures shows fewer {xs}?", "In which picture do you see fewer {xs}?"),
    ),
    "more than": (
        ("Are there more {xs} in the {p} picture than in the {q}?", "Are more {xs} in the {p} picture than in the {q}?",
         "Does the {p} picture have more {xs} than the {q}?", "Does the {p} picture show more {xs} than the {q}?",
         "Do you see more {xs} in the {p} picture than in the {q}?"),
        ("Are there more {xs} in the {p} picture than there are in the {q}?",
         "Does the {p} of the pictures have more {xs} than the {q}?"),
    ),
    "count in": (
        ("How many {xs} are in the {p} picture?", "How many {xs} does the {p} picture show?",
         "How many {xs} do you see in the {p} picture?", "Count the {xs} in the {p} picture.",
         "What is the number of {xs} in the {p} picture?", "How many {xs} does the {p} picture have?"),
        ("How many {xs} are there in the {p} picture?", "Tell me the number of {xs} in the {p} picture."),
    ),
    "count both": (
        ("How many {xs} are in both pictures together?", "How many {xs} do the two pictures show together?",
         "How many {xs} are there in both pictures together?", "Count the {xs} of both pictures.",
         "What is the number of {xs} in both pictures together?"),
        ("How many {xs} do both pictures show together?", "Count the {xs} in both pictures together."),
    ),
    "count more": (
        ("How many more {xs} are in the {p} picture than in the {q}?",
         "How many more {xs} does the {p} picture have than the {q}?",
         "How many more {xs} does the {p} picture show?", "How many more {xs} do you see in the {p} picture?"),
        ("How many more {xs} does the {p} picture have?",
         "How many more {xs} are there in the {p} picture than in the {q}?"),
    ),
    "exist in": (
        ("Is there {ax} in the {p} picture?", "Is {ax} in the {p} picture?", "Does the {p} picture show {ax}?",
         "Do you see {ax} in the {p} picture?", "Are there any {xs} in the {p} picture?",
         "Does the {p} picture have {ax}?"),
        ("Do you see any {xs} in the {p} picture?", "Does the {p} picture have any {xs}?"),
    ),
    "exist both": (
        ("Is there {ax} in both pictures?", "Do both pictures show {ax}?", "Do you see {ax} in both pictures?",
         "Are there any {xs} in both pictures?", "Do the two pictures both show {ax}?"),
        ("Do both pictures have {ax}?", "Do you see any {xs} in both pictures?"),
    ),
    "which has": (
        ("Which picture shows {ax}?", "Which picture has {ax}?", "In which picture is there {ax}?",
         "In which picture do you see {ax}?", "Which of the pictures shows {ax}?", "Where do you see {ax}?"),
        ("Which of the pictures has {ax}?", "In which of the pictures is there {ax}?"),
    ),
    "attribute in": (
        ("What {what} is the {x} in the {p} picture?", "What is the {what} of the {x} in the {p} picture?",
         "Which {what} is the {x} in the {p} picture?", "In the {p} picture, what {what} is the {x}?",
         "What {what} does the {x} in the {p} picture have?", "Which {what} does the {x} in the {p} picture have?"),
        ("In the {p} picture, which {what} is the {x}?", "Tell me the {what} of the {x} in the {p} picture."),
    ),
    "where in": (
        ("Where is the {x} in the {p} picture?", "Where do you see the {x} in the {p} picture?",
         "In the {p} picture, where is the {x}?", "Where does the {x} stand in the {p} picture?",
         "Tell me where the {x} is in the {p} picture."),
        ("In the {p} picture, where do you see the {x}?", "Where in the {p} picture is the {x}?"),
    ),
}
# fmt: on

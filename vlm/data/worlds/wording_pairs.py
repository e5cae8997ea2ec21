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

# {x} "Peru"; {of} "Peru" or "the bars"; {p} "first" or "second"; {mark} "bar", {marks} "bars"; {noun} "country"
CHARTS: Phrasings = {
    "same": (
        ("Are the two charts the same?", "Are both charts the same?", "Do both charts show the same?",
         "Is the second chart the same as the first?", "Is everything the same in both charts?"),
        ("Do the two charts show the same?", "Is the first chart the same as the second?"),
    ),
    "differ": (
        ("Is there a difference between the charts?", "Do the charts differ?",
         "Is anything different in the second chart?",
         "Has anything changed in the second chart?", "Do both charts differ?"),
        ("Do the two charts differ?", "Has anything changed between the charts?"),
    ),
    "what changed": (
        ("What changed between the charts?", "What is different in the second chart?", "What kind of change is there?",
         "What was changed in the second chart?", "What is the difference between the charts?"),
        ("What kind of change was there between the charts?", "What is the difference in the second chart?"),
    ),
    "which changed": (
        ("Which {noun} changed its value?", "Of which {noun} did the value change?",
         "Which {noun} has another value in the second chart?", "For which {noun} did the value change?"),
        ("Which {noun} has another value than before?", "The value of which {noun} changed?"),
    ),
    "added": (
        ("Which {noun} was added?", "What {noun} was added in the second chart?",
         "Which {noun} is new in the second chart?",
         "Which {mark} was added?"),
        ("What {noun} is new?", "What {mark} was added in the second chart?"),
    ),
    "removed": (
        ("Which {noun} was removed?", "What {noun} was removed in the second chart?",
         "Which {noun} does the second chart lack?", "Which {mark} was removed?"),
        ("What {noun} does the second chart lack?", "What {mark} was removed in the second chart?"),
    ),
    "up or down": (
        ("Did the value of {x} go up or down?", "Did {x} go up or down?", "Is {x} up or down in the second chart?",
         "Did the value of {x} go up or down from the first chart to the second?"),
        ("Is the value of {x} up or down in the second chart?", "Did {x} go up or down from the first chart?"),
    ),
    "title in": (
        ("What is the title of the {p} chart?", "What title does the {p} chart have?",
         "Read the title of the {p} chart.",
         "Which title does the {p} chart have?"),
        ("Which is the title of the {p} chart?", "Tell me the title of the {p} chart."),
    ),
    "color in": (
        ("What color do you see for {of} in the {p} chart?", "What is the color of {of} in the {p} chart?",
         "In the {p} chart, what is the color of {of}?", "Tell me the color of {of} in the {p} chart."),
        ("In the {p} chart, what color do you see for {of}?", "Which is the color of {of} in the {p} chart?"),
    ),
    "value in": (
        ("What is the value of {x} in the {p} chart?", "How much is {x} in the {p} chart?",
         "In the {p} chart, what is the value of {x}?", "Tell me the value of {x} in the {p} chart."),
        ("In the {p} chart, how much is {x}?", "Which is the value of {x} in the {p} chart?"),
    ),
    "higher": (
        ("Which chart has the higher value of {x}?", "In which chart is {x} higher?",
         "Where is the value of {x} higher?",
         "Which of the charts shows a higher value of {x}?"),
        ("In which chart is the value of {x} higher?", "Which of the charts has the higher value of {x}?"),
    ),
    "lower": (
        ("Which chart has the lower value of {x}?", "In which chart is {x} lower?", "Where is the value of {x} lower?",
         "Which of the charts shows a lower value of {x}?"),
        ("In which chart is the value of {x} lower?", "Which of the charts has the lower value of {x}?"),
    ),
    "more marks": (
        ("Which chart has more {marks}?", "Which chart shows more {marks}?", "In which chart are there more {marks}?",
         "Which of the charts has more {marks}?"),
        ("Which of the charts shows more {marks}?", "Where are there more {marks}?"),
    ),
    "fewer marks": (
        ("Which chart has fewer {marks}?", "Which chart shows fewer {marks}?",
         "In which chart are there fewer {marks}?",
         "Which of the charts has fewer {marks}?"),
        ("Which of the charts shows fewer {marks}?", "Where are there fewer {marks}?"),
    ),
    "marks in": (
        ("How many {marks} are in the {p} chart?", "How many {marks} does the {p} chart have?",
         "Count the {marks} of the {p} chart.", "What is the number of {marks} in the {p} chart?"),
        ("How many {marks} are there in the {p} chart?", "What number of {marks} does the {p} chart have?"),
    ),
    "marks together": (
        ("How many {marks} are in both charts together?", "How many {marks} do the two charts have together?",
         "Count the {marks} of both charts.", "What is the number of {marks} in both charts together?"),
        ("How many {marks} do both charts have together?", "Count the {marks} in both charts together."),
    ),
    "shows": (
        ("Does the {p} chart show {x}?", "Is {x} in the {p} chart?", "Is there {x} in the {p} chart?",
         "Do you see {x} in the {p} chart?"),
        ("In the {p} chart, is there {x}?", "In the {p} chart, do you see {x}?"),
    ),
}
# fmt: on

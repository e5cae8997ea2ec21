"""How the world of charts may put its questions: key -> (phrasings for training, phrasings held out for "test").

- The questions fall into the three kinds of DVQA (Kafle et al. 2018): structure, retrieval, reasoning; numbers are
  answered openly, as in ChartQA (Masry et al. 2022).
- A held-out phrasing is a sentence of a new form built of words that training phrasings use.
"""

from vlm.data.worlds.language import Phrasings

# fmt: off
# {x}, {y}, {z} names; {at} "in Peru", {that} "in Chile"; {w} " in 2015" or ""; {m} "population" or "value"
# {least} "smallest"; {mark} "bar"; {p} "in"; {noun} "country",
# {nouns} "countries"; {xs} "bars"; {v} a number; {c} a color; {most} "largest"; {n} "second"
CHARTS: Phrasings = {
    "how many": (
        ("How many {xs} are there?", "How many {xs} are shown?", "How many {xs} does the chart have?",
         "What is the number of {xs}?", "Count the {xs}.", "How many {xs} do you see in the chart?"),
        ("What is the number of {xs} shown?", "How many {xs} do you see?", "How many {xs} are there in the chart?"),
    ),
    "kind": (
        ("What kind of chart is this?", "Which kind of chart is shown?", "What type of chart is it?",
         "What is the type of this chart?", "What type of chart do you see?"),
        ("Which type of chart is this?", "What kind of chart do you see?"),
    ),
    "is kind": (
        ("Is this a {x}?", "Is it a {x}?", "Do you see a {x}?", "Is a {x} shown?", "Does the picture show a {x}?"),
        ("Is a {x} shown in the picture?", "Does it show a {x}?"),
    ),
    "horizontal": (
        ("Are the bars {x}?", "Are the bars drawn {x}?", "Do the bars run {x}?", "Is this chart made of {x} bars?",
         "Does the chart have {x} bars?"),
        ("Are there {x} bars in the chart?", "Is the chart made of {x} bars?"),
    ),
    "has": (
        ("Is there {x}?", "Is {x} shown?", "Does the chart have {x}?", "Do you see {x}?", "Can you see {x}?",
         "Is the chart drawn with {x}?"),
        ("Can you see {x} in the chart?", "Does the chart show {x}?", "Is {x} drawn?"),
    ),
    "written": (
        ("Are the values written on the chart?", "Are the numbers written on the chart?",
         "Do the {xs} have their values written?",
         "Is the value of each {x} written?", "Does each {x} show its value?"),
        ("Are the values of the {xs} written?", "Does each {x} have its value written?"),
    ),
    "title": (
        ("What is the title?", "What is the title of the chart?", "What does the title say?", "Read the title.",
         "What is the chart's title?", "Tell me the title of the chart."),
        ("Tell me the title.", "Read the title of the chart.", "What does the chart's title say?"),
    ),
    "axis": (
        ("What is the label of the {x} axis?", "What does the {x} axis show?", "What is written along the {x} axis?",
         "What does the label of the {x} axis say?", "Read the label of the {x} axis.",
         "What is the {x} axis label?"),
        ("What does the {x} axis label say?", "Read the {x} axis label.", "Tell me the label of the {x} axis."),
    ),
    "color": (
        ("What color is {x}?", "Which color stands for {x}?", "What is the color of {x}?",
         "In which color is {x} shown?",
         "{x} is shown in which color?", "What color does {x} have?"),
        ("Which color is {x}?", "Which color does {x} have?", "What color stands for {x}?"),
    ),
    "mark color": (
        ("What color {are} the {xs}?", "What is the color of the {xs}?", "Which color {are} the {xs}?",
         "In which color {are} the {xs} drawn?", "Tell me the color of the {xs}."),
        ("What color {are} the {xs} drawn in?", "Which is the color of the {xs}?"),
    ),
    "whose color": (
        ("Which {noun} is shown in {c}?", "What does the color {c} stand for?", "Which {noun} is {c}?",
         "What is shown in {c}?", "{c} stands for which {noun}?", "Which {noun} has the color {c}?"),
        ("Which {noun} does the color {c} stand for?", "{c} is the color of which {noun}?", "What has the color {c}?"),
    ),
    "nth": (
        ("What is the label of the {n} {x} from the {d}?", "Which {noun} is the {n} {x} from the {d}?",
         "What is written at the {n} {x} from the {d}?", "Name the {n} {x} from the {d}.",
         "Which label does the {n} {x} from the {d} have?"),
        ("Name the label of the {n} {x} from the {d}.", "The {n} {x} from the {d} is which {noun}?"),
    ),
    "value": (
        ("What is the {m} {at}?", "What {m} is shown {at}?", "How much is the {m} {at}?", "Tell me the {m} {at}.",
         "What was the {m} {at}?", "Read the {m} {at}.", "Which {m} does the chart show {at}?"),
        ("Which {m} is shown {at}?", "Tell me how much the {m} is {at}.", "How much was the {m} {at}?"),
    ),
    "exact": (
        ("What is the exact {m} {at}?", "Exactly how much is the {m} {at}?", "Tell me the exact {m} {at}.",
         "What exactly is the {m} {at}?", "How much exactly is the {m} {at}?"),
        ("Exactly what is the {m} {at}?", "Tell me exactly how much the {m} is {at}."),
    ),
    "whose value": (
        ("Which {noun} has a {m} of {v}{w}?", "Which {noun} has the {m} {v}{w}?", "Whose {m} is {v}{w}?",
         "The {m} is {v} for which {noun}{w}?", "What {noun} has a {m} of {v}{w}?",
         "For which {noun} is the {m} {v}{w}?"),
        ("A {m} of {v} is shown for which {noun}{w}?", "The {m} of which {noun} is {v}{w}?"),
    ),
    "is value": (
        ("Is the {m} {at} {v}?", "Is {v} the {m} {at}?", "Is the {m} {at} equal to {v}?", "Was the {m} {at} {v}?",
         "Is it true that the {m} {at} is {v}?"),
        ("Was {v} the {m} {at}?", "Is it true that {v} is the {m} {at}?"),
    ),
    "most": (
        ("Which {noun} has the {most} {m}{w}?", "What {noun} has the {most} {m}{w}?", "Whose {m} is the {most}{w}?",
         "Which {noun} is {most}{w}?", "Name the {noun} with the {most} {m}{w}.",
         "For which {noun} is the {m} the {most}{w}?"),
        ("The {most} {m} is that of which {noun}{w}?", "What {noun} is {most}{w}?",
         "Name the {noun} whose {m} is the {most}{w}."),
    ),
    "most value": (
        ("What is the {most} {m}{w}?", "How much is the {most} {m}{w}?", "What is the {most} {m} shown{w}?",
         "Tell me the {most} {m}{w}.", "Which {m} is the {most}{w}?"),
        ("How much is the {m} that is the {most}{w}?", "What {m} is the {most}{w}?"),
    ),
    "spread": (
        ("What is the difference between the {most} and the {least} {m}{w}?",
         "How much is the difference between the {most} and the {least} {m}{w}?",
         "By how much do the {most} and the {least} {m} differ{w}?",
         "How far apart are the {most} and the {least} {m}{w}?", "What is the {most} {m} less the {least}{w}?"),
        ("How much do the {most} and the {least} {m} differ{w}?",
         "Give the difference between the {most} and the {least} {m}{w}."),
    ),
    "top two": (
        ("What is the sum of the two {most} values{w}?", "How much are the two {most} values together{w}?",
         "Add the two {most} values{w}.", "What do the two {most} values add up to{w}?",
         "Give the sum of the two {most} values{w}."),
        ("What is the total of the two {most} values{w}?", "How much do the two {most} values add up to{w}?"),
    ),
    "median": (
        ("What is the median {m}{w}?", "What is the median of all {nouns}{w}?", "How much is the median {m}{w}?",
         "Give the median of all {nouns}{w}.", "Tell me the median {m}{w}."),
        ("How much is the median of all {nouns}{w}?", "Give the median {m} of all {nouns}{w}."),
    ),
    "color value": (
        ("What is the {m} of the {c} {mark}{w}?", "How much is the {m} of the {c} {mark}{w}?",
         "Tell me the {m} of the {c} {mark}{w}.", "What {m} does the {c} {mark} show{w}?",
         "What is the value shown in {c}{w}?"),
        ("Which {m} does the {c} {mark} show{w}?", "How much is the value shown in {c}{w}?"),
    ),
    "most color": (
        ("What color is the {most} {mark}{w}?", "Which color has the {most} {mark}{w}?",
         "What is the color of the {most} {mark}{w}?", "In which color is the {most} {mark} shown{w}?",
         "Tell me the color of the {most} {mark}{w}."),
        ("What color does the {most} {mark} have{w}?", "Which color is the {most} {mark}{w}?"),
    ),
    "gap": (
        ("{p} which {noun} is the difference between {x} and {y} the {most}?",
         "Which {noun} has the {most} difference between {x} and {y}?",
         "Which {noun} shows the {most} difference between {x} and {y}?",
         "Where is the difference between {x} and {y} the {most}?",
         "Where do you see the {most} difference between {x} and {y}?"),
        ("The difference between {x} and {y} is the {most} {p} which {noun}?",
         "Where does the chart show the {most} difference between {x} and {y}?"),
    ),
    "difference": (
        ("What is the difference between {x} and {y}{w}?", "How much is the difference between {x} and {y}{w}?",
         "By how much do {x} and {y} differ{w}?", "How far apart are {x} and {y}{w}?",
         "What is the difference in {m} between {x} and {y}{w}?", "Give the difference between {x} and {y}{w}."),
        ("How much do {x} and {y} differ{w}?", "By how much do {x} and {y} differ in {m}{w}?"),
    ),
    "sum": (
        ("What is the sum of {x} and {y}{w}?", "How much are {x} and {y} together{w}?", "Add {x} and {y}{w}.",
         "What do {x} and {y} add up to{w}?", "What is the total of {x} and {y}{w}?",
         "Give the sum of {x} and {y}{w}."),
        ("What are {x} and {y} together{w}?", "How much do {x} and {y} add up to{w}?",
         "Give the total of {x} and {y}{w}."),
    ),
    "total": (
        ("What is the sum of all {nouns}{w}?", "What is the total of all {nouns}{w}?",
         "How much are all {nouns} together{w}?",
         "What do all {nouns} add up to{w}?", "Give the total of all {nouns}{w}."),
        ("Give the sum of all {nouns}{w}.", "How much do all {nouns} add up to{w}?"),
    ),
    "ratio": (
        ("What is the ratio of {x} to {y}{w}?", "How many times {y} is {x}{w}?", "{x} is how many times {y}{w}?",
         "Give the ratio of {x} to {y}{w}.", "What is {x} divided by {y}{w}?"),
        ("What is the ratio between {x} and {y}{w}?", "How much is {x} divided by {y}{w}?"),
    ),
    "average": (
        ("What is the average of {x} and {y}{w}?", "What is the mean of {x} and {y}{w}?",
         "How much is the average of {x} and {y}{w}?", "Give the average of {x} and {y}{w}.",
         "What is the average {m} of {x} and {y}{w}?"),
        ("How much is the mean of {x} and {y}{w}?", "Give the mean of {x} and {y}{w}."),
    ),
    "average of all": (
        ("What is the average {m} of all {nouns}{w}?", "What is the average of all {nouns}{w}?",
         "What is the mean of all {nouns}{w}?", "Give the average of all {nouns}{w}.",
         "How much is the average of all {nouns}{w}?"),
        ("Give the mean of all {nouns}{w}.", "How much is the mean {m} of all {nouns}{w}?"),
    ),
    "count beyond": (
        ("How many {nouns} are {beyond} {v}{w}?", "How many {nouns} have a {m} {beyond} {v}{w}?",
         "Count the {nouns} {beyond} {v}{w}.", "What is the number of {nouns} {beyond} {v}{w}?",
         "For how many {nouns} is the {m} {beyond} {v}{w}?"),
        ("What is the number of {nouns} that are {beyond} {v}{w}?",
         "Count the {nouns} that have a {m} {beyond} {v}{w}."),
    ),
    "more": (
        ("Is {x} {more} than {y}{w}?", "Is the {m} {at} {more} than that {that}?",
         "Is the {m} of {x} {more} than that of {y}{w}?",
         "Does {x} have a {more} {m} than {y}{w}?", "Is it true that {x} is {more} than {y}{w}?"),
        ("Is it true that {x} has a {more} {m} than {y}{w}?", "Has {x} a {more} {m} than {y}{w}?"),
    ),
    "sum more": (
        ("Is the sum of {x} and {y} {more} than {z}{w}?", "Are {x} and {y} together {more} than {z}{w}?",
         "Is the total of {x} and {y} {more} than {z}{w}?", "Do {x} and {y} together have a {more} {m} than {z}{w}?",
         "Is it true that {x} and {y} together are {more} than {z}{w}?"),
        ("Is it true that the sum of {x} and {y} is {more} than {z}{w}?",
         "Have {x} and {y} together a {more} {m} than {z}{w}?"),
    ),
    "rose most": (
        ("Which {noun} saw the biggest {rise}{w}?", "In which {noun} did the {m} {go} most{w}?",
         "When did the {m} {go} most{w}?", "Which {noun} shows the biggest {rise}{w}?",
         "In which {noun} was the biggest {rise}{w}?"),
        ("When was the biggest {rise}{w}?", "Which {noun} shows when the {m} did {go} most{w}?"),
    ),
    "trend": (
        ("Does the {m} {go} from {x} to {y}{w}?", "Did the {m} {go} from {x} to {y}{w}?",
         "Does the {m} {go} between {x} and {y}{w}?",
         "From {x} to {y}, does the {m} {go}{w}?", "Is there a {rise} from {x} to {y}{w}?"),
        ("From {x} to {y}, did the {m} {go}{w}?", "Is there a {rise} between {x} and {y}{w}?"),
    ),
    "in all": (
        ("Is {x} {more} than {y} {p} every {noun}?", "Is {x} {more} than {y} {p} all {nouns}?",
         "Is {x} always {more} than {y}?",
         "Does {x} stay {more} than {y} {p} every {noun}?", "{p} every {noun}, is {x} {more} than {y}?"),
        ("Does {x} always stay {more} than {y}?", "{p} all {nouns}, is {x} {more} than {y}?"),
    ),
    "in how many": (
        ("{p} how many {nouns} is {x} {more} than {y}?", "How many times is {x} {more} than {y}?",
         "Count the {nouns} where {x} is {more} than {y}.",
         "What is the number of {nouns} where {x} is {more} than {y}?"),
        ("How many {nouns} are there where {x} is {more} than {y}?", "Count how many times {x} is {more} than {y}."),
    ),
    "at x": (
        ("What is the {m} where the {x} is {v}?", "What is the {m} of the point with {x} {v}?", "At {x} {v}, "
        "what is the {m}?",
         "Which {m} has the point with the {x} {v}?"),
        ("At {x} {v}, which is the {m}?", "What is the {m} of the point where the {x} is {v}?"),
    ),
    "with x": (
        ("Does the {m} {go} with the {x}?", "As the {x} grows, does the {m} {go}?",
         "Does the {m} {go} as the {x} grows?",
         "Does the {m} {go} where the {x} grows?"),
        ("Where the {x} grows, does the {m} {go}?", "Does the {m} {go} with the {x} as it grows?"),
    ),
    "most points": (
        ("Which {noun} has the {most} points?", "For which {noun} are there the {most} points?",
         "Name the {noun} with the {most} points.", "What {noun} has the {most} points?"),
        ("Which is the {noun} with the {most} points?", "What {noun} are there the {most} points for?"),
    ),
}
# fmt: on

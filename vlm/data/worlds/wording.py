"""How each world may put its questions: tables of key -> (phrasings for training, phrasings held out for "test").

- The first phrasings of a key are the most usual, and short ones are in the majority: each token costs training time.
- A held-out phrasing is a sentence of a new form built of words that training phrasings of the same world use.
"""

from vlm.data.worlds.language import Phrasings
from vlm.data.worlds.wording_unknown import UNKNOWN

# fmt: off
# {x} "red circle", {ax} "a red circle", {xs} "red circles"; {y}, {ys} likewise
# {d} "left of", {e} "right of", {d1} "left"; {place} "on the left"; {what}, {other} "color", "shape" or "size"
# {s} "most circles are red", {S} the same with a capital
SCENES: Phrasings = {
    "exist": (
        ("Is there {ax}?", "Are there any {xs}?", "Do you see {ax}?", "Is there any {x}?", "Can you see {ax}?",
         "Is {ax} visible?", "Is there {ax} in the picture?", "Are any {xs} visible?", "Does the picture show {ax}?",
         "Does this image contain {ax}?", "Can you find {ax} here?", "Do you see any {xs} here?",
         "Is {ax} in the image?", "Are there any {xs} in the scene?"),
        ("Are there any {xs} here?", "Does the scene contain {ax}?", "Can you see any {xs} in this picture?"),
    ),
    "count": (
        ("How many {xs} are there?", "How many {xs} do you see?", "Count the {xs}.", "How many {xs}?",
         "What is the number of {xs}?", "How many {xs} can you see?", "How many {xs} are visible?",
         "How many {xs} are in the picture?", "Tell me how many {xs} there are.", "Give the number of {xs}.",
         "How many {xs} does the image show?", "What number of {xs} do you see?", "Count all {xs} in the scene."),
        ("Tell me the number of {xs}.", "How many {xs} can you find here?",
         "How many {xs} does this picture contain?"),
    ),
    "color": (
        ("What color is the {x}?", "What is the color of the {x}?", "Which color is the {x}?",
         "Which color does the {x} have?", "What color does the {x} have?", "Name the color of the {x}.",
         "What is the {x}'s color?", "The {x} is of what color?", "Tell me the color of the {x}.",
         "The {x} has what color?", "Of what color is the {x}?", "Give the color of the {x}.",
         "What color is the {x} in the picture?"),
        ("The {x} is which color?", "Tell me the {x}'s color.", "Which color is the {x} in the image?"),
    ),
    "shape": (
        ("What shape is the {x}?", "What is the shape of the {x}?", "Which shape is the {x}?",
         "Which shape does the {x} have?", "What shape does the {x} have?", "Name the shape of the {x}.",
         "What is the {x}'s shape?", "The {x} is of what shape?", "Tell me the shape of the {x}.",
         "The {x} has what shape?", "Of what shape is the {x}?", "Give the shape of the {x}.",
         "What shape is the {x} in the picture?"),
        ("The {x} is which shape?", "Tell me the {x}'s shape.", "Which shape is the {x} in the image?"),
    ),
    "size": (
        ("What size is the {x}?", "Is the {x} small or large?", "What is the size of the {x}?",
         "How big is the {x}?", "Is the {x} large or small?", "Which size is the {x}?",
         "Which size does the {x} have?", "What size does the {x} have?", "What is the {x}'s size?",
         "Name the size of the {x}.", "Tell me the size of the {x}.", "The {x} is of what size?",
         "The {x} has what size?"),
        ("How large is the {x}?", "The {x} is which size?", "Tell me the {x}'s size."),
    ),
    "more": (
        ("Are there more {xs} than {ys}?", "Do you see more {xs} than {ys}?", "Can you see more {xs} than {ys}?",
         "Do the {xs} outnumber the {ys}?", "Are more {xs} than {ys} visible?",
         "Does the picture show more {xs} than {ys}?", "Does the image contain more {xs} than {ys}?",
         "Are there more {xs} than {ys} in the picture?", "Is the number of {xs} greater than that of {ys}?",
         "Is the number of {xs} greater than the number of {ys}?"),
        ("Are there more {xs} than {ys} here?", "Does the scene show more {xs} than {ys}?",
         "Can you find more {xs} than {ys} in the picture?"),
    ),
    "fewer": (
        ("Are there fewer {xs} than {ys}?", "Do you see fewer {xs} than {ys}?", "Can you see fewer {xs} than {ys}?",
         "Are fewer {xs} than {ys} visible?", "Does the picture show fewer {xs} than {ys}?",
         "Does the image contain fewer {xs} than {ys}?", "Are there fewer {xs} than {ys} in the picture?",
         "Is the number of {xs} smaller than that of {ys}?",
         "Is the number of {xs} smaller than the number of {ys}?"),
        ("Are there fewer {xs} than {ys} here?", "Does the scene show fewer {xs} than {ys}?",
         "Can you find fewer {xs} than {ys} in the picture?"),
    ),
    "equal": (
        ("Are there as many {xs} as {ys}?", "Do you see as many {xs} as {ys}?",
         "Are there equally many {xs} and {ys}?", "Is the number of {xs} and {ys} the same?",
         "Can you see as many {xs} as {ys}?", "Are there exactly as many {xs} as {ys}?",
         "Do you see equally many {xs} and {ys}?", "Does the picture show as many {xs} as {ys}?",
         "Is the number of {xs} equal to that of {ys}?", "Is the number of {xs} the same as the number of {ys}?"),
        ("Do you see exactly as many {xs} as {ys}?", "Is the number of {xs} the same as that of {ys}?",
         "Does the image contain equally many {xs} and {ys}?"),
    ),
    "same": (
        ("Is the {x} the same {what} as the {y}?", "Do the {x} and the {y} have the same {what}?",
         "Does the {x} have the same {what} as the {y}?", "Are the {x} and the {y} the same {what}?",
         "Are the {x} and the {y} of the same {what}?", "Is the {x} of the same {what} as the {y}?",
         "Do the {x} and the {y} share the same {what}?", "Is the {what} of the {x} the same as that of the {y}?",
         "Is the {what} the same for the {x} and the {y}?", "Are the {x} and the {y} equal in {what}?"),
        ("Does the {x} share the same {what} as the {y}?", "Is the {what} of the {x} equal to that of the {y}?",
         "Is the {x} equal to the {y} in {what}?"),
    ),
    "side": (
        ("Is the {x} {d} the {y}?", "Is the {x} somewhere {d} the {y}?", "Is the {x} located {d} the {y}?",
         "Does the {x} stand {d} the {y}?", "Do you see the {x} {d} the {y}?", "Can you see the {x} {d} the {y}?",
         "Is the {x} placed {d} the {y}?", "Can the {x} be found {d} the {y}?",
         "Is it true that the {x} is {d} the {y}?", "In the picture, is the {x} {d} the {y}?"),
        ("Does the {x} stand somewhere {d} the {y}?", "Can you find the {x} {d} the {y}?",
         "Can the {x} be found somewhere {d} the {y}?"),
    ),
    "which side": (
        ("Is the {x} {d1} or {d} the {y}?", "Is the {x} located {d1} or {d} the {y}?",
         "Does the {x} stand {d1} or {d} the {y}?", "Where is the {x}, {d1} or {d} the {y}?",
         "Is the {x} placed {d1} or {d} the {y}?", "Where do you see the {x}, {d1} or {d} the {y}?",
         "Tell me if the {x} is {d1} or {d} the {y}.", "In the picture, is the {x} {d1} or {d} the {y}?"),
        ("Where does the {x} stand, {d1} or {d} the {y}?", "Tell me if you see the {x} {d1} or {d} the {y}.",
         "Where can you see the {x}, {d1} or {d} the {y}?"),
    ),
    "beside": (
        ("What is {d} the {y}?", "What do you see {d} the {y}?", "What is there {d} the {y}?",
         "What stands {d} the {y}?", "What can you see {d} the {y}?", "Which thing is {d} the {y}?",
         "Which object is {d} the {y}?", "What is located {d} the {y}?", "Name what is {d} the {y}.",
         "Tell me what is {d} the {y}.", "What does the picture show {d} the {y}?"),
        ("Name what stands {d} the {y}.", "Tell me what you see {d} the {y}.", "Which thing do you see {d} the {y}?"),
    ),
    "color beside": (
        ("What color is the {x} {d} the {y}?", "What is the color of the {x} {d} the {y}?",
         "Which color is the {x} {d} the {y}?", "What color does the {x} {d} the {y} have?",
         "Which color does the {x} {d} the {y} have?", "Name the color of the {x} {d} the {y}.",
         "The {x} {d} the {y} is of what color?", "Tell me the color of the {x} {d} the {y}."),
        ("The {x} {d} the {y} is which color?", "The {x} {d} the {y} has what color?",
         "Give the color of the {x} {d} the {y}."),
    ),
    "shape beside": (
        ("What shape is the {x} {d} the {y}?", "What is the shape of the {x} {d} the {y}?",
         "Which shape is the {x} {d} the {y}?", "What shape does the {x} {d} the {y} have?",
         "Which shape does the {x} {d} the {y} have?", "Name the shape of the {x} {d} the {y}.",
         "The {x} {d} the {y} is of what shape?", "Tell me the shape of the {x} {d} the {y}."),
        ("The {x} {d} the {y} is which shape?", "The {x} {d} the {y} has what shape?",
         "Give the shape of the {x} {d} the {y}."),
    ),
    "count beside": (
        ("How many {xs} are {d} the {y}?", "Count the {xs} {d} the {y}.", "How many {xs} are there {d} the {y}?",
         "How many {xs} do you see {d} the {y}?", "What is the number of {xs} {d} the {y}?",
         "How many {xs} can you see {d} the {y}?", "How many {xs} stand {d} the {y}?",
         "Tell me how many {xs} are {d} the {y}."),
        ("Tell me the number of {xs} {d} the {y}.", "How many {xs} can be found {d} the {y}?",
         "How many {xs} are located {d} the {y}?"),
    ),
    "exist beside": (
        ("Is there {ax} {d} the {y}?", "Are there any {xs} {d} the {y}?", "Do you see {ax} {d} the {y}?",
         "Is {ax} {d} the {y}?", "Can you see {ax} {d} the {y}?", "Is there any {x} {d} the {y}?",
         "Are any {xs} {d} the {y}?", "Does {ax} stand {d} the {y}?", "Do you see any {xs} {d} the {y}?"),
        ("Can you find {ax} {d} the {y}?", "Can you see any {xs} {d} the {y}?", "Is {ax} located {d} the {y}?"),
    ),
    "same count": (
        ("How many other {xs} have the same {what} as the {y}?", "How many other {xs} are the same {what} as the {y}?",
         "How many other {xs} share the {what} of the {y}?", "Count the other {xs} of the same {what} as the {y}.",
         "How many other {xs} are there of the same {what} as the {y}?", "How many {xs} have the {y}'s {what} too?",
         "What number of other {xs} have the same {what} as the {y}?",
         "How many more {xs} have the same {what} as the {y}?"),
        ("What number of other {xs} share the {what} of the {y}?",
         "How many more {xs} are there of the same {what} as the {y}?"),
    ),
    "same exist": (
        ("Is there another {x} of the same {what} as the {y}?", "Is there any other {x} of the same {what} as the {y}?",
         "Do you see another {x} of the same {what} as the {y}?", "Does another {x} have the same {what} as the {y}?",
         "Does any other {x} have the same {what} as the {y}?", "Does another {x} share the {what} of the {y}?",
         "Has any other {x} the same {what} as the {y}?", "Can you see another {x} of the same {what} as the {y}?"),
        ("Do you see any other {x} of the same {what} as the {y}?", "Has another {x} the {what} of the {y}?"),
    ),
    "same attribute": (
        ("What {other} is the other {x} of the same {what} as the {y}?",
         "What is the {other} of the other {x} of the same {what} as the {y}?",
         "Which {other} is the other {x} of the same {what} as the {y}?",
         "What {other} is the {x} that has the same {what} as the {y}?",
         "What {other} does the other {x} of the same {what} as the {y} have?",
         "Which {other} has the other {x} of the same {what} as the {y}?",
         "Name the {other} of the other {x} of the same {what} as the {y}.",
         "What {other} is the {x} that shares the {what} of the {y}?"),
        ("Which {other} is the {x} that has the same {what} as the {y}?",
         "What is the {other} of the {x} that shares the {what} of the {y}?"),
    ),
    "more beside": (
        ("Are there more {xs} {d} the {y} than {e} it?", "Are more {xs} {d} the {y} than {e} it?",
         "Do you see more {xs} {d} the {y} than {e} it?", "Can you see more {xs} {d} the {y} than {e} it?",
         "Is the number of {xs} {d} the {y} greater than {e} it?", "Are there more {xs} {d} than {e} the {y}?",
         "Do you see more {xs} {d} than {e} the {y}?", "Are more {xs} {d} than {e} the {y}?"),
        ("Can you see more {xs} {d} than {e} the {y}?", "Is the number of {xs} greater {d} the {y} than {e} it?"),
    ),
    "as many beside": (
        ("Are there as many {xs} {d} the {y} as {e} it?", "Are as many {xs} {d} the {y} as {e} it?",
         "Do you see as many {xs} {d} the {y} as {e} it?", "Can you see as many {xs} {d} the {y} as {e} it?",
         "Is the number of {xs} {d} the {y} the same as {e} it?", "Are there as many {xs} {d} as {e} the {y}?",
         "Do you see as many {xs} {d} as {e} the {y}?", "Are as many {xs} {d} as {e} the {y}?"),
        ("Can you see as many {xs} {d} as {e} the {y}?", "Is the number of {xs} the same {d} the {y} as {e} it?"),
    ),
    "same beside": (
        ("Is the {x} {d} the {y} the same {what} as the {z}?", "Does the {x} {d} the {y} have the {what} of the {z}?",
         "Is the {x} {d} the {y} of the same {what} as the {z}?", "Does the {x} {d} the {y} share the {z}'s {what}?",
         "Has the {x} {d} the {y} the same {what} as the {z}?", "Has the {x} {d} the {y} the {what} of the {z}?",
         "Do the {x} {d} the {y} and the {z} have the same {what}?",
         "Are the {x} {d} the {y} and the {z} the same {what}?"),
        ("Do the {x} {d} the {y} and the {z} share the same {what}?",
         "Does the {x} {d} the {y} have the {z}'s {what}?"),
    ),
    "agree": (
        ("Is it true that {s}?", "Is this true: {s}?", "Is it right that {s}?", "Yes or no: {s}.", "{S}, is that true?",
         "{S}. Yes or no?", "Do you agree that {s}?", "{S}, right?", "Do you agree: {s}?", "Is that right: {s}?"),
        ("Is that true: {s}?", "{S}. Is it true?", "{S}, yes or no?"),
    ),
    "where": (
        ("Where is the {x}?", "Where in the picture is the {x}?", "Where do you see the {x}?",
         "Where can you see the {x}?", "Where is the {x} located?", "Where does the {x} stand?",
         "Tell me where the {x} is.", "Where is the {x} in the image?", "Where can the {x} be found?",
         "In which part of the picture is the {x}?", "Where in the scene is the {x}?"),
        ("Tell me where you see the {x}.", "Where in the picture can the {x} be found?",
         "In which part of the image do you see the {x}?"),
    ),
    "what at": (
        ("What is {place}?", "What do you see {place}?", "What is there {place}?", "What stands {place}?",
         "What can you see {place}?", "Which thing is {place}?", "Which object is {place}?",
         "What is located {place}?", "Name what is {place}.", "Tell me what is {place}.",
         "What does the picture show {place}?"),
        ("Name what stands {place}.", "Tell me what you see {place}.", "Which thing do you see {place}?"),
    ),
}

SCENES |= UNKNOWN

# {x} "cat", {ax} "a cat", {xs} "cats"; {y} another name; {a}, {b} "an animal"
EMOJI: Phrasings = {
    "what": (
        ("What is this?", "Which emoji is this?", "What do you see?", "What is in the picture?",
         "What does the picture show?", "Name this emoji.", "What is shown here?", "What emoji is this?",
         "What is it?", "What can you see?", "What does the image show?", "Tell me what this is.",
         "What is in this image?"),
        ("Tell me what you see.", "Which emoji do you see?", "What is shown in the picture?"),
    ),
    "exist": SCENES["exist"],
    "count": SCENES["count"],
    "side": SCENES["side"],
    "beside": SCENES["beside"],
    "is a": (
        ("Is this {ax}?", "Is it {ax}?", "Is this some kind of {x}?", "Is this emoji {ax}?",
         "Is it some kind of {x}?", "Would you call this {ax}?", "Is what you see {ax}?",
         "Do you see some kind of {x}?", "Does the picture show some kind of {x}?"),
        ("Would you call it {ax}?", "Is this emoji some kind of {x}?", "Does the image show some kind of {x}?"),
    ),
    "there is a": (
        ("Is there any {x}?", "Is one of them {ax}?", "Is one of these {ax}?", "Is any of these {ax}?",
         "Is any of them {ax}?", "Are any of these {xs}?", "Is there some kind of {x}?",
         "Do you see some kind of {x}?", "Is at least one of these {ax}?", "Is one of these emojis {ax}?"),
        ("Is at least one of them {ax}?", "Are any of them {xs}?", "Is any of these emojis {ax}?"),
    ),
    "kind": (
        ("What kind of thing is the {x}?", "What is the {x}: {a} or {b}?", "Is the {x} {a} or {b}?",
         "What is the {x}, {a} or {b}?", "Is {ax} {a} or {b}?", "What kind of thing is {ax}?",
         "Would you call the {x} {a} or {b}?", "Tell me what kind of thing the {x} is.",
         "Which is the {x}, {a} or {b}?"),
        ("Would you call {ax} {a} or {b}?", "Tell me what kind of thing {ax} is.",
         "Tell me what the {x} is: {a} or {b}."),
    ),
    "where": SCENES["where"],
    "what at": SCENES["what at"],
    **UNKNOWN,
}

# {ax} "a red shape", {xs} "red shapes", {way} "left of a circle", {y} "blue" or "a circle"
SHAPES: Phrasings = {
    "exist": (
        ("is there {ax}", "are there any {xs}", "is {ax} in the picture", "is there any {x}", "do you see {ax}",
         "can you see {ax}"),
        ("do you see any {xs}", "is any {x} in the picture", "can you see any {xs} in the picture"),
    ),
    "is": (
        ("is {ax} {y}", "is any {x} {y}", "is there {ax} that is {y}", "can you see {ax} that is {y}"),
        ("is there any {x} that is {y}", "do you see {ax} that is {y}"),
    ),
    "relate": (
        ("is {ax} {way}", "is there {ax} {way}", "is any {x} {way}", "do you see {ax} {way}",
         "is there {ax} that is {way}"),
        ("is there any {x} {way}", "can you see {ax} {way}"),
    ),
    "what": (
        ("what is {way}", "what do you see {way}", "what can you see {way}", "is there something {way} and what is it"),
        ("what is there {way}", "what can you see in the picture {way}"),
    ),
    "what color": (
        ("what color is the {x}", "what is the color of the {x}", "the {x} is what color", "of what color is the {x}"),
        ("the {x} you see is what color", "what is the color of the {x} in the picture"),
    ),
    "what shape": (
        ("what is the {x}", "what kind of shape is the {x}", "the {x} is what", "what is that {x}"),
        ("what is the {x} you see", "the {x} in the picture is what"),
    ),
    "how many": (
        ("how many {xs} are there", "how many {xs} do you see", "how many {xs} can you see",
         "what is the number of {xs}"),
        ("how many {xs} are in the picture", "what is the number of {xs} you can see"),
    ),
}
# fmt: on

"""How the NLVR world may put its statements: key -> (phrasings for training, phrasings held out for "test").

"bare" turns a statement {s} into what is asked; its first form is for long statements.
"""

from vlm.data.worlds.language import Phrasings

# fmt: off
# {x} "black item", {ax}, {xs}; {kx} "one black item" or "3 black items"; {are}; {c} a colour; {where}
NLVR: Phrasings = {
    "bare": (
        ("{s}", "{s}", "True or false: {s}", "Is it true that: {s}", "Is this true? {s}", "Yes or no: {s}",
         "Is this right? {s}"),
        ("True? {s}", "Is it right that: {s}"),
    ),
    "some": (
        ("There is {ax}.", "One of the boxes contains {ax}.", "There is a box with {ax}.", "Some box holds {ax}.",
         "At least one {x} can be seen.", "At least one box has {ax}.", "{Ax} is in one of the boxes."),
        ("Some box contains {ax}.", "{Ax} can be seen.", "At least one of the boxes holds {ax}."),
    ),
    "both": (
        ("There is a box with {ax} and {ay}.", "{Ax} and {ay} are in the same box.",
         "Some box holds both {ax} and {ay}.", "One box has both {ax} and {ay}.",
         "One of the boxes contains {ax} and {ay}."),
        ("There is a box with both {ax} and {ay}.", "Some box contains {ax} and {ay}.",
         "At least one box holds both {ax} and {ay}."),
    ),
    "none": (
        ("No box has {ax}.", "There is no {x}.", "There are no {xs}.", "None of the boxes has {ax}.",
         "No {x} can be seen.", "No box contains {ax}."),
        ("None of the boxes contains {ax}.", "The picture has no {x}.", "There is no box with {ax}."),
    ),
    "lacks": (
        ("There is a box without {ax}.", "One box has no {x}.", "Some box holds no {x}.",
         "At least one box has no {x}.", "One of the boxes has no {x}."),
        ("Some box has no {x}.", "There is a box with no {x}.", "One of the boxes is without {ax}."),
    ),
    "total": (
        ("There {are} exactly {kx}.", "In total there {are} {kx}.", "The picture has exactly {kx}.",
         "Exactly {kx} can be seen.", "There {are} {kx} in total.", "All boxes together have {kx}."),
        ("The picture has {kx} in total.", "In total there {are} exactly {kx}.",
         "All boxes together have exactly {kx}."),
    ),
    "at least": (
        ("There {are} at least {kx}.", "At least {kx} can be seen.", "The picture has at least {kx}.",
         "No fewer than {kx} can be seen.", "All boxes together have at least {kx}."),
        ("There {are} no fewer than {kx}.", "In total there {are} at least {kx}.",
         "The picture has no fewer than {kx}."),
    ),
    "at most": (
        ("There {are} at most {kx}.", "At most {kx} can be seen.", "The picture has at most {kx}.",
         "No more than {kx} can be seen.", "All boxes together have at most {kx}."),
        ("There {are} no more than {kx}.", "In total there {are} at most {kx}.", "The picture has no more than {kx}."),
    ),
    "numbers": (
        ("There is a box with {kx} and {my}.", "One box has {kx} and {my}.", "Some box holds {kx} and {my}.",
         "One of the boxes has exactly {kx} and exactly {my}.", "In one box there {are} {kx} and {my}."),
        ("Some box has exactly {kx} and exactly {my}.", "One of the boxes holds {kx} and {my}."),
    ),
    "same box": (
        ("All {xs} are in the same box.", "All {xs} are in one box.", "There are {xs} in only one box.",
         "Only one of the boxes has {xs}.", "Every {x} is in the same box."),
        ("Each {x} is in the same box.", "Only one box contains {xs}."),
    ),
    "box colors": (
        ("There is a box with only {c} and {e} items.", "One box has only {c} and {e} items.",
         "In one box all items are {c} or {e}.", "Some box holds items of {c} and {e} color only.",
         "All items in one box are {c} or {e}."),
        ("Some box has only {c} and {e} items.", "There is a box where all items are {c} or {e}."),
    ),
    "close": (
        ("There is {ax} closely touching {ay}.", "{Ax} is closely touching {ay}.", "One {x} touches {ay}.",
         "In one box {ax} touches {ay}.", "Some box holds {ax} closely touching {ay}.",
         "There is a box with {ax} touching {ay}."),
        ("Some {x} is closely touching {ay}.", "In some box {ax} touches {ay}."),
    ),
    "base and top": (
        ("A tower has {ac} block at the base and {ae} block at the top.",
         "One tower has {ac} base and {ae} top.", "Some tower has {ac} block at its base and {ae} block at its top.",
         "One of the towers has {ac} base and {ae} top.", "In one tower the base is {c} and the top is {e}."),
        ("In some tower the base is {c} and the top is {e}.", "There is a tower with {ac} base and {ae} top."),
    ),
    "nth": (
        ("There is a tower whose {nth} block from the {end} is {c}.", "One tower has {ac} {nth} block from the {end}.",
         "In one tower the {nth} block from the {end} is {c}.", "The {nth} block from the {end} of one tower is {c}."),
        ("In some tower the {nth} block from the {end} is {c}.",
         "The {nth} block from the {end} of some tower is {c}."),
    ),
    "like ends": (
        ("Two towers have the same color at the {end}.", "At least two towers have the same color at the {end}.",
         "Two of the towers have the same color at the {end}.",
         "There are two towers with the same color at the {end}."),
        ("The color at the {end} is the same in two towers.",
         "There are at least two towers with the same color at the {end}."),
    ),
    "low": (
        ("There is a tower with at most {kx}.", "One tower has at most {kx}.", "Some tower has at most {kx}.",
         "At least one tower has at most {kx}."),
        ("One of the towers has at most {kx}.", "There is at least one tower with at most {kx}."),
    ),
    "in a box": (
        ("There is a box with exactly {kx}.", "One of the boxes has exactly {kx}.", "Some box holds exactly {kx}.",
         "At least one box has exactly {kx}.", "One box contains exactly {kx}."),
        ("Some box contains exactly {kx}.", "There is a box that has exactly {kx}.",
         "At least one of the boxes holds exactly {kx}."),
    ),
    "boxes with": (
        ("Exactly {kb} {ax}.", "There {areb} exactly {kbox} with {ax}.", "{Ax} can be seen in exactly {kbox}.",
         "{Ax} is in exactly {kbox}.", "In exactly {kbox} there is {ax}."),
        ("There is {ax} in exactly {kbox}.", "In exactly {kbox} {ax} can be seen."),
    ),
    "two colors": (
        ("There is a box with {kx} of {c} and {e} color.", "There is a box with {kx}, some {c} and some {e}.",
         "Some box holds {kx}, some {c} and some {e}.", "One box has {kx} of {c} and {e} color."),
        ("One of the boxes has {kx}, some {c} and some {e}.", "Some box holds {kx} of {c} and {e} color."),
    ),
    "all are": (
        ("All {xs} are {c}.", "Every {x} is {c}.", "Each {x} is {c}.", "All of the {xs} are {c}.",
         "There are only {c} {xs}."),
        ("Each of the {xs} is {c}.", "All {xs} have the color {c}.", "Every one of the {xs} is {c}."),
    ),
    "every box": (
        ("Every box has {ax}.", "All three boxes contain {ax}.", "Each box holds {ax}.",
         "There is {ax} in every box.", "Each of the boxes has {ax}.", "All boxes have {ax}."),
        ("There is {ax} in each box.", "Every box contains {ax}.", "Each of the three boxes holds {ax}."),
    ),
    "box of one color": (
        ("There is a box with only {c} items.", "All items in one box are {c}.", "Some box holds only {c} items.",
         "One box has only {c} items.", "In one box all items are {c}."),
        ("There is a box where all items are {c}.", "Some box has only {c} items.",
         "One of the boxes holds only {c} items."),
    ),
    "n colors": (
        ("There is a box with items of {k} different colors.", "One box has items of {k} different colors.",
         "Some box shows {k} different colors.", "In one box the items have {k} different colors."),
        ("Some box has items of {k} different colors.", "There is a box where the items have {k} different colors."),
    ),
    "one shape": (
        ("There is a box where all items have the same shape.", "In one box all items have the same shape.",
         "All items in one box have the same shape.", "One box has items of only one shape."),
        ("There is a box with items of only one shape.", "In some box all items have the same shape."),
    ),
    "more": (
        ("There are more {xs} than {ys}.", "There are fewer {ys} than {xs}.", "The {xs} outnumber the {ys}.",
         "The picture has more {xs} than {ys}.", "More {xs} than {ys} can be seen."),
        ("The picture has fewer {ys} than {xs}.", "In total there are more {xs} than {ys}.",
         "Fewer {ys} than {xs} can be seen."),
    ),
    "box with more": (
        ("There is a box with more {xs} than {ys}.", "One box has more {xs} than {ys}.",
         "In some box the {xs} outnumber the {ys}.", "In one box there are more {xs} than {ys}.",
         "Some box holds more {xs} than {ys}."),
        ("There is a box with fewer {ys} than {xs}.", "In one box the {xs} outnumber the {ys}.",
         "Some box has more {xs} than {ys}."),
    ),
    "same number": (
        ("At least two boxes have the same number of items.", "There are two boxes with the same number of items.",
         "Two of the boxes have the same number of items.", "The number of items is the same in two boxes."),
        ("Two boxes have the same number of items.", "In two boxes the number of items is the same."),
    ),
    "above": (
        ("There is {ax} above {ay} in the same box.", "In one box {ax} is above {ay}.",
         "Some box holds {ax} above {ay}.", "There is a box with {ax} above {ay}.",
         "{Ax} is higher than {ay} in the same box."),
        ("In some box {ax} is above {ay}.", "{Ax} is above {ay} in the same box.",
         "In one box {ax} is higher than {ay}."),
    ),
    "touching": (
        ("There is {ax} touching {where}.", "{Ax} touches {where}.", "At least one {x} is touching {where}.",
         "{Ax} is touching {where}.", "At least one {x} touches {where}.", "There is {ax} that touches {where}."),
        ("There is at least one {x} touching {where}.", "There is {ax} that is touching {where}.",
         "Some {x} touches {where}."),
    ),
    "n touching": (
        ("There {are} exactly {kx} touching {where}.", "Exactly {kx} {are} touching {where}.",
         "In total there {are} {kx} touching {where}.", "The picture has exactly {kx} touching {where}."),
        ("In total exactly {kx} {are} touching {where}.", "The picture has {kx} touching {where}."),
    ),
    "box n": (
        ("The {box} box has {kx}.", "There {are} {kx} in the {box} box.", "The {box} box has exactly {kx}.",
         "In the {box} box there {are} {kx}.", "The {box} box holds {kx}."),
        ("There {are} exactly {kx} in the {box} box.", "The {box} box contains exactly {kx}.",
         "In the {box} box {kx} can be seen."),
    ),
    "end": (
        ("There is a tower with {ac} block at the {end}.", "One tower has {ac} block at its {end}.",
         "Some tower has {ac} block at the {end}.", "The {end} block of one tower is {c}.",
         "One of the towers has {ac} block at the {end}."),
        ("There is a tower with {ac} block at its {end}.", "Some tower has {ac} block at its {end}.",
         "The {end} block of some tower is {c}."),
    ),
    "n ends": (
        ("There {are} {kt} with {ac} block at the {end}.", "Exactly {kt} {have} {ac} block at the {end}.",
         "There {are} exactly {kt} with {ac} block at the {end}.", "In total {kt} {have} {ac} block at the {end}."),
        ("In total there {are} {kt} with {ac} block at the {end}.",
         "In total exactly {kt} {have} {ac} block at the {end}."),
    ),
    "over": (
        ("There is a tower with {ac} block directly over {ae} block.", "{Ac} block is on top of {ae} block.",
         "{Ac} block is directly over {ae} block.", "Some tower has {ac} block on top of {ae} block.",
         "One tower has {ac} block directly over {ae} block."),
        ("There is a tower with {ac} block on top of {ae} block.",
         "Some tower has {ac} block directly over {ae} block."),
    ),
    "height": (
        ("There is a tower with exactly {kx}.", "One of the towers has exactly {kx}.",
         "Some tower has exactly {kx}.", "At least one tower has exactly {kx}."),
        ("One tower has exactly {kx}.", "There is at least one tower with exactly {kx}.",
         "There is a tower that has exactly {kx}."),
    ),
    "n height": (
        ("There {are} exactly {kt} with {n} blocks.", "Exactly {kt} {have} {n} blocks.",
         "In total there {are} {kt} with {n} blocks.", "In total {kt} {have} {n} blocks."),
        ("In total exactly {kt} {have} {n} blocks.", "The picture has exactly {kt} with {n} blocks."),
    ),
    "tower of one color": (
        ("There is a tower with only {c} blocks.", "All blocks of one tower are {c}.",
         "One tower has only {c} blocks.", "Some tower has only {c} blocks.", "In one tower all blocks are {c}."),
        ("One of the towers has only {c} blocks.", "All blocks of some tower are {c}.",
         "There is a tower where all blocks are {c}."),
    ),
    "every tower": (
        ("All towers have {ax}.", "Every tower has {ax}.", "Each tower has {ax}.", "All three towers have {ax}.",
         "There is {ax} in every tower."),
        ("There is {ax} in each tower.", "Each of the towers has {ax}.", "Every one of the towers has {ax}."),
    ),
    "same ends": (
        ("There is a tower with the same color at top and base.",
         "One tower has the same color at its top and base.", "Some tower has the same color at top and base.",
         "The top and the base of one tower have the same color."),
        ("The top and the base of some tower have the same color.",
         "One of the towers has the same color at top and base."),
    ),
    "tower colors": (
        ("There is a tower with {k} different colors.", "One tower has {k} different colors.",
         "Some tower shows {k} different colors.", "There is a tower with blocks of {k} different colors."),
        ("Some tower has {k} different colors.", "One of the towers has blocks of {k} different colors."),
    ),
    "same height": (
        ("At least two towers have the same height.", "Two of the towers have the same height.",
         "There are two towers of the same height.", "The height of two towers is the same."),
        ("Two towers have the same height.", "There are at least two towers of the same height."),
    ),
    "box end": (
        ("The tower in the {box} box has {ac} block at the {end}.", "In the {box} box the {end} block is {c}.",
         "The {end} block in the {box} box is {c}.", "The {box} tower has {ac} block at the {end}.",
         "The {end} block of the {box} tower is {c}."),
        ("The tower in the {box} box has {ac} block at its {end}.",
         "In the {box} box the tower has {ac} block at the {end}."),
    ),
    "tallest": (
        ("The tallest tower has {ac} block at the {end}.", "The {end} block of the tallest tower is {c}.",
         "The highest tower has {ac} block at the {end}.", "At the {end} of the tallest tower is {ac} block."),
        ("The {end} block of the highest tower is {c}.", "The tallest tower has {ac} block at its {end}."),
    ),
    "how many": (
        ("How many {xs} are there?", "How many {xs} are there in total?", "How many {xs} do all boxes have together?",
         "How many {xs} can be seen?"),
        ("How many {xs} can be seen in total?", "How many {xs} have all boxes in total?"),
    ),
    "how many in box": (
        ("How many {xs} are in the {box} box?", "How many {xs} does the {box} box have?",
         "How many {xs} can be seen in the {box} box?", "The {box} box has how many {xs}?"),
        ("How many {xs} has the {box} box?", "In the {box} box, how many {xs} are there?"),
    ),
    "how many at most": (
        ("How many {xs} are in the box with the most {xs}?", "At most how many {xs} does a box have?",
         "What is the largest number of {xs} in one box?",
         "What number of {xs} has the box with the most {xs}?"),
        ("How many {xs} does the box with the most {xs} have?", "At most how many {xs} are in one box?"),
    ),
    "how many boxes": (
        ("How many boxes have {ax}?", "In how many boxes is there {ax}?", "How many of the boxes contain {ax}?",
         "How many boxes hold at least one {x}?"),
        ("How many of the boxes have {ax}?", "In how many of the boxes can {ax} be seen?"),
    ),
    "how many touch": (
        ("How many {xs} touch {where}?", "How many {xs} are touching {where}?",
         "How many {xs} are there that touch {where}?", "What number of {xs} touch {where}?"),
        ("How many of the {xs} touch {where}?", "How many {xs} are there touching {where}?"),
    ),
    "how many colors": (
        ("How many colors are in the {box} box?", "How many different colors does the {box} box have?",
         "How many colors can be seen in the {box} box?", "What number of colors has the {box} box?"),
        ("How many different colors are there in the {box} box?", "In the {box} box, how many colors can be seen?"),
    ),
    "how high": (
        ("How many blocks does the {box} tower have?", "How many blocks has the tower in the {box} box?",
         "What is the height of the {box} tower?", "How high is the tower in the {box} box?"),
        ("What is the height of the tower in the {box} box?", "How high is the {box} tower?"),
    ),
    "how high the tallest": (
        ("How many blocks does the tallest tower have?", "What is the height of the highest tower?",
         "How high is the tallest tower?", "How many blocks are in the tallest tower?"),
        ("How many blocks has the highest tower?", "What is the height of the tallest tower?"),
    ),
    "how many ends": (
        ("How many towers have {ac} block at the {end}?", "How many {end} blocks are {c}?",
         "At the {end} of how many towers is {ac} block?", "What number of towers have {ac} {end}?"),
        ("How many towers have {ac} {end} block?", "How many of the towers have {ac} block at the {end}?"),
    ),
    "how many as high": (
        ("How many towers have exactly {kx}?", "How many of the towers have {kx}?",
         "How many towers have a height of {kx}?", "What number of towers have exactly {kx}?"),
        ("How many towers are there with {kx}?", "How many of the towers have exactly {kx}?"),
    ),
    "which box": (
        ("Which box has {ax}?", "In which box is there {ax}?", "Which of the boxes contains {ax}?",
         "What box holds {ax}?"),
        ("Which of the boxes has {ax}?", "In which of the boxes can {ax} be seen?"),
    ),
    "which has most": (
        ("Which box has the most {xs}?", "In which box are the most {xs}?", "Which of the boxes has the most {xs}?",
         "What box holds the most {xs}?"),
        ("In which of the boxes are the most {xs}?", "Which box contains the most {xs}?"),
    ),
    "color of": (
        ("What color is the {x} in the {box} box?", "Which color has the {x} in the {box} box?",
         "In the {box} box, what color is the {x}?", "What is the color of the {x} in the {box} box?"),
        ("The {x} in the {box} box is what color?", "In the {box} box, which color has the {x}?"),
    ),
    "shape of": (
        ("What shape is the {c} item in the {box} box?", "Which shape has the {c} item in the {box} box?",
         "In the {box} box, what shape is the {c} one?", "What is the shape of the {c} item in the {box} box?"),
        ("The {c} item in the {box} box has what shape?", "In the {box} box, which shape has the {c} item?"),
    ),
    "color of end": (
        ("What color is the {end} of the {box} tower?", "What color is the {end} block of the {box} tower?",
         "Which color has the {end} block in the {box} box?",
         "What color is the block at the {end} of the {box} tower?"),
        ("Which color has the {end} of the {box} tower?", "What color is the {end} block in the {box} box?"),
    ),
    "color of nth": (
        ("What color is the {nth} block from the {end} of the {box} tower?",
         "Which color has the {nth} block from the {end} in the {box} box?",
         "In the {box} tower, what color is the {nth} block from the {end}?",
         "What is the color of the {nth} block from the {end} in the {box} box?"),
        ("Which color has the {nth} block from the {end} of the {box} tower?",
         "In the {box} box, what color is the {nth} block from the {end}?"),
    ),
    "color over": (
        ("What color is the block over the {c} block of the {box} tower?",
         "Which color has the block directly over the {c} one in the {box} box?",
         "In the {box} tower, what color is the block on top of the {c} block?",
         "What is the color of the block over the {c} one in the {box} tower?"),
        ("Which color has the block over the {c} block in the {box} box?",
         "In the {box} box, what color is the block directly over the {c} one?"),
    ),
    "which tower": (
        ("Which tower is the tallest?", "Which tower has the most blocks?", "In which box is the highest tower?",
         "Which of the towers is the tallest?"),
        ("Which tower is the highest?", "In which box is the tallest tower?"),
    ),
}
# fmt: on

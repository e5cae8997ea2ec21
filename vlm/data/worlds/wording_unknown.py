"""How scenes and emoji may ask for what a picture need not tell: key -> (phrasings for training, held out for "test").

- "name", "price" and "weight" stand on some things as a tag, so the words do not say whether they can be answered.
- The others are never answered by a picture; they are asked seldom.
"""

from vlm.data.worlds.language import Phrasings

# fmt: off
# {x} "red circle"
UNKNOWN: Phrasings = {
    "name": (
        ("What is the name of the {x}?", "What is the {x} called?", "What is the {x}'s name?",
         "Which name does the {x} have?", "What name does the {x} have?", "Tell me the name of the {x}.",
         "Which name is given to the {x}?", "What name is given to the {x}?"),
        ("Tell me what the {x} is called.", "Tell me the {x}'s name.", "Which is the name of the {x}?"),
    ),
    "price": (
        ("How much does the {x} cost?", "What is the price of the {x}?", "What does the {x} cost?",
         "Which price does the {x} have?", "How much is the {x}?", "Tell me the price of the {x}.",
         "What price does the {x} have?", "What is the {x}'s price?"),
        ("Tell me how much the {x} will cost.", "Which is the price of the {x}?", "Tell me the {x}'s price."),
    ),
    "weight": (
        ("How much does the {x} weigh?", "What is the weight of the {x}?", "How heavy is the {x}?",
         "Which weight does the {x} have?", "Tell me the weight of the {x}.", "What does the {x} weigh?",
         "What weight does the {x} have?", "Tell me how heavy the {x} is."),
        ("Tell me the {x}'s weight.", "Which is the weight of the {x}?", "What is the {x}'s weight?"),
    ),
    "behind": (
        ("What is behind the {x}?", "What does the {x} hide?", "What do you see behind the {x}?",
         "What is hidden behind the {x}?", "What is hidden by the {x}?", "Tell me what is behind the {x}.",
         "Which thing is behind the {x}?", "What lies behind the {x}?"),
        ("Tell me what is hidden by the {x}.", "Which thing is hidden behind the {x}?",
         "Tell me what lies behind the {x}."),
    ),
    "made": (
        ("Who drew the {x}?", "Who made this picture?", "Who drew this?", "When was this picture made?",
         "When was the {x} drawn?", "Why was the {x} drawn?", "How long ago was the {x} drawn?", "Who made the {x}?"),
        ("Who made this?", "When was the {x} made?", "Why was this picture made?"),
    ),
    "other time": (
        ("Where was the {x} before?", "Where will the {x} be next?", "What was here before the {x}?",
         "What happens to the {x} next?", "What happened to the {x} before?", "What will happen to the {x}?",
         "How old is the {x}?", "Where does the {x} come from?"),
        ("What happens to the {x}?", "What will be here next?", "What happened before?"),
    ),
}
# fmt: on

"""The emoji that the emoji world draws: short everyday names, each with its code point, by category.

- Chosen to look different from one another at 30 pixels; where Unicode has a face and a full body, the plainer one.
- Names are ours where Unicode's are long ("ladybug" for "lady beetle"); all are countable, so that "a" and "two" fit.
- CLASHES are names of which one is also true of the other's picture; they never meet in one picture or question.
"""

NAMES: dict[str, dict[str, str]] = {
    "animal": {
        "dog": "1f436", "cat": "1f431", "mouse": "1f42d", "rabbit": "1f430", "fox": "1f98a", "bear": "1f43b",
        "panda": "1f43c", "koala": "1f428", "tiger": "1f42f", "lion": "1f981", "cow": "1f42e", "pig": "1f437",
        "frog": "1f438", "monkey": "1f435", "chicken": "1f414", "penguin": "1f427", "duck": "1f986", "owl": "1f989",
        "horse": "1f40e", "unicorn": "1f984", "bee": "1f41d", "butterfly": "1f98b", "snail": "1f40c",
        "ladybug": "1f41e", "ant": "1f41c", "spider": "1f577", "turtle": "1f422", "snake": "1f40d",
        "octopus": "1f419", "crab": "1f980", "fish": "1f420", "dolphin": "1f42c", "whale": "1f433", "shark": "1f988",
        "crocodile": "1f40a", "elephant": "1f418", "giraffe": "1f992", "zebra": "1f993", "camel": "1f42a",
        "sheep": "1f411", "parrot": "1f99c", "flamingo": "1f9a9", "hedgehog": "1f994", "bat": "1f987",
    },
    "fruit": {
        "apple": "1f34e", "pear": "1f350", "orange": "1f34a", "lemon": "1f34b", "banana": "1f34c",
        "watermelon": "1f349", "strawberry": "1f353", "cherry": "1f352", "peach": "1f351", "pineapple": "1f34d",
        "kiwi": "1f95d",
    },
    "vegetable": {"carrot": "1f955", "onion": "1f9c5", "cucumber": "1f952", "potato": "1f954", "cabbage": "1f96c"},
    "sweet": {
        "donut": "1f369", "cookie": "1f36a", "cake": "1f382", "cupcake": "1f9c1", "lollipop": "1f36d", "candy": "1f36c",
    },
    "plant": {
        "rose": "1f339", "tulip": "1f337", "sunflower": "1f33b", "tree": "1f333", "palm tree": "1f334",
        "cactus": "1f335",
    },
    "vehicle": {
        "car": "1f697", "bus": "1f68c", "ambulance": "1f691", "fire truck": "1f692", "tractor": "1f69c",
        "bicycle": "1f6b2", "motorcycle": "1f3cd", "train": "1f682", "airplane": "2708", "helicopter": "1f681",
        "rocket": "1f680", "ship": "1f6a2", "sailboat": "26f5",
    },
    "ball": {
        "soccer ball": "26bd", "basketball": "1f3c0", "baseball": "26be", "football": "1f3c8",
        "volleyball": "1f3d0",
    },
    "smiley": {
        "happy face": "1f600", "crying face": "1f62d", "angry face": "1f621", "sleeping face": "1f634",
        "winking face": "1f609", "kissing face": "1f618", "sick face": "1f922", "cowboy": "1f920",
    },
    "tool": {"hammer": "1f528", "wrench": "1f527", "screwdriver": "1fa9b", "saw": "1fa9a", "axe": "1fa93"},
    "instrument": {"guitar": "1f3b8", "violin": "1f3bb", "trumpet": "1f3ba", "drum": "1f941", "saxophone": "1f3b7"},
    "": {  # asked by name only
        "sun": "1f31e", "moon": "1f319", "star": "2b50", "cloud": "2601", "rainbow": "1f308",
        "lightning bolt": "26a1", "snowflake": "2744", "snowman": "26c4", "umbrella": "2614", "flame": "1f525",
        "drop": "1f4a7", "volcano": "1f30b", "heart": "2764", "pumpkin": "1f383", "mushroom": "1f344", "egg": "1f95a",
        "pizza": "1f355", "hamburger": "1f354", "hot dog": "1f32d", "taco": "1f32e", "sandwich": "1f96a",
        "pretzel": "1f968", "croissant": "1f950", "robot": "1f916", "ghost": "1f47b", "alien": "1f47d",
        "skull": "1f480", "clown": "1f921", "ufo": "1f6f8", "house": "1f3e0", "castle": "1f3f0", "tent": "26fa",
        "key": "1f511", "lock": "1f512", "book": "1f4d5", "pencil": "270f", "light bulb": "1f4a1", "candle": "1f56f",
        "clock": "23f0", "watch": "231a", "camera": "1f4f7", "television": "1f4fa", "phone": "1f4f1",
        "laptop": "1f4bb", "bell": "1f514", "gift": "1f381", "balloon": "1f388", "trophy": "1f3c6", "medal": "1f3c5",
        "crown": "1f451", "top hat": "1f3a9", "gem": "1f48e", "microphone": "1f3a4", "magnet": "1f9f2",
        "bomb": "1f4a3", "backpack": "1f392", "shoe": "1f45f", "dress": "1f457", "shirt": "1f455", "chair": "1fa91",
        "door": "1f6aa", "toilet": "1f6bd", "ladder": "1fa9c", "broom": "1f9f9", "envelope": "2709", "box": "1f4e6",
        "anchor": "2693", "telescope": "1f52d", "microscope": "1f52c", "battery": "1f50b", "money bag": "1f4b0",
        "kite": "1fa81", "teapot": "1fad6", "cup": "2615", "hourglass": "231b", "spoon": "1f944",
    },
}  # fmt: skip

CODES = {name: code for names in NAMES.values() for name, code in names.items()}
CATEGORY = {name: category for category, names in NAMES.items() for name in names}

_PAIRS = (
    ("bear", "panda"), ("bear", "koala"), ("fish", "shark"), ("fish", "whale"), ("fish", "dolphin"),
    ("tree", "palm tree"), ("happy face", "winking face"), ("happy face", "cowboy"), ("cake", "cupcake"),
    ("ship", "sailboat"), ("clock", "watch"), ("horse", "unicorn"), ("horse", "zebra"), ("robot", "alien"),
    ("phone", "camera"), ("ufo", "alien"), ("medal", "trophy"), ("car", "ambulance"), ("star", "sun"),
    ("moon", "sun"), ("lock", "key"),
)  # fmt: skip
CLASHES: dict[str, set[str]] = {}
for _a, _b in _PAIRS:
    CLASHES.setdefault(_a, set()).add(_b)
    CLASHES.setdefault(_b, set()).add(_a)

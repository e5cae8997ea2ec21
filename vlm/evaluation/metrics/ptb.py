"""Penn Treebank tokens of English captions, lower case and without punctuation, as coco-caption feeds its metrics.

- Written after the behaviour of Stanford's PTBTokenizer (CoreNLP 3.4.1 with -lowerCase, then 17 marks dropped),
  without Java: "The man's T-shirt (50% off), isn't it?" -> "the man 's t-shirt -lrb- 50 % off -rrb- is n't it".
- Brackets stay, as -lrb- and the like: coco-caption means to drop them but spells them in capitals.
- Not imitated: emoticons, telephone numbers in brackets, words glued by ! or ?, most SGML.
"""

import re

MARKS = {"''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"}
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
SPELLED = str.maketrans({
    "‘": "'", "’": "'", "‛": "'", "‹": "'", "›": "'", "“": '"', "”": '"', "«": '"', "»": '"',
    "–": " -- ", "—": " -- ", "―": " -- ", "…": " ... ", "‐": "-", "\xa0": " ", "\xad": None,
    "½": "1/2", "¼": "1/4", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "€": "$", "£": "#", "¢": " cents ",
})  # fmt: skip
ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}
# Words that keep their full stop; "no." does so before a number, a comma or a semicolon.
ABBREVIATIONS = """
    adm apr asst atty aug ave bhd bldg blvd bros brig capt cmdr co col comdr con corp cpl ct dec dept det dr esq est etc
    ext feb fri ft gen gov hon hosp hway inc insp jan jr jul jun lieut lt ltd maj mar messrs mon mr mrs ms mt nov oct op
    ord pfc ph pres prof pvt rd rep reps res rev rt sen sens sep sept sfc sgt sq sr st ste supt surg thu thur thurs tue
    tues univ vs wed
""".split()
SPLIT = {
    "cannot": "can not", "gonna": "gon na", "gotta": "got ta", "lemme": "lem me", "gimme": "gim me", "wanna": "wan na",
    "'tis": "'t is", "'twas": "'t was", "more'n": "more 'n", "y'all": "y' all",
}  # fmt: skip
BEYOND = re.compile(r"[\U00010000-\U0010ffff]")  # emoji and the like: Java's halves of them are no tokens
W = r"[^\W_²³¹]"  # a letter or digit
CLITIC = r"'(?:s|m|d|re|ve|ll)(?![^\W_])"
TOKEN = re.compile(
    rf"""(?ix)
    (?P<keep>
        https?://[^\s<>"|]*[\w/] | www\.[^\s<>"|]*[\w/] | [\w.+-]+@[\w-]+(?:\.[\w-]+)+ | [@\#][a-z_]\w* | </?[a-z]\w*>
      | (?:[a-z]\.)+[a-z]\.?(?!\w) | ph\.d\.? | (?:{"|".join(ABBREVIATIONS)})\.(?!\w) | no\.(?=\s*\d|[,;])
      | (?-i:[A-Z])\.(?=\s|$) | (?-i:[A-Z]+(?:&[A-Z]+)+) | (?-i:US|C|A|HK)\$ | c\+\+ | c\#
      | '(?:n'|n(?=\s)|em|cause|\d\d?s)(?!\w) | (?<=\w){CLITIC}
    )
  | (?P<time> \d+:\d\d)(?=[ap]m\b)
  | (?P<number> [+-]?\.?\d++(?:[.,:/-]\d++)*+(?![-‑]?{W}))
  | (?P<word>
        '(?:tis|twas)\b
      | (?:\d+(?:[.,:]\d+)+|{W}+)(?:_{W}+ | [-/‑]{W}+ | (?!{CLITIC})'{W}+ | \.[^\W\d_²³¹]{W}*)*
    )
  | (?P<mark> \.\.+ | --+ | [?!]+ | ''|`` | \S)
    """
)


def _pieces(word: str) -> list[str]:
    """A word of two as the treebank sees it: isn't -> is n't, cannot -> can not."""
    if word.endswith("n't") and len(word) > 3:
        return [word.removesuffix("n't"), "n't"]
    return SPLIT.get(word, word).split()


def tokenize(text: str) -> str:
    """Tokens of a caption, separated by single spaces; "" if nothing is left."""
    text = BEYOND.sub(" ", text.translate(SPELLED))
    for entity, character in ENTITIES.items():
        text = text.replace(entity, character) if "&" in text else text
    tokens: list[str] = []
    for match in TOKEN.finditer(text):
        token = match[0].lower()
        if match.lastgroup == "word":
            tokens += _pieces(token)
        elif match.lastgroup != "mark":
            tokens.append(token)
        elif token[0] not in ".-'`\"" and token not in MARKS:
            tokens.append(BRACKETS.get(token, token))
    return " ".join(tokens)

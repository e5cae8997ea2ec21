"""VQA accuracy: VQAv2, OK-VQA, VizWiz, TextVQA (Antol et al. 2015, section 5; visualqa.org/evaluation).

- Every answer of a person is left out once; an answer that three of the others gave is right. So of ten answers, one
  match scores 0.3, two 0.6, three 0.9, four and more 1.
- Texts are normalised first: punctuation, case, number words, articles, contractions. When, is what the variants
  differ in.
- The published punctuation rules have slips (which of two deletions happens depends on the *whole* text, at most 32
  full stops go); scores are compared across papers, so the slips are kept.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from vlm.evaluation.metrics.common import check_variant

VARIANTS = ("always_normalize", "official", "textvqa")
NUMBERS = "zero one two three four five six seven eight nine ten".split()
WORDS = {word: str(n) for n, word in enumerate(NUMBERS)} | {"none": "0", "a": "", "an": "", "the": ""}
CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am might've mightn't mightn't've must've mustn't
    needn't not've o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've
    somebody'll somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll
    that's there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've why'll
    why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
""".split()
# A word that lost one of its apostrophes gets it back; the last entry is the wrong way round in the published table.
APOSTROPHES = {w[:i] + w[i + 1 :]: w for w in CONTRACTIONS for i, c in enumerate(w) if c == "'"}
APOSTROPHES["somebody'd"] = "somebodyd"
PUNCTUATION = re.compile(r"""[;/\[\]"{}()=+\\_\-><@`,?!]""")
FULL_STOP = re.compile(r"\.(?!\d)")
DIGIT_COMMA = re.compile(r"\d,\d")


def strip_punctuation(text: str) -> str:
    """Each mark goes if the text has it beside a space anywhere or has digit,digit; else a space takes its place."""
    marks = set(PUNCTUATION.findall(text))
    if marks:
        digits = DIGIT_COMMA.search(text)
        gone = {m for m in marks if digits or f"{m} " in text or f" {m}" in text}
        text = text.translate({ord(m): None if m in gone else " " for m in marks})
    return FULL_STOP.sub("", text, count=32) if "." in text else text


def unify_words(text: str) -> str:
    """Lower case, digits for number words up to ten, no articles, apostrophes in contractions."""
    words = (WORDS.get(word, word) for word in text.lower().split())
    return " ".join(APOSTROPHES.get(word, word) for word in words if word)


def _clean(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


@lru_cache(maxsize=1 << 16)  # people's answers repeat
def normalize(text: str) -> str:
    """The normalisation of VQAv2's evaluation."""
    return unify_words(strip_punctuation(_clean(text)))


@lru_cache(maxsize=1 << 16)
def normalize_textvqa(text: str) -> str:
    """TextVQA's normalisation (Pythia): case, commas, question marks and `'s` first, then as VQAv2."""
    return normalize(text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip())


def soft_score(matches: int, n: int) -> float:
    """Mean over the n leave-one-out sets of min(1, matches in the set / 3); below four answers all others must
    match."""
    if n < 2:
        return float(matches)
    need = min(3, n - 1)
    return (matches * min(1.0, (matches - 1) / need) + (n - matches) * min(1.0, matches / need)) / n


def vqa_accuracy(prediction: str, answers: Sequence[str], variant: str = "always_normalize") -> float:
    """Soft score in [0, 1] of an answer against the answers of n people (usually ten).

    `always_normalize` normalises prediction and answers (what evaluation kits and papers do). `official` does so only
    where the answers differ, as VQAv2's own script: against ten times "yes", "Yes." scores 0. `textvqa` uses
    TextVQA's processor. Raises ValueError for no answers or an unknown variant.
    """
    check_variant(variant, VARIANTS)
    if isinstance(answers, str):
        answers = [answers]
    if not answers:
        raise ValueError("vqa_accuracy got no answers; expected a list of one or more, e.g. ['yes', 'yes', 'no']")
    clean: Callable[[str], str] = normalize_textvqa if variant == "textvqa" else normalize
    if variant == "official" and len({_clean(a) for a in answers}) == 1:
        clean = _clean
    said = clean(prediction)
    return soft_score(sum(clean(a) == said for a in answers), len(answers))

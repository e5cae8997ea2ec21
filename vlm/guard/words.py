"""Text as the shipped guard's head reads it: disguises taken off, words, and the numbers of each word's parts.

Notable here:
- A word is the sum of what is known of it whole, if it stood in the training data, of what a lexicon says that it or
  its base form means, and of its hashed prefixes, suffixes and trigrams: a word that was misread or never seen still
  resembles its relatives.
- Print is mended too: a word that is not known counts as a known one that is one letter away, or as two that have grown
  together, two pieces of a word as one. Who types a word means it: typed ones are judged as they stand.
- No word is too long and no text: `windows` cuts long text into pieces that overlap and leaves nothing out, and
  `sentences` cuts it where sentences end, so that harmless ones around a harmful one do not hide it.
"""

import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

PAD, TYPED, READ, UNKNOWN = range(4)  # rows of the embedding table before the words
COUNTED, FIRST_PART, N_PARTS = 3, 5, 21  # ids of a word: segment, whole, its row in the lexicon (0 for none), it and
# its pair with the word before it among the counted (0 for none), and up to 16 hashed parts
LETTERS = "abcdefghijklmnopqrstuvwxyz'"
WORD = re.compile(r"\w+(?:'\w+)*")
SPACED = re.compile(r"(?<![\w'])(?:\w([ .*_|/\\-]{1,3})(?:\w\1){2,}\w)(?!\w)")  # k.i.l.l, k i l l
LEET = str.maketrans("0134578@$!|€", "oieastbasiie")
DISGUISED = re.compile(r"[0134578@$!|€]+([^\W\d_][^\W_]*)?")  # digits or signs, and what follows of the same word
TWINS = str.maketrans("абвгеіјкмнорстухѕԁɡһ" + "αβεικνορτυχ", "abbreijkmhopctyxsdgh" + "abeiknoptux")  # look-alikes

SENTENCE_END, SHORTEST, LONGEST = re.compile(r"(?<=[.!?])\s+|\n+"), 3, 32  # words of a sentence

ENDINGS = (("ies", "y"), ("ied", "y"), ("ing", ""), ("ing", "e"), ("es", ""), ("s", ""), ("ed", ""), ("ed", "e"),
           ("'s", ""), ("er", ""), ("er", "e"), ("ers", ""), ("ers", "e"), ("ly", ""))  # fmt: skip
BY_LAST = {last: [pair for pair in ENDINGS if pair[0][-1] == last] for last in {end[-1] for end, _ in ENDINGS}}


def normalise(text: str) -> str:
    """Text in lower case without what hides words: marks, zero-width signs, look-alikes, leetspeak before a letter,
    s p a c e s."""
    text = unicodedata.normalize("NFKD", text.replace("’", "'"))
    text = "".join(c if c.isspace() else "" if unicodedata.category(c) in ("Cf", "Cc", "Mn", "Co", "Cn") else c
                   for c in text).casefold().translate(TWINS)  # fmt: skip
    text = SPACED.sub(lambda found: found[0].replace(found[1], ""), text)
    return DISGUISED.sub(lambda found: found[0].translate(LEET) if found[1] else found[0], text)


def split_words(text: str) -> list[str]:
    """The words of a text, normalised; punctuation is none, and of a number only its length counts."""
    return ["0" * len(w) if w.isdigit() else w for w in WORD.findall(normalise(text))]


def sentences(text: str) -> list[list[str]]:
    """The words of each sentence, which ends at a mark or a line's end.

    Shorter ones than `SHORTEST` words belong to the one before, at the start to the one after; longer ones than
    `LONGEST` are cut into even pieces.
    """
    found: list[list[str]] = []
    for sentence in SENTENCE_END.split(normalise(text)):
        words = split_words(sentence)
        if found and min(len(words), len(found[-1])) < SHORTEST:
            found[-1] += words
        else:
            found.append(words)
    return [piece for words in found for piece in _even(words)]


def _even(words: list[str]) -> list[list[str]]:
    n = -(-len(words) // LONGEST)
    return [words[len(words) * i // n : len(words) * (i + 1) // n] for i in range(n)]


def parts(word: str) -> list[str]:
    """What a word is made of: prefixes of 3 to 7 letters, suffixes of 2 to 4, and its first trigrams."""
    n = len(word)
    prefixes = [f"<{word[:k]}" for k in range(3, min(n, 7) + 1)]
    suffixes = [f"{word[-k:]}>" for k in range(2, min(n, 4) + 1)]
    trigrams = [word[i : i + 3] for i in range(min(n - 2, 8))]
    return [*prefixes, *suffixes, *trigrams] or [f"<{word}>"]


def base_forms(word: str) -> Iterator[str]:
    """A word and what it may be an inflection of, nearest first."""
    yield word
    for ending, instead in BY_LAST.get(word[-1:], ()):
        if word.endswith(ending) and len(word) - len(ending) > 1:
            base = word[: -len(ending)] + instead
            yield base
            if not instead and len(base) > 3 and base[-1] == base[-2]:  # stabbing: stabb, stab
                yield base[:-1]


class Words:
    """The numbers of words: a vocabulary of whole words, a lexicon, and `n_buckets` for hashed parts.

    Args:
        vocabulary: the words that are known whole, in the order of their rows.
        n_buckets: rows that parts are hashed to.
        lexicon: the words whose meaning is known, in the order of their rows from 1 on.
        n_counted: rows that words and pairs of neighbours are hashed to, to be counted; 0 for none.
    """

    def __init__(self, vocabulary: Sequence[str], n_buckets: int, lexicon: Sequence[str] = (), n_counted: int = 0):
        self.vocabulary, self.n_buckets, self.lexicon = list(vocabulary), n_buckets, list(lexicon)
        self.n_counted = n_counted
        self.rows = {word: UNKNOWN + 1 + i for i, word in enumerate(self.vocabulary)}
        self.meanings = {word: 1 + i for i, word in enumerate(self.lexicon)}
        self.ids = lru_cache(100_000)(self._ids)
        self.mended = lru_cache(100_000)(self._mended)
        self.knows = lru_cache(100_000)(self._knows)

    @property
    def n_rows(self) -> int:
        return UNKNOWN + 1 + len(self.vocabulary) + self.n_buckets

    def _ids(self, word: str) -> tuple[int, ...]:
        first = self.n_rows - self.n_buckets
        hashed = (first + zlib.crc32(p.encode()) % self.n_buckets for p in parts(word[:64]))
        meaning = next((self.meanings[w] for w in base_forms(word) if w in self.meanings), 0)
        found = (*dict.fromkeys(hashed),)[: N_PARTS - FIRST_PART]
        return self.rows.get(word, UNKNOWN), meaning, *found, *(PAD,) * (N_PARTS - FIRST_PART - len(found))

    def _knows(self, word: str) -> bool:
        """Whether a word or its base form is in the vocabulary or the lexicon, or is no word at all but a number."""
        return word in self.rows or word.isdigit() or any(w in self.meanings for w in base_forms(word))

    def repair(self, words: Sequence[str]) -> list[str]:
        """Words as they were meant, as far as that can be told."""
        found: list[str] = []
        i = 0
        while i < len(words):
            word, after = words[i], words[i + 1] if i + 1 < len(words) else ""
            if self.knows(word):
                found.append(word)
            elif after and not self.knows(after) and self.knows(joined := self.mended(word + after)[0]):
                found.append(joined)
                i += 1
            else:
                found += self.mended(word)
            i += 1
        return found

    def _mended(self, word: str) -> tuple[str, ...]:
        """A word that is not known: a known one a letter away, two known ones, or itself."""
        if self.knows(word) or not 4 <= len(word) <= 24:
            return (word,)
        near = {w for w in one_away(word) if w in self.rows or w in self.meanings}
        common = [w for w in near if w in self.rows]
        if not common and len(word) > 5:
            for i in range(2, len(word) - 1):
                if word[:i] in self.rows and word[i:] in self.rows:
                    return word[:i], word[i:]
        best = sorted(common or near, key=lambda w: (w[0] != word[0], self.rows.get(w, 0), w))
        return (best[0] if best else word,)

    def counted(self, text: str) -> int:
        """The row of a word or a pair among the counted."""
        return 1 + zlib.crc32(text.encode()) % (self.n_counted - 1) if self.n_counted else 0

    def encode(self, words: Sequence[str], segment: int) -> list[tuple[int, ...]]:
        """N_PARTS ids for each word of a segment, `TYPED` or `READ`."""
        rows = []
        for i, word in enumerate(words):
            whole, meaning, *hashed = self.ids(word)
            pair = self.counted(f"{words[i - 1]} {word}") if i else 0
            rows.append((segment, whole, meaning, self.counted(word), pair, *hashed))
        return rows


def one_away(word: str) -> Iterator[str]:
    """What one letter of a to z or an apostrophe more, fewer or other, or two neighbours swapped, make of a word."""
    for i in range(len(word) + 1):
        before, after = word[:i], word[i:]
        yield from (f"{before}{letter}{after}" for letter in LETTERS)
        if after:
            yield before + after[1:]
            yield from (f"{before}{letter}{after[1:]}" for letter in LETTERS)
            yield before + after[1::-1] + after[2:]


def windows(words: Sequence[str], size: int, overlap: int) -> list[list[str]]:
    """Pieces of at most `size` words that share `overlap` with the one before; one empty piece for no words."""
    step = size - overlap
    return [list(words[i : i + size]) for i in range(0, max(len(words) - overlap, 1), step)]

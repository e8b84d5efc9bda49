"""Reading yes or no out of a model's answer, as the published scripts of POPE and MME do it, quirks kept.

"No, there isn't." ── first_sentence ──▶ "no"        POPE: no, not or No as a word of the first sentence, else yes
                   ── first_letters ───▶ "no"        MME: yes, then no, among the first four characters, else None
                   ── only_one ────────▶ "no"        VLMEvalKit: exactly one of the words yes and no, else None
"""

from __future__ import annotations

from mminstruct.evaluation.parsing.vqa_normalise import FULL_STOP_BETWEEN_NO_DIGITS, punctuation


def first_sentence(text: str) -> str:
    """POPE: the text before the first full stop, commas deleted, split at single blanks.

    Whatever has none of the words `No`, `no` and `not` is a yes: an empty text, "NO", "No!", "No\\n" and "There isn't".
    """
    words = text.partition(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "no", "not"} & set(words) else "yes"


def first_letters(text: str) -> str | None:
    """MME: "yes" where the first four characters hold it, else "no" ("not", "know") where they do, else None."""
    start = text.lower()[:4]
    return "yes" if "yes" in start else "no" if "no" in start else None


def first_letters_or_one(text: str) -> str | None:
    """lmms-eval's MME: as `first_letters` after outer blanks and all full stops are deleted; "y" and "n" count."""
    clean = text.lower().strip().replace(".", "")
    if len(clean) == 1:
        return {"y": "yes", "n": "no"}.get(clean)
    return first_letters(clean)


def whole(text: str) -> str | None:
    """lmms-eval's POPE: nothing but yes or no, whatever the case and the blanks around it."""
    clean = text.lower().strip()
    return clean if clean in ("yes", "no") else None


def only_one(text: str) -> str | None:
    """VLMEvalKit: the one of "yes" and "no" that is among the words without punctuation; None for both or neither."""
    found = {"yes", "no"} & set(punctuation(text.lower(), FULL_STOP_BETWEEN_NO_DIGITS).split())
    return found.pop() if len(found) == 1 else None

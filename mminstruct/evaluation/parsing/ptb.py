r"""English text to the tokens of the Penn Treebank, as the caption scorers' Java program makes them, without Java.

    ["A man's t-shirt (grey)."] ── tokens ──▶ ["a man 's t-shirt -lrb- grey -rrb- ."]          as the program prints it
                                ── caption_tokens ──▶ ["a man 's t-shirt -lrb- grey -rrb-"]   without punctuation

A table of rules stands for the lexer's grammar (`PTBLexer` of Stanford CoreNLP 3.4.1, `-preserveLines -lowerCase`): at
each place the rule that matches most text, what must follow counted in, makes the next token; among equals the first.

Quirks that scores depend on, and that are kept:

- Brackets become `-LRB-` and so on and then lower case, so the list of punctuation, which has them in upper case,
  drops none of them. Runs like "!!" or "?!" are no single marks and stay too.
- The program reads all sentences as one text. Whether the full stop of "etc." at the end of a sentence is a token of
  its own depends on whether the *next* sentence begins with an upper case letter.
- A fraction or telephone number with a blank is one token that holds a no-break space.
- A character that the grammar does not know (emoji, everything above U+FFFF) disappears and ends a token.

One bug is not kept: a line end of another kind within a sentence (U+2028, carriage return, form feed, ...) would shift
all following sentences by one line; here it is a blank.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple

PUNCTUATION = frozenset(
    ["''", "'", "``", "`", "-LRB-", "-RRB-", "-LCB-", "-RCB-", ".", "?", "!", ",", ":", "-", "--", "...", ";"]
)
"""What the caption scorers drop, as they spell it."""


def caption_tokens(sentences: Iterable[str]) -> list[str]:
    """The tokens of each sentence but for punctuation, joined by blanks, as pycocoevalcap's `PTBTokenizer` does it."""
    return [" ".join(word for word in line.split(" ") if word not in PUNCTUATION) for line in tokens(sentences)]


def tokens(sentences: Iterable[str]) -> list[str]:
    """The lower case tokens of each sentence, joined by blanks. The sentences are read as one text, see above."""
    given = [_LINE_ENDS.sub(" ", sentence) for sentence in sentences]
    if not given:
        return []
    text = "\n".join(given)
    lines: list[list[str]] = [[]]
    place = 0
    while place < len(text):
        simple = _SIMPLE.match(text, place)
        if simple is not None and simple[1]:
            lines[-1] += _simple_tokens(simple[1])
            place = simple.end()
        elif simple is not None and not _is_abbreviation(simple[2].rpartition("-")[2]):
            lines[-1] += (*_simple_tokens(simple[2]), ".")
            place = simple.end()
        elif text[place] == "\n":
            lines.append([])
            place += 1
        elif text[place] == " ":
            place += 1
        else:
            token, place = _next(text, place)
            if token:
                lines[-1].append(token)
    return [" ".join(line).lower() for line in lines]


@functools.lru_cache(maxsize=1 << 16)
def _simple_tokens(chunk: str) -> tuple[str, ...]:
    """The tokens of a chunk of `_SIMPLE`, in which nothing depends on what stands around it."""
    found, place, text = [], 0, chunk + " "
    while place < len(chunk):
        token, place = _next(text, place)
        found.append(token)
    return tuple(found)


def _next(text: str, place: int) -> tuple[str, int]:
    """The token at a place, empty for what is skipped, and the place from which to read on."""
    best, chosen = None, None
    for rule in _rules():
        found = rule.pattern.match(text, place)
        if found is not None and (best is None or found.end() > best.end()):
            best, chosen = found, rule
    if best is None or chosen is None:
        return "", place + 1
    end = best.end("token") - chosen.leave
    return chosen.change(text[place:end]), end - chosen.again


# --- what tokens are changed to ---------------------------------------------------------------------------------------


def _same(token: str) -> str:
    return token


def _nothing(token: str) -> str:
    return ""


def _no_soft_hyphens(token: str) -> str:
    return token.replace("\u00ad", "") or "-"


def _ampersand(token: str) -> str:
    return re.sub("(?i)&amp;", "&", token)


def _one_token(token: str) -> str:
    return token.replace(" ", "\u00a0")


def _one_letter(token: str) -> str:
    return token.rstrip(".") if len(token) == 2 else token


def _brackets(token: str) -> str:
    return token.replace("(", "-LRB-").replace(")", "-RRB-")


def _telephone(token: str) -> str:
    return _brackets(_one_token(token))


def _hyphens(token: str) -> str:
    return "--" if len(token) in (3, 4) else token


def _to(token: str) -> Callable[[str], str]:
    return lambda _: token


def _fraction(token: str) -> str:
    return {"¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3"}.get(token, token)


def _currency(token: str) -> str:
    return {"¢": "cents", "£": "#", "\x80": "$", "¤": "$", "₠": "$", "€": "$"}.get(token, token)


def _quote(token: str, opening: bool) -> str:
    single, double = ("`", "``") if opening else ("'", "''")
    token = re.sub("&apos;|'", single, token)
    token = re.sub('"|&quot;', double, token)
    for mark, marks in (("`", "\x91‘‛‹"), ("'", "\x92’›"), ("``", "\x93“«"), ("''", "\x94”»")):
        token = re.sub(f"[{marks}]", mark, token)
    return token


def _opening(token: str) -> str:
    return _quote(token, opening=True)


def _closing(token: str) -> str:
    return _quote(token, opening=False)


# --- the grammar ------------------------------------------------------------------------------------------------------


class _Rule(NamedTuple):
    """`pattern` has a group `token`; what it matches behind that must follow.

    Attributes:
        change: the token's text to what is put out.
        leave: how many characters at the end are no part of the token ("not" of "cannot").
        again: how many characters at its end are read again although they are a part of it (the stop of "etc.").
    """

    pattern: re.Pattern[str]
    change: Callable[[str], str] = _same
    leave: int = 0
    again: int = 0


_LINE_ENDS = re.compile("[\r\n\u2028\u2029\x0b\x0c]")
_SIMPLE = re.compile(r"([A-Za-z',-]+)(?=[ \n])|([A-Za-z-]*)\.(?=\n)")

_BLANK = "[ \t\u00a0\u2000-\u200a\u3000]"
_BLANK_OR_LINE = "[ \t\u00a0\u2000-\u200a\u3000\r\n\u2028\u2029\x0b\x0c\x85]"


def _characters(holds: Callable[[str], bool]) -> str:
    """The characters up to U+FFFF of which something holds, as the inside of a class of a regular expression."""
    ranges: list[list[int]] = []
    for code in range(0x10000):
        if holds(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{re.escape(chr(first))}-{re.escape(chr(last))}" for first, last in ranges)


_PURE_LETTER = f"[{_characters(str.isalpha)}]"
_LETTER = (
    rf"(?:{_PURE_LETTER}"
    r"|&[aeiouAEIOU](?i:acute|grave|uml);"
    "|[\u00ad\u0237-\u024f\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02ff\u0300-\u036f\u0370-\u037d\u0384\u0385\u03cf\u03f6"
    "\u03fc-\u03ff\u0483-\u0487\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0615-\u061a\u064b-\u065e\u0670"
    "\u06d6-\u06ef\u06fa-\u06ff\u0711\u0730-\u074f\u07a6-\u07b1\u07ca-\u07f5\u0900-\u0903\u093c\u093e-\u094e"
    "\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc-\u09c4\u09c7\u09c8\u09cb-\u09cd"
    "\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc-\u0acf\u0b82\u0bbe-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56\u0d3e-\u0d48"
    "\u0e30-\u0e3a\u0e47-\u0e4e"
    "\u055a-\u055f\u070f\u09d7\u09e2\u09e3\u0eb1\u0eb4-\u0ebc\u0ec8-\u0ecd])"
)
_DIGIT = r"\d"
_ALNUM = rf"(?:{_LETTER}|{_DIGIT})"
_WORD = rf"{_LETTER}{_ALNUM}*(?:[.!?]{_LETTER}{_ALNUM}*)*"
_NUM = rf"(?:{_DIGIT}+(?:[.:,\u00ad\u066b\u066c]{_DIGIT}+)*|(?:[.:,\u00ad\u066b\u066c]{_DIGIT}+)+)"
_NUMBER = rf"[-+]?{_NUM}"
_APOSTROPHE = r"(?:['\x92’]|(?i:&apos;))"
_ANY_APOSTROPHE = r"(?:['`\x92’\x91‘‛]|(?i:&apos;))"
_HYPHEN = "[-_\u058a\u2010\u2011]"
_SHORT = rf"{_APOSTROPHE}(?:[msdMSD]|(?i:re|ve|ll))"
_NOT = rf"(?i:n{_ANY_APOSTROPHE}t)"
_MARKUP = (
    r"<(?:[!?][A-Za-z\-][^>\r\n]*|[A-Za-z][A-Za-z0-9_:.\-]*"
    r"(?: +(?:[A-Za-z][A-Za-z0-9_:.\-]*(?: *= *(?:'[^'\r\n]*'|\"[^\"\r\n]*\"|[A-Za-z][A-Za-z0-9_:.\-]*))?))* */?"
    r"|/[A-Za-z][A-Za-z0-9_:.\-]*) *>"
)
_INSIDE = "[,;:\u3001]"

_COUNTRY = r"(?i:(?:Canada|Sino|Korean|EU|Japan|non)-U\.S|U\.S\.-(?:U\.K|U\.S\.S\.R))"
_INITIALS = rf"(?:{_COUNTRY}|[A-Za-z](?:\.[A-Za-z])*)"
_INITIALS_OF_TWO = rf"(?:{_COUNTRY}|[A-Za-z](?:\.[A-Za-z])+)"
_BEFORE_SMALL = "|".join(
    [
        "(?i:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)",
        "(?i:Mon|Tues|Tue|Wed|Thurs|Thu|Fri)",
        "(?i:Ala|Ariz|Calif|Colo|Conn|Ct|Dak|Fla|Ga|Ind|Kans?|Ky|Md|Mich|Minn|Mo|Mont|Neb|Nev|Okla|Penn|Tenn)",
        "(?i:Va|Vt|Wisc?|Wyo)|A(?i:z)|A(?i:rk)|D(?i:el)|I(?i:ll)|L(?i:a)|M(?i:ass)|M(?i:iss)|O(?i:re)|P(?i:a)|T(?i:ex)",
        "W(?i:ash)|(?i:Inc|Cos?|Corp|Pp?t[yYeE]s?|Ltd|Plc|Rt|Bancorp|Bhd|Assn|Univ|Intl|Sys)",
        r"(?i:tel|est|ext|sq)|(?i:Jr|Sr|Bros|Blvd|Rd|(?:Ed|Ph)\.D|Esq)|(?i:etc|al|seq)",
    ]
)
_BEFORE_CAPITAL = "|".join(
    [
        "(?i:Mr|Mrs|Ms|Drs?|Profs?|Sens?|Reps?|Attys?|Lt|Col|Gen|Messrs|Govs?|Adm|Rev|Maj|Sgt|Cpl|Pvt|Capt|Ste?|Ave)",
        "M(?i:iss)|(?i:Pres|Lieut|Hon|Brig|Co?mdr|Pfc|Spc|Supts?|Det|Mt|Ft|Adj|Adv|Asst|Assoc|Ens|Insp|Mlle|Mme)",
        r"(?i:Msgr|Sfc|Rt)|(?i:vs|Alex|Wm|Jos|Cie|a\.k\.a|cf|TREAS|Ph)|v",
        "(?i:Invt|Elec|Natl|M[ftFT]g|Dept)",
        _INITIALS,
    ]
)
_BEFORE_NUMBER = "(?i:art|ca|figs?|nos?|op|pp|prop)"
_ABBREVIATIONS = re.compile(rf"(?:{_BEFORE_SMALL}|{_BEFORE_CAPITAL}|{_BEFORE_NUMBER})\Z")


@functools.lru_cache(maxsize=65536)
def _is_abbreviation(word: str) -> bool:
    return _ABBREVIATIONS.match(word) is not None


# The first letter is a capital, the others may be.
_SENTENCE_STARTS = (
    "A(?i:bout|ccording|dditionally|fter|n|s|t|)|B(?i:ut)|E(?i:arlier)|H(?i:ere|er|e|owever)|I(?i:f|n|t)|L(?i:ast)"
    "|M(?i:any|ore)|N(?i:ow)|O(?i:nce|ne|ther|ur)|S(?i:he|ince|ome|o|uch)|T(?i:hat|heir|here|hese|hen|hey|he|his)"
    r"|W(?i:e|hen|hile|hat)|Y(?i:et|ou)|M(?i:[rs])\."
)
_SYMBOL = (
    "[+%&~^|\\\\¦§¨©¬®¯°-³´-º×÷\u0387\u05be\u05c0\u05c3\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060a\u060c\u0614\u061b"
    "\u061e\u066a\u066d\u0703-\u070d\u07f6-\u07f8\u0964\u0965\u0e4f\u1fbd\u2016\u2017\u2020-\u2023\u2030-\u2038\u203b"
    "\u203e-\u2042\u2044\u207a-\u207e\u208a-\u208e\u2100-\u214f\u2190-\u2bff\u3012\u30fb\uff01-\uff0f\uff1a-\uff20"
    "\uff3b-\uff40\uff5b-\uff65]"
)


@functools.cache
def _rules() -> list[_Rule]:
    """The rules in the order of their precedence."""
    rules: list[_Rule] = []

    def add(
        token: str,
        change: Callable[[str], str] = _same,
        then: str = "",
        leave: int = 0,
        again: int = 0,
    ) -> None:
        rules.append(_Rule(re.compile(f"(?P<token>{token}){then}"), change, leave, again))

    capitals = _characters(str.isupper)
    add(r"(?i:c\+\+|[cf]#)")
    add(r"(?i:cannot|'twas)", leave=3)
    add(rf"(?i:{_APOSTROPHE}tis|gonna|gotta|lemme|gimme|wanna)", leave=2)
    add(_MARKUP, _one_token)
    add("(?i:&(?:MD|mdash|ndash);)|[\x96\x97\u2013\u2014\u2015]", _to("--"))
    add("(?i:&amp;)", _to("&"))
    add("(?i:&(?:HT|TL|UR|LR|QC|QL|QR|odq|cdq|#[0-9]+);)")
    add(_WORD, _no_soft_hyphens, then=_SHORT)
    add("[A-Za-z\u00ad]*[A-MO-Za-mo-z]\u00ad*", _no_soft_hyphens, then=_NOT)
    add(_WORD, _no_soft_hyphens)
    for form in (
        rf"{_APOSTROPHE}(?i:n){_APOSTROPHE}?",
        rf"[lLdDjJ]{_APOSTROPHE}|(?i:Dunkin|somethin|ol){_APOSTROPHE}|{_APOSTROPHE}(?i:em)",
        rf"[A-HJ-XZn]{_ANY_APOSTROPHE}(?:{_PURE_LETTER}){{2,}}",
        rf"{_APOSTROPHE}[2-9]0(?i:s)|{_APOSTROPHE}(?i:till?)",
        rf"(?:{_PURE_LETTER})+[aeiouyAEIOUY]{_ANY_APOSTROPHE}[aeiouA-Z](?:{_PURE_LETTER})*",
        rf"{_APOSTROPHE}(?i:cause)|(?i:cont'd\.?|nor'easter|c'mon|e'er|s'mores|ev'ry|li'l|nat'l)|(?i:o){_ANY_APOSTROPHE}(?i:o)",
    ):
        add(form, _same)
    add(rf"(?i:y){_APOSTROPHE}", then=_LETTER)
    add(r"(?i:https?)://[^ \t\n\f\r\"<>|(){}]+[^ \t\n\f\r\"<>|.!?(){},-]")
    site = r"(?i:www)\.(?:[^ \t\n\f\r\"<>|.!?(){},]+\.)+[a-zA-Z]{2,4}"
    site += r"|(?:[^ \t\n\f\r\"`'<>|.!?(){},-_$]+\.)+(?i:com|net|org|edu)"
    add(rf"(?:{site})(?:/[^ \t\n\f\r\"<>|()]+[^ \t\n\f\r\"<>|.!?(){{}},-])?")
    outside = r" \t\n\f\r\"<>|(){}\u00a0"
    host = rf"(?:[^{outside}.]+\.)*[^{outside}.]+"
    add(rf"(?:&lt;|<)?[a-zA-Z0-9][^{outside}]*@{host}(?:&gt;|>)?")
    add(r"@[a-zA-Z_][a-zA-Z_0-9]*")
    add(rf"#{_LETTER}+")
    add(_SHORT, _closing, then="[^A-Za-z]")
    add(_NOT, _closing, then="[^A-Za-z]")
    add(rf"{_DIGIT}{{1,2}}[-/]{_DIGIT}{{1,2}}[-/]{_DIGIT}{{2,4}}")
    add(_NUMBER, _no_soft_hyphens)
    add("[\u207a\u207b\u208a\u208b]?(?:[\u2070\u00b9\u00b2\u00b3\u2074-\u2079]+|[\u2080-\u2089]+)")
    add(rf"(?:{_DIGIT}{{1,4}}[- \u00a0])?{_DIGIT}{{1,4}}(?:\\?/|\u2044){_DIGIT}{{1,4}}", _one_token)
    add("[\u00bc\u00bd\u00be\u2153-\u215e]", _fraction)
    spelt = r"-(?:RRB|LRB|RCB|LCB|RSB|LSB)-|C\.D\.s|pro-|anti-|S(?:&amp;|&)P-500|S(?:&amp;|&)Ls"
    add(rf"(?i:{spelt}|Cap{_APOSTROPHE}n|c{_APOSTROPHE}est)", _ampersand)
    part = "[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}"
    add(rf"{part}(?:\\?/{part}){{1,2}}")
    add(r"[A-Z]*\$|#")
    add("[\u00a2-\u00a5\x80\u20a0\u20ac\u060b\u0e3f\u20a4\uffe0\uffe1\uffe5\uffe6]", _currency)
    add(
        rf"{_INITIALS}\.",
        _one_letter,
        then=rf"{_BLANK_OR_LINE}+(?:{_SENTENCE_STARTS}|{_MARKUP}){_BLANK_OR_LINE}",
        again=1,
    )
    add(rf"(?:{_BEFORE_NUMBER})\.", then=rf"{_BLANK_OR_LINE}?{_DIGIT}")
    add(r"(?:[pP][tT][eyEY]|(?i:co))\.", then=rf"{_BLANK}(?i:ltd|lim)")
    add(rf"(?:{_BEFORE_SMALL})\.", then=rf"{_BLANK_OR_LINE}(?:{_MARKUP}|{_BLANK_OR_LINE}|[{capitals}])", again=1)
    add(rf"(?:{_BEFORE_SMALL})\.", then=r"[\s\S]{2}")
    add(rf"(?:{_BEFORE_SMALL})\.", again=1)
    add(rf"(?:{_BEFORE_CAPITAL})\.")
    add(rf"(?:{_BEFORE_CAPITAL})", then=_BLANK)
    add(_INITIALS, then=_BLANK_OR_LINE)
    add(rf"{_APOSTROPHE}[0-9][0-9]", then=_BLANK_OR_LINE)
    file = (
        "bat|bmp|c|class|cgi|cpp|dll|doc|docx|exe|gif|gz|h|htm|html|jar|java|jpeg|jpg|mov|mp3|pdf|php|pl|png|ppt|ps|py"
    )
    file += "|sql|tar|txt|wav|x|xml|zip"
    add(rf"{_ALNUM}+(?:\.{_ALNUM}+)*\.(?i:{file})", then=rf"(?:{_BLANK_OR_LINE}|[.?!,])")
    add(rf"{_WORD}\.", _no_soft_hyphens, then=_INSIDE)
    between = "[- \u00a0]"
    telephone = rf"(?:\([0-9]{{2,3}}\)[ \u00a0]?|(?:\+\+?)?(?:[0-9]{{2,4}}{between})?[0-9]{{2,4}}{between})"
    add(rf"{telephone}[0-9]{{3,4}}{between}?[0-9]{{3,5}}", _telephone)
    add(r"(?:(?:\+\+?)?[0-9]{2,4}\.)?[0-9]{2,4}\.[0-9]{3,4}\.[0-9]{3,5}", _telephone)
    double = '(?:"|(?i:&quot;))'
    add(double, _opening, then="[A-Za-z0-9$]")
    add(double, _closing)
    add("<|(?i:&lt;)", _to("<"))
    add(">|(?i:&gt;)", _to(">"))
    add(r"[<>]?[:;=][-o*']?[()DPdpO\\{@|\[\]]", _brackets, then="[^A-Za-z0-9]")
    eye = r"[-\^x=~<>']"
    add(rf"{eye}_{eye}|\({eye}[_.]?{eye}\)|\([\^x=~<>']-[\^x=~<>'`]\)", _brackets)
    for bracket, name in zip("{}[]()", ("-LCB-", "-RCB-", "-LSB-", "-RSB-", "-LRB-", "-RRB-"), strict=True):
        add(re.escape(bracket), _to(name))
    add("-+", _hyphens)
    add("\\.{3,5}|(?:\\.[ \u00a0]){2,4}\\.|[\x85\u2026]", _to("..."))
    add(r"@+|#+|_+")
    add(r"\*+|(?:\\\*){1,3}")
    add(_INSIDE)
    add("[?!]+")
    add("[.¡¿\u037e\u0589\u061f\u06d4\u0700-\u0702\u07fa\u3002]")
    add("=")
    add("/")
    hyphenated = rf"[A-Za-z0-9][A-Za-z0-9.,\u00ad]*(?:-(?:{_INITIALS_OF_TWO}\.|[A-Za-z0-9\u00ad]+))+"
    add(rf"{hyphenated}\.", _no_soft_hyphens, then=_INSIDE)
    add(hyphenated, _no_soft_hyphens)
    alnum = rf"(?:{_PURE_LETTER}|{_DIGIT})"
    name = rf"(?:[dDoOlL]{_ANY_APOSTROPHE}{alnum})?{alnum}+"
    thing = rf"{name}(?:{_HYPHEN}{name})*"
    add(rf"{thing}\.", then=_INSIDE)
    add(thing)
    joined = r"[A-Z]+(?:(?:[+&]|(?i:&amp;))[A-Z]+)+"
    add(rf"{joined}\.", _ampersand, then=_INSIDE)
    add(joined, _ampersand)
    add("'", _opening, then="[A-Za-z][^ \t\n\r\u00a0]")
    add(_SHORT, _closing)
    quotes = "[`\u2018\u2019\u201a-\u201f\x91-\x94\u2039\u203a\u00ab\u00bb]{1,2}"
    add(rf"''|{quotes}|{_APOSTROPHE}", _closing)
    add("<<|>>")
    add(_SYMBOL)
    add(rf"\0|{_BLANK}+|[\u200b\u200e\u200f\ufeff]|(?i:&nbsp;)|\x7f", _nothing)
    return rules

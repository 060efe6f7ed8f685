# SPDX-License-Identifier: Apache-2.0
"""What keys type: X11's keysyms, as RFB carries them, to what xterm would send (its "PC-Style Function Keys")."""

from __future__ import annotations

import codecs
import unicodedata
from dataclasses import dataclass, field

RETURN, TAB, BACK_TAB, DELETE = 0xFF0D, 0xFF09, 0xFE20, 0xFFFF
SHIFT, ALT, CONTROL = 1, 2, 4  # as xterm adds them up in a sequence's parameter
MODIFIERS = {
    **dict.fromkeys((0xFFE1, 0xFFE2), SHIFT),
    **dict.fromkeys((0xFFE3, 0xFFE4), CONTROL),
    **dict.fromkeys((0xFFE7, 0xFFE8, 0xFFE9, 0xFFEA), ALT),
}

_PLAIN = {RETURN: "\r", 0xFF8D: "\r", TAB: "\t", 0xFF89: "\t", 0xFF08: "\x7f", 0xFF1B: "\x1b", 0xFF80: " "}
_KEYPAD = {
    **{0xFFB0 + digit: str(digit) for digit in range(10)},
    0xFFAA: "*",
    0xFFAB: "+",
    0xFFAC: ",",
    0xFFAD: "-",
    0xFFAE: ".",
    0xFFAF: "/",
    0xFFBD: "=",
}
# Arrows, Home and End; on the keypad too.
_LETTERED = {
    0xFF52: "A",
    0xFF54: "B",
    0xFF53: "C",
    0xFF51: "D",
    0xFF50: "H",
    0xFF57: "F",
    0xFF97: "A",
    0xFF99: "B",
    0xFF98: "C",
    0xFF96: "D",
    0xFF95: "H",
    0xFF9C: "F",
    0xFF9D: "E",
}
_FUNCTION_LETTERED = {0xFFBE: "P", 0xFFBF: "Q", 0xFFC0: "R", 0xFFC1: "S"}  # F1 to F4
_NUMBERED = {
    0xFF63: 2,
    DELETE: 3,
    0xFF55: 5,
    0xFF56: 6,
    0xFF9E: 2,
    0xFF9F: 3,
    0xFF9A: 5,
    0xFF9B: 6,
    0xFFC2: 15,
    0xFFC3: 17,
    0xFFC4: 18,
    0xFFC5: 19,
    0xFFC6: 20,
    0xFFC7: 21,
    0xFFC8: 23,
    0xFFC9: 24,  # F5 to F12
}
_CONTROLLED = {
    **dict(zip(" @`[{\\|]}^~_-/?8", "\0\0\0\x1b\x1b\x1c\x1c\x1d\x1d\x1e\x1e\x1f\x1f\x1f\x7f\x7f", strict=True)),
    **dict(zip("234567", "\0\x1b\x1c\x1d\x1e\x1f", strict=True)),
}

# Keysyms from before Unicode follow the character sets of their time.
_SETS = {
    0x01: "iso8859_2",
    0x02: "iso8859_3",
    0x03: "iso8859_4",
    0x05: "iso8859_6",
    0x06: "koi8_u",
    0x07: "iso8859_7",
    0x0C: "iso8859_8",
    0x0D: "tis_620",
    0x13: "iso8859_15",
}
for _set in _SETS.values():
    codecs.lookup(_set)  # loaded now: later nothing can be (__main__.restrain)
_GREEK_ACCENTS = dict(zip((*range(0x7A1, 0x7A6), *range(0x7A7, 0x7AA), 0x7AB), "ΆΈΉΊΪΌΎΫΏ", strict=True)) | dict(
    zip(range(0x7B1, 0x7BC), "άέήίϊΐόύϋΰώ", strict=True)
)
_CYRILLIC = dict(zip((0x6A1, 0x6A2, 0x6A5, *range(0x6A8, 0x6AD), 0x6AE, 0x6AF), "ђѓѕјљњћќўџ", strict=True))
_PUNCTUATION = {
    **dict(zip((0xAA9, 0xAAA, 0xAAE, 0xAC9, 0xAE6, 0xAFD, 0xAFE), "\u2014\u2013…™•\u201a„", strict=True)),
    **dict(zip(range(0xAD0, 0xAD4), "\u2018\u2019“”", strict=True)),
}
_OTHERS = {
    0x20AC: "€",
    0x7AE: "΅",
    0x7AF: "―",
    0x7D2: "Σ",
    0x7F2: "\u03c3",
    0x7F3: "ς",
    0x6B0: "№",
    **_GREEK_ACCENTS,
    **_CYRILLIC,
    **{keysym + 0x10: letter.upper() for keysym, letter in _CYRILLIC.items()},
    **_PUNCTUATION,
}
_KATAKANA = range(0x4A1, 0x4DE)
_UNICODE = 0x01000000


@dataclass
class Keyboard:
    """Which modifiers are held down."""

    held: set[int] = field(default_factory=set)

    def press(self, keysym: int, *, down: bool, application: bool = False) -> bytes:
        """Take note of a key; return what it types.

        Args:
            keysym: which.
            down: it was pressed, not released.
            application: the terminal's cursor keys are in application mode.
        """
        if keysym in MODIFIERS:
            (self.held.add if down else self.held.discard)(keysym)
            return b""
        modifiers = sum({MODIFIERS[each] for each in self.held})
        return translate(keysym, modifiers, application=application) if down else b""


def translate(keysym: int, modifiers: int = 0, *, application: bool = False) -> bytes:
    """Return what a key types; nothing, if it means nothing to a terminal."""
    if keysym == BACK_TAB or (keysym == TAB and modifiers & SHIFT):
        return b"\x1b[Z"
    if keysym in _LETTERED:
        return _function(_LETTERED[keysym], modifiers, "\x1bO" if application else "\x1b[")
    if keysym in _FUNCTION_LETTERED:
        return _function(_FUNCTION_LETTERED[keysym], modifiers, "\x1bO")
    if keysym in _NUMBERED:
        parameter = f";{modifiers + 1}" if modifiers else ""
        return f"\x1b[{_NUMBERED[keysym]}{parameter}~".encode()
    text = _PLAIN.get(keysym) or _KEYPAD.get(keysym) or character_of(keysym)
    if text and modifiers & CONTROL:
        text = _controlled(text)
    return f"\x1b{text}".encode() if text and modifiers & ALT else text.encode()


def character_of(keysym: int) -> str:
    """Return a keysym's character; nothing, if it has none."""
    if 0x20 <= keysym <= 0x7E or 0xA0 <= keysym <= 0xFF:  # noqa: PLR2004 - Latin-1 is itself
        return chr(keysym)
    if _UNICODE + 0xA0 <= keysym <= _UNICODE + 0x10FFFF:
        number = keysym - _UNICODE
        return "" if 0xD800 <= number <= 0xDFFF else chr(number)  # noqa: PLR2004 - surrogates are no characters
    if keysym in _OTHERS:
        return _OTHERS[keysym]
    if keysym in _KATAKANA:
        return unicodedata.normalize("NFKC", chr(0xFF61 + keysym - _KATAKANA.start))
    character_set, byte = divmod(keysym, 256)
    if character_set not in _SETS or byte < 0xA0:  # noqa: PLR2004 - each begins with ASCII
        return ""
    return bytes([byte]).decode(_SETS[character_set], "ignore")


def paste(text: str, *, bracketed: bool) -> bytes:
    """Return what pasting types: lines end as the Return key ends them, and nothing in it is a command."""
    lines = text.replace("\r\n", "\r").replace("\n", "\r")
    typed = "".join(each for each in lines if each in "\r\t" or each.isprintable()).encode()
    return b"\x1b[200~" + typed + b"\x1b[201~" if bracketed else typed


def _function(letter: str, modifiers: int, plain: str) -> bytes:
    return f"\x1b[1;{modifiers + 1}{letter}".encode() if modifiers else f"{plain}{letter}".encode()


def _controlled(text: str) -> str:
    if text.isascii() and text.isalpha():
        return chr(ord(text) & 0x1F)
    return _CONTROLLED.get(text, text)

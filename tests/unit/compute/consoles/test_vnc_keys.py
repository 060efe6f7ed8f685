# SPDX-License-Identifier: Apache-2.0
"""Keys of VNC viewers: keysyms to what a terminal types."""

from __future__ import annotations

import pytest

from dockstack.compute.consoles.vnc.keys import ALT, CONTROL, SHIFT, Keyboard, character_of, paste, translate

pytestmark = pytest.mark.unit

ENTER, ESCAPE, TAB, BACKSPACE, UP, HOME, DELETE, PAGE_UP = (
    0xFF0D,
    0xFF1B,
    0xFF09,
    0xFF08,
    0xFF52,
    0xFF50,
    0xFFFF,
    0xFF55,
)
F1, F5, F12, SHIFT_LEFT, SHIFT_RIGHT, CONTROL_LEFT, ALT_LEFT = 0xFFBE, 0xFFC2, 0xFFC9, 0xFFE1, 0xFFE2, 0xFFE3, 0xFFE9


@pytest.mark.parametrize(
    ("keysym", "modifiers", "typed"),
    [
        (ord("a"), 0, "a"),
        (ord("A"), SHIFT, "A"),
        (ord("é"), 0, "é"),
        (0x0100263A, 0, "☺"),
        (0x01F1F600 - 0xF00000, 0, "\U0001f600"),
        (0x0100D800, 0, ""),
        (ENTER, 0, "\r"),
        (0xFF8D, 0, "\r"),
        (BACKSPACE, 0, "\x7f"),
        (TAB, 0, "\t"),
        (TAB, SHIFT, "\x1b[Z"),
        (0xFE20, SHIFT, "\x1b[Z"),
        (ESCAPE, 0, "\x1b"),
        (UP, 0, "\x1b[A"),
        (UP, CONTROL, "\x1b[1;5A"),
        (UP, SHIFT | ALT, "\x1b[1;4A"),
        (HOME, 0, "\x1b[H"),
        (0xFF57, 0, "\x1b[F"),
        (DELETE, 0, "\x1b[3~"),
        (DELETE, SHIFT, "\x1b[3;2~"),
        (PAGE_UP, 0, "\x1b[5~"),
        (F1, 0, "\x1bOP"),
        (F1, CONTROL, "\x1b[1;5P"),
        (F5, 0, "\x1b[15~"),
        (F12, 0, "\x1b[24~"),
        (0xFFB7, 0, "7"),
        (0xFF95, 0, "\x1b[H"),
        (ord("c"), CONTROL, "\x03"),
        (ord("C"), CONTROL | SHIFT, "\x03"),
        (ord(" "), CONTROL, "\0"),
        (ord("["), CONTROL, "\x1b"),
        (ord("/"), CONTROL, "\x1f"),
        (ord("x"), ALT, "\x1bx"),
        (ord("x"), ALT | CONTROL, "\x1b\x18"),
        (BACKSPACE, ALT, "\x1b\x7f"),
        (0xFFEB, 0, ""),
        (0xFE03, 0, ""),
        (0, 0, ""),
    ],
)
def test_what_a_key_types(keysym, modifiers, typed):
    assert translate(keysym, modifiers) == typed.encode()


@pytest.mark.parametrize(
    ("keysym", "typed"), [(UP, b"\x1bOA"), (HOME, b"\x1bOH"), (F1, b"\x1bOP"), (PAGE_UP, b"\x1b[5~")]
)
def test_cursor_keys_in_application_mode(keysym, typed):
    assert translate(keysym, application=True) == typed


@pytest.mark.parametrize(
    ("keysym", "character"),
    [
        (0x1B1, "ą"),
        (0x2A1, "Ħ"),
        (0x3C0, "Ā"),
        (0x5C7, "\u0627"),
        (0x6C1, "\u0430"),
        (0x6B3, "Ё"),
        (0x6A4, "є"),
        (0x7E1, "\u03b1"),
        (0x7B1, "ά"),
        (0x7F3, "ς"),
        (0x7F2, "\u03c3"),
        (0xCE0, "א"),
        (0xDA1, "ก"),
        (0x13BD, "œ"),
        (0x20AC, "€"),
        (0x6A8, "\u0458"),
        (0x6B8, "\u0408"),
        (0x7D2, "Σ"),
        (0x4B1, "ア"),
        (0xAAA, "\u2013"),
        (0x141, ""),
        (0x9F1, ""),
    ],
)
def test_characters_from_before_unicode(keysym, character):
    assert character_of(keysym) == character


def test_modifiers_are_held_until_they_are_released():
    keyboard = Keyboard()
    typed = [
        keyboard.press(keysym, down=down)
        for keysym, down in [
            (CONTROL_LEFT, True),
            (ord("c"), True),
            (ord("c"), False),
            (SHIFT_LEFT, True),
            (SHIFT_RIGHT, True),
            (UP, True),
            (SHIFT_LEFT, False),
            (UP, True),
            (SHIFT_RIGHT, False),
            (CONTROL_LEFT, False),
            (ALT_LEFT, True),
            (ord("c"), True),
        ]
    ]
    assert [each for each in typed if each] == [b"\x03", b"\x1b[1;6A", b"\x1b[1;6A", b"\x1bc"]


def test_what_is_pasted_is_no_command():
    assert paste("a\r\nb\nc\td\x1b[201~\x03é", bracketed=False) == "a\rb\rc\td[201~é".encode()
    assert paste("x\n", bracketed=True) == b"\x1b[200~x\r\x1b[201~"

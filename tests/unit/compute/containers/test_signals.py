# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from dockstack.compute.containers.signals import is_handled, number_of, spell
from dockstack.errors import DockstackError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("name", "number"), [("SIGABRT", 6), ("ABRT", 6), ("6", 6), ("SIGRTMIN+3", 37)])
def test_signals_have_numbers(name, number) -> None:
    assert number_of(name) == number


def test_every_name_that_the_engine_knows_is_a_signal() -> None:
    names = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT SEGV STKFLT STOP SYS TERM"
    names += " TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ RTMIN RTMIN+15 RTMAX-14 RTMAX"
    for name in names.split():
        assert spell(name.lower()) == name
        assert number_of(f"sig{name}") == number_of(name)


@pytest.mark.parametrize("name", ["SIGNONE", "999", "", "SIGRTMIN+x"])
def test_what_is_no_signal_is_refused(name) -> None:
    with pytest.raises(DockstackError, match="There is no signal"):
        number_of(name)


def test_the_kernel_says_what_is_handled(tmp_path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "status").write_text("Name:\tx\nSigIgn:\t0000000000000004\nSigCgt:\t0000000000000020\n")
    assert is_handled(7, "SIGABRT", tmp_path)
    assert not is_handled(7, "SIGQUIT", tmp_path)
    assert is_handled(7, "SIGKILL", tmp_path)
    assert not is_handled(8, "SIGABRT", tmp_path)

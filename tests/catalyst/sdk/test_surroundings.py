"""What an author tries first, in a real sandbox: it works, its words are in the log, or one line says what is not there."""

from __future__ import annotations

from typing import Any

import pytest

from host import Catalyst, Host
from host.errors import GuestException
from tests.conftest import GUESTS, python_guest

WORKS = {
    "'é'.encode('cp1252').hex()": "e9",
    "'bücher.example'.encode('idna').decode()": "xn--bcher-kva.example",
    "'bücher'.encode('punycode').decode()": "bcher-kva",
    "'a'.encode('utf-16').hex()": "fffe6100",
    "'a'.encode('utf-8-sig').hex()": "efbbbf61",
    "b'\\xe9'.decode('latin-1')": "é",
    "b'\\xa4'.decode('iso-8859-15')": "€",
    "str(__import__('datetime').datetime.strptime('2026-11-20', '%Y-%m-%d').date())": "2026-11-20",
    "isinstance(__import__('datetime').datetime(2026, 1, 1), __import__('datetime').date)": True,
    "__import__('datetime').datetime(2026, 11, 20).strftime('%d %B')": "20 November",
    "__import__('pathlib').Path('nothing').exists()": False,
    "__import__('os').environ.get('HOME')": None,
    "__import__('random').random() < 1": True,
    "str(__import__('uuid').uuid5(__import__('uuid').NAMESPACE_DNS, 'a'))": "4f3f2898-69e3-5a0d-820a-c4e87987dbce",
    "__import__('gc').collect() >= 0": True,
}
SAID = {
    "print('hello')": ("info", "hello"),
    "print('no', 'end', end='')": ("info", "no end"),
    "import sys; print('careful', file=sys.stderr, flush=True)": ("warning", "careful"),
    "import warnings; warnings.warn('old')": ("warning", "UserWarning: old"),
    "import logging; logging.warning('at %d', 7)": ("warning", "WARNING:root:at 7"),
    "import logging; logging.basicConfig(level=10); logging.getLogger('x').info('so')": ("info", "INFO:x:so"),
    "import logging\ntry: 1/0\nexcept Exception: logging.exception('bad')": ("error", "division by zero"),
    "import traceback\ntry: 1/0\nexcept Exception: traceback.print_exc()": ("warning", "ZeroDivisionError"),
    "import traceback\ntry: 1/0\nexcept Exception: print(traceback.format_exc())": ("info", "ZeroDivisionError"),
}
CLOCK, RANDOM, FILES, SOCKETS = "has no clock", "has no randomness", "has no files", "has no sockets"
NOT_THERE = {
    "open('x')": f"open: a catalyst {FILES}",
    "import os; os.listdir('/')": FILES,
    "import pathlib; pathlib.Path('x').read_text()": FILES,
    "import tempfile; tempfile.mkdtemp()": "has no",
    "import time; time.sleep(1)": f"time.sleep: a catalyst {CLOCK}",
    "import time; time.time()": CLOCK,
    "import time; time.strftime('%Y')": CLOCK,
    "import datetime; datetime.datetime.now()": f"datetime.now: a catalyst {CLOCK}",
    "import datetime; datetime.date.today()": CLOCK,
    "import asyncio\nasync def f(): pass\nasyncio.run(f())": CLOCK,
    "import queue; queue.Queue().get(timeout=1)": CLOCK,
    "import random; random.seed()": RANDOM,
    "import uuid; uuid.uuid4()": RANDOM,
    "import secrets; secrets.token_hex()": RANDOM,
    "import socket; socket.socket()": SOCKETS,
    "import socket; socket.create_connection(('example.com', 80))": SOCKETS,
    "import urllib.request; urllib.request.urlopen('http://example.com/')": SOCKETS,
    "import subprocess; subprocess.run(['ls'])": "does not support processes",
    "import threading; threading.Thread(target=print).start()": "has one thread",
    "import zoneinfo; zoneinfo.ZoneInfo('Europe/Berlin')": "No time zone found",
    "import json.tool": "json.tool is not there: import it at the top of a module",
    "b'a'.decode('cp1140')": "the codec cp1140 is not loaded: import encodings.cp1140",
    "b'a'.decode('nonsense')": "unknown encoding: nonsense",
    "input()": "EOF",
    "import sys; sys.exit(3)": "SystemExit: 3",
}


@pytest.fixture(scope="module")
def catalyst(host: Host) -> Catalyst:
    return host.load(python_guest(GUESTS / "raises"))


@pytest.mark.parametrize(("code", "expected"), WORKS.items(), ids=lambda value: str(value)[:60])
def test_it_works(catalyst: Catalyst, code: str, expected: Any) -> None:
    assert catalyst.run({"code": f"result = {code}"}).data == expected


@pytest.mark.parametrize(("code", "line"), SAID.items(), ids=lambda value: str(value)[:60])
def test_it_is_in_the_log(catalyst: Catalyst, code: str, line: tuple[str, str]) -> None:
    logs = catalyst.run({"code": code}).execution.logs
    assert any(one.level == line[0] and line[1] in one.message for one in logs), logs


@pytest.mark.parametrize(("code", "said"), NOT_THERE.items(), ids=lambda value: str(value)[:60])
def test_one_line_says_what_is_not_there(catalyst: Catalyst, code: str, said: str) -> None:
    with pytest.raises(GuestException) as caught:
        catalyst.run({"code": code})
    assert said in caught.value.message
    assert len(caught.value.message.splitlines()) == 1


def test_what_was_printed_before_an_exception_is_in_the_log(catalyst: Catalyst) -> None:
    with pytest.raises(GuestException) as caught:
        catalyst.run({"code": "print('this far', end='')\n1/0"})
    assert caught.value.execution is not None
    assert [one.message for one in caught.value.execution.logs] == ["this far"], "and the exception is told once"

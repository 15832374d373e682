"""Ends badly, in the way that `how` says; or runs the `code` in its input, as an author tries things out, for which what
it may need is imported here, at build time."""

# ruff: noqa: F401, ICN001 - for the code
import asyncio
import concurrent.futures
import datetime
import email.message
import http.client
import importlib.resources
import logging
import queue
import secrets
import socket
import subprocess
import tempfile
import traceback
import urllib.request
import uuid
import warnings
import zoneinfo

from catalyst import sdk


def _recurse(depth: int) -> int:
    return _recurse(depth + 1) + 1


def _answer(document):
    if "code" in document:
        scope = {}
        exec(document["code"], scope)
        return {"status": 200, "data": scope.get("result")}
    how = document["how"]
    if how == "exception":
        raise ValueError("a value that will not do")
    if how == "memory":
        return len(b"x" * (1 << 30))
    if how == "import":
        import decimal  # too late
    if how == "recursion":
        return _recurse(0)
    if how == "exit":
        raise SystemExit(3)
    if how == "loop":
        while True:
            pass
    return {"status": 200, "data": "well"}


print("the build's own output")
Run = sdk.run(_answer)

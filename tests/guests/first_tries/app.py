"""Runs the code in its input, as an author tries things out. What it may need is imported here, at build time."""

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

from catalyst.sdk import run


def first_tries(document):
    scope = {}
    exec(document["code"], scope)
    return {"status": 200, "data": scope.get("result")}


print("the build's own output")
Run = run(first_tries)

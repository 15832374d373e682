"""Writes constraints.txt: `python .ci/versions.py [NAME==VERSION …]`, with `uv` in PATH.

Versions stay as they are, but for the named ones and what these ask for. Each has the hashes of all its files, for
every platform.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
FILE = ROOT / "constraints.txt"
RAY = "# Only for the extra ray, which is large:"
TESTS = "# Only for tests:"
HEAD = """\
# Every version that build.sh installs: exactly these were tested together. No file with other contents is installed.
# `.ci/versions.py` writes this.
"""
BUILDING = "hatchling>=1.28\neditables>=0.5\n"  # what `pip install --editable` needs here


def resolved(known: dict[str, str], *extras: str) -> dict[str, str]:
    """Each package with its lines: version, marker and hashes."""
    kept = ROOT / ".cache" / "versions.txt"
    kept.parent.mkdir(exist_ok=True)
    kept.write_text("".join(f"{name}=={version}\n" for name, version in known.items()))
    argv = ["uv", "pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-annotate", "--no-header"]
    argv += ["--python-version", "3.11", "--no-emit-package", "catalyst-host", "--constraint", str(kept)]
    argv += [word for extra in extras for word in ("--extra", extra)]
    made = subprocess.run(
        [*argv, "pyproject.toml", "-"], input=BUILDING, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    blocks = re.split(r"\n(?=\S)", made.stdout.strip())
    return {block.partition("==")[0]: block for block in blocks}


def main(*changed: str) -> None:
    pins = re.findall(r"^([\w.-]+)==([^\s;]+)", FILE.read_text(), re.MULTILINE)
    known = dict(pins) | dict(one.split("==") for one in changed)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    every = resolved(known, *extras)
    needed = resolved(known, *(name for name in extras if name not in {"ray", "test"}))
    on_ray = resolved(known, *(name for name in extras if name != "test"))
    ray = [lines for name, lines in on_ray.items() if name not in needed]
    tests = [lines for name, lines in every.items() if name not in on_ray]
    FILE.write_text("\n".join([HEAD + "\n".join(needed.values()), "", RAY, *ray, "", TESTS, *tests]) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])

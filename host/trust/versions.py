"""The order of versions: semver.org, 2.0.0, section 11."""

from __future__ import annotations

from semver import Version


def order(version: str) -> Version:
    """A key to sort by. `version` was checked by `host.names.check_version`."""
    return Version.parse(version)


def is_prerelease(version: str) -> bool:
    return order(version).prerelease is not None

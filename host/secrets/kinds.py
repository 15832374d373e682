"""Keys of well-known services, by how they begin: to warn of a wrong value, and to show a little of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from host.core.names import SecretName
    from host.secrets.value import SecretValue

_LONG_ENOUGH: Final = 20  # characters behind the beginning of a kind: its last four say little then

_BEGINNINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "ANTHROPIC_API_KEY": ("sk-ant-",),
    "GITHUB_TOKEN": ("ghp_", "gho_", "ghs_", "ghu_", "github_pat_"),
    "GROQ_API_KEY": ("gsk_",),
    "HF_TOKEN": ("hf_",),
    "OPENAI_API_KEY": ("sk-",),
    "OPENROUTER_API_KEY": ("sk-or-",),
    "XAI_API_KEY": ("xai-",),
}


def kind_of(text: str) -> str | None:
    """The kind of key whose beginning `text` has. The longest beginning decides: `sk-ant-` before `sk-`."""
    found = _match(text)
    return found and found[0]


def looks_like_key(text: str) -> str | None:
    """The kind of key that `text` probably is: it has the beginning, a key's length, and a digit."""
    kind = kind_of(text)
    return kind if kind and len(text) >= _LONG_ENOUGH and any(map(str.isdigit, text)) else None


def doubt(name: SecretName, value: SecretValue) -> str | None:
    """A warning where `name` names a known kind of key and `value` does not begin like one. It tells no part of it."""
    expected, kind = _BEGINNINGS.get(str(name)), kind_of(value.reveal())
    if expected is None or kind == str(name):
        return None
    return f"{name} usually begins with {' or '.join(expected)}; this " + (f"looks like {kind}" if kind else "does not")


def masked(value: SecretValue) -> str:
    """The beginning of its kind, and its last four characters if the rest is long enough to stay unknown."""
    text = value.reveal()
    _, beginning = _match(text) or ("", "")
    last = text[-4:] if len(text) - len(beginning) >= _LONG_ENOUGH else ""
    return f"{beginning}…{last}"


def _match(text: str) -> tuple[str, str] | None:
    """The kind, and its beginning."""
    found = [(kind, one) for kind, known in _BEGINNINGS.items() for one in known if text.startswith(one)]
    return max(found, key=lambda match: len(match[1]), default=None)

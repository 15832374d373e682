"""`cyfr:secrets/read`: secrets by name."""

from componentize_py_types import Err

from catalyst.sdk.errors import HostRefused
from catalyst.sdk.interfaces import interface

_interface = interface("read")


def get(name: str) -> str:
    """Returns a placeholder for the secret `name`. The host replaces it in the headers of outgoing requests.

    Raises HostRefused (`secret_denied`, status 403) if the secret is not granted.
    """
    if _interface is None:
        raise HostRefused("secret_denied", f"secret {name}: the manifest does not ask for secrets")
    try:
        value: str = _interface.get(name)
    except Err as refusal:
        raise HostRefused("secret_denied", f"secret {name}: {refusal.value}") from None
    return value

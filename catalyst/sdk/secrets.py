"""`cyfr:secrets/read`: secrets by name."""

from componentize_py_types import Err

from catalyst.sdk.errors import HostRefused
from catalyst.sdk.interfaces import interface

_interface = interface("read")


def get(name: str) -> str:
    """What stands for the secret `name`: put it into a header, the host sets the value in as the request leaves.

    Raises HostRefused (`secret_denied`, status 403) where it is not granted.
    """
    if _interface is None:
        raise HostRefused("secret_denied", f"secret {name}: the manifest does not ask for secrets")
    try:
        value: str = _interface.get(name)
    except Err as refusal:
        raise HostRefused("secret_denied", f"secret {name}: {refusal.value}") from None
    return value

"""Where a server listens, and the token that it asks for."""

import ipaddress
import socket

from sivt_lightning.errors import SIVTError
from sivt_lightning.secret import find_secret

TOKEN = "SIVT_TOKEN"


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to this place. Raises SIVTError where that cannot be."""
    if not 0 <= port < 2**16:
        raise SIVTError(f"port {port}: give one from 0 to 65535.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        place = socket.socket(family, kind, protocol)
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
        return place
    except OSError as error:
        raise SIVTError(f"Cannot listen on {host}, port {port}: {error.strerror}. Choose another.") from error


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach it.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "camera")]
    [True, True, True, False, False]
    """
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_token(path: str | None) -> str | None:
    """From the file, or the environment. Raises SIVTError where there is a place for it, but no token in it."""
    return find_secret(path, "token_file", TOKEN)

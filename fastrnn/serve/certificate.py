"""`Certificate`: what a server shows for TLS, from files that may be renewed while it runs."""

from __future__ import annotations

import ssl


class Certificate:
    """A chain and its key, in PEM files; the key may be in the chain's.

    Raises
    ------
    OSError
        If a file cannot be read.
    ValueError
        If it holds no certificate, or a key that is another's or is encrypted.
    """

    def __init__(self, chain: str, key: str | None = None) -> None:
        self._chain, self._key = chain, key
        self.context = self._load()

    def reload(self) -> None:
        """Read the files anew, for handshakes to come; where that raises, all is as before."""
        self._load()  # half of a pair in a context that is in use would fail its handshakes
        self.context.load_cert_chain(self._chain, self._key, password=_no_password)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        for path in (self._chain, self._key):
            if path is not None:
                with open(path, "rb"):  # or OpenSSL says that a file is missing, but not which
                    pass
        try:
            context.load_cert_chain(self._chain, self._key, password=_no_password)
        except ssl.SSLError as error:
            raise ValueError(
                f"{self._chain}: no certificate in PEM with its key"
                f"{'' if self._key is None else ' in ' + self._key}: {error.reason or error}"
            ) from None
        return context


def _no_password() -> str:
    """Say that there is none, where OpenSSL would ask a terminal for it."""
    return ""

"""`Certificate`: what a server shows for TLS, from files that may be renewed while it runs."""

from __future__ import annotations

import ssl

# What OpenSSL says of a chain (X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED).
OUT_OF_DATE = {9: "is not valid yet", 10: "has expired"}


class Certificate:
    """A chain and its key, in PEM files; the key may be in the chain's.

    `context` is for the next handshake.

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
        """Read the files anew, for handshakes to come; where that raises, all is as before.

        Raises ValueError for one that is out of date, too: what is there already is no worse.
        """
        context = self._load()
        if why := _out_of_date(context, self._chain):
            raise ValueError(f"{self._chain}: the certificate {why}")
        self.context = context

    def out_of_date(self) -> str | None:
        """Return what is wrong with its dates now, if anything is."""
        return _out_of_date(self.context, self._chain)

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        # TLS 1.3 would send tickets after the handshake. A client that reads in one thread while it
        # writes in another, as websockets' threaded one does, hangs at them one time in 300.
        context.num_tickets = 0
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


def _out_of_date(context: ssl.SSLContext, chain: str) -> str | None:
    """Ask OpenSSL, as a client in memory that trusts what is in the file."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(chain)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the server's own is enough
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = client.wrap_bio(back, there), context.wrap_bio(there, back, server_side=True)
    for side in 2 * sides:
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return OUT_OF_DATE.get(error.verify_code)
        except ssl.SSLError:  # what else clients may have against it is theirs to say
            return None
    return None


def _no_password() -> str:
    """Say that there is none, where OpenSSL would ask a terminal for it."""
    return ""

"""Certificates: what does not fit, what is out of date, and what stays then."""

from __future__ import annotations

import contextlib
import ssl
import subprocess

import pytest
from serving import make_certificate

from fastrnn.serve.certificate import Certificate

# `openssl ca` alone takes any dates; it wants a place where it keeps what it signed.
CA = """
[ca]
default_ca = it
[it]
new_certs_dir = {folder}
database = {folder}/index
serial = {folder}/serial
default_md = sha256
policy = any
[any]
commonName = supplied
"""


@pytest.fixture
def files(tmp_path):
    return make_certificate(tmp_path)


def dated(folder, chain, key, begin, end):
    """Sign the certificate anew with dates of its own, YYMMDDHHMMSSZ."""
    (folder / "ca.conf").write_text(CA.format(folder=folder))
    (folder / "index").touch()
    (folder / "serial").write_text("01\n")
    request = folder / "request.pem"
    commands = (
        f"openssl req -new -key {key} -subj /CN=x -out {request}",
        f"openssl ca -config {folder}/ca.conf -selfsign -batch -notext -keyfile {key} -in {request}"
        f" -startdate {begin} -enddate {end} -out {chain}",
    )
    for command in commands:
        subprocess.run(command.split(), check=True, capture_output=True, timeout=60)


def agree(certificate):
    """A client's side of TLS that is agreed upon, and what the server has sent beyond that."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    one = client.wrap_bio(back, there)
    other = certificate.context.wrap_bio(there, back, server_side=True)
    for side in (one, other, one, other):
        with contextlib.suppress(ssl.SSLWantReadError):
            side.do_handshake()
    return one, back.pending


def shown(certificate):
    """What a client is shown now, in DER."""
    return agree(certificate)[0].getpeercert(binary_form=True)


def test_nothing_comes_before_a_client_has_asked(files):
    side, more = agree(Certificate(*map(str, files)))
    assert side.version() == "TLSv1.3"
    assert more == 0


def test_a_renewal(tmp_path, files):
    certificate = Certificate(*map(str, files))
    before = shown(certificate)
    certificate.reload()
    assert shown(certificate) == before
    other, other_key = make_certificate(tmp_path, "two")
    files[0].write_bytes(other.read_bytes())
    with pytest.raises(ValueError, match="no certificate in PEM with its key"):
        certificate.reload()  # the key is the old one's
    assert shown(certificate) == before
    files[1].write_bytes(other_key.read_bytes())
    certificate.reload()
    assert shown(certificate) == ssl.PEM_cert_to_DER_cert(other.read_text())


@pytest.mark.parametrize(
    ("begin", "end", "why"),
    [
        ("200101000000Z", "200201000000Z", "has expired"),
        ("490101000000Z", "490201000000Z", "is not valid yet"),
    ],
)
def test_one_that_is_out_of_date_replaces_none(tmp_path, files, begin, end, why):
    certificate = Certificate(*map(str, files))
    assert certificate.out_of_date() is None
    before = shown(certificate)
    dated(tmp_path, *files, begin, end)
    with pytest.raises(ValueError, match=why):
        certificate.reload()
    assert shown(certificate) == before
    late = Certificate(*map(str, files))  # at the beginning there is nothing better
    assert late.out_of_date() == why


def test_a_chain_and_its_key_in_one_file(tmp_path, files):
    both = tmp_path / "both.pem"
    both.write_bytes(files[0].read_bytes() + files[1].read_bytes())
    certificate = Certificate(str(both))
    assert certificate.out_of_date() is None
    certificate.reload()

"""tls-server-end-point against the cryptography package, for every kind of signature."""

import datetime
import hashlib

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import NameOID

from proxy.postgres.protocol.cert_hash import server_end_point

RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
DSA = dsa.generate_private_key(1024)
MOMENT = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def certificate(key, algorithm, **signing) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(MOMENT).not_valid_after(MOMENT.replace(year=2031))
    return builder.sign(key, algorithm, **signing)


def der_of(made: x509.Certificate) -> bytes:
    return made.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        *((RSA, a) for a in (hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())),
        *((EC, a) for a in (hashes.SHA224(), hashes.SHA256(), hashes.SHA384(), hashes.SHA512())),
        *((DSA, a) for a in (hashes.SHA224(), hashes.SHA256())),
        *((RSA, a) for a in (hashes.SHA3_224(), hashes.SHA3_256(), hashes.SHA3_512())),
        *((EC, a) for a in (hashes.SHA3_256(), hashes.SHA3_384())),
    ],
)
def test_hash_of_the_signature(key, algorithm):
    made = certificate(key, algorithm)
    found = made.signature_hash_algorithm
    assert found is not None
    assert server_end_point(der_of(made)) == made.fingerprint(found)


@pytest.mark.parametrize(
    ("newer", "older"),
    [
        # cryptography signs no certificate with SHA-1 or MD5 any more: the identifier is changed.
        ("2a864886f70d01010b", "2a864886f70d010105"),
        ("2a864886f70d01010b", "2a864886f70d010104"),
    ],
)
def test_weak_hashes_give_sha256(newer: str, older: str):
    der = der_of(certificate(RSA, hashes.SHA256()))
    der = der.replace(bytes.fromhex(newer), bytes.fromhex(older))
    assert server_end_point(der) == hashlib.sha256(der).digest()


def test_signatures_without_a_defined_hash():
    assert server_end_point(der_of(certificate(ed25519.Ed25519PrivateKey.generate(), None))) is None
    assert server_end_point(der_of(certificate(ed448.Ed448PrivateKey.generate(), None))) is None
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    made = certificate(RSA, hashes.SHA256(), rsa_padding=pss)
    assert server_end_point(der_of(made)) is None


def test_what_is_no_certificate_has_no_binding():
    der = der_of(certificate(EC, hashes.SHA256()))
    for end in range(len(der)):
        assert server_end_point(der[:end]) is None
    for text in (b"", b"\x30", b"\x30\x80\0\0", b"\x30\x85\0\0\0\0\1\0", b"\x02\1\0", b"\x30\0"):
        assert server_end_point(text) is None
    to_be_signed = b"\x30\0"
    for algorithm in (b"", b"\x02\0", b"\x30\0", b"\x30\2\x05\0", b"\x30\3\x06\1\x2a"):
        content = to_be_signed + algorithm
        assert server_end_point(b"\x30" + bytes((len(content),)) + content) is None

"""The hash of a certificate for channel binding `tls-server-end-point`.

Source: RFC 5929, section 4.1: the certificate hashed with the hash function of its signature
algorithm, or SHA-256 where that is MD5 or SHA-1; undefined for a signature without one single hash
function (Ed25519), and not worked out here for RSA-PSS, whose hash hides in parameters. Only the
signature algorithm is read: Certificate of RFC 5280, section 4.1.
"""

import hashlib

# Object identifiers in DER, without tag and length.
_PKCS1 = bytes.fromhex("2a864886f70d0101")  # 1.2.840.113549.1.1
_ECDSA = bytes.fromhex("2a8648ce3d04")  # 1.2.840.10045.4
_NIST = bytes.fromhex("6086480165030403")  # 2.16.840.1.101.3.4.3
_DSA_SHA1 = bytes.fromhex("2a8648ce380403")  # 1.2.840.10040.4.3

_SHA2 = ("sha224", "sha256", "sha384", "sha512")
_SHA3 = ("sha3_224", "sha3_256", "sha3_384", "sha3_512")

_HASH_OF_SIGNATURE: dict[bytes, str] = {
    _PKCS1 + b"\x04": "sha256",  # md5WithRSAEncryption
    _PKCS1 + b"\x05": "sha256",  # sha1WithRSAEncryption
    _PKCS1 + b"\x0b": "sha256",
    _PKCS1 + b"\x0c": "sha384",
    _PKCS1 + b"\x0d": "sha512",
    _PKCS1 + b"\x0e": "sha224",
    _ECDSA + b"\x01": "sha256",  # ecdsa-with-SHA1
    _DSA_SHA1: "sha256",
    **{_ECDSA + b"\x03" + bytes((1 + i,)): name for i, name in enumerate(_SHA2)},
    **{_NIST + bytes((1 + i,)): name for i, name in enumerate(_SHA2)},  # DSA
    **{_NIST + bytes((5 + i,)): name for i, name in enumerate(_SHA3)},  # DSA
    **{_NIST + bytes((9 + i,)): name for i, name in enumerate(_SHA3)},  # ECDSA
    **{_NIST + bytes((13 + i,)): name for i, name in enumerate(_SHA3)},  # RSA
}

_SEQUENCE = 0x30
_OBJECT_IDENTIFIER = 0x06


def server_end_point(der: bytes) -> bytes | None:
    """Channel binding data of the certificate `der`; None: no binding is defined, offer no PLUS.

    Never raises: what is no certificate has no binding either.
    """
    oid = _signature_oid(der)
    name = _HASH_OF_SIGNATURE.get(oid) if oid is not None else None
    return hashlib.new(name, der).digest() if name is not None else None


def _signature_oid(der: bytes) -> bytes | None:
    certificate = _content(der, 0, len(der), _SEQUENCE)
    if certificate is None:
        return None
    to_be_signed = _content(der, *certificate, _SEQUENCE)
    if to_be_signed is None:
        return None
    algorithm = _content(der, to_be_signed[1], certificate[1], _SEQUENCE)
    if algorithm is None:
        return None
    oid = _content(der, *algorithm, _OBJECT_IDENTIFIER)
    return der[oid[0] : oid[1]] if oid is not None else None


def _content(der: bytes, pos: int, end: int, tag: int) -> tuple[int, int] | None:
    """(start, end) of the content of the element at `pos`, if it has this tag and fits."""
    if pos + 2 > end or der[pos] != tag:
        return None
    length = der[pos + 1]
    start = pos + 2
    if length >= 0x80:  # long form: the low bits count the length's own bytes
        size = length & 0x7F
        if not 1 <= size <= 4 or start + size > end:
            return None
        length = int.from_bytes(der[start : start + size])
        start += size
    return (start, start + length) if start + length <= end else None

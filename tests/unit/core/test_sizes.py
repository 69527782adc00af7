"""Byte sizes as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.core.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1B", 1),
        ("64KiB", 65_536),
        ("64 KiB", 65_536),
        ("64mib", 64 << 20),
        ("1GiB", 1 << 30),
        ("2TiB", 2 << 40),
        ("1kB", 1000),
        ("3MB", 3_000_000),
        ("1.5GB", 1_500_000_000),
        ("0.5KiB", 512),
        (" 7 ", 7),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "MiB", "-1", "1e3", "1.5", "0.3KiB", "64M", "64 MiBs", "1,000", "0x10", "٣", "1 2"]
)
def test_refused_without_repeating_the_text(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size") as caught:
        parse_size(text)
    assert not text or text not in str(caught.value).replace("64MiB", "").replace("512KiB", "")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0B"),
        (1000, "1000B"),
        (1024, "1KiB"),
        (1536, "1536B"),
        (64 << 20, "64MiB"),
        (3 << 40, "3TiB"),
    ],
)
def test_format(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text


@given(st.integers(0, 1 << 50))
def test_format_is_exact(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes

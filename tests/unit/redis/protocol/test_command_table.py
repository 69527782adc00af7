"""The shipped table: it reads back as what its generator wrote."""

from proxy.redis.protocol.command_table import fallback_table
from tools.redis_command_table import write_entry


def test_every_entry_reads_back() -> None:
    table = fallback_table()
    assert not table.complete
    assert len(table.by_name) > 350
    text = [write_entry(command) for command in table.by_name.values()]
    assert "get 2 r R1.0.1.0" in text
    assert "eval -3 - W2#0.1.1" in text
    assert "xread -4 rb R" + "STREAMS@1.-1.1.2" in text
    assert any(entry.startswith("sort -2 w") for entry in text)

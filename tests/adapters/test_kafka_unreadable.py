"""What is salvaged of batches whose bytes lie."""

from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchPy
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfly_messaging.adapters.kafka.internals import RawBatch
from pyfly_messaging.adapters.kafka.unreadable import Gap, _unpack

_FIRST = 1000  # the offset of the first record
_HEAD = _DefaultRecordBatchPy.HEADER_STRUCT.size
_ERROR = ValueError("unreadable")


def batch_of(count: int) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for number in range(count):
        headers = [("name", b"value"), ("none", None)]
        builder.append(number, timestamp=None, key=b"key", value=b"value", headers=headers)
    raw = bytearray(builder.build())
    raw[:8] = _FIRST.to_bytes(8, "big")
    return raw


def unpacked(raw: bytearray, position: int) -> list[tuple[int, int]]:
    """Return the first and the last offset of each record and each hole."""
    found = list(_unpack(RawBatch(raw), position, _ERROR))
    return [(f.first, f.last) if isinstance(f, Gap) else (f.offset, f.offset) for f in found]


def test_what_can_be_read_is_read_from_the_position_on() -> None:
    """Of a whole batch each record from the position on is there."""
    assert unpacked(batch_of(5), _FIRST + 2) == [(_FIRST + n, _FIRST + n) for n in (2, 3, 4)]


@settings(max_examples=500, deadline=None)
@given(
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_whatever_bytes_there_are_no_offset_is_told_twice(
    position: int, changes: list[tuple[int, int]]
) -> None:
    """Lengths and numbers that lie lead neither out of the batch nor back in it.

    Without a look at the end of the buffer some of these ended the process.
    """
    raw = batch_of(5)
    for at, byte in changes:
        raw[_HEAD + at % (len(raw) - _HEAD)] = byte
    following = _FIRST + position
    for first, last in unpacked(raw, following):
        assert following <= first <= last < _FIRST + 5
        following = last + 1

"""The message, and the checks of what may be published."""

from __future__ import annotations

import copy
import pickle
from collections import UserDict
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfly_messaging.message import Message, check_group, check_message, check_topic


class TestMessage:
    """The value that travels."""

    def test_only_topic_and_value_are_needed(self) -> None:
        """A message without key and headers has no key and empty headers."""
        message = Message("orders", b"v")
        assert (message.topic, message.value, message.key, message.headers) == (
            "orders",
            b"v",
            None,
            {},
        )

    @pytest.mark.parametrize("name", ["topic", "value", "key", "headers"])
    def test_it_is_frozen(self, name: str) -> None:
        """No field of a message can be set."""
        message = Message("orders", b"v")
        with pytest.raises(FrozenInstanceError):
            setattr(message, name, None)

    def test_it_is_slotted(self) -> None:
        """A message has no dictionary, so that it is small and has no other attributes."""
        assert not hasattr(Message("orders", b"v"), "__dict__")

    def test_it_keeps_a_copy_of_its_headers(self) -> None:
        """Who changes the mapping afterwards does not change the message."""
        headers = {"trace": "1"}
        message = Message("orders", b"v", None, headers)
        headers["trace"] = "2"
        assert message.headers == {"trace": "1"}

    def test_two_messages_never_share_headers(self) -> None:
        """Headers that were not given are a dictionary of their own too."""
        one, other = Message("orders", b"v"), Message("orders", b"v")
        one.headers["seen"] = "1"
        assert other.headers == {}

    def test_the_same_with_its_own_headers(self) -> None:
        """A copy for one more handler is equal, and its headers are another dictionary."""
        for headers in ({}, {"trace": "1"}):
            message = Message("orders", b"v", b"k", headers)
            copied = message.with_own_headers()
            assert copied == message
            copied.headers["mine"] = "1"
            assert message.headers == headers

    def test_equality_is_of_all_fields(self) -> None:
        """Messages are equal if topic, value, key and headers are."""
        message = Message("orders", b"v", b"k", {"a": "1"})
        assert message == Message("orders", b"v", b"k", {"a": "1"})
        assert message != Message("refunds", b"v", b"k", {"a": "1"})
        assert message != Message("orders", b"w", b"k", {"a": "1"})
        assert message != Message("orders", b"v", b"l", {"a": "1"})
        assert message != Message("orders", b"v", b"k", {"a": "2"})

    def test_it_can_be_hashed(self) -> None:
        """Equal messages have equal hashes, headers or not."""
        assert {Message("orders", b"v", None, {"a": "1"})} == {
            Message("orders", b"v", None, {"a": "1"})
        }

    def test_it_can_be_pickled_and_copied(self) -> None:
        """A message survives a pickle and a copy."""
        message = Message("orders", b"v", b"k", {"a": "1"})
        assert pickle.loads(pickle.dumps(message)) == message
        assert copy.deepcopy(message) == message


class TestCheckTopic:
    """Topic names that every broker takes."""

    @pytest.mark.parametrize("topic", ["o", "orders", "orders.v1-eu_west", "...", "O" * 249])
    def test_possible(self, topic: str) -> None:
        """Up to 249 ASCII letters, digits, dots, underscores and hyphens are a topic."""
        check_topic(topic)

    @pytest.mark.parametrize(
        "topic",
        ["", ".", "..", "no spaces", "slash/ed", "ümlaut", "o" * 250, "line\n", "\ud800", "a*"],
    )
    def test_impossible(self, topic: str) -> None:
        """Anything else is refused with the name, cut if long, and what is possible."""
        with pytest.raises(ValueError, match="invalid topic") as caught:
            check_topic(topic)
        assert repr(topic)[:20] in str(caught.value)
        assert "1 to 249 ASCII letters" in str(caught.value)
        assert len(str(caught.value)) < 250

    @pytest.mark.parametrize("topic", [None, b"orders", 7, ["orders"]])
    def test_no_text(self, topic: Any) -> None:
        """A topic that is not text is a TypeError that says what it is."""
        with pytest.raises(TypeError, match=f"topic must be str, got {type(topic).__name__}"):
            check_topic(topic)


class TestCheckMessage:
    """What every broker carries unchanged."""

    @given(
        st.binary(),
        st.none() | st.binary(),
        st.none() | st.dictionaries(st.text(min_size=1), st.text()),
    )
    def test_bytes_and_text_are_fine(
        self, value: bytes, key: bytes | None, headers: dict[str, str] | None
    ) -> None:
        """Bytes as value, bytes or None as key, text as headers are never refused."""
        check_message("orders", value, key, headers)

    def test_headers_can_be_any_mapping(self) -> None:
        """Headers need not be a dict."""
        check_message("orders", b"v", None, UserDict({"trace": "1"}))

    @pytest.mark.parametrize(
        ("arguments", "error", "text"),
        [
            (("no spaces", b"v"), ValueError, "invalid topic 'no spaces'"),
            (("orders", None), TypeError, "value must be bytes, got NoneType (topic 'orders')"),
            (("orders", "v"), TypeError, "encode it first: value.encode()"),
            (("orders", b"v", 7), TypeError, "key must be bytes or None, got int"),
            (("orders", b"v", "k"), TypeError, "encode it first: key.encode()"),
            (
                ("orders", b"v", None, [("trace", "1")]),
                TypeError,
                "headers must be a mapping of str to str, got list",
            ),
            (("orders", b"v", None, {"n": 1}), TypeError, "header 'n' must be text"),
            (("orders", b"v", None, {b"n": "1"}), TypeError, "got bytes to str"),
            (("orders", b"v", None, {"": "1"}), ValueError, "a header name is empty"),
            (("orders", b"v", None, {"n": "\ud800"}), ValueError, "header 'n' has lone surrogates"),
            (("orders", b"v", None, {"\ud800": "1"}), ValueError, "which UTF-8 cannot encode"),
        ],
    )
    def test_anything_else_is_refused(
        self, arguments: tuple[Any, ...], error: type[Exception], text: str
    ) -> None:
        """What some broker could not carry is refused, with the reason and the topic."""
        with pytest.raises(error) as caught:
            check_message(*arguments)
        assert text in str(caught.value)

    @pytest.mark.parametrize(
        "arguments",
        [
            ("orders", "s3cret"),
            ("orders", b"v", "s3cret"),
            ("orders", b"v", None, {"token": b"s3cret"}),
            ("orders", b"v", None, {"token": "s3cret\ud800"}),
        ],
    )
    def test_no_content_in_what_is_said(self, arguments: tuple[Any, ...]) -> None:
        """Values, keys and header values are not repeated: they may be secret."""
        with pytest.raises((TypeError, ValueError)) as caught:
            check_message(*arguments)
        assert "s3cret" not in str(caught.value)


class TestCheckGroup:
    """Group names that every broker takes."""

    @pytest.mark.parametrize(
        "group", [None, "g", "billing.v1", "with space", "a_b:c@d#e,f/g+h-i", "g" * 200]
    )
    def test_possible(self, group: str | None) -> None:
        """No group, or up to 200 characters that a queue name can have, is a group."""
        check_group(group)

    @pytest.mark.parametrize(
        "group", ["", " g", "g ", "a\nb", "a\x00b", "amq.gen", "g" * 201, "ümlaut", "a*"]
    )
    def test_impossible(self, group: str) -> None:
        """Anything else is refused, with what is possible."""
        with pytest.raises(ValueError, match=r"invalid group .*: use 1 to 200 ASCII letters"):
            check_group(group)

    @pytest.mark.parametrize("group", [7, b"g", ["g"]])
    def test_no_text(self, group: Any) -> None:
        """A group that is neither text nor None is a TypeError that says what it is."""
        with pytest.raises(
            TypeError, match=f"group must be str or None, got {type(group).__name__}"
        ):
            check_group(group)

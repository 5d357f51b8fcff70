"""The decorator and what is found of what it marked."""

import functools
import types
from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from pyfly_messaging import ListenerPolicy, Message, message_listener
from pyfly_messaging.listener import (
    Listener,
    ListenerMark,
    check_handler,
    discover,
    handler_name,
    is_listener,
    kebab_case,
    needs_instance,
)
from pyfly_messaging.policy import POLICY_FIELDS


@message_listener(topic="orders", group="workers")
async def on_order(message: Message) -> None: ...


class Audit:
    """Listeners of every kind."""

    @message_listener("audit", retries=1)
    async def on_entry(self, message: Message) -> None: ...

    @staticmethod
    @message_listener("audit", name="audit-static")
    async def of_nobody(message: Message) -> None: ...

    @classmethod
    @message_listener("audit")
    async def of_class(cls, message: Message) -> None: ...

    async def plain(self, message: Message) -> None: ...


class Handler:
    async def __call__(self, message: Message) -> None: ...


class TestDecorator:
    def test_the_function_stays_the_function(self) -> None:
        """The decorator returns the function itself, which can be awaited as before."""

        async def function(message: Message) -> None: ...

        assert message_listener("orders")(function) is function

    def test_the_three_attributes(self) -> None:
        """Mark, topic and group stand on the function; without a group it is None."""
        marked: Any = on_order
        assert marked.__pyfly_message_listener__ is True
        assert marked.__pyfly_listener_topic__ == "orders"
        assert marked.__pyfly_listener_group__ == "workers"
        assert Audit.on_entry.__pyfly_listener_group__ is None  # type: ignore[attr-defined]

    def test_only_what_is_given_is_an_override(self) -> None:
        """Arguments that are left out override nothing."""
        mark: ListenerMark = Audit.on_entry.__pyfly_listener__  # type: ignore[attr-defined]
        assert dict(mark.overrides) == {"retries": 1}

    def test_every_field_of_the_policy_is_a_keyword(self) -> None:
        """The decorator takes each field of the policy, and passes its value on."""
        values = {
            "concurrency": 2,
            "timeout": 3.0,
            "retries": 0,
            "retry_delay": 0.0,
            "retry_multiplier": 1.5,
            "retry_max_delay": 9.0,
            "retry_jitter": 0.0,
            "dead_letter": False,
            "dead_letter_topic": "dead",
            "fatal_exceptions": (ValueError,),
        }
        assert set(values) == set(POLICY_FIELDS)

        async def function(message: Message) -> None: ...

        message_listener("orders", **values)(function)  # type: ignore[arg-type]
        (listener,) = discover(function)
        assert dict(listener.overrides) == values
        assert ListenerPolicy(**listener.overrides) == ListenerPolicy(**values)  # type: ignore[arg-type]

    def test_overrides_cannot_be_changed(self) -> None:
        """Neither a listener nor its overrides can be changed after the decoration."""
        (listener,) = discover(on_order)
        with pytest.raises(TypeError):
            listener.overrides["retries"] = 9  # type: ignore[index]
        with pytest.raises(FrozenInstanceError):
            listener.topic = "other"  # type: ignore[misc]

    def test_a_function_that_is_not_async_is_refused(self) -> None:
        """The error names the function and says to write `async def`."""

        def function(message: Message) -> None: ...

        with pytest.raises(TypeError, match=r"write 'async def' for .*function"):
            message_listener("orders")(function)  # type: ignore[type-var]

    @pytest.mark.parametrize("kind", [staticmethod, classmethod])
    def test_it_stands_next_to_the_function(self, kind: Any) -> None:
        """Above `@staticmethod` and `@classmethod` it is refused, with the right order."""

        async def function(message: Message) -> None: ...

        with pytest.raises(TypeError, match=f"put @message_listener below @{kind.__name__}"):
            message_listener("orders")(kind(function))

    def test_twice_on_one_function_is_refused(self) -> None:
        """A second decorator would replace the first in silence: it is refused."""
        with pytest.raises(ValueError, match="on_order is a listener already: write one function"):
            message_listener("payments")(on_order)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"topic": ""}, ValueError, "invalid topic ''"),
            ({"topic": None}, TypeError, "topic must be str"),
            ({"group": ""}, ValueError, "invalid group ''"),
            ({"group": 3}, TypeError, "group must be str or None"),
            ({"name": "OnOrder"}, ValueError, "invalid listener name 'OnOrder': write it as 'on-o"),
            ({"name": ""}, ValueError, "invalid listener name '': use lower-case letters"),
            ({"name": "…"}, ValueError, "use lower-case letters, digits and hyphens"),
            ({"name": 3}, TypeError, "a listener's name must be text, got 3"),
            ({"retries": -1}, ValueError, "retries must be at least 0"),
            ({"timeout": 0}, ValueError, "timeout must be more than 0"),
            ({"concurrency": "2"}, TypeError, "concurrency must be a whole number"),
            ({"dead_letter_topic": "orders"}, ValueError, "is the topic itself"),
        ],
    )
    def test_a_wrong_argument_is_refused_at_once(
        self, arguments: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        """What can be seen to be wrong is refused where the decorator stands."""
        with pytest.raises(error, match=message):
            message_listener(**{"topic": "orders", **arguments})


class TestDiscovery:
    def test_a_function(self) -> None:
        """A marked function is one listener, named after itself."""
        assert discover(on_order) == [
            Listener(name="on-order", topic="orders", group="workers", handler=on_order)
        ]

    def test_an_instance(self) -> None:
        """An instance gives bound methods, static and class methods, and nothing unmarked."""
        audit = Audit()
        found = discover(audit)
        assert [one.handler for one in found] == [audit.on_entry, Audit.of_nobody, Audit.of_class]
        assert [one.name for one in found] == ["audit-on-entry", "audit-static", "audit-of-class"]

    def test_a_bound_method(self) -> None:
        """A bound method can be a source by itself."""
        audit = Audit()
        (listener,) = discover(audit.on_entry)
        assert listener.handler == audit.on_entry

    def test_a_class(self) -> None:
        """A class gives what needs no instance."""
        assert [one.handler for one in discover(Audit)] == [Audit.of_nobody, Audit.of_class]
        assert needs_instance(Audit)
        assert not needs_instance(Handler)

    def test_a_module(self) -> None:
        """A module gives what it defines or names in `__all__`, not what it imports."""
        mine = types.ModuleType(__name__)
        vars(mine).update(on_order=on_order, number=3)
        foreign = types.ModuleType("elsewhere")
        vars(foreign).update(on_order=on_order)
        assert [one.handler for one in discover(mine)] == [on_order]
        assert discover(foreign) == []
        vars(foreign).update(__all__=["on_order"])
        assert [one.handler for one in discover(foreign)] == [on_order]

    def test_a_subclass(self) -> None:
        """Listeners are inherited under the subclass's name; one without the mark is none."""

        class Quiet(Audit):
            @staticmethod
            async def of_nobody(message: Message) -> None: ...

        names = [one.name for one in discover(Quiet())]
        assert names == ["quiet-on-entry", "quiet-of-class"]

    @pytest.mark.parametrize("source", ["shop", b"", 3, 1.5, True, None])
    def test_what_cannot_listen(self, source: object) -> None:
        """Text, numbers and None carry no listener."""
        with pytest.raises(TypeError, match="nothing can listen in"):
            discover(source)

    def test_an_unmarked_function(self) -> None:
        """A function without the decorator is refused by name."""
        with pytest.raises(TypeError, match=r"Audit\.plain is no listener: decorate it"):
            discover(Audit.plain)

    def test_only_routines_are_listeners(self) -> None:
        """An object with the attribute of a listener is none."""
        assert is_listener(on_order)
        assert not is_listener(types.SimpleNamespace(__pyfly_message_listener__=True))


class TestHandlers:
    @pytest.mark.parametrize(
        "handler",
        [on_order, Audit().plain, Handler(), functools.partial(on_order), Audit.of_class],
    )
    def test_async_callables_are_handlers(self, handler: object) -> None:
        """Functions, bound methods, partials and objects with an async call are taken."""
        check_handler(handler)

    @pytest.mark.parametrize(
        "handler", [print, lambda _: None, Handler, 3, functools.partial(print)]
    )
    def test_everything_else_is_refused(self, handler: object) -> None:
        """What cannot be awaited is refused with what to write."""
        with pytest.raises(TypeError, match="a handler must be an async callable: write 'async"):
            check_handler(handler)

    @pytest.mark.parametrize(
        ("handler", "name"),
        [
            (on_order, "on-order"),
            (Audit().plain, "audit-plain"),
            (Audit.of_class, "audit-of-class"),
            (Handler(), "handler"),
            (functools.partial(on_order), "on-order"),
        ],
    )
    def test_default_names(self, handler: object, name: str) -> None:
        """The default name is the qualified name in kebab-case, with the class it is bound to."""
        assert handler_name(handler) == name

    @pytest.mark.parametrize(
        ("name", "kebab"),
        [
            ("NotificationService.on_order_event", "notification-service-on-order-event"),
            ("HTTPServer2Handler", "http-server2-handler"),
            ("_private__name_", "private-name"),
            ("already-kebab", "already-kebab"),
            ("…", ""),
        ],
    )
    def test_kebab_case(self, name: str, kebab: str) -> None:
        """Words are split at case changes and at everything that is no letter or digit."""
        assert kebab_case(name) == kebab

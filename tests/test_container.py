"""The container: who gets what by type, what the errors say, and what is cleaned up."""

import asyncio
import logging
import sys
import types
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NewType, Protocol, TypeVar, runtime_checkable

import pytest

from pyfly_messaging import Message, message_listener
from pyfly_messaging.container import Cleanups, Container, bean, collect, configuration, service
from pyfly_messaging.errors import ContainerError

T = TypeVar("T")
First = NewType("First", str)
Second = NewType("Second", str)


class Clock(ABC):
    @abstractmethod
    def now(self) -> int: ...


@service
class StoppedClock(Clock):
    def now(self) -> int:
        return 0


@service
class RunningClock(Clock):
    def now(self) -> int:
        return 1


@service
class Orders:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock


@service
class Checkout:
    def __init__(self, orders: Orders, clock: Clock) -> None:
        self.orders = orders
        self.clock = clock


def resolve(*sources: object) -> Container:
    return Container(collect(sources).components)


@asynccontextmanager
async def opened(*sources: object) -> AsyncIterator[Container]:
    container, cleanups = resolve(*sources), Cleanups()
    await container.open(cleanups, 10)
    yield container
    await cleanups.run(10)


def refusal(*sources: object) -> str:
    """The message with which the sources are refused, before anything is made."""
    with pytest.raises(ContainerError) as caught:
        resolve(*sources)
    return str(caught.value)


def module(name: str, **members: object) -> types.ModuleType:
    """A module that exports the members."""
    made = types.ModuleType(name)
    vars(made).update(members, __all__=list(members))
    return made


class TestMarks:
    def test_a_marked_class_is_the_class_itself(self) -> None:
        """The decorators return the class they are given, and its constructor stays as it is."""

        class Plain:
            def __init__(self, name: str) -> None:
                self.name = name

        marked = service(Plain)
        assert marked is Plain
        assert configuration(Plain) is Plain
        assert marked("by hand").name == "by hand"

    def test_a_marked_method_is_the_function_itself(self) -> None:
        """`@bean` returns the function it is given."""

        def clock(self: object) -> Clock:
            return StoppedClock()

        assert bean(clock) is clock

    @pytest.mark.parametrize("mark", [service, configuration])
    def test_only_classes_are_services_and_configurations(self, mark: Any) -> None:
        """`@service` and `@configuration` refuse a function and name themselves."""
        with pytest.raises(TypeError, match=f"@{mark.__name__} goes on a class, got <function"):
            mark(lambda: None)

    def test_only_functions_are_beans(self) -> None:
        """`@bean` refuses what is no function."""
        with pytest.raises(TypeError, match="@bean goes on a method of a @configuration class"):
            bean(Orders)

    def test_bean_stands_below_staticmethod(self) -> None:
        """`@bean` above `@staticmethod` is refused with the right order."""
        with pytest.raises(TypeError, match="put @bean below @staticmethod"):
            bean(staticmethod(lambda: None))

    async def test_a_mark_is_not_inherited(self) -> None:
        """A subclass of a service is no service until it is marked itself."""

        class Quiet(StoppedClock): ...

        async with opened(module("shop", Quiet=Quiet, Clock=StoppedClock)) as container:
            assert type(container.get(StoppedClock)) is StoppedClock


class TestInjection:
    async def test_a_subclass_is_injected_where_its_base_is_annotated(self) -> None:
        """A parameter annotated with a base class takes the one registered subclass."""
        async with opened(Orders, StoppedClock) as container:
            assert type(container.get(Orders).clock) is StoppedClock

    async def test_everything_exists_once(self) -> None:
        """Two services that need the same type get the same instance, whatever the order."""
        async with opened(Checkout, Orders, StoppedClock) as container:
            checkout = container.get(Checkout)
            assert checkout.orders is container.get(Orders)
            assert checkout.clock is checkout.orders.clock

    async def test_what_nobody_needs_is_made_too(self) -> None:
        """Every service is made, so that its listeners can be subscribed."""
        async with opened(StoppedClock) as container:
            assert [type(one) for one in container.instances()] == [StoppedClock]

    async def test_a_protocol_that_can_be_checked_is_satisfied_by_methods(self) -> None:
        """A runtime-checkable protocol takes a class that has its methods and no such base."""

        @runtime_checkable
        class Ticks(Protocol):
            def now(self) -> int: ...

        class Reader:
            def __init__(self, ticks: Ticks) -> None:
                self.ticks = ticks

        async with opened(Reader, StoppedClock) as container:
            assert type(container.get(Reader).ticks) is StoppedClock

    async def test_any_protocol_is_satisfied_by_a_class_that_inherits_from_it(self) -> None:
        """A protocol that cannot be checked takes a class that names it as its base."""

        class Ticks(Protocol):
            def now(self) -> int: ...

        class Base:
            def __init__(self, orders: Orders) -> None:
                self.orders = orders

        class Quartz(Ticks, Base):
            def now(self) -> int:
                return 2

        class Reader:
            def __init__(self, ticks: Ticks) -> None:
                self.ticks = ticks

        async with opened(Reader, Quartz, Orders, StoppedClock) as container:
            ticks = container.get(Reader).ticks
            assert isinstance(ticks, Quartz)
            assert ticks.orders is container.get(Orders)

    async def test_a_parametrised_type_chooses_by_its_parameter(self) -> None:
        """`Repository[int]` takes the class with that base, not the one of another parameter."""

        class Repository(Generic[T]): ...

        class Numbers(Repository[int]): ...

        class Texts(Repository[str]): ...

        class Reader:
            def __init__(self, numbers: Repository[int], texts: Repository[str]) -> None:
                self.both = (numbers, texts)

        async with opened(Reader, Texts, Numbers) as container:
            assert [type(one) for one in container.get(Reader).both] == [Numbers, Texts]

    async def test_a_new_type_is_a_type_of_its_own(self) -> None:
        """Two beans of the same class are told apart by `NewType`."""

        class Wiring:
            @bean
            def one(self) -> First:
                return First("one")

            @bean
            def two(self) -> Second:
                return Second("two")

        class Reader:
            def __init__(self, two: Second, one: First) -> None:
                self.both = (one, two)

        async with opened(Wiring, Reader) as container:
            assert container.get(Reader).both == ("one", "two")

    async def test_a_parameter_with_a_default_is_left_alone_when_nothing_provides_it(self) -> None:
        """Defaults, `X | None`, and parameters without annotation but with a default stay."""

        class Reader:
            def __init__(  # type: ignore[no-untyped-def]
                self,
                limit: int = 3,
                *rest: object,
                clock: Clock | None,
                other: Clock | None = None,
                untyped=7,
                **more: object,
            ) -> None:
                self.all = (limit, rest, clock, other, untyped, more)

        async with opened(Reader) as container:
            assert container.get(Reader).all == (3, (), None, None, 7, {})

    async def test_an_optional_parameter_is_injected_when_it_is_provided(self) -> None:
        """`X | None` takes the X that there is, with or without a default."""

        class Reader:
            def __init__(self, clock: Clock | None, other: Clock | None = None) -> None:
                self.both = (clock, other)

        async with opened(Reader, StoppedClock) as container:
            clock = container.get(StoppedClock)
            assert container.get(Reader).both == (clock, clock)

    async def test_a_union_takes_the_one_member_that_there_is(self) -> None:
        """`X | Y` takes whichever of the two is provided."""

        class Reader:
            def __init__(self, either: int | Clock) -> None:
                self.either = either

        async with opened(Reader, StoppedClock) as container:
            assert type(container.get(Reader).either) is StoppedClock

    async def test_positional_and_keyword_only_parameters(self) -> None:
        """Parameters are passed as their kind demands, defaults included."""

        class Reader:
            def __init__(self, limit: int = 5, clock: Clock | None = None, /, *, c: Clock) -> None:
                self.all = (limit, clock, c)

        async with opened(Reader, StoppedClock) as container:
            clock = container.get(StoppedClock)
            assert container.get(Reader).all == (5, clock, clock)

    async def test_a_dataclass_is_a_service_like_any_other(self) -> None:
        """The generated constructor of a dataclass is injected."""

        @service
        @dataclass(frozen=True, slots=True)
        class Reader:
            clock: Clock
            limit: int = 4

        async with opened(Reader, StoppedClock) as container:
            assert container.get(Reader) == Reader(container.get(StoppedClock), 4)

    async def test_text_annotations_are_resolved_in_their_module(self) -> None:
        """An annotation written as text means what it means in its module."""

        class Reader:
            def __init__(self, clock: "Clock") -> None:
                self.clock = clock

        async with opened(Reader, StoppedClock) as container:
            assert type(container.get(Reader).clock) is StoppedClock

    async def test_a_constructor_that_is_not_written_in_python(self) -> None:
        """A class that inherits the constructor of a built-in type is made without arguments."""

        class Registry(dict[str, int]): ...

        async with opened(Registry) as container:
            assert container.get(Registry) == {}

    async def test_an_instance_is_injected_and_stands_for_its_class(self) -> None:
        """An instance that is passed in is what is injected, even where its class is a service."""
        clock = StoppedClock()
        async with opened(module("shop", Orders=Orders, Clock=StoppedClock), clock) as container:
            assert container.get(Orders).clock is clock

    async def test_an_instance_fits_what_isinstance_says(self) -> None:
        """A protocol with attributes is compared with an instance, which has them."""

        @runtime_checkable
        class Named(Protocol):
            name: str

        class Reader:
            def __init__(self, named: Named) -> None:
                self.named = named

        class Thing:
            def __init__(self) -> None:
                self.name = "thing"

        async with opened(Reader, Thing()) as container:
            assert container.get(Reader).named.name == "thing"


class TestBeans:
    async def test_a_bean_is_injected_as_its_return_annotation(self) -> None:
        """A bean's own parameters are injected, and so is what it returns."""

        @configuration
        class Wiring:
            @bean
            def orders(self, clock: Clock) -> Orders:
                return Orders(clock)

            @bean
            def clock(self) -> Clock:
                return StoppedClock()

        async with opened(Wiring) as container:
            assert container.get(Orders).clock is container.get(Clock)  # type: ignore[type-abstract]

    async def test_the_configuration_itself_is_injected_and_injectable(self) -> None:
        """A configuration gets what its constructor asks for before its beans are made."""

        @configuration
        class Wiring:
            def __init__(self, clock: Clock) -> None:
                self.clock = clock

            @bean
            def orders(self) -> Orders:
                return Orders(self.clock)

        async with opened(Wiring, StoppedClock) as container:
            assert container.get(Orders).clock is container.get(Wiring).clock

    async def test_static_and_class_methods_are_beans_too(self) -> None:
        """`@bean` works on the function below `@staticmethod` and `@classmethod`."""

        @configuration
        class Wiring:
            @staticmethod
            @bean
            def clock() -> Clock:
                return StoppedClock()

            @classmethod
            @bean
            def orders(cls, clock: Clock) -> Orders:
                return Orders(clock)

        async with opened(Wiring) as container:
            assert type(container.get(Orders).clock) is StoppedClock

    async def test_a_subclass_replaces_a_bean_of_its_base(self) -> None:
        """Beans are inherited, and a method of the same name in a subclass replaces one."""

        class Base:
            @bean
            def clock(self) -> Clock:
                return RunningClock()

            @bean
            def orders(self, clock: Clock) -> Orders:
                return Orders(clock)

        class Wiring(Base):
            @bean
            def clock(self) -> Clock:
                return StoppedClock()

        async with opened(Wiring) as container:
            assert type(container.get(Orders).clock) is StoppedClock

    async def test_beans_of_an_instance_are_made_by_that_instance(self) -> None:
        """A configuration that is passed as an instance makes its beans itself."""

        class Wiring:
            def __init__(self, clock: Clock) -> None:
                self._clock = clock

            @bean
            def clock(self) -> Clock:
                return self._clock

        clock = StoppedClock()
        async with opened(Wiring(clock), Orders) as container:
            assert container.get(Orders).clock is clock

    async def test_all_four_kinds_are_cleaned_up_in_reverse_order(self) -> None:
        """What follows a bean's `yield` runs at the end, the last made first."""
        done: list[str] = []

        class A: ...

        class B: ...

        class C: ...

        class D: ...

        @configuration
        class Wiring:
            @bean
            async def d(self, c: C) -> AsyncIterator[D]:
                yield D()
                done.append("d")

            @bean
            def c(self, b: B) -> Iterator[C]:
                yield C()
                done.append("c")

            @bean
            async def b(self, a: A) -> B:
                await asyncio.sleep(0)
                return B()

            @bean
            def a(self) -> Generator[A, None, None]:
                yield A()
                done.append("a")

        async with opened(Wiring) as container:
            assert [type(container.get(one)) for one in (A, B, C, D)] == [A, B, C, D]
            assert done == []
        assert done == ["d", "c", "a"]

    async def test_a_bean_may_be_a_context_manager(self) -> None:
        """An object that a bean returns is injected as it is, and never entered."""

        class Session:
            def __enter__(self) -> "Session":
                raise AssertionError

            def __exit__(self, *_: object) -> None: ...

        @configuration
        class Wiring:
            @bean
            def session(self) -> Session:
                return Session()

        async with opened(Wiring) as container:
            assert type(container.get(Session)) is Session

    async def test_a_bean_that_forgets_to_return_is_named(self) -> None:
        """A bean that gives None is an error, and its cleanup still runs."""
        done: list[str] = []

        class Wiring:
            @bean
            def clock(self) -> Iterator[Clock]:
                yield None  # type: ignore[misc]
                done.append("clock")

        cleanups = Cleanups()
        with pytest.raises(ContainerError, match=r"Wiring\.clock gave None.* to give Clock"):
            await resolve(Wiring).open(cleanups)
        await cleanups.run(1)
        assert done == ["clock"]

    async def test_what_a_constructor_raises_says_where(self) -> None:
        """An exception of a constructor passes unchanged, with a note that names the class."""

        class Broken:
            def __init__(self) -> None:
                raise ZeroDivisionError("no")

        with pytest.raises(ZeroDivisionError, match="no") as caught:
            await resolve(Broken).open(Cleanups())
        assert caught.value.__notes__ == ["raised while Broken was made"]

    async def test_a_timeout_of_a_bean_is_its_own_error(self) -> None:
        """A TimeoutError that a bean raises is not taken for the deadline of the start."""

        class Wiring:
            @bean
            async def clock(self) -> Clock:
                raise TimeoutError("of the bean")

        with pytest.raises(TimeoutError, match="of the bean") as caught:
            await resolve(Wiring).open(Cleanups(), 10)
        assert caught.value.__notes__ == ["raised while Wiring.clock was made"]

    async def test_a_bean_that_takes_too_long_is_named(self) -> None:
        """Making everything has a deadline, and its error names the bean that hung."""

        class Wiring:
            @bean
            async def clock(self) -> Clock:
                await asyncio.Event().wait()
                raise AssertionError

        with pytest.raises(ContainerError, match=r"Wiring\.clock was not made within 0\.01 s"):
            await resolve(Wiring).open(Cleanups(), 0.01)


class TestRefusals:
    def test_missing(self) -> None:
        """A missing dependency is named with the whole chain and what to do."""
        assert refusal(Checkout, Orders) == (
            "Checkout(orders: Orders) -> Orders(clock: Clock) needs Clock, which nothing provides:"
            " mark a class of that type with @service, or return one from a @bean, and pass its"
            " module to bootstrap(); or give 'clock' a default"
        )

    def test_a_protocol_that_only_inheritance_satisfies(self) -> None:
        """A missing protocol without `@runtime_checkable` says why its methods do not count."""

        class Ticks(Protocol):
            def now(self) -> int: ...

        class Reader:
            def __init__(self, ticks: Ticks) -> None: ...

        for source in (StoppedClock, StoppedClock()):
            message = refusal(Reader, source)
            assert "(Ticks is a protocol that is not @runtime_checkable: only classes" in message

    def test_a_missing_protocol_that_can_be_checked(self) -> None:
        """A missing protocol that is compared by its methods has no such advice."""

        @runtime_checkable
        class Ticks(Protocol):
            def then(self) -> int: ...

        class Reader:
            def __init__(self, ticks: Ticks) -> None: ...

        assert "runtime_checkable" not in refusal(Reader, StoppedClock)

    def test_ambiguous(self) -> None:
        """Several candidates are all named, and a parameter's name is not used to choose."""

        class Wiring:
            @bean
            def clock(self) -> Clock:
                return StoppedClock()

        assert refusal(Checkout, Orders, RunningClock, Wiring) == (
            "Checkout(orders: Orders) -> Orders(clock: Clock) is ambiguous: 2 provide Clock"
            f" ({__name__}.RunningClock, {Wiring.__module__}.{Wiring.__qualname__}.clock): leave"
            " out all but one, or annotate a narrower type"
        )

    def test_ambiguous_even_when_optional(self) -> None:
        """A default does not hide that several candidates exist."""

        class Reader:
            def __init__(self, clock: Clock | None = None) -> None: ...

        assert "Reader(clock: Clock) is ambiguous" in refusal(Reader, RunningClock, StoppedClock)

    def test_circular(self) -> None:
        """A circle is named by its members alone, without the way that leads to it."""

        class A:
            def __init__(self, b: "B") -> None: ...

        class B:
            def __init__(self, c: "C") -> None: ...

        class C:
            def __init__(self, b: B) -> None: ...

        A.__init__.__annotations__["b"], B.__init__.__annotations__["c"] = B, C
        assert refusal(A, B, C).startswith("B(c: C) -> C(b: B) -> B: each needs the next one")

    def test_a_configuration_that_needs_its_own_bean(self) -> None:
        """A configuration whose constructor asks for one of its beans is a circle."""

        class Wiring:
            def __init__(self, clock: Clock) -> None: ...

            @bean
            def clock(self) -> Clock:
                raise AssertionError

        assert refusal(Wiring).startswith("Wiring(clock: Clock) -> Wiring.clock -> Wiring: ")

    def test_a_parameter_without_annotation(self) -> None:
        """A parameter with neither annotation nor default is an error that names it."""

        class Reader:
            def __init__(self, clock) -> None: ...  # type: ignore[no-untyped-def]

        assert refusal(Reader).startswith("Reader(clock) has no annotation, so nothing says what")

    def test_an_annotation_that_cannot_be_resolved(self) -> None:
        """An annotation as text that means nothing in its module is an error that says so."""

        class Hidden: ...

        class Reader:
            def __init__(self, hidden: "Hidden") -> None: ...

        message = refusal(Reader, Hidden)
        assert "the annotations of Reader cannot be read: name 'Hidden' is not defined" in message
        assert "Import what they name at run time" in message

    def test_a_bean_without_a_return_annotation(self) -> None:
        """A bean must say what it provides."""

        class Wiring:
            @bean
            def clock(self):  # type: ignore[no-untyped-def]
                return StoppedClock()

        assert refusal(Wiring).startswith("Wiring.clock has no return annotation")

    @pytest.mark.parametrize(
        ("annotation", "text"), [(None, "None"), (Any, "Any"), (Clock | None, "Clock | None")]
    )
    def test_a_bean_that_provides_no_single_type(self, annotation: object, text: str) -> None:
        """A bean is annotated with exactly one type."""

        class Wiring:
            @bean
            def clock(self):  # type: ignore[no-untyped-def]
                return None

        Wiring.clock.__annotations__["return"] = annotation
        message = refusal(Wiring)
        assert message.startswith("Wiring.clock returns ")
        assert text in message
        assert "must be one type" in message

    def test_a_generator_without_an_iterator_annotation(self) -> None:
        """A bean that yields is annotated as an iterator of what it provides."""

        class Wiring:
            @bean
            def clock(self) -> Clock:  # type: ignore[misc]
                yield StoppedClock()

        class AsyncWiring:
            @bean
            async def clock(self) -> Clock:  # type: ignore[misc]
                yield StoppedClock()

        assert "Wiring.clock yields, and is annotated to return Clock: write '-> Iterator[X]'" in (
            refusal(Wiring)
        )
        assert "write '-> AsyncIterator[X]'" in refusal(AsyncWiring)

    async def test_get_names_what_is_missing_or_ambiguous(self) -> None:
        """Asking for a type by hand is refused like injecting it."""
        async with opened(RunningClock, StoppedClock) as container:
            with pytest.raises(ContainerError, match="nothing provides Orders: mark a class"):
                container.get(Orders)
            with pytest.raises(ContainerError, match=r"2 provide Clock .*ask for the narrower"):
                container.get(Clock)  # type: ignore[type-abstract]

    async def test_what_is_no_class_is_provided_by_its_own_name_only(self) -> None:
        """A bean of a type that is no class is not taken for anything else."""

        class Wiring:
            @bean
            def url(self) -> First:
                return First("amqp://")

        async with opened(Wiring) as container:
            assert container.get(First) == "amqp://"
            with pytest.raises(ContainerError, match="nothing provides Orders"):
                container.get(Orders)


class TestCleanups:
    async def test_every_step_runs_and_all_errors_are_raised(self) -> None:
        """A step that fails does not keep the others from running; the errors come together."""
        done: list[str] = []

        async def fails() -> None:
            raise ValueError("first")

        async def works() -> None:
            done.append("works")

        cleanups = Cleanups()
        cleanups.add("one", fails)
        cleanups.add("two", works)
        cleanups.add("three", fails)
        with pytest.raises(ExceptionGroup, match="not everything could be stopped") as caught:
            await cleanups.run(1)
        assert done == ["works"]
        assert [error.__notes__ for error in caught.value.exceptions] == [
            ["raised while three was stopped"],
            ["raised while one was stopped"],
        ]
        await cleanups.run(1)  # nothing is left

    async def test_an_exception_that_takes_no_notes_ends_no_cleanup(self) -> None:
        """A note that cannot be added keeps no other step from being run."""
        done: list[str] = []

        class Plain(Exception):
            def add_note(self, note: str) -> None:
                raise TypeError("no notes")

        async def fails() -> None:
            raise Plain

        async def works() -> None:
            done.append("works")

        cleanups = Cleanups()
        cleanups.add("one", works)
        cleanups.add("two", fails)
        with pytest.raises(ExceptionGroup, match="not everything could be stopped"):
            await cleanups.run(1)
        assert done == ["works"]

    async def test_a_step_that_hangs_is_cut_at_the_deadline(self) -> None:
        """A step that hangs is cancelled when the time is over; what a step raises itself stays."""

        async def hangs() -> None:
            await asyncio.Event().wait()

        async def times_out() -> None:
            raise TimeoutError("of the step")

        cleanups = Cleanups()
        cleanups.add("the pool", hangs)
        cleanups.add("the file", times_out)
        with pytest.raises(ExceptionGroup) as caught:
            await cleanups.run(0.01)
        assert [str(error) for error in caught.value.exceptions] == [
            "of the step",
            "the pool was not stopped within 1 s (shutdown.timeout)",
        ]

    async def test_a_cancellation_ends_one_step_and_is_not_swallowed(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A cancelled cleanup goes on with the next step and is cancelled in the end."""
        done: list[str] = []
        begun = asyncio.Event()

        async def fails() -> None:
            raise ValueError("lost otherwise")

        async def works() -> None:
            done.append("works")

        async def hangs() -> None:
            begun.set()
            await asyncio.Event().wait()

        cleanups = Cleanups()
        cleanups.add("one", fails)
        cleanups.add("two", works)
        cleanups.add("three", hangs, bounded=False)
        running = asyncio.create_task(cleanups.run(1))
        await begun.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert done == ["works"]
        assert "lost otherwise" in caplog.text


class TestSources:
    def test_a_module_gives_what_it_defines_and_marks(self) -> None:
        """Marked classes and listeners of a module count; what it imports and leaves plain not."""

        @message_listener("orders")
        async def on_order(message: Message) -> None: ...

        class Plain: ...

        def function() -> None: ...

        @service
        class Mine: ...

        made = types.ModuleType(__name__)
        Foreign = service(type("Foreign", (), {"__module__": "elsewhere"}))
        members = (Mine, Plain, Foreign, on_order, function, 3)
        vars(made).update({str(number): member for number, member in enumerate(members)})
        found = collect([made])
        assert [one.label for one in found.components] == ["Mine"]
        assert [listener.handler for listener in found.listeners] == [on_order]

    def test_a_class_given_by_itself_needs_no_mark(self) -> None:
        """A plain class is made when it is passed, whether it has listeners or not."""

        class Plain: ...

        class Listening:
            @message_listener("orders")
            async def on_order(self, message: Message) -> None: ...

        found = collect([Plain, Listening])
        assert [one.label for one in found.components] == ["Plain", "Listening"]
        assert found.listeners == ()

    def test_a_class_whose_listeners_need_no_instance_is_not_made(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Static listeners of a plain class are subscribed without an instance."""

        class Listening:
            @staticmethod
            @message_listener("orders")
            async def on_order(message: Message) -> None: ...

        found = collect([Listening, module("shop", Listening=Listening)])
        assert found.components == ()
        assert [listener.handler for listener in found.listeners] == [Listening.on_order]
        assert caplog.records == []

    def test_a_class_with_beans_is_made(self) -> None:
        """Beans of a plain class count, also when its listeners need no instance."""

        class Listening:
            @staticmethod
            @message_listener("orders")
            async def on_order(message: Message) -> None: ...

            @bean
            def clock(self) -> Clock:
                return StoppedClock()

        names = [one.label for one in collect([Listening]).components]
        assert names == ["Listening", "Listening.clock"]

    def test_what_comes_twice_counts_once(self) -> None:
        """A class and an instance are components once, by however many ways they come."""
        clock = RunningClock()
        found = collect([Orders, module("shop", Orders=Orders), Orders, clock, clock])
        assert [one.label for one in found.components] == [
            "the RunningClock that was passed in",
            "Orders",
        ]

    @pytest.mark.parametrize("source", [3, None, [Orders], (Orders,), {"a": Orders}, b"shop"])
    def test_what_is_no_source_is_refused(self, source: object) -> None:
        """Built-in values and collections are refused: each source is an argument of its own."""
        with pytest.raises(TypeError, match=r"is no source: pass modules, dotted names, classes"):
            collect([source])

    def test_a_function_without_mark_is_refused(self) -> None:
        """A plain function cannot listen."""

        async def plain(message: Message) -> None: ...

        with pytest.raises(TypeError, match="plain is no listener: decorate it"):
            collect([plain])

    def test_a_bean_outside_of_a_class_is_refused(self) -> None:
        """A module's function under `@bean` would never be called: it is an error."""

        @bean
        def clock() -> Clock:
            return StoppedClock()

        with pytest.raises(ContainerError, match="clock stands outside of a class: make it a"):
            collect([module("shop", clock=clock)])

    @pytest.mark.parametrize("name", ["", "shop/orders.py", ".orders", "shop:orders", "a b"])
    def test_text_that_is_no_dotted_name_is_refused(self, name: str) -> None:
        """Paths, relative names and the like are refused before anything is imported."""
        with pytest.raises(ValueError, match="is no dotted name of a module"):
            collect([name])

    def test_a_module_that_is_not_there(self) -> None:
        """A dotted name that leads nowhere is named with the part that is missing."""
        with pytest.raises(ModuleNotFoundError, match=r"no module 'nowhere' for .*'nowhere\.shop'"):
            collect(["nowhere.shop"])

    def test_a_package_means_its_modules_too(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All modules below a package are searched, but for `__main__`, which is a program."""
        folder = tmp_path / "container_package" / "inner"
        folder.mkdir(parents=True)
        text = "from pyfly_messaging.container import service\n@service\nclass {}: ...\n"
        (folder.parent / "__init__.py").write_text("")
        (folder.parent / "__main__.py").write_text("raise SystemExit('the program ran')")
        (folder.parent / "orders.py").write_text(text.format("Ordering"))
        (folder / "__init__.py").write_text(text.format("Inner"))
        (folder / "deep.py").write_text(text.format("Deep"))
        monkeypatch.syspath_prepend(tmp_path)
        names = [one.label for one in collect(["container_package"]).components]
        assert sorted(names) == ["Deep", "Inner", "Ordering"]
        package = sys.modules["container_package"]
        assert len(collect([package]).components) == 3

    def test_what_a_module_fails_to_import_is_not_hidden(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A module that imports something missing raises that error, not one about itself."""
        (tmp_path / "container_broken.py").write_text("import not_installed_anywhere\n")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(ModuleNotFoundError, match=r"^No module named 'not_installed_anywhere'"):
            collect(["container_broken"])

    def test_listeners_of_an_unmarked_class_are_not_left_out_in_silence(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A class of a module with listeners or beans that nothing makes is warned about."""

        class Listening:
            @message_listener("orders")
            async def on_order(self, message: Message) -> None: ...

        class Static:
            @staticmethod
            @message_listener("orders")
            async def on_order(message: Message) -> None: ...

        class Wiring:
            @bean
            def clock(self) -> Clock:
                return StoppedClock()

        class Plain: ...

        with caplog.at_level(logging.WARNING):
            collect([module("shop", A=Listening, B=Static, C=Wiring, D=Plain)])
        assert [record.args for record in caplog.records] == [
            (__name__, Listening.__qualname__, "listeners", "service"),
            (__name__, Static.__qualname__, "listeners", "service"),
            (__name__, Wiring.__qualname__, "@bean methods", "configuration"),
        ]
        assert "has listeners, but nothing makes it: mark it with @service, or pass" in caplog.text

    def test_a_base_class_of_a_service_needs_no_mark(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An unmarked class with listeners is no mistake when a component inherits from it."""

        class Base:
            @message_listener("orders")
            async def on_order(self, message: Message) -> None: ...

        @service
        class Mine(Base): ...

        collect([module("shop", Base=Base, Mine=Mine)])
        assert caplog.records == []

"""The step after an attempt that ended its task."""

from __future__ import annotations

from pyfly_messaging.delivery.lanes import Interrupted
from pyfly_messaging.delivery.routing import Route
from tests.delivery.clock import on_virtual_time
from tests.delivery.lanes.samples import Script
from tests.delivery.samples import Graveyard, message, settlement


class TestInterrupted:
    """The step that follows an attempt which ended its task."""

    @on_virtual_time
    async def test_the_failure_is_counted_by_whom_it_happened_to(self) -> None:
        """The first attempt's failure goes to the route, a later one's to its own step."""
        graveyard = Graveyard()
        route = Route("orders", "group")
        route.add(settlement(Script(), graveyard.bury, retries=1, retry_delay=2.0))
        first = Interrupted(route, message(), None, GeneratorExit("first"))
        assert first.delay == 0.0
        retry = await first()
        assert retry is not None
        assert retry.delay == 2.0
        second = Interrupted(route, message(), retry, GeneratorExit("second"))
        assert await second() is None
        assert [str(error) for error in graveyard.errors] == ["second"]

    @on_virtual_time
    async def test_counting_can_be_interrupted_too(self) -> None:
        """What ends the task again while a failure is counted does not count as another one."""
        route = Route("orders", "group")
        route.add(settlement(Script()))
        step = Interrupted(route, message(), None, GeneratorExit("first"))
        assert await step.failed(GeneratorExit("again")) is step

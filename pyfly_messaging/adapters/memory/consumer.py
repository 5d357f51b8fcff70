"""The delivery to the handlers of one (topic, group)."""

from __future__ import annotations

import asyncio
from typing import Any

from pyfly_messaging.adapters.memory.attempts import OVER, Attempts
from pyfly_messaging.adapters.memory.publication import Publication
from pyfly_messaging.adapters.memory.visit import Visit
from pyfly_messaging.adapters.memory.within import RunWithin
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.lanes import Batch, KeyedLanes, SingleLane, lanes_for
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.settlement import Retry
from pyfly_messaging.health import ConsumerHealth
from pyfly_messaging.message import Message


class Consumer:
    """The lanes of one (topic, group), and what they had not settled at the last stop.

    A message goes to the workers of the lanes, or, when nothing is in their way, is a visit: its
    publisher runs the handler himself.
    """

    def __init__(self, route: Route) -> None:
        self._route = route
        self._lanes: SingleLane | KeyedLanes | None = None
        self._backlog: list[tuple[Message, Publication]] = []
        # What runs visits, if the lanes are one that can be visited. It is made with the lanes and
        # goes with them, because a handler can outlast both.
        self._attempts: Attempts | None = None

    def start(self) -> None:
        """Deliver from now on, the backlog first."""
        self._lanes = lanes_for(self._route.name, self._route.concurrency)
        if isinstance(self._lanes, SingleLane):
            self._attempts = Attempts(self._route, self._lanes)
        backlog, self._backlog = self._backlog, []
        for message, publication in backlog:
            self._lanes.submit(self._batch(message, publication))

    async def stop(self, deadline: Deadline, caller: asyncio.Task[Any] | None) -> None:
        """Drain; keep what is not settled."""
        if self._lanes is not None:
            self._backlog = await self._lanes.drain(deadline, caller=caller)
            self._lanes = self._attempts = None

    def health(self) -> ConsumerHealth:
        """Return how it is."""
        lanes = self._lanes
        return ConsumerHealth(
            name=self._route.name,
            topic=self._route.topic,
            group=self._route.group,
            state="stopped" if lanes is None else "running",
            in_flight=len(self._backlog) if lanes is None else lanes.in_flight,
        )

    def submit(self, message: Message, publication: Publication) -> None:
        """Queue a message."""
        publication.pending += 1
        if self._lanes is None:
            self._backlog.append((message, publication))
        else:
            self._lanes.submit(self._batch(message, publication))

    def begin(self, publication: Publication, task: asyncio.Task[Any]) -> Visit | None:
        """Run the handler here and now if the lane is idle; otherwise queue the message.

        Args:
            publication: What to handle.
            task: The publisher's. One that was cancelled visits nobody: the cancellation may not
                have been delivered yet, and is not for a handler to meet.

        Returns:
            What the publisher awaits if its handler waits for something; None if it need not.

        """
        attempts = self._attempts
        if (
            attempts is None
            or (lane := attempts.lane).in_flight
            or lane.closed
            or task.cancelling()
        ):
            self.submit(publication.message, publication)
            return None
        lane.in_flight, lane.visited = 1, True
        context = lane.context.copy()
        try:
            awaited = context.run(attempts.send, publication)
        except asyncio.CancelledError as error:  # the handler's own: nobody else has had a turn
            self._hand_over(attempts, publication, attempts.interrupted(publication, error))
            awaited = OVER
        except BaseException as error:
            self._hand_over(attempts, publication, attempts.interrupted(publication, error))
            lane.leave()
            raise
        if awaited is not OVER or task.cancelling():
            lane.guest = visit = Visit(
                publication=publication,
                attempts=attempts,
                hand_over=self._hand_over,
                context=context,
                task=task,
                awaited=awaited,
            )
            return visit
        if attempts.retry is not None:
            self._hand_over(attempts, publication, attempts.rest(publication))
        if lane.in_flight == 1:  # nothing has come: this is `leave` without a call
            lane.in_flight, lane.visited = 0, False
        else:
            lane.leave()
        return None

    def _hand_over(self, attempts: Attempts, publication: Publication, step: Retry | None) -> None:
        """Leave a message of a visit to the workers, before everything that has come meanwhile."""
        message = publication.message
        publication.pending += 1
        if attempts is self._attempts:
            attempts.lane.put_back(self._batch(message, publication), step)
        elif self._lanes is None:  # the handler has stopped the broker, or outlasted a stop
            self._backlog.insert(0, (message, publication))
        else:
            self._lanes.submit(self._batch(message, publication))

    def _batch(self, message: Message, publication: Publication) -> Batch[Publication]:
        run = RunWithin(publication, self._route)
        return Batch(run, (message,), (publication,), Publication.settle)

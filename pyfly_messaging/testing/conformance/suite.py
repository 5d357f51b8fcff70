"""The suite: all cases, in the order of the contract."""

from __future__ import annotations

from pyfly_messaging.testing.conformance.backpressure import BackpressureCases
from pyfly_messaging.testing.conformance.bad_input import BadInputCases
from pyfly_messaging.testing.conformance.batches import BatchCases
from pyfly_messaging.testing.conformance.cancellation import CancellationCases
from pyfly_messaging.testing.conformance.crash import CrashCases
from pyfly_messaging.testing.conformance.dead_letters import DeadLetterCases
from pyfly_messaging.testing.conformance.delivery import DeliveryCases
from pyfly_messaging.testing.conformance.failure import FailureCases
from pyfly_messaging.testing.conformance.foreign import ForeignCases
from pyfly_messaging.testing.conformance.groups import GroupCases
from pyfly_messaging.testing.conformance.health import HealthCases
from pyfly_messaging.testing.conformance.messages import MessageCases
from pyfly_messaging.testing.conformance.order import OrderCases
from pyfly_messaging.testing.conformance.publish import PublishCases
from pyfly_messaging.testing.conformance.reconnection import ReconnectionCases
from pyfly_messaging.testing.conformance.stage import Stage
from pyfly_messaging.testing.conformance.start import StartCases
from pyfly_messaging.testing.conformance.stop import StopCases
from pyfly_messaging.testing.conformance.stop_at_work import StopAtWorkCases
from pyfly_messaging.testing.conformance.stress import StressCases
from pyfly_messaging.testing.conformance.subscribe import SubscribeCases


# pytest runs the cases of the last base first.
class ConformanceSuite(
    StressCases,
    ForeignCases,
    BadInputCases,
    HealthCases,
    BatchCases,
    MessageCases,
    CancellationCases,
    ReconnectionCases,
    StopAtWorkCases,
    StopCases,
    SubscribeCases,
    StartCases,
    BackpressureCases,
    OrderCases,
    DeadLetterCases,
    FailureCases,
    GroupCases,
    CrashCases,
    DeliveryCases,
    PublishCases,
):
    """All cases; an adapter's suite is a subclass named ``Test…`` that says how to make a broker.

    Each base is a chapter of the contract, and can be run for itself.
    """


CHAPTERS: tuple[type[Stage], ...] = tuple(reversed(ConformanceSuite.__bases__))
"""The chapters in the order of the contract; the first line of its docstring is its title."""

"""What happens to a message, without any broker: settlement, retry, order, acknowledgement, drain.

The way of a message: an adapter hands what arrived to `lanes`, which keep the order and bound what
runs at once; they run `routing`, which picks the handlers; `settlement` decides what becomes of the
message; `ledger` and `acknowledge` tell the adapter what it may acknowledge, and when. `broker` and
`reader` are the bases of adapters and of their consumers, `reading_broker` joins them.

The names of ``__all__`` are public, for adapters of others.
"""

from pyfly_messaging.delivery.acknowledge import Acknowledger
from pyfly_messaging.delivery.broker import Broker
from pyfly_messaging.delivery.deadline import Deadline
from pyfly_messaging.delivery.ending import end_task
from pyfly_messaging.delivery.lanes import Batch, Lanes, lanes_for
from pyfly_messaging.delivery.ledger import Ledger
from pyfly_messaging.delivery.lifecycle import Lifecycle
from pyfly_messaging.delivery.reader import Reader
from pyfly_messaging.delivery.reading_broker import ReadingBroker
from pyfly_messaging.delivery.registry import Registry
from pyfly_messaging.delivery.routing import Route
from pyfly_messaging.delivery.subscription import Subscription
from pyfly_messaging.delivery.uninterrupted import close_within, uninterrupted

__all__ = [
    "Acknowledger",
    "Batch",
    "Broker",
    "Deadline",
    "Lanes",
    "Ledger",
    "Lifecycle",
    "Reader",
    "ReadingBroker",
    "Registry",
    "Route",
    "Subscription",
    "close_within",
    "end_task",
    "lanes_for",
    "uninterrupted",
]

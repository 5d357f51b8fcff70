"""For tests of applications and of adapters.

* `settings_override`: configuration for one test, whatever the machine says (also a fixture).
* `memory_broker`: a running in-memory broker that raises what a handler raised.
* `pyfly_messaging.testing.conformance`: the kit that an adapter has to pass. It needs pytest; the
  rest does not.
"""

from pyfly_messaging.testing.memory import memory_broker
from pyfly_messaging.testing.settings import settings_override

__all__ = ["memory_broker", "settings_override"]

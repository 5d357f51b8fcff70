"""The conformance kit, which tells whether an adapter keeps the contract of the port.

An adapter's author writes a class, and pytest runs every case against it::

    from pyfly_messaging.testing.conformance import Capabilities, ConformanceSuite

    class TestMyAdapter(ConformanceSuite):
        capabilities = Capabilities(redelivers=True, durable=True, policies=True)

        def make_broker(self, *, policy, timeouts):
            return MyAdapter("localhost", policy=policy, timeouts=timeouts)

Each case's docstring is one sentence of the contract. What the adapter does not claim is not run,
and the summary at the end says so. ``pytest --stress`` runs the last case at full size.

pytest loads the plugin of this package by itself (entry point ``pytest11``); nothing else is
needed, no plugin for async tests either. ``docs/writing-an-adapter.md`` is the guide.
"""

from pyfly_messaging.testing.conformance.capabilities import Capabilities
from pyfly_messaging.testing.conformance.case import case, cases_of, unclaimed
from pyfly_messaging.testing.conformance.probe import Probe
from pyfly_messaging.testing.conformance.stage import Stage
from pyfly_messaging.testing.conformance.stress import Figures
from pyfly_messaging.testing.conformance.suite import CHAPTERS, ConformanceSuite

__all__ = [
    "CHAPTERS",
    "Capabilities",
    "ConformanceSuite",
    "Figures",
    "Probe",
    "Stage",
    "case",
    "cases_of",
    "unclaimed",
]

"""Dependency injection by type: ``@service``, ``@configuration``, ``@bean``, and their resolution.

Marked classes stay what they are, so that a test can make them by hand. `collect` finds them,
`Container` decides who gets what before anything is made, makes everything once, and cleans up.
"""

from pyfly_messaging.container.cleanup import Cleanups
from pyfly_messaging.container.component import Component, value_component
from pyfly_messaging.container.container import Container
from pyfly_messaging.container.marks import bean, configuration, service
from pyfly_messaging.container.sources import Collected, collect

__all__ = [
    "Cleanups",
    "Collected",
    "Component",
    "Container",
    "bean",
    "collect",
    "configuration",
    "service",
    "value_component",
]

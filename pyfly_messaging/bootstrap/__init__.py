"""From modules, classes and functions to a running application, and back."""

from pyfly_messaging.bootstrap.application import Application, bootstrap
from pyfly_messaging.bootstrap.program import run

__all__ = ["Application", "bootstrap", "run"]

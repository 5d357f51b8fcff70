"""What is said about an adapter of others that cannot be used."""

from __future__ import annotations

from pyfly_messaging.errors import ConfigurationError
from pyfly_messaging.settings.diagnostics.diagnostic import Diagnostic, Severity
from pyfly_messaging.settings.diagnostics.origins import Origin

CODE = "CFG218"


class UnusableAdapterError(Exception):
    """An entry point that no adapter can be had from.

    Attributes:
        message: Which adapter, of which distribution.
        reason: Why.
        help: What to do.

    """

    def __init__(self, message: str, reason: str, help_: str) -> None:
        super().__init__(f"{message}: {reason}")
        self.message = message
        self.reason = reason
        self.help = help_

    def diagnostic(
        self, setting: str = "", origin: Origin | None = None, severity: Severity = "error"
    ) -> Diagnostic:
        """Return the problem, with the setting that asked for the adapter and its place."""
        return Diagnostic(
            code=CODE,
            severity=severity,
            message=self.message,
            setting=setting,
            origin=origin,
            label=self.reason,
            help=self.help,
        )

    def error(self, origin: Origin) -> ConfigurationError:
        """Return the problem as an error of its own, of a provider that was set somewhere."""
        from pyfly_messaging.settings.diagnostics.report import render_report

        found = [self.diagnostic("pyfly.messaging.provider", origin)]
        return ConfigurationError(render_report(found), found)

"""What the import and a load of the settings import, and what they leave for later."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


class TestImports:
    """What is imported, and when."""

    def run(self, code: str, folder: Path) -> list[str]:
        """Run code in a new interpreter; return the modules it imported."""
        script = f"import sys\n{code}\nprint(*sorted(sys.modules))"
        result = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=folder,
            env={"PATH": "/usr/bin", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        return result.stdout.split()

    def test_without_a_file_no_yaml_parser(self, folder: Path) -> None:
        """Neither the import nor a load without a file imports ruamel.yaml."""
        code = "from pyfly_messaging.settings import MessagingSettings; MessagingSettings()"
        modules = self.run(code, folder)
        assert not [name for name in modules if name.startswith("ruamel")]
        assert "pyfly_messaging.settings.loading" in modules

    def test_the_import_alone_loads_no_loader(self, folder: Path) -> None:
        """Who only imports the settings does not pay for reading files."""
        # The package itself imports more than its settings.
        alone = (
            "import types; package = types.ModuleType('pyfly_messaging');"
            f"package.__path__ = [{str(ROOT / 'pyfly_messaging')!r}];"
            "sys.modules['pyfly_messaging'] = package; import pyfly_messaging.settings"
        )
        modules = self.run(alone, folder)
        assert "pyfly_messaging.settings.loading" not in modules
        assert "pyfly_messaging.settings.catalogue" not in modules

    def test_lazy_names(self) -> None:
        """Every public name can be imported, others cannot."""
        import pyfly_messaging.settings as package

        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nope'"):
            _ = package.nope

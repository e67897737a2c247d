"""What the tests of the interfaces share."""

from __future__ import annotations

import pytest

from tests.interfaces.cli_support import Cli


@pytest.fixture
def cli(
    engine_url: str,
    namespace: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:
    """Runs commands of ``callboard`` on a namespace of the test's own."""
    for name in ("CALLBOARD_URL", "CALLBOARD_DATA", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_COLOR", "1")
    return Cli(engine_url, namespace, capsys, monkeypatch)

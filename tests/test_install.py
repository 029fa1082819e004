"""The wheel can be built and installed without a network, and works after `pip install`."""

import os
import subprocess
import sys
from pathlib import Path

import durable_streams_server

ROOT = Path(__file__).parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")


def run(*command: str, cwd: Path, **environment: str) -> str:
    shown = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


def test_wheel_can_be_built_installed_and_run(tmp_path: Path) -> None:
    wheels, target = tmp_path / "wheels", tmp_path / "target"
    run(*PIP, "wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-w", str(wheels), cwd=ROOT)
    [wheel] = wheels.iterdir()
    version = durable_streams_server.__version__
    assert wheel.name == f"durable_streams_server-{version}-py3-none-any.whl"
    run(*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel), cwd=ROOT)
    code = "import durable_streams_server as it; print(it.__file__, it.__version__)"
    shown = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=str(target))
    assert shown.split() == [str(target / "durable_streams_server/__init__.py"), version]
    command = (sys.executable, "-m", "durable_streams_server", "--version")
    shown = run(*command, cwd=tmp_path, PYTHONPATH=str(target))
    assert shown == f"durable-streams-server, version {version}\n"
    assert (target / "durable_streams_server/py.typed").is_file()

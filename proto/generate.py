"""Generate `shared/essa/v1` from every file in `proto/`.

Usage: python proto/generate.py [DIRECTORY]    (default: the repository itself)

The include path is aliased, so that the generated modules import each other by their real
names. Generated code refuses runtimes older than its generator, hence the generator is pinned
to the lower bounds of grpcio and protobuf in pyproject.toml; another one is refused here.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "shared/essa/v1"


def pinned_version() -> str:
    """The version of grpcio-tools that pyproject.toml pins."""
    found = re.search(r'"grpcio-tools==([^"]+)"', (ROOT / "pyproject.toml").read_text())
    assert found, "pyproject.toml pins no grpcio-tools"
    return found[1]


def generate(target: Path) -> None:
    """Write the generated modules under `target`."""
    command = [
        *(sys.executable, "-m", "grpc_tools.protoc", f"-I{PACKAGE}=proto"),
        *(f"--python_out={target}", f"--pyi_out={target}", f"--grpc_python_out={target}"),
        *(f"{PACKAGE}/{file.name}" for file in sorted((ROOT / "proto").glob("*.proto"))),
    ]
    subprocess.run(command, cwd=ROOT, check=True)


def main() -> int:
    """Check the generator's version and generate."""
    installed, pinned = version("grpcio-tools"), pinned_version()
    if installed != pinned:
        print(f"generate: grpcio-tools is {installed}; it must be {pinned}", file=sys.stderr)
        return 2
    generate(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else ROOT)
    return 0


if __name__ == "__main__":
    sys.exit(main())

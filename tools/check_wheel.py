"""Check the built wheel: its tag, what is in it, and that it works where nothing else is.

    python tools/check_wheel.py DIST     the folder that ``python -m build`` filled

Exits 1 with one line for each fault. Standard library only, and pip.
"""

from __future__ import annotations

import email.parser
import os
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
REQUIRED = ["netpoll/__init__.py", "netpoll/py.typed", "netpoll/testing/statements.toml"]
COMPILED = {".so", ".pyd", ".dll", ".dylib", ".pyc"}


def faults_in_names(names: list[str]) -> list[str]:
    """What is missing from the wheel, and what has no business there."""
    faults = [f"{name} is missing" for name in REQUIRED if name not in names]
    for name in names:
        path = PurePosixPath(name)
        if path.parts[0] != "netpoll" and not path.parts[0].endswith(".dist-info"):
            faults.append(f"{name} does not belong in the wheel")
        if path.suffix in COMPILED:
            faults.append(f"{name} is compiled: the wheel would not be for every system")
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "netpoll").rglob("*.py")}
    faults += [f"{name} is not in the wheel" for name in sorted(sources - set(names))]
    return faults


def faults_in_metadata(wheel: zipfile.ZipFile, info: str) -> list[str]:
    """The tag and the metadata, against what pyproject.toml says."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    parse = email.parser.Parser().parsestr
    tags = parse(wheel.read(f"{info}/WHEEL").decode())
    metadata = parse(wheel.read(f"{info}/METADATA").decode())
    expected = [
        ("Tag", tags.get_all("Tag"), ["py3-none-any"]),
        ("Root-Is-Purelib", tags["Root-Is-Purelib"], "true"),
        ("Version", metadata["Version"], project["version"]),
        ("Requires-Python", metadata["Requires-Python"], project["requires-python"]),
        ("License-Expression", metadata["License-Expression"], project["license"]),
        ("License-File", metadata["License-File"], "LICENSE"),
    ]
    faults = [f"{name} is {got!r}, not {want!r}" for name, got, want in expected if got != want]
    needs = metadata.get_all("Requires-Dist") or []
    runtime = [line for line in needs if "extra ==" not in line]
    if len(runtime) != 1 or not runtime[0].startswith("cffi"):
        faults.append(f"the only thing needed at run time should be cffi, not {runtime}")
    if f"{info}/licenses/LICENSE" not in wheel.namelist():
        faults.append("the text of the licence is missing")
    return faults


def run(*command: str | Path, cwd: str, env: dict[str, str]) -> list[str]:
    print("$", *command, flush=True)
    code = subprocess.call(command, cwd=cwd, env=env)
    return [f"{' '.join(map(str, command))}: exit code {code}"] if code else []


def faults_in_use(wheel: Path) -> list[str]:
    """Install into a bare environment, first without and then with cffi, and use it."""
    # What the caller configured for itself must not reach the wheel's own checks.
    inner = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "NETPOLL"))}
    faults: list[str] = []
    with tempfile.TemporaryDirectory(prefix="netpoll-wheel-") as folder:
        # Without pip of its own, since Debian's Python has no ensurepip unless asked for.
        subprocess.check_call([sys.executable, "-m", "venv", "--without-pip", f"{folder}/venv"])
        scripts = Path(folder, "venv", "Scripts" if os.name == "nt" else "bin")
        python = scripts / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
        version = "import netpoll; print(netpoll.__file__, netpoll.__version__)"
        for options in (["--no-deps"], []):
            commands: list[list[str | Path]] = [
                [*pip, *options, str(wheel)],
                [python, "-c", version],
                [python, "-W", "error", "-m", "netpoll", "doctor"],
                [scripts / "netpoll", "doctor", "--json"],
            ]
            for command in commands:
                faults += run(*command, cwd=folder, env=inner)
    return faults


def main() -> int:
    wheels = sorted(Path(sys.argv[1]).resolve().glob("*.whl"))
    if len(wheels) != 1 or not wheels[0].name.endswith("-py3-none-any.whl"):
        print(f"expected one wheel for py3-none-any, found {[wheel.name for wheel in wheels]}")
        return 1
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = wheel.namelist()
        info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
        faults = faults_in_names(names) + faults_in_metadata(wheel, info)
    faults += faults_in_use(wheels[0])
    for fault in faults:
        print(f"FAULT: {fault}")
    print(f"{wheels[0].name}: {len(names)} files, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

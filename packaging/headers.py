"""The C headers of the Pythons that wheels are for: all that building for a Python takes of it.

They are looked for, in this order, in a folder that the caller names, in the Pythons on PATH, and
in Debian's packages, where apt-get is: of the suites that it is set up for, and of those below, at
the same archive.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SUITES = ("trixie", "sid")  # 3.13; 3.13 and 3.14
ASK = "import sysconfig; print(sysconfig.get_path('include'), sysconfig.get_path('platinclude'))"


def headers_of(python: str, folder: Path | None, cache: Path) -> Path | None:
    """Return the folder with Python.h and pyconfig.h of a Python, "3.12" or "3.13t", or None.

    `folder` may hold one such folder for each version, named as `python` is. `cache` is where
    packages are unpacked.
    """
    places = [folder / python] if folder else []
    places += _installed(python)
    for place in places:
        if version_in(place) == python:
            return place
    return _from_debian(python, cache)


def version_in(folder: Path) -> str | None:
    """Return the version, such as "3.12" or "3.13t", that the headers in a folder are of."""
    try:
        text = (folder / "patchlevel.h").read_text()
        configured = (folder / "pyconfig.h").read_text()
    except OSError:
        return None
    wanted = ("#define PY_MAJOR_VERSION", "#define PY_MINOR_VERSION")
    numbers = [line.split()[2] for line in text.splitlines() if line.startswith(wanted)]
    return ".".join(numbers) + ("t" if "#define Py_GIL_DISABLED 1" in configured else "")


def _installed(python: str) -> list[Path]:
    """Where the Pythons of this version on PATH, and this one, say that their headers are."""
    if python == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return [Path(sysconfig.get_path("include"))]
    found = shutil.which(f"python{python}")
    if not found:
        return []
    answer = subprocess.run([found, "-c", ASK], capture_output=True, text=True, check=False)
    return [Path(path) for path in answer.stdout.split()]


def _from_debian(python: str, cache: Path) -> Path | None:
    if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
        return None
    root = cache / f"debian-python{python}"
    found = root / "usr/include" / f"python{python}"
    if not found.is_dir() and not _unpack_package(f"libpython{python}-dev", root, cache):
        return None
    # Debian's own pyconfig.h asks for the triplet's, in a folder beside
    machine = next((root / "usr/include").glob(f"*-linux-gnu/python{python}/pyconfig.h"), None)
    if machine is None or version_in(found) != python:
        return None
    shutil.copyfile(machine, found / "pyconfig.h")
    return found


def _unpack_package(package: str, root: Path, cache: Path) -> bool:
    """Unpacks the newest of a package into `root`; False where no suite has it."""
    packages = cache / "packages"
    packages.mkdir(parents=True, exist_ok=True)
    for options in ([], apt_options(cache, SUITES)):
        environment = {**os.environ, "LC_ALL": "C"}
        command = ["apt-get", "--quiet", *options, "download", package]
        done = subprocess.run(command, cwd=packages, env=environment, capture_output=True)
        if done.returncode == 0:
            newest = max(packages.glob(f"{package}_*.deb"), key=lambda path: path.stat().st_mtime)
            subprocess.run(["dpkg-deb", "--extract", newest, root], check=True)
            return True
    return False


def apt_options(
    cache: Path, suites: tuple[str, ...], architecture: str | None = None, kind: str = "deb"
) -> list[str]:
    """Options for apt-get to know other suites, in lists beside the machine's, which stay.

    Of the archive that apt-get has already, for another architecture if one is named; of sources
    where `kind` is "deb-src".
    """
    lists, sources, state = (cache / "apt" / name for name in ("lists", "sources.list", "state"))
    settings = {
        "Dir::Etc::SourceList": sources, "Dir::Etc::SourceParts": "-", "Dir::Etc::Preferences": "-",
        "Dir::Etc::PreferencesParts": "-", "Dir::State": state, "Dir::State::Lists": lists,
        "Dir::State::Status": state / "status",
    }  # fmt: skip
    if architecture:
        settings |= {"APT::Architecture": architecture, "APT::Architectures": architecture}
    options = [f"-o{name}={value}" for name, value in settings.items()]
    if not sources.exists():
        ask = ["apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages"]
        sites = subprocess.run(ask, capture_output=True, text=True).stdout.split()
        site = next((site for site in sites if site.rstrip("/").endswith("/debian")), None)
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        state.mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        sources.write_text("".join(f"{kind} {site} {suite} main\n" for suite in suites if site))
        subprocess.run(["apt-get", "--quiet", *options, "update"], capture_output=True)
    return options

"""Builds the wheel: the package and the library that it calls. PEP 517, with the standard library alone,
so that nothing has to be fetched.

The library is the one that MOKA_LIBRARY names, else build/release/libmoka.so.1 of this tree.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Optional

HERE = Path(__file__).resolve().parent.parent
TREE = HERE.parent.parent
LIBRARY = "libmoka.1.dylib" if sys.platform == "darwin" else "libmoka.so.1"


def _version() -> str:
    text = (HERE / "moka" / "_version.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', text, re.MULTILINE)
    if not found:
        raise SystemExit("moka/_version.py has no __version__")
    return found.group(1)


def _library() -> bytes:
    path = Path(os.environ.get("MOKA_LIBRARY") or TREE / "build" / "release" / LIBRARY)
    if not path.exists():
        raise SystemExit(
            f"{path} is not there: build it with platforms/python/build.sh, or let MOKA_LIBRARY name it"
        )
    return path.read_bytes()


def _tag() -> str:
    return "py3-none-" + re.sub(r"[-.]", "_", sysconfig.get_platform())


def _metadata() -> str:
    return (
        "Metadata-Version: 2.1\n"
        "Name: moka\n"
        f"Version: {_version()}\n"
        "Summary: Latte language models on the CPU, with a memory that does not grow\n"
        "License: Apache-2.0\n"
        "Requires-Python: >=3.9\n"
        "Description-Content-Type: text/markdown\n"
        "\n" + (HERE / "README.md").read_text()
    )


def build_wheel(
    wheel_directory: str,
    config_settings: Optional[Dict[str, Any]] = None,
    metadata_directory: Optional[str] = None,
) -> str:
    """Writes the wheel, equal bytes from equal files, and gives its name."""
    folder = f"moka-{_version()}.dist-info"
    files = {f"moka/{path.name}": path.read_bytes() for path in sorted((HERE / "moka").glob("*.py"))}
    files["moka/py.typed"] = b""
    files[f"moka/{LIBRARY}"] = _library()
    for name in ("LICENSE", "NOTICE"):
        files[f"{folder}/{name}"] = (TREE / name).read_bytes()
    files[f"{folder}/METADATA"] = _metadata().encode()
    files[f"{folder}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: moka_build\nRoot-Is-Purelib: false\nTag: {_tag()}\n".encode()
    )
    record = [f"{name},{_hash(data)},{len(data)}" for name, data in files.items()]
    files[f"{folder}/RECORD"] = "\n".join([*record, f"{folder}/RECORD,,", ""]).encode()

    name = f"moka-{_version()}-{_tag()}.whl"
    part = Path(wheel_directory) / (name + ".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            entry = zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0))
            entry.external_attr = (0o755 if path.endswith(LIBRARY) else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, data)
    part.replace(part.with_name(name))
    return name


def _hash(data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest())
    return "sha256=" + digest.rstrip(b"=").decode()


def build_sdist(sdist_directory: str, config_settings: Optional[Dict[str, Any]] = None) -> str:
    raise SystemExit("the sources of this package are those of Moka; there is no archive of them alone")


def get_requires_for_build_wheel(config_settings: Optional[Dict[str, Any]] = None) -> List[str]:
    return []


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    print(target / build_wheel(str(target)))

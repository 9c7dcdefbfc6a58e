"""Addresses of folders that lie on no disk of this machine, as fsspec knows them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

_FORM: Final = re.compile(
    r"(?P<kind>[a-z][a-z0-9+.-]+):/(?P<rest>/?[^/].*|//.*)", re.IGNORECASE | re.DOTALL
)
_ALIASES: Final = {"s3a": "s3", "gcs": "gs", "local": "file"}
_PACKAGES: Final = {"s3": "s3fs", "gs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
_OPEN: Final = frozenset("?#")
_MODULES: Final = {"sftp": "paramiko", "ssh": "paramiko", "smb": "smbprotocol"}


def address(written: str | Path) -> str:
    """Return the one form of an address, "" for what is the path of a local folder.

    A Path leaves one slash of two; a single letter before a colon is a drive's.
    """
    match = _FORM.fullmatch(str(written))
    if match is None:
        return ""
    kind, rest = match["kind"].lower(), match["rest"].strip("/")
    kind = _ALIASES.get(kind, kind)
    if kind == "hf":  # the branch that is meant where none is named
        rest = re.sub(r"@main(?=/|$)", "", rest)
    return f"{kind}://{'/' * (kind == 'file')}{rest}"


def wrong(address: str) -> tuple[str, str] | None:
    """Say why an address cannot be used here, and what to do; None where it can.

    Nothing is asked of its server. No text shows the address, which may hold a password.
    """
    from fsspec.registry import available_protocols

    kind, _, rest = address.partition("://")
    login = ":" if kind == "hf" else "@"  # there it stands before a revision
    if login in rest or not _OPEN.isdisjoint(rest):
        told = "set keys in the environment, as the package that reads such addresses knows them"
        return "holds who logs in, or a query, which would stand in the log", told
    if not {".", ".."}.isdisjoint(rest.split("/")):
        return "leads over . or ..", "name the folder itself"
    if "::" in address:
        return "is a chain of addresses", "name the folder itself"
    if kind not in available_protocols():
        return f"{kind}:// is not known", "name a folder, or an address as hf://, s3:// or gs://"
    package = _PACKAGES.get(kind, "")
    module = package or _MODULES.get(kind, "")
    if module and find_spec(module) is None:
        return f"{kind}:// needs the package {module}", f"pip install {module}"
    return None

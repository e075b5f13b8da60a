"""Files out of packages of the Python registry, installed or not; no code of a package is run."""

import ast
import gzip
import html.parser
import importlib.metadata
import json
import lzma
import re
import shutil
import subprocess
import sys
import tarfile
import urllib.parse
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path

from flambeau.zoo.download import FetchError, anonymous, download, open_url

PUBLIC = "https://pypi.org/simple"
ACCEPT = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    gzip.BadGzipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    KeyError,
)


def installed(package, path):
    """Where `path` lies of the installed package "name==version" of whatever version, or None."""
    try:
        distribution = importlib.metadata.distribution(package.partition("==")[0])
    except importlib.metadata.PackageNotFoundError:
        return None
    found = Path(distribution.locate_file(path))
    return found if found.is_file() else None


def extract(package, targets, folder, suffix):
    """Brings files of a package that is not installed, through the index that pip is set to.

    package: "name==version".  targets: {path inside the package: Path to write}.  The archive is
    kept in `folder`, its name with the suffix, while it is on its way, and resumed if interrupted.
    """
    options = pip_options()
    connection = {"certificates": options.get("cert"), "proxy": options.get("proxy")}
    url, name = _find(package, _indexes(options), connection)
    archive = folder / f"{name}{suffix}"
    download(url, archive, **connection)
    try:
        _unpack(archive, name, targets)
    except DAMAGED as error:
        raise FetchError(
            f"{name} from {anonymous(url)} is damaged or lacks a file ({error}): try again"
        ) from error
    finally:
        archive.unlink(missing_ok=True)


def pip_options():
    """The user's own settings of pip, such as {"index-url": …}; empty where there is no pip."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    except (OSError, subprocess.TimeoutExpired):
        listed = ""
    found = {}
    for section in ("global", "install", "download", ":env:"):  # the later overrides
        for line in listed.splitlines():
            key, is_setting, value = line.partition("=")
            if is_setting and key.startswith(f"{section}."):
                found[key.removeprefix(f"{section}.")] = ast.literal_eval(value)
    return found


def _indexes(options):
    urls = [] if options.get("no-index") else options.get("index-url", PUBLIC).split()
    return [url.rstrip("/") for url in urls + options.get("extra-index-url", "").split()]


def _find(package, indexes, connection):
    """The (url, file name) of an archive of the package: a wheel before a source archive."""
    name, _, version = package.partition("==")
    reasons = []
    for index in indexes:
        try:
            links = _links(f"{index}/{_normal(name)}/", connection)
        except (OSError, ValueError, HTTPException) as error:  # out of reach, no such package
            reasons.append(f"{anonymous(index)}: {getattr(error, 'reason', error)}")
            continue
        fitting = [link for link in links if _is_archive_of(link[1], name, version)]
        if fitting:
            return max(fitting, key=lambda link: link[1].endswith(".whl"))
        reasons.append(f"{anonymous(index)}: no archive of that version")
    raise FetchError(f"the package {package} cannot be had ({'; '.join(reasons) or 'no index'})")


def _links(url, connection):
    """The (url, file name) of all archives on a package's page (PEP 503, PEP 691)."""
    if url.startswith("file:"):
        url += "index.html"
    with open_url(url, {"Accept": ACCEPT, "User-Agent": "flambeau"}, **connection) as response:
        text = response.read().decode()
        kind = response.headers.get_content_type()
    if not kind.endswith("json"):
        return _anchors(text, url)
    return [(urllib.parse.urljoin(url, f["url"]), f["filename"]) for f in json.loads(text)["files"]]


def _anchors(text, base):
    found = []

    class Anchors(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            href = dict(attributes).get("href") if tag == "a" else None
            if href:
                url = urllib.parse.urljoin(base, href.partition("#")[0])
                found.append((url, urllib.parse.unquote(url.rpartition("/")[2])))

    Anchors().feed(text)
    return found


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_archive_of(filename, name, version):
    if filename.endswith(".whl"):
        stem = filename.split("-")[:2]
    else:
        stem = re.sub(r"\.(tar\.gz|tgz|tar\.bz2|zip)$", "", filename).rsplit("-", 1)
    return len(stem) == 2 and _normal(stem[0]) == _normal(name) and stem[1] == version


def _unpack(archive, name, targets):
    """Copies single members out of an archive."""
    if name.endswith((".whl", ".zip")):
        with zipfile.ZipFile(archive) as box:
            names = box.namelist()
            for path, target in targets.items():
                with box.open(_member(names, path)) as source:
                    _copy(source, target)
    else:
        with tarfile.open(archive) as box:
            names = [member.name for member in box if member.isfile()]
            for path, target in targets.items():
                with box.extractfile(_member(names, path)) as source:
                    _copy(source, target)


def _member(names, path):
    for name in names:
        if path in (name, name.partition("/")[2]):  # in a source archive after "name-version/"
            return name
    raise KeyError(path)


def _copy(source, target):
    with open(target, "wb") as file:
        shutil.copyfileobj(source, file, 1 << 20)

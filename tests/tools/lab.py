"""A real usher between real servers, for tools that no one here wrote.

usher runs with config/usher.yaml as it is, but for what a trial has to choose itself: addresses,
upstreams, a second listener with TLS, and the WebSocket route that is a comment there.
Everything is on loopback and in a folder that is removed in the end.
"""

import atexit
import base64
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
# Where clients come from: an ordinary one has an address of its own, so that what an attacker's
# address may have is not its loss.
ATTACKER, ORDINARY = "127.0.0.1", "127.0.0.2"

FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="usher-tools-"))
# Servers that give up being root have to find their way to what they serve.
FOLDER.chmod(0o711)
CHILDREN, PORTS, USHERS = [], set(), []


def end():
    for child in reversed(CHILDREN):
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
    for child in CHILDREN:
        try:
            child.wait(5)
        except subprocess.TimeoutExpired:
            child.kill()
    shutil.rmtree(FOLDER, ignore_errors=True)


atexit.register(end)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))


def port():
    """A port that nobody has, outside of those that clients get."""
    while True:
        candidate = 20000 + int.from_bytes(os.urandom(2)) % 10000
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", candidate))
            except OSError:
                continue
        if candidate not in PORTS:
            PORTS.add(candidate)
            return candidate


def run(name, *command, env=None):
    """Starts a server; what it says is in a file of its name."""
    with open(FOLDER / f"{name}.log", "ab") as log:
        child = subprocess.Popen(
            [str(word) for word in command], stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=env
        )
    CHILDREN.append(child)
    return child


def wait_for(at, name=None):
    """Until somebody accepts there."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", at), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                print((FOLDER / f"{name}.log").read_text() if name else f"nobody at {at}")
                raise
            time.sleep(0.02)


def certificate():
    """Of a root made for it, for `localhost`; like the one that testssl.sh was shown."""
    root, leaf = FOLDER / "ca.pem", FOLDER / "cert.pem"
    if leaf.exists():
        return
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl = lambda *words: subprocess.run(
        ["openssl", *map(str, words)], check=True, cwd=FOLDER, capture_output=True
    )
    openssl("req", "-x509", *key, "-subj", "/CN=root", "-keyout", "ca.key", "-out", root)
    openssl("req", *key[:5], "-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "leaf.csr")
    (FOLDER / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "leaf.csr", "-CA", root, "-CAkey", "ca.key", "-days", "2",
            "-extfile", "names", "-out", leaf)  # fmt: skip


class Usher:
    """A running usher before one upstream. `.clear` and `.tls` are its ports; `routes` are lines of the
    configuration that it has beside those of the file."""

    def __init__(self, binary, upstream, protocol="http1", routes="", name="usher"):
        self.binary, self.name = pathlib.Path(binary).resolve(), name
        self.clear, self.tls, self.admin = port(), port(), port()
        self.folder = FOLDER / name
        self.folder.mkdir()
        certificate()
        text = (REPOSITORY / "config/usher.yaml").read_text()
        tls = f"{{ certificate: {FOLDER}/cert.pem, key: {FOLDER}/key.pem }}"
        replaced = [
            (
                "  - address: 127.0.0.1:8080\n",
                f"  - address: 127.0.0.1:{self.clear}\n"
                f"  - address: 127.0.0.1:{self.tls}\n    tls: {tls}\n",
            ),
            ("{ address: 127.0.0.1:9090 }", f"{{ address: 127.0.0.1:{self.admin} }}"),
            (
                'urls: [ "http://127.0.0.1:4280" ]\n',
                f'urls: [ "http://127.0.0.1:{upstream}" ]\n    protocol: {protocol}\n',
            ),
            ('"http://127.0.0.1:4281"', f'"http://127.0.0.1:{upstream}"'),
            ("\nroutes:\n", f"\nroutes:\n{routes}"),
        ]
        if protocol == "http1":
            replaced += [
                ("  # - { name: attach,", "  - { name: attach,"),
                ("  #     access: { action: w, app:", "      access: { action: w, app:"),
            ]
        for old, new in replaced:
            assert text.count(old) == 1, f"config/usher.yaml has no longer one {old!r}"
            text = text.replace(old, new)
        self.config = self.folder / "usher.yaml"
        self.config.write_text(text)
        key = os.urandom(32)
        self.secrets = [key]
        self.env = os.environ | {"USHER_SEAL_KEY": base64.b64encode(key).decode()}
        self.child = run(name, self.binary, "serve", "--config", self.config, env=self.env)
        for at in (self.clear, self.tls, self.admin):
            wait_for(at, name)
        self.read, self.rest = 0, b""
        USHERS.append(self)

    def token(self, *kind):
        """A token of that kind, as `usher token create` takes it."""
        command = [self.binary, "token", "create", *kind, "--config", self.config]
        done = subprocess.run(command, env=self.env, check=True, capture_output=True)
        token = done.stdout.decode().strip()
        self.secrets += [base64.b64decode(text) for text in re.findall("fm2_([A-Za-z0-9+/=]+)", token)]
        return token

    def log(self):
        """What was logged since the last time."""
        with open(FOLDER / f"{self.name}.log", "rb") as log:
            log.seek(self.read)
            new = log.read()
        self.read += len(new)
        *lines, self.rest = (self.rest + new).split(b"\n")
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def metrics(self):
        with socket.create_connection(("127.0.0.1", self.admin), 5) as admin:
            admin.sendall(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return b"".join(iter(lambda: admin.recv(65536), b""))

    def metric(self, name):
        """The sum of a metric over its labels."""
        found = re.findall(rf"^{name}(?:\{{.*\}})? ([0-9.e+]+)$", self.metrics().decode(), re.M)
        return int(sum(map(float, found)))

    def shown(self):
        """Parts of its tokens and of its seal key that show in its whole log or in /metrics."""
        told = {"the log": (FOLDER / f"{self.name}.log").read_bytes(), "/metrics": self.metrics()}
        # Nothing is found where nothing is looked through.
        assert b'"message":"' in told["the log"] and b"\n# TYPE usher_" in told["/metrics"]
        return [
            f"{self.name}: {part!r} in {place}"
            for secret in self.secrets
            for part in parts(secret)
            for place, text in told.items()
            if part in text
        ]

    def resident(self):
        """Bytes in memory."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.child.pid}/fd"))

    def cpu(self):
        """Seconds of processor time so far, of all its threads."""
        fields = pathlib.Path(f"/proc/{self.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def settle(self):
        """Waits until no client is connected any more; 0, or how many are after 100 s."""
        deadline = time.monotonic() + 100
        while (open_now := self.metric("usher_connections_open")) and time.monotonic() < deadline:
            time.sleep(0.1)
        return open_now


def parts(secret):
    """Pieces of a secret, so short that one is in whatever shows 32 bytes of it: as it is, in base64,
    hexadecimal, and as a list of numbers."""
    size = 9
    for at in range(0, len(secret) - size + 1, size):
        piece = secret[at : at + size]
        yield from (piece, base64.b64encode(piece), piece.hex().encode(), piece.hex().upper().encode())
        yield ", ".join(map(str, piece)).encode()


def shown():
    """How many secrets of all ushers show where nobody may see them; says which."""
    found = [one for usher in USHERS for one in usher.shown()]
    print(f"{sum(len(usher.secrets) for usher in USHERS)} tokens and keys, {len(found)} parts of them in logs and /metrics")
    for one in found:
        print(f"    {one}")
    return len(found)


class Ordinary(threading.Thread):
    """A client that goes on asking while others attack, each time on a new connection."""

    def __init__(self, at, token, every=0.1):
        super().__init__(daemon=True)
        self.at, self.every = at, every
        self.request = (
            "GET /v1/apps/web HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n"
            f"authorization: {token}\r\n\r\n"
        ).encode()
        self.served, self.failed, self.longest, self.over = 0, [], 0.0, threading.Event()

    def run(self):
        while True:
            begun = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self.at), 10, (ORDINARY, 0)) as client:
                    client.sendall(self.request)
                    answer = b"".join(iter(lambda: client.recv(65536), b""))
                if answer.startswith(b"HTTP/1.1 200"):
                    self.served += 1
                else:
                    self.failed.append(answer[:60])
            except OSError as error:
                self.failed.append(repr(error))
            self.longest = max(self.longest, time.monotonic() - begun)
            if self.over.wait(self.every):
                return

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.join()

    def __str__(self):
        text = f"another client: {self.served} served, {len(self.failed)} not"
        text += f", slowest {self.longest * 1000:.0f} ms"
        return text + (f" {self.failed[:3]}" if self.failed else "")


def nginx(name, http, events="worker_connections 8192;"):
    """An nginx with this `http` section."""
    folder = FOLDER / name
    folder.mkdir()
    temporary = "".join(
        f"{what}_temp_path {folder};\n" for what in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; worker_processes 1; error_log {folder}/error.log;\n"
        f"worker_rlimit_nofile 16384; events {{ {events} }}\n"
        f"http {{ access_log off;\n{temporary}{http} }}\n"
    )
    return run(name, "nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log")


def haproxy(name, text):
    """An haproxy with this configuration. What it logs is in the file of its name."""
    (FOLDER / f"{name}.cfg").write_text(text)
    return run(name, "haproxy", "-db", "-f", FOLDER / f"{name}.cfg")


def connect_tls(at, protocols):
    """A connection in TLS that checks the certificate."""
    context = ssl.create_default_context(cafile=FOLDER / "ca.pem")
    context.set_alpn_protocols(protocols)
    raw = socket.create_connection(("127.0.0.1", at), 10)
    return context.wrap_socket(raw, server_hostname="localhost")


def version(*command):
    """The first line of what a tool says about itself."""
    done = subprocess.run(command, capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]

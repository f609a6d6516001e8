"""Ambiguous requests through chains of nginx, haproxy and usher, to an upstream that records bytes.

    pip install hyperframe hpack
    python3 tests/tools/desync.py target/release/usher

Needs nginx and haproxy, both set to pass on as much of what is odd as they can. Each case is sent
on a connection of its own; then a request on the same connection where that is alive, and two on
fresh ones. Demands of every chain that

- what reaches the upstream has one reading: no odd line end, one framing, nothing left over;
- each request there has the id of a permit of usher's log, and each id is there once;
- each has the id that the proxy in front gave it (where there is one), each id once, and usher
  has decided on no more requests than that proxy has sent;
- nothing that was sent as the content of something else is read as a request, unless the proxy in
  front has read it so, and sent it as one of its own;
- what follows a WebSocket or a tunnel that was granted arrives there byte by byte, and is nobody's
  request; what follows one that was refused arrives nowhere unless it was judged as a request;
- every response answers the request it stands for, and everybody after a case is served.

Before that the same cases go through either proxy without usher: were nothing to be found there,
the demands would be worth nothing.
"""

import base64
import hashlib
import re
import socket
import sys
import threading
import time

import hpack
from hyperframe import frame as f

import lab
from desync_cases import PIPELINED, SMUGGLED, Maker, Tunnel, block, http1, http2, tunnels

WAIT = 0.4
# nginx answers these as they were answered at the time: without a head.
HTTP_0_9 = re.compile(rb"GET /[^ \r]*\r\n")


class Recorder(threading.Thread):
    """The upstream. It reads HTTP/1.1 in the one way that all readers agree on, and notes what is
    not like that."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.socket.getsockname()[1]
        self.requests, self.faults = [], []
        # What came once protocols were switched, by the case.
        self.raw = {}
        self.start()

    def run(self):
        while True:
            client, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        buffer = bytearray()

        def more():
            part = client.recv(65536)
            if not part:
                raise EOFError
            buffer.extend(part)

        def take(count):
            while len(buffer) < count:
                more()
            taken = bytes(buffer[:count])
            del buffer[:count]
            return taken

        def until(mark):
            while mark not in buffer:
                if len(buffer) > 200_000:
                    raise ValueError("a line or a head without end")
                more()
            return take(buffer.index(mark) + len(mark))

        try:
            while True:
                if not buffer:
                    more()
                head = until(b"\r\n\r\n")
                request = strict(head)
                self.requests.append(request)
                if request["framing"] == "chunked":
                    while True:
                        line = until(b"\r\n")
                        if not re.fullmatch(rb"[0-9a-fA-F]{1,16}\r\n", line):
                            raise ValueError(f"chunk line {line!r}")
                        size = int(line, 16)
                        if size == 0:
                            trailers = b"\r\n" + until(b"\r\n")
                            while not trailers.endswith(b"\r\n\r\n"):
                                trailers += until(b"\r\n")
                            request["trailers"] = fields(trailers[2:])
                            break
                        request["body"] += take(size)
                        if take(2) != b"\r\n":
                            raise ValueError("a chunk is longer than it says")
                else:
                    request["body"] += take(request["framing"])
                request["whole"] = True
                case = request["fields"].get("x-case", b"-")
                answer = switch(request["fields"])
                if answer:
                    self.raw[case.decode()] = buffer
                    client.sendall(answer)
                if answer and answer.startswith(b"HTTP/1.1 101"):
                    # Until it ends; that is no fault then.
                    while True:
                        more()
                if answer:
                    del self.raw[case.decode()]
                    continue
                body = b"" if request["method"] == b"HEAD" else case
                client.sendall(
                    b"HTTP/1.1 200 OK\r\nx-case: %s\r\ncontent-length: %d\r\n\r\n%s" % (case, len(case), body)
                )
        except EOFError:
            # Between two requests, or in a body whose client broke it off.
            if any(buffer is raw for raw in self.raw.values()):
                pass
            elif buffer and (not self.requests or b"\r\n\r\n" not in buffer):
                in_body = any(not one["whole"] for one in self.requests)
                if not in_body:
                    self.faults.append(f"left over: {bytes(buffer[:80])!r}")
        except OSError:
            pass
        except ValueError as fault:
            self.faults.append(str(fault))
        client.close()


def switch(fields):
    """What a request for a WebSocket is answered, if it says what it wants."""
    wanted = fields.get("x-wanted", b"").decode()
    if not wanted or "upgrade" not in fields:
        return None
    if wanted.isdigit():
        return b"HTTP/1.1 %s No\r\ncontent-length: 2\r\n\r\nno" % wanted.encode()
    key = fields.get("sec-websocket-key", b"") + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key).digest())
    lines = {
        "switch": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: %s\r\n" % accept,
        "wrong accept": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: x\r\n",
        "other protocol": b"connection: upgrade\r\nupgrade: h2c\r\nsec-websocket-accept: %s\r\n" % accept,
        "bare": b"",
    }[wanted]
    return b"HTTP/1.1 101 Switching Protocols\r\n%s\r\n" % lines


class End(threading.Thread):
    """Where tunnels lead: it notes the bytes of each connection."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port = self.socket.getsockname()[1]
        self.connections = []
        self.start()

    def run(self):
        while True:
            client, _ = self.socket.accept()
            self.connections.append(bytearray())
            threading.Thread(target=self.read, args=(client, self.connections[-1]), daemon=True).start()

    def read(self, client, to):
        try:
            while part := client.recv(65536):
                to.extend(part)
        except OSError:
            pass
        client.close()


def strict(head):
    """A request head, or the reason why it has two readings."""
    line, _, rest = head.partition(b"\r\n")
    if not re.fullmatch(rb"[A-Z]+ /[!-~]* HTTP/1\.1", line) or b"#" in line:
        raise ValueError(f"request line {line!r}")
    found = fields(rest)
    if len(found.get("host", b"")) == 0:
        raise ValueError(f"no host: {head!r}")
    lengths, coding = found.get("content-length"), found.get("transfer-encoding")
    if coding is not None and (lengths is not None or coding.lower() != b"chunked"):
        raise ValueError(f"framing: {head!r}")
    if lengths is not None and not re.fullmatch(rb"0|[1-9][0-9]{0,17}", lengths):
        raise ValueError(f"length: {head!r}")
    framing = "chunked" if coding else int(lengths or b"0")
    return {
        "method": line.split()[0],
        "line": line,
        "fields": found,
        "framing": framing,
        "body": b"",
        "whole": False,
    }


def fields(lines):
    """Header lines by the names that CGI would give them; the ones that matter may occur once."""
    found = {}
    for line in lines.split(b"\r\n"):
        if not line:
            continue
        match = re.fullmatch(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*", line)
        if not match:
            raise ValueError(f"line {line!r}")
        name = match[1].decode().lower().replace("_", "-").replace(".", "-")
        if name in found and name in (
            "host",
            "content-length",
            "transfer-encoding",
            "x-usher-decision",
            "x-front",
            "x-case",
        ):
            raise ValueError(f"{name} twice")
        found[name] = match[2]
    return found


class Answers:
    """What a client of HTTP/1.1 reads: `(status, x-case)` of each response, in order."""

    def __init__(self, heads):
        self.buffer, self.found, self.closed, self.heads = bytearray(), [], False, heads
        self.fault = None

    def read(self, client, count, wait):
        """Until there are so many, or the end, or silence."""
        client.settimeout(wait)
        try:
            while len(self.found) < count and not self.closed:
                part = client.recv(65536)
                self.closed = not part
                self.buffer += part
                self.parse()
        except TimeoutError:
            pass
        except OSError:
            self.closed = True
        # What never became a request is answered with a body, whatever it was going to be.
        if self.closed and self.buffer and not self.fault and not any(self.heads):
            self.fault = f"left over: {bytes(self.buffer[:80])!r}"

    def parse(self):
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.buffer[: end + 4])
            match = re.match(rb"HTTP/1\.[01] (\d\d\d)", head)
            if not match:
                self.fault = f"no response: {head[:80]!r}"
                return
            status = int(match[1])
            if status < 200:
                del self.buffer[: end + 4]
                continue
            length = re.search(rb"\r\ncontent-length: *(\d+)\r\n", head, re.I)
            chunked = re.search(rb"\r\ntransfer-encoding: *chunked\r\n", head, re.I)
            start = end + 4
            head_only = len(self.found) < len(self.heads) and self.heads[len(self.found)]
            if head_only or status in (204, 304):
                stop = start
            elif length:
                stop = start + int(length[1])
            elif chunked:
                last = self.buffer.find(b"0\r\n\r\n", start)
                stop = last + 5 if last >= 0 else len(self.buffer) + 1
            else:
                stop = len(self.buffer) if self.closed else len(self.buffer) + 1
            if len(self.buffer) < stop:
                return
            case = re.search(rb"\r\nx-case: *([^\r]*)\r\n", head, re.I)
            self.found.append((status, case and case[1].decode()))
            del self.buffer[:stop]


class Chain:
    """`client -> ... -> usher -> ... -> recorder`, and what went through it."""

    def __init__(
        self,
        name,
        binary,
        front=None,
        behind=None,
        http2=False,
        to_usher="http1",
        from_usher="http1",
        pieces=None,
        tls=False,
    ):
        self.name, self.http2, self.pieces, self.problems, self.others = name, http2, pieces, [], 0
        self.front, self.tls = front, tls
        # nginx 1.22 takes trailers of a request for an error, and ends the connection (it logs "client
        # sent HEADERS frame with incorrect identifier").
        self.no_trailers = from_usher == "http2" and (behind or "").startswith("nginx")
        tag = re.sub(r"\W+", "-", name)
        self.recorder, self.end = Recorder(), End()
        # Only where HTTP/1.1 is spoken all the way does anything switch. haproxy 2.6 makes of a WebSocket
        # over HTTP/2 the reset of a stream that it never began, which ends the connection.
        self.switches = not http2 and from_usher == "http1" and to_usher != "http2"
        upstream = self.recorder.port
        if behind:
            upstream = lab.port()
            proxy(behind, f"{tag}-behind", upstream, self.recorder.port, from_usher == "http2", "http1", None)
            lab.wait_for(upstream)
        self.usher = lab.Usher(binary, upstream, from_usher, TUNNELS, name=f"{tag}-usher")
        self.logged = []
        self.at = self.usher.tls if tls else self.usher.clear
        if front:
            self.at = lab.port()
            self.sent = lab.FOLDER / f"{tag}-front.sent"
            to = self.usher.tls if to_usher == "tls" else self.usher.clear
            proxy(front, f"{tag}-front", self.at, to, http2, to_usher, self.sent)
            lab.wait_for(self.at)
        self.token = self.usher.token("deploy", "--app", "web").encode()

    def connect(self):
        """As whoever is in front: in clear, or in TLS."""
        if self.tls:
            client = lab.connect_tls(self.at, ["http/1.1"])
            assert client.selected_alpn_protocol() == "http/1.1"
        else:
            client = socket.create_connection(("127.0.0.1", self.at), 5)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def write(self, client, data):
        step = self.pieces or len(data)
        for at in range(0, len(data), step):
            client.sendall(data[at : at + step])

    def decisions(self):
        """What usher decided since the last time."""
        new = self.usher.log()
        self.logged += new
        return [line for line in new if line["message"] == "request decided"]

    def run(self):
        # What the probes of `wait_for` left behind.
        self.usher.log()
        cases = http2(self.token) if self.http2 else http1(self.token)
        if self.switches:
            cases += tunnels(self.token, self.end.port, len(cases))
        self.cases = len(cases)
        self.tunnels = {"granted": 0, "refused": 0}
        for index, case in enumerate(cases):
            try:
                if isinstance(case, Tunnel):
                    self.send_tunnel(index, case)
                elif self.http2:
                    self.send_http2(index, *case[:2])
                else:
                    self.send_http1(index, *case)
                for _ in range(2):
                    self.ask(case[0])
            except OSError as error:
                self.problems.append(f"{case[0]}: {error!r}")
        self.judge(cases)

    def send_tunnel(self, index, case):
        self.decisions()
        dialled, carried, said = len(self.end.connections), case.carried, b""

        def arrived():
            """What came to the other end, if there is one."""
            ends = self.end.connections[dialled:]
            if (raw := self.recorder.raw.get(f"{index}-one")) is not None:
                ends = [raw, *ends]
            return b"".join(ends) if ends else None

        # A proxy may make of a wrong head a right one, which is then the one that counts.
        mended = case.bytes if self.front else None
        with self.connect() as client:
            client.settimeout(WAIT)
            try:
                self.write(client, case.head + (case.bytes if case.at_once else b""))
                while b"\r\n\r\n" not in said and (part := client.recv(65536)):
                    said += part
            except OSError:
                pass
            status = re.match(rb"HTTP/1\.[01] (\d\d\d)", said)
            connect = case.head[:7].upper() == b"CONNECT"
            granted = status is not None and (status[1] == b"101" or connect and status[1] == b"200")
            try:
                if not case.at_once:
                    self.write(client, case.bytes)
            except OSError:
                pass
            deadline = time.monotonic() + 5
            expected = mended if carried is None else carried
            while granted and arrived() != expected and time.monotonic() < deadline:
                time.sleep(0.01)
            try:
                while part := client.recv(65536):
                    said += part
            except OSError:
                pass
        decided = self.decisions()
        self.tunnels["granted" if granted else "refused"] += 1
        told = f"{case.name}: {said[:60]!r}, {len(decided)} decided, arrived {(arrived() or b'')[:60]!r}"
        if granted and (arrived() != expected or len(decided) != 1):
            self.problems.append(f"not what was to be granted: {told}")
        if granted and (f"{index}-two".encode() in said or said.count(b"HTTP/1.") > 1):
            self.problems.append(f"a tunnel was answered: {told}")
        if not granted and (arrived() or len(decided) > 2 or len(self.end.connections) > dialled):
            self.problems.append(f"what was refused went on: {told}")
        no_connect = connect and (self.front or "").startswith("nginx")
        if carried is not None and not granted and not no_connect:
            self.problems.append(f"what is in order was not granted: {told}")

    def send_http1(self, index, name, data, behind):
        maker = Maker(self.token, str(index))
        with self.connect() as client:
            answers = Answers([data.startswith(b"HEAD ")])
            try:
                self.write(client, data)
                answers.read(client, 2 if behind == PIPELINED else 1, WAIT)
                if not answers.closed:
                    client.sendall(maker.head(b"GET /v1/apps/web HTTP/1.1", which=b"same"))
            except OSError:
                pass
            answers.read(client, 3, WAIT)
        ids = [case for status, case in answers.found if status == 200 or case]
        order = [f"{index}-{which}" for which in ("one", "two", "same")]
        if answers.fault and not ((self.front or "").startswith("nginx") and HTTP_0_9.match(data)):
            self.problems.append(f"{name}: {answers.fault}")
        if ids != [one for one in order if one in ids]:
            self.problems.append(f"{name}: answered {answers.found}")
        if not self.front and behind == SMUGGLED and f"{index}-two" in ids:
            self.problems.append(f"{name}: what it carried was answered: {answers.found}")
        if (
            behind == PIPELINED
            and not self.front
            and ids[:2] != order[:2]
            and "denied" not in name
            and "no token" not in name
            and not (self.no_trailers and answers.found[:1] == [(500, None)])
        ):
            self.problems.append(f"{name}: what is in order was not served: {answers.found}")

    def send_http2(self, index, name, data):
        with self.connect() as client:
            streams = Streams(client)
            try:
                client.sendall(data)
                streams.read(1, WAIT)
                if not streams.closed:
                    fields = [
                        (b":method", b"GET"),
                        (b":scheme", b"http"),
                        (b":authority", b"localhost"),
                        (b":path", b"/v1/apps/web"),
                    ]
                    fields += [(b"authorization", self.token), (b"x-case", b"h2-%d-same" % index)]
                    client.sendall(
                        f.HeadersFrame(3, data=block(fields), flags=["END_HEADERS", "END_STREAM"]).serialize()
                    )
                    streams.read(3, WAIT)
            except OSError:
                pass
        allowed = {1: f"h2-{index}-one", 3: f"h2-{index}-same"}
        for stream, (status, answered) in streams.found.items():
            if (status == 200 or answered) and answered != allowed.get(stream):
                self.problems.append(f"{name}: stream {stream} was answered {status}, {answered}")

    def ask(self, after):
        """Somebody else, who has to be served."""
        self.others += 1
        mine = f"other-{self.others}"
        with self.connect() as client:
            if self.http2:
                streams = Streams(client)
                fields = [
                    (b":method", b"GET"),
                    (b":scheme", b"http"),
                    (b":authority", b"localhost"),
                    (b":path", b"/v1/apps/web"),
                ]
                fields += [(b"authorization", self.token), (b"x-case", mine.encode())]
                client.sendall(
                    f.HeadersFrame(1, data=block(fields), flags=["END_HEADERS", "END_STREAM"]).serialize()
                )
                streams.read(1, 5)
                got = [streams.found.get(1)]
            else:
                maker = Maker(self.token, "other")
                client.sendall(maker.head(b"GET /v1/apps/web HTTP/1.1", which=str(self.others).encode()))
                answers = Answers([False])
                answers.read(client, 1, 5)
                got = answers.found
        if got != [(200, mine)]:
            self.problems.append(f"after {after}: somebody else was answered {got}")

    def judge(self, cases):
        """Joins what usher decided, what the front sent, and what arrived."""
        log, quiet, counts = self.logged, time.monotonic(), None
        while time.monotonic() - quiet < 1.5:
            log += self.usher.log()
            now = (len(log), len(self.recorder.requests))
            if now != counts:
                counts, quiet = now, time.monotonic()
            time.sleep(0.1)
        decided = [line for line in log if line["message"] == "request decided"]
        permits = {line["decision"] for line in decided if line["verdict"] == "permit"}
        kept = sum(line["message"] == "request not forwarded" for line in log)
        seen, fronts = set(), set()
        sent = self.sent_by_front()
        for request in self.recorder.requests:
            where = f"upstream, {request['line']!r} of {request['fields'].get('x-case')}"
            decision = request["fields"].get("x-usher-decision", b"").decode()
            if decision not in permits:
                self.problems.append(f"{where}: nobody decided on {decision!r}")
            if decision in seen:
                self.problems.append(f"{where}: {decision} twice")
            seen.add(decision)
            if self.front:
                front = request["fields"].get("x-front", b"").decode()
                if front not in sent or front in fronts:
                    self.problems.append(f"{where}: the front did not send {front!r}, or once")
                fronts.add(front)
            elif not self.http2:
                number, _, which = request["fields"].get("x-case", b"-").decode().partition("-")
                if which == "two" and cases[int(number)][2] == SMUGGLED:
                    self.problems.append(f"{where}: smuggled in {cases[int(number)][0]}")
            elif request["fields"].get("x-case", b"").endswith(b"-two"):
                self.problems.append(f"{where}: smuggled")
            for name in (
                "x-usher-decision",
                "host",
                "authorization",
                "content-length",
                "transfer-encoding",
            ):
                if name in request.get("trailers", {}):
                    self.problems.append(f"{where}: trailer {name}")
        self.problems += [f"upstream: {fault}" for fault in self.recorder.faults]
        if self.front and len(decided) > sum(sent.values()):
            self.problems.append(f"usher decided on {len(decided)}, the front sent {sum(sent.values())}")
        front = f"{sum(sent.values())} sent by the front, " if self.front else ""
        if self.switches:
            front = f"{self.tunnels['granted']} switched, {self.tunnels['refused']} refused to; {front}"
        self.summary = (
            f"{self.name}: {self.cases} cases, {self.others} others; {front}{len(decided)} decided, {len(permits)} permitted"
            f" ({kept} not forwarded), {len(self.recorder.requests)} at the upstream; {len(self.problems)} problems"
        )

    def sent_by_front(self):
        """How often each request of the front's was sent to usher, by the id it gave it."""
        sent = {}
        if self.front:
            for line in self.sent.read_text(errors="replace").splitlines():
                words = line.split("|")
                if len(words) == 3 and words[0] == "sent" and words[2] not in ("-", "<NOSRV>"):
                    sent[words[1]] = sent.get(words[1], 0) + len(words[2].split(","))
        return sent


class Streams:
    """What a client of HTTP/2 reads: `(status, x-case)` of each stream."""

    def __init__(self, client):
        self.client, self.buffer, self.found, self.closed = client, b"", {}, False
        self.decoder, self.done = hpack.Decoder(), set()
        client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + f.SettingsFrame(0).serialize())

    def read(self, stream, wait):
        """Until it has ended, or the connection has, or silence."""
        self.client.settimeout(wait)
        try:
            while stream not in self.done and not self.closed:
                part = self.client.recv(65536)
                self.closed |= not part
                self.buffer += part
                while len(self.buffer) >= 9:
                    size = int.from_bytes(self.buffer[:3], "big")
                    if len(self.buffer) < 9 + size:
                        break
                    kind, flags = self.buffer[3], self.buffer[4]
                    number = int.from_bytes(self.buffer[5:9], "big") & 0x7FFFFFFF
                    payload, self.buffer = self.buffer[9 : 9 + size], self.buffer[9 + size :]
                    self.frame(kind, flags, number, payload)
        except TimeoutError:
            pass
        except OSError:
            self.closed = True

    def frame(self, kind, flags, number, payload):
        if kind == 1:
            lines = dict(self.decoder.decode(payload))
            if int(lines.get(":status", 0)) >= 200:
                self.found[number] = (int(lines[":status"]), lines.get("x-case"))
        if kind == 3 or (kind in (0, 1) and flags & 1):
            self.done.add(number)
        if kind == 4 and not flags & 1:
            self.client.sendall(f.SettingsFrame(0, flags=["ACK"]).serialize())
        if kind == 7:
            self.closed = True


# A tunnel to a port of this machine, opened either way.
TUNNELS = """\
  - { name: tunnel, tunnel: tcp, host: "{app}.internal:{port}", access: { action: w, app: "{app}" }, upstream: "tcp://127.0.0.1:{port}" }
  - { name: tunnel-ws, tunnel: tcp, path: "/v1/apps/{app}/tunnel/{port}", access: { action: w, app: "{app}" }, upstream: "tcp://127.0.0.1:{port}" }
"""


def proxy(kind, name, at, to, speaks_http2, to_version, sent):
    """An nginx or haproxy between two ports, as lenient as it can be."""
    tls = to_version == "tls"
    if kind.startswith("nginx"):
        form = "log_format sent 'sent|$request_id|$upstream_addr';"
        log = f"access_log {sent} sent;" if sent else ""
        front = "proxy_set_header X-Front $request_id;" if sent else ""
        lab.nginx(
            name,
            f"map $http_upgrade $wish {{ default upgrade; '' ''; }}\n{form} upstream next {{ server 127.0.0.1:{to}; keepalive 4; }}\n"
            f"server {{ {log} listen 127.0.0.1:{at}{' http2' if speaks_http2 else ''};"
            f" underscores_in_headers on; ignore_invalid_headers off; merge_slashes off; client_body_timeout 3s;"
            f" large_client_header_buffers 8 100k; client_max_body_size 0;"
            f" location / {{ proxy_pass {'https' if tls else 'http'}://next; proxy_http_version 1.1;"
            f" proxy_set_header Connection $wish; proxy_set_header Upgrade $http_upgrade;"
            f" proxy_set_header Host $http_host; {front} proxy_request_buffering {'off' if 'unbuffered' in kind else 'on'};"
            f" proxy_read_timeout 3s; }} }}",
        )
        return
    id_lines = (
        "  unique-id-format front-%rt-%Ts\n  http-request set-header X-Front %[unique-id]\n" if sent else ""
    )
    log = "  log stdout format raw daemon\n" if sent else ""
    child_name = sent.name[: -len(".sent")] if sent else name
    lab.haproxy(
        child_name,
        f"global\n  maxconn 2000\n  tune.bufsize 131072\n  tune.http.maxhdr 500\n{log}"
        "defaults\n  mode http\n  timeout connect 3s\n  timeout client 3s\n  timeout server 3s\n"
        "  option accept-invalid-http-request\n  option accept-invalid-http-response\n  http-reuse always\n"
        f"frontend front\n  bind 127.0.0.1:{at}{' proto h2' if speaks_http2 else ''}\n"
        + ("  log global\n  log-format sent|%ID|%s\n" if sent else "")
        + f"{id_lines}  default_backend next\n"
        f"backend next\n  server usher 127.0.0.1:{to}{' proto h2' if to_version == 'http2' else ' ssl verify none alpn http/1.1' if tls else ''}\n",
    )
    if sent:
        sent.symlink_to(lab.FOLDER / f"{child_name}.log")


CHAINS = [
    ("usher", {}),
    ("usher, in pieces", {"pieces": 7}),
    ("TLS > usher", {"tls": True}),
    ("TLS > usher, in pieces", {"tls": True, "pieces": 7}),
    ("h2 > usher", {"http2": True}),
    ("nginx > usher", {"front": "nginx"}),
    ("nginx unbuffered > usher", {"front": "nginx unbuffered"}),
    ("h2 > nginx > usher", {"front": "nginx", "http2": True}),
    ("h2 > nginx unbuffered > usher", {"front": "nginx unbuffered", "http2": True}),
    ("haproxy > usher", {"front": "haproxy"}),
    ("nginx unbuffered > TLS > usher", {"front": "nginx unbuffered", "to_usher": "tls"}),
    ("haproxy > TLS > usher", {"front": "haproxy", "to_usher": "tls"}),
    ("haproxy > h2 > usher", {"front": "haproxy", "to_usher": "http2"}),
    ("h2 > haproxy > usher", {"front": "haproxy", "http2": True}),
    ("h2 > haproxy > h2 > usher", {"front": "haproxy", "http2": True, "to_usher": "http2"}),
    ("usher > nginx", {"behind": "nginx"}),
    ("usher > nginx unbuffered", {"behind": "nginx unbuffered"}),
    ("usher > h2 > nginx", {"behind": "nginx unbuffered", "from_usher": "http2"}),
    ("h2 > usher > nginx", {"behind": "nginx unbuffered", "http2": True}),
    ("usher > haproxy", {"behind": "haproxy"}),
    ("usher > h2 > haproxy", {"behind": "haproxy", "from_usher": "http2"}),
    ("h2 > usher > haproxy", {"behind": "haproxy", "http2": True}),
    ("h2 > usher > h2 > haproxy", {"behind": "haproxy", "http2": True, "from_usher": "http2"}),
]


def control(kind, binary):
    """A chain without usher: how much of what arrives has two readings."""
    chain = Chain(f"{kind}, no usher", binary)
    chain.switches = False
    chain.at = lab.port()
    proxy(kind, f"{kind.split()[0]}-alone", chain.at, chain.recorder.port, False, "http1", None)
    lab.wait_for(chain.at)
    chain.run()
    found = len(chain.recorder.faults)
    print(
        f"{chain.name}: {chain.cases} cases, {found} requests with two readings at the upstream", flush=True
    )
    return not found


def main(binary, only=None):
    print(lab.version("nginx", "-v"), "/", lab.version("haproxy", "-v"))
    wrong = sum(control(kind, binary) for kind in ("nginx unbuffered", "haproxy") if only is None)
    for at in range(0, len(CHAINS), 5):
        chains = [Chain(name, binary, **how) for name, how in CHAINS[at : at + 5] if only in (None, name)]
        threads = [threading.Thread(target=chain.run) for chain in chains]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for chain in chains:
            wrong += len(chain.problems)
            print(chain.summary, flush=True)
            for problem in chain.problems:
                print(f"    {problem[:300]}")
    wrong += lab.shown()
    print(f"{wrong} problems")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

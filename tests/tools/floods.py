"""Clients of HTTP/2 that keep usher busy, made of frames of `hyperframe` and blocks of `hpack`.

    pip install h2 hyperframe hpack
    python3 tests/tools/floods.py target/release/usher [the beginning of some names]

Needs nginx as the upstream. Each flood goes on until usher ends the connection, at most 200,000
frames or 10 s, and begins again on a new one for 2 s; the slow readers have 100 s. Demands that
usher ends each of them, that nobody else's request fails meanwhile, and that no connection is left.
"""

import itertools
import select
import socket
import sys
import time

import h2.config
import h2.connection
import h2.settings
import hpack
from hyperframe import frame as f

import lab

FRAMES, SECONDS, AGAIN, SLOW_SECONDS = 200_000, 10, 2, 100
CODES = {
    0: "NO_ERROR", 1: "PROTOCOL_ERROR", 2: "INTERNAL_ERROR", 3: "FLOW_CONTROL_ERROR",
    4: "SETTINGS_TIMEOUT", 5: "STREAM_CLOSED", 6: "FRAME_SIZE_ERROR", 7: "REFUSED_STREAM",
    8: "CANCEL", 9: "COMPRESSION_ERROR", 11: "ENHANCE_YOUR_CALM",
}  # fmt: skip
STOP = "/v1/apps/web/machines/148e1aaa000001/stop"
PAGE = "/v1/apps/web/machines/148e1aaa000001"


class Attack:
    """What a flood is made with: header blocks without state, and numbers for streams."""

    def __init__(self, token):
        self.token, self.numbers = token, itertools.count(1, 2)

    def block(self, method="GET", path="/v1/apps/web", more=()):
        fields = [(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)]
        return b"".join(literal(*field) for field in [*fields, ("authorization", self.token), *more])

    def open(self, method="GET", path="/v1/apps/web", more=(), end=True):
        stream = next(self.numbers)
        head = f.HeadersFrame(stream, data=self.block(method, path, more), flags=["END_HEADERS"])
        if end:
            head.flags.add("END_STREAM")
        return head


def forever(*frames):
    """The same frames again and again."""
    once = b"".join(frame.serialize() for frame in frames)
    while True:
        yield len(frames), once


def each(make):
    """New frames each time."""
    while True:
        frames = make()
        yield len(frames), b"".join(frame.serialize() for frame in frames)


def after(first, rest):
    yield len(first), b"".join(frame.serialize() for frame in first)
    yield from rest


def opened(attack, also):
    """A stream for each round, and what is done to it."""

    def make():
        head = attack.open()
        return [head, *also(head.stream_id)]

    return each(make)


def uploads(attack, also):
    """The same for streams whose request goes on."""

    def make():
        head = attack.open("POST", STOP, end=False)
        return [head, *also(head.stream_id)]

    return each(make)


def upload(attack, also):
    """A request that goes on, and then the same frames of it without end."""
    head = attack.open("POST", STOP, end=False)
    return after([head], forever(*also(head.stream_id)))


def continuation(attack, piece):
    head = f.HeadersFrame(1, data=attack.block())
    return after([head], forever(f.ContinuationFrame(1, data=piece)))


def literal(name, value):
    """A field that leaves the table as it is."""
    return hpack.Encoder().encode([hpack.NeverIndexedHeaderTuple(name, value)])


def bomb(attack):
    """One entry of 4 KB in the table, then 16,000 references of one byte: 64 MB of fields."""
    one = attack.open()
    one.data += hpack.Encoder().encode([("x-bomb", "b" * 4000)])

    def references():
        head = attack.open()
        head.flags.discard("END_HEADERS")
        rest = f.ContinuationFrame(head.stream_id, data=b"\xbe" * 16_000, flags=["END_HEADERS"])
        return [head, rest]

    return after([one], each(references))


def with_h2(attack):
    """The rapid reset as a client of the library `h2` would do it."""
    client = h2.connection.H2Connection(h2.config.H2Configuration())
    client.initiate_connection()
    client.data_to_send()  # the preface has been sent
    while True:
        stream = client.get_next_available_stream_id()
        fields = [(":method", "GET"), (":scheme", "http"), (":authority", "localhost")]
        fields += [(":path", "/v1/apps/web"), ("authorization", attack.token)]
        client.send_headers(stream, fields, end_stream=True)
        client.reset_stream(stream, 8)
        yield 2, client.data_to_send()


def raw(kind, payload=b"", flags=0, stream=0):
    """A frame that the library would not write."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big")
    while True:
        yield 1, head + payload


def setting(key, value):
    frame = f.SettingsFrame(0)
    frame.settings = {key: value}
    return frame


FLOODS = {
    "rapid reset (h2)": with_h2,
    "rapid reset": lambda a: opened(a, lambda s: [f.RstStreamFrame(s, error_code=8)]),
    "rapid reset, one by one": lambda a: opened(a, lambda s: [f.RstStreamFrame(s, error_code=8)]),
    "rapid reset of uploads": lambda a: uploads(a, lambda s: [f.RstStreamFrame(s, error_code=8)]),
    "rapid reset, no token": lambda a: opened(
        Attack("Bearer x"), lambda s: [f.RstStreamFrame(s, error_code=8)]
    ),
    "CONTINUATION, 16 KB each": lambda a: continuation(a, literal("x", "y" * 60) * 250),
    "CONTINUATION, empty": lambda a: continuation(a, b""),
    "SETTINGS, empty": lambda a: forever(f.SettingsFrame(0)),
    "SETTINGS, table of headers": lambda a: forever(setting(1, 0), setting(1, 4096)),
    "SETTINGS, windows": lambda a: forever(setting(4, 1), setting(4, 2**31 - 1)),
    "SETTINGS, 2,700 each": lambda a: raw(4, (b"\0\x05" + (16384).to_bytes(4, "big")) * 2700),
    "PING": lambda a: forever(f.PingFrame(0, opaque_data=b"12345678")),
    "PING, nothing read": lambda a: forever(f.PingFrame(0, opaque_data=b"12345678")),
    "DATA, empty": lambda a: upload(a, lambda s: [f.DataFrame(s)]),
    "DATA, padding only": lambda a: upload(a, lambda s: [f.DataFrame(s, pad_length=200, flags=["PADDED"])]),
    "HPACK bomb": bomb,
    "MadeYouReset, WINDOW_UPDATE 0": lambda a: opened(
        a, lambda s: [f.WindowUpdateFrame(s, window_increment=0)]
    ),
    "MadeYouReset, WINDOW_UPDATE overflow": lambda a: uploads(
        a, lambda s: [f.WindowUpdateFrame(s, window_increment=2**31 - 1)] * 2
    ),
    "MadeYouReset, DATA behind the end": lambda a: opened(a, lambda s: [f.DataFrame(s, data=b"x")]),
    "MadeYouReset, HEADERS behind the end": lambda a: opened(
        a, lambda s: [f.HeadersFrame(s, data=a.block(), flags=["END_HEADERS", "END_STREAM"])]
    ),
    "MadeYouReset, PRIORITY on itself": lambda a: uploads(a, lambda s: [f.PriorityFrame(s, depends_on=s)]),
    "MadeYouReset, longer than its length": lambda a: (
        each(lambda: [h := a.open("POST", STOP, [("content-length", "1")], end=False),
                      f.DataFrame(h.stream_id, data=b"xx")])
    ),
    "MadeYouReset, malformed head": lambda a: each(lambda: [a.open(more=[("te", "gzip, x\n")])]),
    "streams over the limit": lambda a: each(lambda: [a.open("POST", STOP, end=False)]),
    "PRIORITY": lambda a: each(lambda: [f.PriorityFrame(next(a.numbers), depends_on=0)]),
    "WINDOW_UPDATE by 1": lambda a: forever(f.WindowUpdateFrame(0, window_increment=1)),
    "frames of an unknown type": lambda a: raw(0xEE, b"x" * 100),
    "PRIORITY_UPDATE": lambda a: raw(0x10, b"\0\0\0\1u=1"),
    "ORIGIN and ALTSVC": lambda a: raw(0x0A, b"\0\x01ax"),
    "GOAWAY": lambda a: forever(f.GoAwayFrame(0, last_stream_id=0, error_code=0)),
    "RST_STREAM of idle streams": lambda a: each(lambda: [f.RstStreamFrame(next(a.numbers), error_code=8)]),
    "PUSH_PROMISE": lambda a: after([a.open()], raw(5, b"\0\0\0\2\x82", 4, 1)),
    "a frame that is too long": lambda a: raw(0xEE, b"x" * 20_000),
}  # fmt: skip


def flood(usher, attack, name, secure):
    """Sends until usher ends the connection: frames, ms, what usher said, how it ended."""
    if secure:
        client = lab.connect_tls(usher.tls, ["h2"])
    else:
        client = socket.create_connection(("127.0.0.1", usher.clear), 10)
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + f.SettingsFrame(0).serialize())
    client.setblocking(False)
    reads, slowly = "nothing read" not in name, "one by one" in name
    begun, sent, pending, came, end = time.monotonic(), 0, b"", bytearray(), None
    floods = FLOODS[name](attack)
    while end is None and time.monotonic() - begun < SECONDS:
        over = sent >= FRAMES and not pending
        reads = reads or over
        readable, writable, _ = select.select([client] * reads, [client] * (not over), [], 0.5)
        if reads and (readable or secure):
            try:
                while part := client.recv(65536):
                    came += part
                end = "closed"
            except (BlockingIOError, lab.ssl.SSLWantReadError):
                pass
            except OSError:
                end = "reset"
        if writable and end is None:
            while len(pending) < (1 if slowly else 65536) and sent < FRAMES:
                count, data = next(floods)
                sent, pending = sent + count, pending + data
            try:
                if slowly:
                    # The request is under way when its reset comes.
                    client.send(pending[:-13])
                    time.sleep(0.001)
                    pending = pending[-13:]
                pending = pending[client.send(pending) :]
            except (BlockingIOError, lab.ssl.SSLWantWriteError, lab.ssl.SSLWantReadError):
                pass
            except OSError:
                # What usher said last may still be there.
                try:
                    while part := client.recv(65536):
                        came += part
                    end = "closed"
                except OSError:
                    end = "reset"
    client.close()
    return sent, (time.monotonic() - begun) * 1000, said(bytes(came)), end


def said(came):
    """Of usher's frames: the last GOAWAY, the resets, the number of answers."""
    last, resets, answers, at = None, {}, 0, 0
    while len(came) - at >= 9:
        length, kind = int.from_bytes(came[at : at + 3], "big"), came[at + 3]
        payload = came[at + 9 : at + 9 + length]
        at += 9 + length
        if kind == 7 and len(payload) >= 8:
            code = int.from_bytes(payload[4:8], "big")
            last = CODES.get(code, str(code)) + (f" ({payload[8:].decode()})" if payload[8:] else "")
        elif kind == 3 and len(payload) == 4:
            code = CODES.get(int.from_bytes(payload, "big"), "?")
            resets[code] = resets.get(code, 0) + 1
        answers += kind == 1
    text = f"GOAWAY {last}" if last else "no GOAWAY read"
    if resets:
        text += "; " + ", ".join(f"{count} times RST_STREAM {code}" for code, count in resets.items())
    return text + (f"; {answers} answers" if answers else "")


def slow_read(usher, attack, window, busy):
    """Responses of a megabyte: what the window allows is taken, and then a byte a second if that is
    one, else nothing; with all the room there can be nothing is read from the beginning. Who is busy
    has something else to ask every five seconds."""
    client = socket.create_connection(("127.0.0.1", usher.clear), 10)
    settings = f.SettingsFrame(0)
    settings.settings = {4: window}
    streams = [attack.open(path=PAGE) for _ in range(99)]
    client.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings.serialize())
    client.sendall(f.WindowUpdateFrame(0, window_increment=2**30).serialize())
    client.sendall(b"".join(stream.serialize() for stream in streams))
    client.settimeout(1)
    asked = time.monotonic()
    begun, came, end, most = time.monotonic(), bytearray(), None, 0
    while end is None and time.monotonic() - begun < SLOW_SECONDS:
        try:
            if window == 2**31 - 1:
                # An error once usher has closed.
                client.sendall(f.WindowUpdateFrame(0, window_increment=1).serialize())
                time.sleep(0.5)
                most = max(most, usher.resident())
                continue
            part = client.recv(65536)
            came += part
            end = None if part else "closed"
            # usher asks for a sign of life; a client that gives none is cut earlier.
            if (at := part.find(b"\0\0\x08\x06\0")) >= 0:
                pong = f.PingFrame(0, opaque_data=part[at + 9 : at + 17], flags=["ACK"])
                client.sendall(pong.serialize())
        except TimeoutError:
            if busy and time.monotonic() - asked > 5:
                asked = time.monotonic()
                client.sendall(attack.open().serialize())
            if window == 1:
                updates = [f.WindowUpdateFrame(s.stream_id, window_increment=1) for s in streams]
                client.sendall(b"".join(update.serialize() for update in updates))
        except OSError:
            end = "reset"
        most = max(most, usher.resident())
    client.close()
    return time.monotonic() - begun, said(bytes(came)), end, most


# What one connection may take of usher's memory.
READER_BYTES = 64 * 2**20

# What is taken of each stream in the beginning, and whether something else is asked for meanwhile.
READERS = {
    "slow read, a byte a second": (1, False),
    "slow read, nothing": (0, False),
    "slow read, all but the end": (2**20 - 5_000, False),
    "slow read, all but the end, and asking on": (2**20 - 5_000, True),
    "slow read, room for all and not a byte read": (2**31 - 1, False),
}


def main(binary, only=""):
    at = lab.port()
    page = lab.FOLDER / "page"
    page.write_bytes(bytes(2**20))
    log = lab.FOLDER / "requests"
    lab.nginx(
        "upstream",
        f"log_format seen '$request_method'; keepalive_requests 1000000; server {{"
        f" listen 127.0.0.1:{at} backlog=4096; access_log {log} seen;"
        f" location = /v1/apps/web {{ return 200 ok; }}"
        f" location {STOP} {{ proxy_pass http://127.0.0.1:{at}/taken; }} location /taken {{ return 204; }}"
        f" location / {{ root {lab.FOLDER}; try_files /page =404; }} }}",
    )
    lab.wait_for(at)
    usher = lab.Usher(binary, at)
    token = usher.token("deploy", "--app", "web")
    wrong = 0
    names = [(name, False) for name in FLOODS]
    names += [("rapid reset", True), ("PING", True), ("CONTINUATION, 16 KB each", True)]
    names = [(name, secure) for name, secure in names if name.startswith(only)]
    readers = [name for name in READERS if name.startswith(only)]
    with lab.Ordinary(usher.clear, token):
        time.sleep(1)
    for name, secure in names:
        before = usher.resident(), usher.cpu(), log.read_bytes().count(b"\n")
        refused = usher.metric("usher_connections_refused_total")
        begun, ends = time.monotonic(), []
        with lab.Ordinary(usher.clear, token, 0.02) as other:
            while not ends or time.monotonic() - begun < AGAIN:
                ends.append(flood(usher, Attack(token), name, secure))
            spent = usher.cpu() - before[1]
        left = usher.settle()
        refused = usher.metric("usher_connections_refused_total") - refused
        upstream = log.read_bytes().count(b"\n") - before[2] - other.served
        frames, took, text, end = ends[0]
        good = all(one[3] for one in ends) and not other.failed and not left
        wrong += not good
        print(
            f"{name}{' over TLS' if secure else ''}: {end or 'NOT ENDED'} after {frames} frames,"
            f" {took:.0f} ms; {text}{'; counted as over a limit' if refused else ''}\n"
            f"    {len(ends)} connections in {AGAIN} s: {upstream} requests upstream, {spent:.2f} s of CPU,"
            f" memory {before[0] / 2**20:.0f} -> {usher.resident() / 2**20:.0f} MiB; {other}",
            flush=True,
        )
    for name in readers:
        before = usher.resident(), usher.cpu()
        with lab.Ordinary(usher.clear, token, 0.1) as other:
            took, text, end, most = slow_read(usher, Attack(token), *READERS[name])
        left = usher.settle()
        wrong += bool(other.failed or left or not end or most - before[0] > READER_BYTES)
        print(
            f"{name}: {end or 'went on'} after {took:.0f} s; {text}\n    {usher.cpu() - before[1]:.2f} s of"
            f" CPU, memory {before[0] / 2**20:.0f} -> {most / 2**20:.0f} MiB at most,"
            f" {usher.resident() / 2**20:.0f} afterwards; {other}",
            flush=True,
        )
    wrong += lab.shown()
    print(f"{len(names) + len(readers)} floods, {wrong} not as expected")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

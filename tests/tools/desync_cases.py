"""Requests that two readers may take for two different things, for desync.py.

A case is bytes (of HTTP/1.1) or frames (of HTTP/2). It says what is behind it: `SMUGGLED` must never
be read as a request, at least not by usher; `PIPELINED` is one, since what is before it ends there
for every reader. Where it is a tunnel, what is behind is somebody else's bytes.
"""

import collections

import hpack
from hyperframe import frame as f

SMUGGLED, PIPELINED = "smuggled", "pipelined"
HOST = b"localhost"
POST = b"POST /v1/apps/web/machines/148e1aaa000001/stop HTTP/1.1"
GET = b"GET /v1/apps/web HTTP/1.1"
KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


class Maker:
    """The lines of one case. `one` is the request itself, `two` what is behind it."""

    def __init__(self, token, case):
        self.token, self.case = token, case.encode()

    def lines(self, which):
        # A proxy that unfolds a line does so to the last one.
        return b"authorization: %s\r\nx-case: %s-%s\r\nx-last: 1\r\n" % (self.token, self.case, which)

    def head(self, line, more=b"", which=b"one", host=b"host: %s\r\n" % HOST):
        return line + b"\r\n" + host + self.lines(which) + more + b"\r\n"

    def behind(self):
        """A request that says that it has been judged already."""
        forged = b"x-usher-decision: forged\r\nx-front: forged\r\n"
        return self.head(GET, forged, b"two")


def http1(token):
    """`(name, bytes, what is behind)` of each case; `m` makes its lines."""
    found = []

    def case(name, make, behind=SMUGGLED):
        maker = Maker(token, f"{len(found)}")
        found.append((name, make(maker), behind))

    def framed(name, lines, body=b"", behind=SMUGGLED, line=POST):
        case(name, lambda m: m.head(line, lines) + body + m.behind(), behind)

    # Two framings. The body ends at once for who reads chunks, and holds a request for who counts.
    te = b"transfer-encoding: chunked\r\n"
    length = lambda m, body: b"content-length: %d\r\n" % len(body + m.behind())
    codings = [
        b"transfer-encoding: %s\r\n" % value
        for value in [
            b"chunked", b"Chunked", b" chunked", b"\tchunked", b"chunked ", b"\x0bchunked", b"chunked\x0b",
            b"\x0cchunked", b"chunked\0", b"xchunked", b"chunked-x", b'"chunked"', b"'chunked'", b"chunked;q=1",
            b"chunked,", b",chunked", b", chunked", b"chunked, identity", b"identity, chunked", b"identity",
            b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,chunked", b"cow", b"", b"chunk",
            b"\r\n chunked", b"x\r\n chunked", b"chunked\r\n x", b"\n chunked", b"\xa0chunked", b"ch\xc3\xbcnked",
        ]
    ]  # fmt: skip
    codings += [
        b"transfer-encoding : chunked\r\n", b"transfer-encoding\t: chunked\r\n", b" transfer-encoding: chunked\r\n",
        b"\ttransfer-encoding: chunked\r\n", b"transfer_encoding: chunked\r\n", b"transfer.encoding: chunked\r\n",
        b"transfer encoding: chunked\r\n", b"transfer-encoding\0: chunked\r\n", b"\0transfer-encoding: chunked\r\n",
        b"transfer-encoding:chunked\n", b"x: y\ntransfer-encoding: chunked\r\n", b"x: y\rtransfer-encoding: chunked\r\n",
        b"x: y\r\r\ntransfer-encoding: chunked\r\n", b"content-encoding: chunked\r\n", b"te: chunked\r\n",
        te + te, te + b"transfer-encoding: identity\r\n", b"transfer-encoding: identity\r\n" + te,
        te + b"Transfer-encoding: cow\r\n", b"transfer-encoding: cow\r\n" + te, b"connection: transfer-encoding\r\n" + te,
        b"x\r\n" + te, b": x\r\n" + te, b"x(y): z\r\n" + te,
    ]  # fmt: skip
    ended = b"0\r\n\r\n"
    for line in codings:
        clean = line.lower().strip(b"\r\n").replace(b"\t", b" ").strip(b" ").replace(b":  ", b": ") == te[:-2]
        clean &= line[:1] not in b" \t" and line.endswith(b"\r\n")
        name = repr(line.decode("latin-1").removesuffix("\r\n"))
        case(f"CL, TE: {name}", lambda m: m.head(POST, length(m, ended) + line) + ended + m.behind())
        case(f"TE, CL: {name}", lambda m: m.head(POST, line + length(m, ended)) + ended + m.behind())
        framed(f"TE: {name}", line, ended, PIPELINED if clean else SMUGGLED)
    case("TE.CL", lambda m: m.head(POST, b"content-length: 4\r\n" + te)
         + b"%x\r\n%s\r\n0\r\n\r\n" % (len(m.behind()), m.behind()))  # fmt: skip

    # Lengths that are not one number.
    for value in [
        b"5, 5", b"5,5", b"5, 6", b"+5", b"-5", b"-0", b"0x5", b"05", b"005", b"0" * 300 + b"5", b"5 5", b"5;", b"5.0",
        b"5\x0b", b"\x0b5", b"1e0", b"", b" ", b"5\0", b"\xd9\xa5", b"18446744073709551621", b"9223372036854775808",
        b"4294967301", b"99999999999999999999999999", b"\r\n 5", b"5\r\n 5", b"five", b"chunked", b"5_0", b"\"5\"",
    ]:  # fmt: skip
        lines = b"content-length: %s\r\n" % value
        # Nothing ends in time that counts four gigabytes: what is behind is the body.
        framed(f"CL: {value[:30].decode('latin-1')!r}", lines, b"hello")
        framed(f"GET, CL: {value[:30].decode('latin-1')!r}", lines, b"hello", line=GET)
    one, six = b"content-length: 5\r\n", b"content-length: 6\r\n"
    for lines in [
        one + one, one + six, six + one, b"content-length : 5\r\n", b" content-length: 5\r\n", b"content_length: 5\r\n",
        b"content-length\0: 5\r\n", b"content-length\x0b: 5\r\n", b"x: y\ncontent-length: 5\r\n", b"x: y\rcontent-length: 5\r\n",
        b"content-length: 0\r\n" + one, one + b"content-length: 0\r\n", b"connection: content-length\r\n" + one,
        one + b"content-length:\r\n", b"content-length: 5\n",
    ]:  # fmt: skip
        framed(f"CL: {lines.decode('latin-1')!r}", lines, b"hello")
    case("a request as a body", lambda m: m.head(POST, length(m, b"")) + m.behind())
    for line in [
        GET,
        GET.replace(b"GET", b"HEAD"),
        GET.replace(b"GET", b"DELETE"),
        GET.replace(b"GET", b"OPTIONS"),
    ]:
        name = line.split()[0].decode()
        case(f"{name} with a request as a body", lambda m: m.head(line, length(m, b"")) + m.behind())
        framed(f"{name} with chunks", te, ended, line=line)
    framed("no body", b"", behind=PIPELINED)
    framed("CL 0", b"content-length: 0\r\n", behind=PIPELINED)
    framed("CL 5", one, b"hello", PIPELINED)
    framed("CL 5, longer", one, b"hello!")
    # One empty line before a request is nothing (RFC 9112 2.2).
    framed("CL 5, with a line end behind", one, b"hello\r\n", PIPELINED)

    # Chunks.
    for body in [
        b"5;a=b\r\nhello\r\n0\r\n\r\n", b"5;\r\nhello\r\n0\r\n\r\n", b"5;a=\"\r\n\"\r\nhello\r\n0\r\n\r\n", b"5;a\nhello\r\n0\r\n\r\n",
        b"5;a\rhello\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5\rhello\r\n0\r\n\r\n", b"5 \r\nhello\r\n0\r\n\r\n", b" 5\r\nhello\r\n0\r\n\r\n",
        b"\t5\r\nhello\r\n0\r\n\r\n", b"5\t\r\nhello\r\n0\r\n\r\n", b"+5\r\nhello\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5_\r\nhello\r\n0\r\n\r\n", b"\r\nhello\r\n0\r\n\r\n", b"g\r\nhello\r\n0\r\n\r\n", b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n",
        b"0" * 5000 + b"5\r\nhello\r\n0\r\n\r\n", b"10000000000000005\r\nhello\r\n0\r\n\r\n", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"8000000000000005\r\nhello\r\n0\r\n\r\n", b"100000005\r\nhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"0\n\r\n", b"0\r\n\n", b"0\n\n", b"0\r\r\n", b"0\r\n\r", b"0\r\n", b"0\r\n\r\r\n",
        b"5\r\nhello\r\n0\r\nx: y\n\n", b"5\r\nhello\r\n0\r\nx: y\r\n\n", b"5\r\nhello\r\n0\r\n x: y\r\n\r\n", b"5\r\nhello\r\n0\r\nx : y\r\n\r\n",
        b"5\r\nhello\r\n0\r\nx\r\n\r\n", b"5\r\nhello\r\n0\r\nx: y\r\n z\r\n\r\n", b"5\r\nhello\r\n0\r\nx: y\0\r\n\r\n", b"-0\r\n\r\n", b"0x0\r\n\r\n",
        b"0 \r\n\r\n", b"0;a\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n0\r\n\r\n", b"5\r\nhello\r\n",
    ]:  # fmt: skip
        framed(f"chunks: {body[:44].decode('latin-1')!r}", te, body)
    for body in [
        b"0\r\n\r\n", b"00\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n", b"05\r\nhello\r\n0\r\n\r\n", b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
        b"5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n", b"5\r\nhello\r\n0\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n0\r\nhost: other\r\nauthorization: x\r\nx-usher-decision: forged\r\nx-front: forged\r\n\r\n",
        b"5\r\nhello\r\n0\r\ntrailer: x\r\nx-case: forged\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n\r\n",
    ]:  # fmt: skip
        framed(f"good chunks: {body.decode('latin-1')!r}", te, body, PIPELINED)

    # Line ends and lines.
    for old, new in [(b"\r\n", b"\n"), (b"\r\n", b"\r"), (b"\r\n", b"\r\r\n"), (b"\r\n", b"\n\r"), (b"\r\n\r\n", b"\r\n\n"),
                     (b"\r\n\r\n", b"\n\r\n"), (b"\r\n\r\n", b"\n\n"), (b"\r\nhost", b"\nhost"), (b"\r\n\r\n", b"\r\n\x0b\r\n")]:  # fmt: skip
        case(f"{old!r} is {new!r}", lambda m: m.head(GET).replace(old, new) + m.behind())
    for ahead in [b"\r\n", b"\r\n\r\n", b"\n", b" ", b"\0", b"\xef\xbb\xbf", b"X"]:
        behind = {b"\r\n": PIPELINED, b"X": None}.get(ahead, SMUGGLED)
        case(f"{ahead!r} ahead", lambda m: ahead + m.head(GET) + m.behind(), behind)
        case(f"{ahead!r} between", lambda m: m.head(GET) + ahead + m.behind(), behind)
    for more in [
        b"x\r\n", b": x\r\n", b"x y: z\r\n", b"x\0: y\r\n", b"x: a\0b\r\n", b"x: a\x7fb\r\n", b"x: a\rb\r\n", b"x: a\r\n b\r\n",
        b"x: a\r\n\tx-usher-decision: forged\r\n", b" x: y\r\n", b"x-usher-decision : forged\r\n", b"x_usher_decision: forged\r\n",
        b"x.usher.decision: forged\r\n", b"x-usher\xadecision: forged\r\n", b"\"x\": y\r\n", b"x: y\r\nx\r\n\r\n",
        b"connection: x-usher-decision\r\n", b"connection: host\r\n", b"connection: x-front, close\r\n", b"connection: authorization\r\n",
        b"authorization: other\r\n", b"expect: 200-ok\r\n", b"x: %s\r\n" % (b"y" * 70_000), b"x: y\r\n" * 200,
    ]:  # fmt: skip
        case(f"line {more[:40].decode('latin-1')!r}", lambda m: m.head(GET, more) + m.behind(), None)
    for more in [b"x-usher-decision: forged\r\n", b"x-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\n", b"x-forwarded-host: other\r\n",
                 b"x-http-method-override: DELETE\r\n", b"x-original-url: /v1/apps/api\r\nx-rewrite-url: /v1/apps/api\r\n",
                 b"keep-alive: timeout=5\r\nconnection: keep-alive\r\n", b"proxy-connection: keep-alive\r\n", b"te: trailers\r\nconnection: te\r\n"]:  # fmt: skip
        framed(f"good line {more.decode('latin-1')!r}", more, behind=PIPELINED, line=GET)
    for more in [b"connection: close\r\n", b"connection: keep-alive, close\r\n"]:
        framed(f"{more.decode().strip()}, more behind", more, line=GET)

    # Request lines.
    for line in [
        b"GET /v1/apps/web HTTP/1.0", b"GET /v1/apps/web HTTP/0.9", b"GET /v1/apps/web", b"GET /v1/apps/web HTTP/1.2", b"GET /v1/apps/web HTTP/2.0",
        b"GET /v1/apps/web HTTP/1.1x", b"GET /v1/apps/web http/1.1", b"GET /v1/apps/web HTTP/1.1 ", b"GET /v1/apps/web HTTP/01.1", b"GET  /v1/apps/web HTTP/1.1",
        b"GET\t/v1/apps/web\tHTTP/1.1", b"GET /v1/apps/web  HTTP/1.1", b"GET /v1/apps/web HTTP/1.1 HTTP/1.1", b"GET /v1/apps/web x HTTP/1.1",
        b"GET\x0b/v1/apps/web HTTP/1.1", b"get /v1/apps/web HTTP/1.1", b"G\0T /v1/apps/web HTTP/1.1", b"GET /v1/apps/web\0 HTTP/1.1",
        b"GET /v1/apps/web#x HTTP/1.1", b"GET /v1/apps/web%0d%0ax:y HTTP/1.1", b"GET /v1/apps/web%20HTTP/1.1%0d%0ax:y HTTP/1.1", b"GET /v1/apps/w\xc3\xa9b HTTP/1.1",
        b"GET /v1/apps/../apps/web HTTP/1.1", b"GET /v1/apps/%2e%2e/apps/web HTTP/1.1", b"GET //v1/apps/web HTTP/1.1", b"GET /v1/apps//web HTTP/1.1",
        b"GET /v1/apps/web/ HTTP/1.1", b"GET /v1\\apps\\web HTTP/1.1", b"GET /v1/apps/web;x HTTP/1.1", b"GET /v1/apps%2fweb HTTP/1.1", b"GET /v1/apps/web? HTTP/1.1",
        b"GET http://localhost/v1/apps/web HTTP/1.1", b"GET http://other/v1/apps/web HTTP/1.1", b"GET http://x@localhost/v1/apps/web HTTP/1.1",
        b"GET https://localhost/v1/apps/web HTTP/1.1", b"GET http://localhost:80/v1/apps/web HTTP/1.1", b"GET http:///v1/apps/web HTTP/1.1", b"GET http:/v1/apps/web HTTP/1.1",
        b"GET localhost HTTP/1.1", b"GET v1/apps/web HTTP/1.1", b"GET * HTTP/1.1", b"OPTIONS * HTTP/1.1", b"TRACE /v1/apps/web HTTP/1.1",
        b"CONNECT localhost:80 HTTP/1.1", b"CONNECT /v1/apps/web HTTP/1.1", b"PRI * HTTP/2.0", b"GET /" + b"a" * 9000 + b" HTTP/1.1",
    ]:  # fmt: skip
        case(f"line {line[:50].decode('latin-1')!r}", lambda m: m.head(line) + m.behind(), None)
        case(
            f"line {line[:50].decode('latin-1')!r}, a request as a body",
            lambda m: m.head(line, length(m, b"")) + m.behind(),
            None,
        )
        framed(f"line {line[:50].decode('latin-1')!r}, chunks", te, ended, None, line)
    case(
        "an HTTP/2 preface behind a request",
        lambda m: m.head(GET) + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + m.behind(),
    )

    # Hosts.
    host = b"host: localhost\r\n"
    for lines in [b"", b"host:\r\n", host + host, host + b"host: other\r\n", b"host: other\r\n" + host, b"host: localhost, other\r\n", b"host: x@localhost\r\n",
                  b"host: localhost:\r\n", b"host: localhost:x\r\n", b"host: localhost:99999\r\n", b"host: localhost/x\r\n", b"host: localhost.\r\n", b"host : localhost\r\n",
                  b"host: \r\n localhost\r\n", b"host: localhost other\r\n", b"host: [::1\r\n", b"host: local%68ost\r\n", b"host: localhost#\r\n", b"host: localhost\0\r\n"]:  # fmt: skip
        case(f"hosts {lines.decode('latin-1')!r}", lambda m: m.head(GET, host=lines) + m.behind(), None)

    # Other protocols, and bodies that are asked for or come too early.
    upgrade = b"connection: upgrade\r\nupgrade: %s\r\n"
    socket = websocket(KEY)
    attach = b"GET /v1/apps/web/attach HTTP/1.1"
    h2c = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
    framed("upgrade to h2c", h2c, line=GET, behind=None)
    case("upgrade to h2c, a request as a body", lambda m: m.head(POST, h2c + length(m, b"")) + m.behind())
    framed("upgrade to a WebSocket that no route allows", socket, line=GET, behind=None)
    framed("upgrade to a WebSocket that the upstream refuses", socket, line=attach, behind=None)
    case(
        "upgrade to a WebSocket, a request as a body",
        lambda m: m.head(attach, socket + length(m, b"")) + m.behind(),
    )
    framed("upgrade to a WebSocket, chunks", socket + te, ended, line=attach)
    framed("upgrade to two protocols", upgrade % b"websocket, h2c", line=attach, behind=None)
    expect = b"expect: 100-continue\r\n"
    case("expect 100, a request as a body", lambda m: m.head(POST, expect + length(m, b"")) + m.behind())
    framed("expect 100, chunks", expect + te, ended, PIPELINED)
    framed("expect 100, no body", expect, line=GET, behind=None)
    case("expect 100 of a denied request, a request as a body",
         lambda m: m.head(POST.replace(b"/web/", b"/api/"), expect + length(m, b"")) + m.behind())  # fmt: skip
    for name, line in [
        ("denied", POST.replace(b"/web/", b"/api/")),
        ("unknown", b"POST /nowhere HTTP/1.1"),
        ("not allowed", POST.replace(b"POST", b"PUT")),
    ]:
        case(f"{name}, a request as a body", lambda m: m.head(line, length(m, b"")) + m.behind())
        framed(f"{name}, chunks", te, b"5\r\nhello\r\n0\r\n\r\n", None, line)
    case(
        "no token, a request as a body",
        lambda m: m.head(POST, length(m, b"")).replace(token, b"x") + m.behind(),
    )
    case("a body that breaks off", lambda m: m.head(POST, b"content-length: 1000\r\n") + m.behind())
    case("a chunk that breaks off", lambda m: m.head(POST, te) + b"fff\r\n" + m.behind())
    case("no token, then one", lambda m: m.head(GET).replace(token, b"x") + m.behind(), PIPELINED)
    case("denied, then permitted", lambda m: m.head(GET.replace(b"web", b"api")) + m.behind(), PIPELINED)
    case(
        "HEAD, then GET",
        lambda m: m.head(b"HEAD /v1/apps/web/volumes/vol_web1 HTTP/1.1") + m.behind(),
        PIPELINED,
    )
    return found


# The head, what is sent behind it (at once, or behind the answer), and what of that has to arrive at
# the other end once usher has switched; `None` where it must not switch.
Tunnel = collections.namedtuple("Tunnel", "name head behind bytes carried at_once")


def tunnels(token, port, first):
    """What is no longer HTTP/1.1, or would not be if it were granted: WebSockets, and tunnels to this
    port. `m` makes the lines of a case; the first has the number `first`."""
    found = []

    def case(name, head, carried=None):
        """With each kind of bytes behind it. `carried` makes what arrives of them."""
        for what, make in BEHIND:
            for at_once in (True, False):
                maker = Maker(token, f"{first + len(found)}")
                behind = make(maker)
                found.append(
                    Tunnel(
                        f"{name}, {what} {'at once' if at_once else 'behind the answer'}",
                        head(maker),
                        SMUGGLED if carried else None,
                        behind,
                        carried(behind) if carried else None,
                        at_once,
                    )
                )

    whole = lambda behind: behind
    attach, socket = b"GET /v1/apps/web/attach HTTP/1.1", websocket(KEY)
    # What the upstream makes of it, see `Recorder`.
    wanted = b"x-wanted: %s\r\n"
    case("a WebSocket", lambda m: m.head(attach, socket + wanted % b"switch"), whole)
    for answer in [b"200", b"403", b"426", b"wrong accept", b"other protocol", b"bare"]:
        case(
            f"a WebSocket that is answered {answer.decode()}",
            lambda m: m.head(attach, socket + wanted % answer),
        )
    switch = socket + wanted % b"switch"
    for name, line, lines in [
        ("of another app", attach.replace(b"web", b"api"), switch),
        ("that no route has", GET, switch),
        ("by POST", attach.replace(b"GET", b"POST"), switch),
        ("without its key", attach, switch.replace(KEY, b"")),
        ("of version 8", attach, switch.replace(b": 13", b": 8")),
        ("or h2c", attach, switch.replace(b"websocket", b"websocket, h2c", 1)),
        ("with chunks to come", attach, switch + b"transfer-encoding: chunked\r\n"),
        ("with a body to come", attach, switch + b"content-length: 10\r\n"),
        ("with a body to ask for", attach, switch + b"expect: 100-continue\r\ncontent-length: 10\r\n"),
        ("of HTTP/1.0", attach.replace(b"HTTP/1.1", b"HTTP/1.0"), switch),
    ]:
        case(f"a WebSocket {name}", lambda m: m.head(line, lines))
    case("a WebSocket without a token", lambda m: m.head(attach, switch).replace(token, b"x"))

    # A tunnel in a WebSocket: the messages are usher's to read.
    inside = b"GET /v1/apps/%s/tunnel/%d HTTP/1.1"
    case("a tunnel in a WebSocket", lambda m: m.head(inside % (b"web", port), socket), payload)
    case("a tunnel in a WebSocket, of another app", lambda m: m.head(inside % (b"api", port), socket))
    case("a tunnel in no WebSocket", lambda m: m.head(inside % (b"web", port)))

    at = b"web.internal:%d" % port
    connect = lambda m, more=b"", at=at, host=None: m.head(
        b"CONNECT %s HTTP/1.1" % at, more, host=b"host: %s\r\n" % (host or at)
    )
    case("CONNECT", connect, whole)
    case("CONNECT without a token", lambda m: connect(m).replace(token, b"x"))
    for name, other in [
        ("another app", at.replace(b"web", b"api")),
        ("nobody", b"nobody.internal:%d" % port),
        ("another host", b"web.example:%d" % port),
        ("a port where nobody is", b"web.internal:1"),
        ("no port", b"web.internal"),
        ("a path", b"/v1/apps/web"),
        ("a URI", b"http://%s/" % at),
    ]:
        case(f"CONNECT to {name}", lambda m: connect(m, at=other))
    case("CONNECT to two hosts", lambda m: connect(m, host=b"api.internal:%d" % port))
    for lines in [
        b"content-length: 10\r\n", b"transfer-encoding: chunked\r\n", b"expect: 100-continue\r\ncontent-length: 10\r\n",
        b"content-length: 0\r\ntransfer-encoding: chunked\r\n", b"content-length : 0\r\n", b"transfer-encoding:\x0bchunked\r\n",
    ]:  # fmt: skip
        case(f"CONNECT with {lines.decode()!r}", lambda m: connect(m, lines))
    case("connect", lambda m: connect(m).replace(b"CONNECT", b"connect"))
    return found


def websocket(key):
    """The lines that ask for a WebSocket."""
    lines = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
    return lines + b"sec-websocket-key: %s\r\n" % key


def message(content):
    """A binary message of a WebSocket as a client sends it; its mask is nought."""
    return b"\x82\xfe" + len(content).to_bytes(2, "big") + bytes(4) + content


def payload(behind):
    """What usher reads from the messages of a WebSocket: nothing that is none."""
    return behind[8:] if behind.startswith(b"\x82") else b""


# What follows a head, and looks like a request to whoever reads HTTP there.
BEHIND = [
    ("a request", lambda m: m.behind()),
    ("a request behind an empty line", lambda m: b"\r\n" + m.behind()),
    ("a request behind the end of chunks", lambda m: b"0\r\n\r\n" + m.behind()),
    ("a request behind ten bytes", lambda m: b"0123456789" + m.behind()),
    ("a request in a message", lambda m: message(m.behind())),
    ("a preface of HTTP/2 and a request", lambda m: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + m.behind()),
]


def http2(token):
    """The same in HTTP/2: `(name, frames of stream 1, what is behind)`."""
    found = []

    def case(
        name,
        fields=(),
        body=None,
        trailers=None,
        behind=SMUGGLED,
        method=b"POST",
        path=POST.split()[1],
        drop=(),
        more=None,
    ):
        maker = Maker(token, f"h2-{len(found)}")
        smuggled = maker.behind()
        fill = lambda value: value.replace(b"SMUGGLED", smuggled).replace(b"LENGTH", b"%d" % len(smuggled))
        usual = [(b":method", method), (b":scheme", b"http"), (b":authority", HOST), (b":path", path),
                 (b"authorization", token), (b"x-case", maker.case + b"-one")]  # fmt: skip
        lines = [one for one in usual if one[0] not in drop] + [(name, fill(value)) for name, value in fields]
        head = f.HeadersFrame(1, data=block(lines), flags=["END_HEADERS"])
        if body is None:
            head.flags.add("END_STREAM")
        frames = [head]
        if body is not None:
            frames.append(f.DataFrame(1, data=fill(body), flags=[] if trailers else ["END_STREAM"]))
        if trailers:
            frames.append(
                f.HeadersFrame(
                    1, data=block([(n, fill(v)) for n, v in trailers]), flags=["END_HEADERS", "END_STREAM"]
                )
            )
        found.append((name, b"".join(frame.serialize() for frame in [*frames, *(more or [])]), behind))

    get = {"method": b"GET", "path": b"/v1/apps/web"}
    case("a request as a body", body=b"SMUGGLED")
    case("no length, GET with a body", body=b"SMUGGLED", **get)
    for length in [b"0", b"1", b"LENGTH", b"99999", b"00", b"+5", b"5, 5", b"-1", b"", b"x"]:
        case(f"content-length {length.decode()}", [(b"content-length", length)], b"SMUGGLED")
    case("content-length twice", [(b"content-length", b"0"), (b"content-length", b"LENGTH")], b"SMUGGLED")
    for value in [b"chunked", b"identity", b"gzip, chunked", b"trailers"]:
        case(f"transfer-encoding {value.decode()}", [(b"transfer-encoding", value)], b"0\r\n\r\nSMUGGLED")
        case(f"te {value.decode()}", [(b"te", value)], b"0\r\n\r\nSMUGGLED")
    case(
        "transfer-encoding and a length",
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"LENGTH")],
        b"SMUGGLED",
    )
    for name, value in [(b"connection", b"keep-alive"), (b"connection", b"transfer-encoding"), (b"upgrade", b"h2c"), (b"keep-alive", b"x"),
                        (b"proxy-connection", b"x"), (b"http2-settings", b"AAMAAABk")]:  # fmt: skip
        case(f"{name.decode()}: {value.decode()}", [(name, value)], b"SMUGGLED")
    ends = [b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\0", b"\n\n"]
    for end in ends:
        shown = repr(end)
        forged = end + b"transfer-encoding: chunked" + end + end
        case(f"{shown} in a value", [(b"x", b"y" + forged + b"SMUGGLED")], b"0\r\n\r\nSMUGGLED")
        case(f"{shown} in a name", [(b"x" + forged, b"y")], b"0\r\n\r\nSMUGGLED")
        case(f"{shown} in :path", path=b"/v1/apps/web HTTP/1.1" + end + b"x: y", method=b"GET")
        case(f"{shown} in :method", method=b"GET /v1/apps/web HTTP/1.1" + end + b"x: y")
        case(f"{shown} in :authority", [(b":authority", HOST + end + b"x: y")], drop=[b":authority"], **get)
        case(f"{shown} in :scheme", [(b":scheme", b"http" + end + b"x: y")], drop=[b":scheme"], **get)
        case(f"{shown} in a trailer", body=b"x", trailers=[(b"x", b"y" + forged + b"SMUGGLED")])
    for path in [b"", b"*", b"v1/apps/web", b"http://localhost/v1/apps/web", b"//localhost/v1/apps/web", b"/v1/apps/web HTTP/1.1", b"/v1/apps/web#x", b"/v1/apps/web x",
                 b"/v1/apps/../apps/web", b"/v1/apps/web\t", b"/v1/apps/w\xc3\xa9b", b"?x=y", b"/v1/apps/web?"]:  # fmt: skip
        case(f":path {path.decode()!r}", behind=None, method=b"GET", path=path)
    for method in [
        b"",
        b"GET ",
        b" GET",
        b"get",
        b"GET /v1/apps/web HTTP/1.1\r\n",
        b"TRACE",
        b"CONNECT",
        b"PRI",
        b"G(T",
    ]:
        case(f":method {method.decode()!r}", behind=None, method=method, path=b"/v1/apps/web")
    for scheme in [b"https", b"", b"ftp", b"http://localhost/v1/apps/web?", b"http ", b"HTTP"]:
        case(f":scheme {scheme.decode()!r}", [(b":scheme", scheme)], drop=[b":scheme"], behind=None, **get)
    for name in [
        b"",
        b"other",
        b"localhost/x",
        b"x@localhost",
        b"localhost:80",
        b"localhost, other",
        b"localhost other",
        b"localhost.",
    ]:
        case(
            f":authority {name.decode()!r}", [(b":authority", name)], drop=[b":authority"], behind=None, **get
        )
        case(f"host {name.decode()!r}", [(b"host", name)], behind=None, **get)
    case("host only", [(b"host", HOST)], drop=[b":authority"], behind=None, **get)
    case("no host", drop=[b":authority"], behind=None, **get)
    for again in [(b":path", b"/v1/apps/api"), (b":method", b"POST"), (b":authority", b"other"), (b":scheme", b"https"), (b":status", b"200"), (b":x", b"y"),
                  (b":protocol", b"websocket")]:  # fmt: skip
        case(f"{again[0].decode()} behind other fields", [again], behind=None, **get)
    for name in [
        b"X-Upper",
        b"x y",
        b"x:y",
        b"",
        b" x",
        b"x ",
        b"x\x7f",
        b"x\xff",
        b"x_usher_decision",
        b"x.usher.decision",
        b"transfer_encoding",
        b"content-length ",
    ]:
        case(f"name {name.decode('latin-1')!r}", [(name, b"5")], b"SMUGGLED", behind=None)
    for value in [b" y", b"y ", b"a\x0bb", b"a\x7fb", b"\xff"]:
        case(f"value {value.decode('latin-1')!r}", [(b"x", value)], b"SMUGGLED", behind=None)
    for trailer in [
        (b"content-length", b"0"),
        (b"transfer-encoding", b"chunked"),
        (b"host", b"other"),
        (b"x-usher-decision", b"forged"),
        (b":path", b"/v1/apps/api"),
        (b"x-case", b"forged"),
    ]:
        case(f"trailer {trailer[0].decode()}", body=b"SMUGGLED", trailers=[trailer])
    case("CONNECT", method=b"CONNECT", drop=[b":scheme", b":path"], body=b"SMUGGLED")
    case(
        "extended CONNECT",
        [(b":protocol", b"websocket")],
        method=b"CONNECT",
        path=b"/v1/apps/web/attach",
        body=b"SMUGGLED",
    )
    case("DATA behind the end", body=b"x", more=[f.DataFrame(1, data=Maker(token, "h2-late").behind())])
    case(
        "HEADERS behind the end",
        body=b"x",
        more=[f.HeadersFrame(1, data=block([(b":method", b"GET")]), flags=["END_HEADERS"])],
    )
    case("a cookie in parts", [(b"cookie", b"a=1"), (b"cookie", b"b=2")], behind=None, **get)
    case("expect", [(b"expect", b"100-continue")], b"SMUGGLED")
    case("denied", body=b"SMUGGLED", path=b"/v1/apps/api/machines/148e1aaa000001/stop")
    return found


def block(fields):
    """A header block of the fields as they are: the encoder's own checks would mend them."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return encoder.encode(fields, huffman=False)

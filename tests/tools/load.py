"""h2load against usher, before an nginx that counts: HTTP/1.1 and HTTP/2, clear and over TLS, with
a token that permits, with one that does not, and with none.

    python3 tests/tools/load.py target/release/usher

Needs nginx and h2load (nghttp2-client). Demands that every request is answered with the status it
deserves, that exactly the permitted ones reach the upstream, and that no connection is left. The
last runs ask for more at once than `limits.upstream_connections`: what does not fit is told 503.
"""

import re
import subprocess
import sys

import lab

# One after the other is slow.
REQUESTS, ALONE = 20_000, 2_000


def main(binary):
    at, log = lab.port(), lab.FOLDER / "requests"
    lab.nginx(
        "upstream",
        f"log_format seen '$http_x_usher_decision'; keepalive_requests 1000000; server {{"
        f" listen 127.0.0.1:{at} backlog=4096; access_log {log} seen;"
        f" location / {{ return 200 ok; }} }}",
    )
    lab.wait_for(at)
    usher = lab.Usher(binary, at)
    token = usher.token("deploy", "--app", "web")
    http1 = [("http", usher.clear, "--h1"), ("https", usher.tls, "--npn-list=http/1.1")]
    http2 = [("http", usher.clear, "-p h2c"), ("https", usher.tls, "--npn-list=h2")]
    kinds = [("/v1/apps/web", token, 200), ("/v1/apps/api", token, 403), ("/v1/apps/web", None, 401)]
    runs = [
        (scheme, at, f"{flag} -c {clients} -m {streams}", *kind)
        for kind in kinds
        for protocol, counts in [
            (http1, [(1, 1), (10, 1), (100, 1)]),
            (http2, [(1, 1), (10, 10), (100, 10)]),
        ]
        for scheme, at, flag in protocol
        for clients, streams in counts
    ]
    # Ten thousand at once, three times: what they took is not taken again.
    runs += [(*http2[0][:2], "-p h2c -c 100 -m 100", "/v1/apps/web", token, None)] * 3
    print(lab.version("h2load", "--version"))
    wrong = 0
    for scheme, at, flags, path, token, status in runs:
        requested = ALONE if "-c 1 " in flags else REQUESTS
        before = count(log), usher.resident(), usher.descriptors(), usher.cpu()
        shown = f"h2load -n {requested} {flags} {scheme}://localhost:{at}{path}"
        secret = ["-H", f"authorization: {token}"] if token else []
        done = subprocess.run(["nice", *shown.split(), *secret], capture_output=True, text=True, timeout=300)
        left = usher.settle()
        seen = count(log) - before[0]
        usher_log = [line for line in usher.log() if line["message"] == "request decided"]
        requests = re.search(r"^requests: (.*)", done.stdout, re.M)[1]
        statuses = re.search(r"^status codes: (.*)", done.stdout, re.M)[1]
        classes = [int(number) for number in re.findall(r"(\d+) [2345]xx", statuses)]
        permitted = sum(line["verdict"] == "permit" for line in usher_log)
        good = f" {requested} done," in requests and "0 errored, 0 timeout" in requests
        good &= len(usher_log) == requested and not left
        if status is None:
            good &= seen == classes[0] and classes[0] + classes[3] == requested == permitted
        else:
            good &= classes["2345".index(str(status)[0])] == requested
            good &= seen == permitted == (requested if status == 200 else 0)
        wrong += not good
        rate = re.search(r", (\S+) req/s", done.stdout)[1]
        print(
            f"{shown}{' -H AUTHORIZATION' if token else ''}\n  {requests}\n  {statuses}\n"
            f"  permitted {permitted}, upstream {seen}; {rate} a second, {usher.cpu() - before[3]:.1f} s"
            f" of CPU, memory {before[1] / 2**20:.0f} -> {usher.resident() / 2**20:.0f} MiB,"
            f" descriptors {before[2]} -> {usher.descriptors()}{'' if good else '  NOT AS EXPECTED'}",
            flush=True,
        )
    wrong += lab.shown()
    print(f"{len(runs)} runs, {wrong} not as expected; usher's 503: "
          f"{usher.metric('usher_forward_failures_total')}")  # fmt: skip
    return bool(wrong)


def count(log):
    return log.read_bytes().count(b"\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

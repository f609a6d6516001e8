#!/usr/bin/env bash
# What 10,000 idle connections cost: bytes of resident memory each, HTTP/1.1, without TLS.
#
#   benches/idle.sh target/release/usher
#
# Each connection is answered one request before it falls idle, so that all buffers have been used.
# Needs python3, and 20,000 descriptors (ulimit -n).
set -euo pipefail
usher=${1:?which usher}
folder=$(mktemp -d)
trap 'kill "$pid" 2>/dev/null || true; rm -rf "$folder"' EXIT

head -c 32 /dev/urandom | base64 >"$folder/seal.key"
cat >"$folder/usher.yaml" <<'YAML'
listeners: [ { address: 127.0.0.1:18443 } ]
admin: { address: 127.0.0.1:19443 }
authority: { location: "https://idle.test/v1", store: sqlite:usher.db, seal_key: { file: seal.key } }
upstreams: [ { name: none, urls: [ "http://127.0.0.1:1" ] } ]
routes: [ { name: all, method: GET, path: /v1, access: authenticated, upstream: none } ]
timeouts: { request_head: 5m, idle: 5m }
YAML
"$usher" serve --config "$folder/usher.yaml" >/dev/null 2>"$folder/log" &
pid=$!

python3 - "$pid" <<'PYTHON'
import resource, socket, sys, time

COUNT = 10_000
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

def resident():
    with open(f"/proc/{sys.argv[1]}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

def connect(index):
    # 1,000 of an address: one may have 1,024.
    source = (f"127.0.0.{2 + index // 1000}", 0)
    client = socket.create_connection(("127.0.0.1", 18443), 10, source)
    client.sendall(b"GET / HTTP/1.1\r\nhost: idle.test\r\n\r\n")
    assert client.recv(4096).startswith(b"HTTP/1.1 401")
    return client

deadline = time.monotonic() + 20
while True:
    try:
        connect(0).close()
        break
    except OSError:
        if time.monotonic() > deadline:
            raise
        time.sleep(0.05)
before = resident()
clients = [connect(index) for index in range(COUNT)]
after = resident()
print(f"{COUNT} idle connections: {after / 2**20:.0f} MiB, {(after - before) / COUNT:.0f} bytes each")
PYTHON

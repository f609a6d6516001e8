"""slowhttptest against usher: clients that take their time, all of one address.

    python3 tests/tools/slow.py target/release/usher

Needs nginx and slowhttptest. Each run is of 600 connections in clear text (50 that read slowly), while another client
asks ten times a second from another address, and one asks nginx itself: what that has to wait for,
the machine makes it wait for. Demands that the other is always served, that
slowhttptest calls the service available to the end, that nothing reached the upstream which a
token does not permit, and that no connection is left once its time is over.
"""

import os
import re
import subprocess
import sys
import time

import lab

# What the kernel keeps for a client that does not read is megabytes, and all that it keeps for
# everybody has a limit (net.ipv4.tcp_mem), so that only fifty do that.
CONNECTIONS, READERS = 600, 50
EXEC = "/v1/apps/web/machines/148e1aaa000001/exec"
STOP = "/v1/apps/web/machines/148e1aaa000001/stop"
PAGE = "/v1/apps/web/machines/148e1aaa000001"

# What is done, its flags, to which path, with a token or without, and by which deadline the
# connections have to end, if by any: those of a body that goes on need not.
RUNS = [
    ("slow heads", "-H -i 3 -x 24", "/v1/apps/web", True, 10),
    ("slow heads, nothing but the beginning", "-H -i 60", "/v1/apps/web", False, 10),
    ("slow bodies, no token", "-B -i 3 -s 8192", STOP, False, 2),
    ("slow bodies that are judged", "-B -i 3 -s 8192 -f application/json", EXEC, True, 10),
    ("slow bodies that are passed on", "-B -i 3 -s 8192", STOP, True, None),
    ("slow reading", "-X -w 1 -y 512 -n 5 -z 32 -k 3", PAGE, True, 75),
    ("ranges", "-R -t HEAD -a 10 -b 3000", PAGE, True, 10),
]


def main(binary):
    at, log = lab.port(), lab.FOLDER / "requests"
    page = lab.FOLDER / "page"
    page.write_bytes(bytes(8 * 2**20))
    lab.nginx(
        "upstream",
        f"log_format seen '$request_method $status'; server {{ listen 127.0.0.1:{at} backlog=4096;"
        f" client_body_timeout 75s; access_log {log} seen; location = /v1/apps/web {{ return 200 ok; }}"
        f" location {STOP} {{ proxy_pass http://127.0.0.1:{at}/taken; }} location /taken {{ return 204; }}"
        f" location / {{ root {lab.FOLDER}; try_files /page =404; }} }}",
    )
    lab.wait_for(at)
    usher = lab.Usher(binary, at)
    token = usher.token("deploy", "--app", "web")
    print(lab.version("slowhttptest", "-h"))
    wrong = 0
    for name, flags, path, with_token, ends in RUNS:
        seconds = (ends or 15) + 30
        before = usher.resident(), usher.descriptors(), usher.cpu(), len(log.read_text().splitlines())
        command = f"slowhttptest -c {READERS if flags.startswith('-X') else CONNECTIONS} -r {50 if flags.startswith('-X') else 300} -l {seconds} -p 3 {flags}"
        command += f" -u http://127.0.0.1:{usher.clear}{path}"
        # It has no way to add a line but behind one that it sends.
        secret = ["-j", f"a=b\r\nAuthorization: {token}"] if with_token else []
        with lab.Ordinary(usher.clear, token) as other, lab.Ordinary(at, token) as direct:
            most, begun, held = (0, 0), time.monotonic(), 0
            tool = subprocess.Popen(
                ["nice", *command.split(), *secret], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                env=os.environ | {"TERM": "dumb"}, text=True,
            )  # fmt: skip
            while True:
                try:
                    output = tool.communicate(timeout=0.5)[0]
                    break
                except subprocess.TimeoutExpired:
                    most = tuple(map(max, most, (usher.resident(), usher.descriptors())))
                    # The other client, a probe of slowhttptest, and this question.
                    if usher.metric("usher_connections_open") > 3:
                        held = time.monotonic() - begun
        left = usher.settle()
        output = re.sub(r"\x1b\[[0-9;]*m", "", output)
        states = re.findall(r"(pending|connected|error|closed): +(\d+)", output)
        highest = max((int(count) for state, count in states if state == "connected"), default=0)
        last = ", ".join(f"{state} {count}" for state, count in states[-4:])
        unavailable = len(re.findall(r"service available: +NO", output))
        took, why = re.search(r"Test ended on (\d+)th second\s+Exit status: *(.*)", output).groups()
        # The tool's probes wait for 3 s.
        good = not other.failed and not left and (not unavailable or direct.longest > 3)
        # They come at 300 a second, or as fast as there is time for. What the kernel has taken for a
        # client that does not read goes on to it when usher has closed: the tool sees no end.
        good &= ends is None or held <= ends + 30
        wrong += not good
        seen = len(log.read_text().splitlines()) - before[3] - other.served - direct.served
        print(
            f"{name}: {command}{' -j AUTHORIZATION' if with_token else ''}\n"
            f"    {highest} open at once; none open at usher after {held:.0f} s; after {took} s {why} ({last});"
            f" unavailable {unavailable} times\n"
            f"    {seen} requests upstream, {usher.cpu() - before[2]:.1f} s of CPU, memory {before[0] / 2**20:.0f} ->"
            f" {most[0] / 2**20:.0f} MiB at most, descriptors {before[1]} -> {most[1]} at most ->"
            f" {usher.descriptors()}; {other} (nginx itself {direct.longest * 1000:.0f} ms){'' if good else '  NOT AS EXPECTED'}",
            flush=True,
        )
    wrong += lab.shown()
    print(f"{len(RUNS)} runs, {wrong} not as expected")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

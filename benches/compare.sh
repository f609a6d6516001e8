#!/usr/bin/env bash
# CPU per request of usher beside nginx, in one run: nginx as a plain reverse proxy, nginx with
# auth_request to a service that checks nothing, usher with full authorization and a cache hit,
# and usher on a public route (no authorization). Ratios within one run are what to trust.
#
#   benches/compare.sh [seconds per round, default 5] [rounds, default 5]
#
# Needs nginx, wrk, curl, jq and at least two cores. Loopback only; everything it starts it ends.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:-5}" rounds="${2:-5}" connections=64

for tool in nginx wrk curl jq taskset; do
  command -v "$tool" >/dev/null || { echo "compare: $tool is missing (apt-get install nginx wrk curl jq util-linux)" >&2; exit 1; }
done
cargo build --release --locked --quiet
usher="${CARGO_TARGET_DIR:-target}/release/usher"

work="$(mktemp -d)"
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
upstream=$(free_port) plain=$(free_port) auth=$(free_port) trivial=$(free_port) proxy=$(free_port)

# Proxies on core 0; load, upstream and the trivial authorizer on core 1.
nginx_conf() { # name, http block
  mkdir -p "$work/$1"
  cat >"$work/$1/nginx.conf" <<CONF
daemon off; worker_processes 1; error_log $work/$1/error.log error; pid $work/$1/nginx.pid;
events { worker_connections 4096; }
http {
  access_log off; keepalive_requests 100000000; keepalive_timeout 75s;
  client_body_temp_path $work/$1/b; proxy_temp_path $work/$1/p; fastcgi_temp_path $work/$1/f; uwsgi_temp_path $work/$1/u; scgi_temp_path $work/$1/s;
  $2
}
CONF
}
body="$(printf 'x%.0s' $(seq 1024))"
nginx_conf upstream "server { listen 127.0.0.1:$upstream; location / { default_type text/plain; return 200 '$body'; } }
  server { listen 127.0.0.1:$trivial; location / { return 204; } }"
pool="upstream up { server 127.0.0.1:$upstream; keepalive 128; keepalive_requests 100000000; }"
pass="proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection '';"
nginx_conf plain "$pool server { listen 127.0.0.1:$plain; location / { $pass } }"
nginx_conf auth "$pool upstream check { server 127.0.0.1:$trivial; keepalive 128; keepalive_requests 100000000; }
  server { listen 127.0.0.1:$auth;
    location / { auth_request /check; $pass }
    location = /check { internal; proxy_pass http://check; proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass_request_body off; proxy_set_header Content-Length ''; } }"

head -c 32 /dev/urandom | base64 >"$work/seal.key"
cat >"$work/usher.yaml" <<CONF
listeners: [ { address: 127.0.0.1:$proxy } ]
threads: 1
authority: { location: https://api.fly.io/v1, store: sqlite:usher.db, seal_key: { file: seal.key } }
directory:
  orgs: [ { slug: acme, id: 2001 } ]
  apps: [ { name: web, id: 3001, org: acme } ]
upstreams: [ { name: up, urls: [ "http://127.0.0.1:$upstream" ] } ]
routes:
  - { name: machine, method: GET, path: "/v1/apps/{app}/machines/{machine}", access: { action: r, app: "{app}", machine: "{machine}" }, upstream: up }
  - { name: public, method: GET, path: "/public/{name}", access: public, upstream: up }
CONF
token="$("$usher" token create deploy --config "$work/usher.yaml" --org acme --app web 2>/dev/null)"

start() { taskset -c "$1" "${@:2}" >"$work/log" 2>&1 & pids+=("$!"); last=$!; }
start 1 nginx -c "$work/upstream/nginx.conf" -p "$work/upstream"
start 0 nginx -c "$work/plain/nginx.conf" -p "$work/plain"; plain_pid=$last
start 0 nginx -c "$work/auth/nginx.conf" -p "$work/auth"; auth_pid=$last
USHER_LOG=error start 0 "$usher" serve --config "$work/usher.yaml"; usher_pid=$last
for port in $upstream $plain $auth $trivial $proxy; do
  until curl -s -o /dev/null "http://127.0.0.1:$port/"; do :; done
done
path=/v1/apps/web/machines/148e1aaa000001
for try in "$plain$path" "$auth$path" "$proxy$path" "$proxy/public/x"; do
  status="$(curl -s -o /dev/null -w '%{http_code}' -H "Authorization: $token" "http://127.0.0.1:$try")"
  [ "$status" = 200 ] || { echo "compare: $try answers $status" >&2; exit 1; }
done

# Nanoseconds on a core of a process, its children and all their threads.
cpu() {
  local sum=0 pid
  for pid in "$1" $(pgrep -P "$1" || true); do
    sum=$((sum + $(cat /proc/"$pid"/task/*/schedstat | awk '{ s += $1 } END { printf "%.0f", s }')))
  done
  echo "$sum"
}
measure() { # pid, url -> nanoseconds a request
  local before after served
  before=$(cpu "$1")
  served=$(taskset -c 1 wrk -t1 -c$connections -d"${seconds}s" -H "Authorization: $token" "$2" |
    awk '/requests in/ { print $1 } /Non-2xx/ { print "bad" > "/dev/stderr"; exit 1 }')
  after=$(cpu "$1")
  echo $(((after - before) / served))
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }

declare -A results
names=(nginx nginx-auth_request usher usher-public)
run() {
  case "$1" in
    nginx) measure "$plain_pid" "http://127.0.0.1:$plain$path" ;;
    nginx-auth_request) measure "$auth_pid" "http://127.0.0.1:$auth$path" ;;
    usher) measure "$usher_pid" "http://127.0.0.1:$proxy$path" ;;
    usher-public) measure "$usher_pid" "http://127.0.0.1:$proxy/public/x" ;;
  esac
}
for name in "${names[@]}"; do run "$name" >/dev/null; done
for ((round = 1; round <= rounds; round++)); do
  for name in "${names[@]}"; do
    value=$(run "$name")
    results[$name]+="$value"$'\n'
    [ -t 2 ] && printf '\rround %d of %d: %-20s %6d ns ' "$round" "$rounds" "$name" "$value" >&2
  done
done
[ -t 2 ] && printf '\n' >&2
base=$(printf '%s' "${results[nginx]}" | median)
printf '%-20s %14s %8s   (median of %d rounds of %d s, %d connections, 1 KiB GET)\n' "" "CPU/request" "ratio" "$rounds" "$seconds" "$connections"
for name in "${names[@]}"; do
  value=$(printf '%s' "${results[$name]}" | median)
  printf '%-20s %11d ns %8.2f\n' "$name" "$value" "$(awk "BEGIN { print $value / $base }")"
done

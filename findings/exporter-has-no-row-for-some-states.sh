#!/usr/bin/env bash
# prometheus-pve-exporter 3.10.2 (needs Python 3). HA states and locks are sets of series of which one is 1. The sets lack states that Proxmox VE
# has: `ignored` and `disabled` of a guest under HA, `mounted` of a container. Such a guest has 0 in every series, as one without HA or lock.
expected='qemu/100 started: pve_ha_state started
qemu/101 ignored: nothing is 1
qemu/102 disabled: nothing is 1
lxc/103 lock mounted: nothing is 1'
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check prometheus-pve-exporter==3.10.2 proxmoxer==2.3.0
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$dir/key.pem" -out "$dir/cert.pem" -days 2 -subj /CN=localhost 2>/dev/null
cat > "$dir/try.py" <<'PYTHON'
import http.server, json, ssl, sys, threading, warnings
warnings.filterwarnings("ignore")
bodies = []

class Answer(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self):
        length = int(self.headers.get("Content-Length") or 0)
        bodies.append(self.rfile.read(length).decode())
        body = json.dumps({"data": answer(self.path.split("?")[0].removeprefix("/api2/json"))}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json;charset=UTF-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_PUT = reply

    def log_message(self, *words):
        pass

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()

ROWS = [
    {"id": f"qemu/{vmid}", "vmid": vmid, "node": "pve1", "type": "qemu", "name": f"vm{vmid}", "status": "running", "template": 0, "hastate": state}
    for vmid, state in [(100, "started"), (101, "ignored"), (102, "disabled")]
]
ROWS.append({"id": "lxc/103", "vmid": 103, "node": "pve1", "type": "lxc", "name": "ct103", "status": "stopped", "template": 0, "lock": "mounted"})

def answer(path):
    return ROWS if path == "/cluster/resources" else []

WANTED = {"resources"}
from pve_exporter.collector import CollectorsOptions, collect_pve
options = CollectorsOptions(**{name: name in WANTED for name in CollectorsOptions._fields})
config = {"user": "app@pve", "token_name": "t", "token_value": "x", "verify_ssl": False}
lines = collect_pve(config, f"127.0.0.1:{server.server_port}", True, False, options).decode().splitlines()
for row in ROWS:
    what = row.get("hastate") or "lock " + row["lock"]
    ones = [line.split("{")[0] + " " + line.split('state="')[1].split('"')[0] for line in lines
            if line.startswith(("pve_ha_state{", "pve_lock_state{")) and f'"{row["id"]}"' in line and line.endswith(" 1.0")]
    print(f"{row['id']} {what}: {', '.join(ones) or 'nothing is 1'}")
PYTHON
seen=$("$dir/venv/bin/python" "$dir/try.py" "$dir")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was\n%s\n' "$expected" >&2; exit 1; }

#!/usr/bin/env bash
# prometheus-pve-exporter 3.10.2 (needs Python 3). `pve_up` of a guest is 1 for `running` alone. A guest that is paused, one that Proxmox VE holds
# in `prelaunch` for a cold backup, and one whose node has not reported for five minutes (`unknown`, without a name) are all 0, as a stopped one.
expected='running 1.0
paused 0.0
prelaunch 0.0
unknown 0.0
stopped 0.0'
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

STATES = ["running", "paused", "prelaunch", "unknown", "stopped"]
ROWS = [
    {"id": f"qemu/{100 + n}", "vmid": 100 + n, "node": "pve1", "type": "qemu", "status": state, **({} if state == "unknown" else {"name": state, "template": 0})}
    for n, state in enumerate(STATES)
]

def answer(path):
    return ROWS if path == "/cluster/resources" else []

WANTED = {"status", "resources"}
from pve_exporter.collector import CollectorsOptions, collect_pve
options = CollectorsOptions(**{name: name in WANTED for name in CollectorsOptions._fields})
config = {"user": "app@pve", "token_name": "t", "token_value": "x", "verify_ssl": False}
lines = collect_pve(config, f"127.0.0.1:{server.server_port}", True, False, options).decode().splitlines()
for n, state in enumerate(STATES):
    print(state, next(line.split()[-1] for line in lines if line.startswith(f'pve_up{{id="qemu/{100 + n}"')))
PYTHON
seen=$("$dir/venv/bin/python" "$dir/try.py" "$dir")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was\n%s\n' "$expected" >&2; exit 1; }

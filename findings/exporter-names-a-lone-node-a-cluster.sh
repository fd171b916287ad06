#!/usr/bin/env bash
# prometheus-pve-exporter 3.10.2 (needs Python 3). A node that is in no cluster has no cluster entry in /cluster/status. The exporter then has no
# `pve_cluster_info` at all, and labels the count of guests without a backup job with the node's name as if it were a cluster's.
expected='pve_cluster_info: 0 series
pve_not_backed_up_total{id="cluster/pve1"} 0.0'
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

NODE = {"type": "node", "id": "node/pve1", "name": "pve1", "nodeid": 0, "ip": "127.0.0.1", "local": 1, "online": 1, "level": ""}

def answer(path):
    return [NODE] if path == "/cluster/status" else []

WANTED = {"cluster", "backup_info"}
from pve_exporter.collector import CollectorsOptions, collect_pve
options = CollectorsOptions(**{name: name in WANTED for name in CollectorsOptions._fields})
config = {"user": "app@pve", "token_name": "t", "token_value": "x", "verify_ssl": False}
lines = collect_pve(config, f"127.0.0.1:{server.server_port}", True, False, options).decode().splitlines()
print("pve_cluster_info:", sum(line.startswith("pve_cluster_info{") for line in lines), "series")
print(next(line for line in lines if line.startswith("pve_not_backed_up_total{")))
PYTHON
seen=$("$dir/venv/bin/python" "$dir/try.py" "$dir")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was\n%s\n' "$expected" >&2; exit 1; }

#!/usr/bin/env bash
# proxmoxer 2.3.0 (needs Python 3). Python's True and False go out as the words `True` and `False`; Proxmox VE's schema takes 0 and 1
# alone for a boolean of a form. None is left out of the call, so a script that means to clear a value changes nothing.
expected='onboot=True&protection=False
name=web'
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install --quiet --disable-pip-version-check proxmoxer==2.3.0 requests==2.34.2
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

def answer(path):
    return None

from proxmoxer import ProxmoxAPI
api = ProxmoxAPI("127.0.0.1", port=server.server_port, user="app@pve", token_name="t", token_value="x", verify_ssl=False)
config = api.nodes("pve1").qemu(100).config
config.put(onboot=True, protection=False)
config.put(description=None, name="web")
print("\n".join(bodies))
PYTHON
seen=$("$dir/venv/bin/python" "$dir/try.py" "$dir")
printf '%s\n' "$seen"
[ "$seen" = "$expected" ] || { printf 'changed; it was\n%s\n' "$expected" >&2; exit 1; }

#!/usr/bin/env python3
"""Writes api/table.json from the files of api/official: only what the simulator serves, in a compact form.

usage: api/make-table.py
"""
import json, os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
OFFICIAL = os.path.join(HERE, "official")

def load(name):
    with open(os.path.join(OFFICIAL, name)) as f:
        return json.load(f)

base, extra, changes = load("9.1.json"), load("9.1-adjacent.json"), load("since-8.4.json")
with open(os.path.join(HERE, "served.txt")) as f:
    served = [l.strip() for l in f if l.strip() and not l.startswith("#")]

found = {}
firewall = load("firewall.json")
for source in (base, extra, firewall):
    for e in source["endpoints"]:
        found.setdefault(e["method"] + " " + e["path"], e)

formats = {**extra["formats"], **base["formats"]}
shapes, shape_ids, used = {}, {}, set()

def perl(p):
    p = re.sub(r"\(\?\^[a-z]*:", "(?:", p)
    return p.replace(r"\@", "@")

RULES = ("type", "enum", "minimum", "maximum", "minLength", "maxLength", "optional", "requires", "alias", "keyAlias", "default_key")

def rule(p):
    out = {k: p[k] for k in RULES if k in p}
    if "pattern" in p:
        out["pattern"] = p.get("pattern_rust") or perl(p["pattern"])
    f = p.get("format")
    if isinstance(f, dict):
        out["shape"] = shape(f)
    elif f:
        out["format"] = f
        use(f)
    if "indexed" in p:
        out["max_index"] = p["indexed"]["max_index"]
    if p.get("in") == "path":
        out["path"] = True
    return out

def shape(properties):
    body = {k: rule(v) for k, v in sorted(properties.items())}
    text = json.dumps(body, sort_keys=True)
    if text not in shape_ids:
        shape_ids[text] = "s%d" % len(shape_ids)
        shapes[shape_ids[text]] = body
    return shape_ids[text]

table_formats = {}

def use(name):
    if name in table_formats or name not in formats:
        return
    f = formats[name]
    table_formats[name] = {}
    out = {"kind": f["kind"]}
    if "regex" in f:
        out["regex"] = f["regex"]
        out["error"] = f.get("error", "")
        if "flags" in f:
            out["flags"] = f["flags"]
    if "of" in f:
        out["of"] = f["of"]
        use(f["of"])
    if "properties" in f:
        out["shape"] = shape(f["properties"])
    table_formats[name] = out

endpoints = []
for key in served:
    if key not in found:
        sys.exit("not in the schema: " + key)
    e = found[key]
    row = {"method": e["method"], "path": e["path"], "permissions": None}
    for flag in ("protected", "proxyto"):
        if e.get(flag):
            row[flag] = e[flag]
    if e.get("allowtoken") is False:
        row["allowtoken"] = False
    p = e.get("permissions")
    if p is not None:
        row["permissions"] = {k: p[k] for k in ("user", "check") if k in p}
    row["parameters"] = {k: rule(v) for k, v in sorted(e["parameters"].items())}
    for k in changes["new_params"].get(key, []):
        if k in row["parameters"]:
            row["parameters"][k]["since9"] = True
    if key in changes["new_endpoints"]:
        row["since9"] = True
    endpoints.append(row)

table = {"formats": dict(sorted(table_formats.items())), "shapes": shapes, "endpoints": endpoints}
with open(os.path.join(HERE, "table.json"), "w") as f:
    f.write('{"formats":{\n')
    f.write(",\n".join(json.dumps(k) + ":" + json.dumps(v, sort_keys=True) for k, v in table["formats"].items()))
    f.write('\n},"shapes":{\n')
    f.write(",\n".join(json.dumps(k) + ":" + json.dumps(v, sort_keys=True) for k, v in shapes.items()))
    f.write('\n},"endpoints":[\n')
    f.write(",\n".join(json.dumps(e, sort_keys=True) for e in endpoints))
    f.write("\n]}\n")

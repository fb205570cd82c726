#!/usr/bin/env python3
"""Compares every artifact of two run folders but for what was measured in seconds and bytes: compare.py ONE OTHER."""
import hashlib, json, pathlib, sys

MEASURED = {"seconds", "images_per_second", "waiting", "saving", "peak_memory"}


def stripped(value):
    if isinstance(value, dict):
        return {k: stripped(v) for k, v in value.items() if k not in MEASURED}
    return [stripped(v) for v in value] if isinstance(value, list) else value


def artifacts(root):
    found = {}
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        name = str(path.relative_to(root))
        if name.split("/")[0] in ("claims", "submit") or path.name in (
            "log.txt", "index.html", "tables.md", "tables.tex", "results.json", "T7.csv", "T7.json"):
            continue
        data = path.read_bytes()
        if path.name == "manifest.json":
            data = json.dumps(stripped(json.loads(data)["manifest"]["output"]), sort_keys=True).encode()
        elif path.name == "metrics.jsonl":
            data = "\n".join(json.dumps(stripped(json.loads(l))) for l in data.decode().splitlines()).encode()
        elif path.name == "results.csv":
            data = b"\n".join(l for l in data.splitlines() if not l.startswith(b"T7,"))
        found[name] = hashlib.blake2b(data).hexdigest()
    return found


one, other = (artifacts(pathlib.Path(p)) for p in sys.argv[1:3])
missing = sorted(set(one) ^ set(other))
changed = sorted(name for name in set(one) & set(other) if one[name] != other[name])
print(f"{len(one)} artifacts: {len(missing)} missing, {len(changed)} changed")
for name in missing + changed:
    print("  " + name)
sys.exit(bool(missing or changed))

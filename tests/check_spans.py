"""Binds a socket, receives `count` spans and checks each: check_spans.py path count

Written after docs/wire.md, with nothing but the standard library, as another team would write it.
"""
import json, re, socket, sys

path, count = sys.argv[1], int(sys.argv[2])
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(path)
receiver.settimeout(30)
print("bound", flush=True)


def reject_duplicate_keys(pairs):
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), f"a key comes twice in {keys}"
    return dict(pairs)


HEX16, HEX32 = re.compile("[0-9a-f]{16}"), re.compile("[0-9a-f]{32}")
spans = {}
while len(spans) < count:
    datagram = receiver.recv(1 << 18)
    for span in json.loads(datagram.decode("utf-8", "strict"), object_pairs_hook=reject_duplicate_keys):
        assert HEX16.fullmatch(span["id"]) and int(span["id"], 16), span
        assert HEX32.fullmatch(span["traceId"]) and int(span["traceId"], 16), span
        assert type(span["timestamp"]) is int and type(span["duration"]) is int, span
        assert span["duration"] >= 1 and span["localEndpoint"]["serviceName"] == "fixture", span
        assert all(type(value) is str for value in span["tags"].values()), span
        assert span["tags"]["thread.id"].isdigit(), span
        assert span["id"] not in spans, f"{span['id']} came twice"
        spans[span["id"]] = span

threads = {}
for span in spans.values():
    if span["name"] == "outer":
        assert "parentId" not in span, span
        threads.setdefault(span["tags"]["thread.id"], set()).add(span["tags"]["t"])
        continue
    assert span["name"] == "inner", span
    parent = spans[span["parentId"]]
    assert parent["name"] == "outer" and parent["traceId"] == span["traceId"], (parent, span)
    assert parent["timestamp"] <= span["timestamp"], (parent, span)
    ends = [s["timestamp"] + s["duration"] for s in (parent, span)]
    assert ends[1] <= ends[0] + 1, (parent, span)  # both are rounded to a microsecond
    (annotation,) = span["annotations"]
    message = f"in {parent['tags']['t']}"
    assert json.loads("{%s}" % annotation["value"]) == {message: {"level": "INFO", "target": "fixture"}}, span

assert all(len(numbers) == 1 for numbers in threads.values()), threads
traces = {span["traceId"] for span in spans.values()}
print(f"checked {len(spans)} spans of {len(traces)} traces from {len(threads)} threads")

"""Counts spans with json.loads(recv), like the collector in Core Lightning's documentation.

python3 json_loads.py <path>; at an empty datagram it prints its counts and ends."""
import json, socket, sys

receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(sys.argv[1])
print("ready", flush=True)
datagrams = spans = 0
while datagram := receiver.recv(1 << 18):
    datagrams += 1
    decoded = json.loads(datagram)
    if isinstance(decoded, list):
        spans += len(decoded)
    else:
        scopes = (scope for process in decoded["resourceSpans"] for scope in process["scopeSpans"])
        spans += sum(len(scope["spans"]) for scope in scopes)
print(json.dumps({"datagrams": datagrams, "spans": spans}), flush=True)

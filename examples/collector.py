"""A collector in ten lines: python3 collector.py /tmp/trace.sock"""
import json, os, socket, sys

path = sys.argv[1]
if os.path.exists(path):
    os.unlink(path)
receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
receiver.bind(path)
while True:
    for span in json.loads(receiver.recv(1 << 18)):
        print(f"{span['duration']:>10} us  {span['traceId']}  {span['name']}", flush=True)

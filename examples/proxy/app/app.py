"""Tells which host answers, and counts its answers."""

import itertools
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

answers = itertools.count(1)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"{socket.gethostname()} answers {self.path}, its answer {next(answers)}\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


signal.signal(signal.SIGTERM, lambda *_: sys.exit())
ThreadingHTTPServer(("", 8000), Handler).serve_forever()

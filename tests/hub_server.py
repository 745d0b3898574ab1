"""A local server of the part of the Hugging Face hub's protocol that a download needs."""

import hashlib
import json
import select
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = f"{0xC0FFEE:040x}"
LARGE = 1000  # Bytes from which on a file has a checksum of its content, as in Git LFS.


class Hub(ThreadingHTTPServer):
    """Serves what a folder holds as a repository, while the context is open.

    ``faults`` are by step: 'list', 'HEAD' or 'GET' with a file's name. Each is a status, or of a
    file 'flip' (its last byte), 'short' (with headers that agree), 'cut' or 'stall' (half-way).
    """

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Answer)
        self.url = f"http://127.0.0.1:{self.server_port}"
        paths = [path for path in folder.rglob("*") if path.is_file()]
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
        self.faults = {}
        self.on_stall = lambda: None
        threading.Thread(target=self.serve_forever, args=[0.02]).start()

    def server_close(self):
        self.shutdown()
        super().server_close()


def described(name, content):
    size, sha256 = len(content), hashlib.sha256(content).hexdigest()
    git = hashlib.sha1(b"blob %d\0" % size + content).hexdigest()
    lfs = {"sha256": sha256, "size": size, "pointerSize": 130} if size > LARGE else None
    return {"rfilename": name, "size": size, "blobId": git, "lfs": lfs}


class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        hub, name = self.server, self.path.partition(f"/{COMMIT}/")[2]
        step = "HEAD" if self.command == "HEAD" else f"GET {name.rpartition('/')[2]}"
        fault = hub.faults.get(step if name else "list")
        if isinstance(fault, int):
            self.send_error(fault)
            return
        siblings = [described(*file) for file in hub.files.items()]
        listing = json.dumps({"id": "a/b", "sha": COMMIT, "siblings": siblings}).encode()
        content = hub.files[name] if name else listing
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", len(content) - start - (fault == "short"))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"an-etag"')
        self.end_headers()
        if self.command == "GET":
            ends = {"short": -1, "flip": -1, "cut": len(content) // 2, "stall": len(content) // 2}
            self.wfile.write(content[start : ends.get(fault)] + b"?" * (fault == "flip"))
        if fault == "stall":
            hub.on_stall()
            select.select([self.connection], [], [])  # Until the client leaves.

    do_HEAD = do_GET

    def log_message(self, *arguments):
        """Logs nothing."""

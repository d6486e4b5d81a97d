"""A deployed bundle over HTTP: POST an image, get JSON. Ends when another version is deployed, to be started anew.

    python3 serve.py ~/.local/share/pipeline-deploy/current [PORT]
    curl --data-binary @photo.jpg http://127.0.0.1:8080/

An example, not a server for the open internet: it listens on this machine alone and answers one request at a time.
Python 3.6, numpy, Pillow and the bundle's runtime.
"""

import io
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

MOST_BYTES = 32 * 1024**2
LOOK_EVERY_S = 0.5


def main(link, port=8080):
    folder = os.path.realpath(link)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    from PIL import Image
    from runtime import Model

    model = Model.open(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            size = int(self.headers.get("Content-Length") or 0)
            if not 0 < size <= MOST_BYTES:
                self.send_error(413, "expected an image of at most %d bytes" % MOST_BYTES)
                return
            try:
                with Image.open(io.BytesIO(self.rfile.read(size))) as image:
                    found = model.predict(image)
            except Exception as error:  # whatever Pillow makes of a stranger's file
                self.send_error(400, "no image that can be read: %s" % type(error).__name__)
                return
            answer = {"label": found.label, "probability": found.probability, "version": os.path.basename(folder)}
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = HTTPServer(("127.0.0.1", int(port)), Handler)
    threading.Thread(target=end_on_switch, args=(link, folder, server), daemon=True).start()
    server.serve_forever()
    server.server_close()


def end_on_switch(link, folder, server):
    """Shut the server down, after the request that it answers, once the link leads elsewhere."""
    while os.path.realpath(link) == folder:
        time.sleep(LOOK_EVERY_S)
    server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])

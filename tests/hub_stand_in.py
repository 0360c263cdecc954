"""A stand-in of the Hugging Face hub's HTTP interface, as far as releases are sent and fetched.

It keeps one revision of each repository in memory. Small files come inside the commit; those that
end in .safetensors go through Git LFS's batch interface, as on the hub.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

TOKEN = "hf_stand_in"


class Hub(ThreadingHTTPServer):
    """repositories: name -> file -> content; log: every request as "METHOD path"."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.blobs, self.log = {}, {}, []
        self.private = {}

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo):
        """Return the name of the repository's state."""
        files = sorted(self.repositories[repo].items())
        return hashlib.sha1(repr(files).encode()).hexdigest()


@contextlib.contextmanager
def running():
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        thread.join()
        hub.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self._answer()

    do_GET = do_HEAD = do_PUT = do_POST

    def log_message(self, *_):
        pass

    def _answer(self):
        path = self.path.partition("?")[0]
        self.server.log.append(f"{self.command} {path}")
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        writes = self.command in ("POST", "PUT") and "/blob/" not in path
        if writes and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send(401, {"error": "Invalid username or password."})
        for pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, f"{self.command} {path}")
            if match:
                return answer(self, body, *match.groups())
        return self._send(404, {"error": f"no {self.command} {path}"})

    def _send(self, code, content=b"", **headers):
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
            headers["Content-Type"] = "application/json"
        self.send_response(code)
        for name, value in ({"Content-Length": len(content)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _create(self, body):
        request = json.loads(body)
        repo = "/".join(filter(None, (request.get("organization"), request["name"])))
        if repo in self.server.repositories:
            return self._send(409, {"error": "exists", "url": f"{self.server.endpoint}/{repo}"})
        self.server.repositories[repo] = {}
        self.server.private[repo] = request.get("visibility") == "private"
        return self._send(200, {"url": f"{self.server.endpoint}/{repo}", "id": repo})

    def _validate(self, body):
        """The head of a model card: YAML with a license that the hub knows."""
        _, head, _ = json.loads(body)["content"].split("---\n", 2)
        license = yaml.safe_load(head)["license"]
        if license not in ("apache-2.0", "mit", "unknown"):
            return self._send(400, {"errors": [{"message": f"license {license}"}], "warnings": []})
        return self._send(200, {"errors": [], "warnings": []})

    def _preupload(self, body, repo):
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._send(200, {"files": modes})

    def _batch(self, body, repo):
        def action(blob):
            href = f"{self.server.endpoint}/blob/{blob['oid']}"
            return {**blob, "actions": {"upload": {"href": href, "header": {}}}}

        objects = [action(blob) for blob in json.loads(body)["objects"]]
        self._send(200, {"transfer": "basic", "objects": objects})

    def _put(self, body, oid):
        if hashlib.sha256(body).hexdigest() != oid:
            return self._send(400, {"error": "wrong oid"})
        self.server.blobs[oid] = body
        return self._send(200)

    def _commit(self, body, repo, revision):
        files = self.server.repositories[repo]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        oid = self.server.commit(repo)
        url = f"{self.server.endpoint}/{repo}/commit/{oid}"
        self._send(200, {"commitUrl": url, "commitOid": oid, "success": True})

    def _info(self, body, repo, revision=None):
        if repo not in self.server.repositories:
            return self._send(404, {"error": "none"}, X_Error_Code="RepoNotFound")
        names = [{"rfilename": name} for name in self.server.repositories[repo]]
        info = {"id": repo, "sha": self.server.commit(repo), "siblings": names, "tags": []}
        return self._send(200, info)

    def _tree(self, body, repo, revision):
        files = self.server.repositories[repo].items()
        entry = lambda name, content: {  # noqa: E731
            "type": "file", "path": name, "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }  # fmt: skip
        return self._send(200, [entry(*file) for file in files])

    def _file(self, body, repo, revision, name):
        content = self.server.repositories[repo].get(name)
        headers = {"X_Repo_Commit": self.server.commit(repo)}
        if content is None:
            return self._send(404, b"", X_Error_Code="EntryNotFound", **headers)
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        return self._send(200, content, ETag=etag, **headers)


_REPO = r"(\w+/[\w.-]+)"
_ROUTES = (
    (r"POST /api/repos/create", _Handler._create),
    (r"POST /api/validate-yaml", _Handler._validate),
    (rf"POST /api/models/{_REPO}/preupload/main", _Handler._preupload),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler._batch),
    (r"PUT /blob/(\w+)", _Handler._put),
    (rf"POST /api/models/{_REPO}/commit/(\w+)", _Handler._commit),
    (rf"GET /api/models/{_REPO}", _Handler._info),
    (rf"GET /api/models/{_REPO}/revision/(\w+)", _Handler._info),
    (rf"GET /api/models/{_REPO}/tree/(\w+)", _Handler._tree),
    (rf"(?:GET|HEAD) /{_REPO}/resolve/(\w+)/(.+)", _Handler._file),
)

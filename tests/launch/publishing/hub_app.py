"""A Hugging Face Hub in memory: repositories with branches, tokens with rights, large files by hash, faults on demand.

    python hub_app.py PORT

Speaks as much of the Hub's HTTP as `huggingface_hub` needs to create, upload, validate, list and download. `/_state`,
`/_log`, `/_fault`, `/_held`, `/_gate` and `/_reset` are the tests' own.
"""

import asyncio
import base64
import hashlib
import json
import re
import sys
from typing import Any
from urllib.parse import parse_qs

import yaml
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

app = FastAPI()
# who may do what: token -> (user, role, organizations)
USERS = {
    "hf_writerSecret0123456789": ("tester", "write", ["lab"]),
    "hf_readerSecret0123456789": ("tester", "read", []),
    "hf_narrowSecret0123456789": ("tester", "fineGrained", []),  # may look, and write to nothing
}
OTHERS = {"someone"}
LARGE_BYTES, LARGE_KINDS = 10 * 2**20, (".safetensors", ".parquet", ".onnx", ".png")
REPOS: dict[tuple[str, str], dict[str, Any]] = {}
BLOBS: dict[str, bytes] = {}
LOG: list[str] = []
FAULT: dict[str, Any] = {}
GATED: set[str] = set()
HELD, RELEASED = asyncio.Event(), asyncio.Event()


def refuse(status: int, code: str, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status, headers={"X-Error-Code": code, "X-Error-Message": message})


def user_of(request: Request) -> tuple[str, str, list[str]] | None:
    return USERS.get(request.headers.get("authorization", "").removeprefix("Bearer "))


@app.middleware("http")
async def guard(request: Request, call_next: Any) -> Response:
    """Refuse tokens that do not exist and writes that are not allowed; log what was asked, without headers."""
    path, method = request.url.path, request.method
    answer = None
    if not path.startswith("/_"):
        sent = request.headers.get("authorization")
        user = user_of(request)
        writes = method in ("POST", "PUT", "DELETE") and not path.endswith(("/validate-yaml", "paths-info"))
        if sent and user is None:
            answer = refuse(401, "", "Invalid credentials in Authorization header")
        elif path.startswith("/api/") and writes and user is None:
            answer = refuse(401, "", "Authentication is required")
        elif path.startswith("/api/") and writes and "paths-info" not in path and user and user[1] != "write":
            answer = refuse(403, "", "you don't have the rights to write here")
    answer = answer or await call_next(request)
    LOG.append(f"{method} {path} {answer.status_code}")
    return answer


@app.get("/_log")
def take_log() -> list[str]:
    lines = list(LOG)
    LOG.clear()
    return lines


@app.post("/_reset")
def reset() -> None:
    """As after the start."""
    for everything in (REPOS, BLOBS, LOG, FAULT, GATED):
        everything.clear()


@app.get("/_state")
def state() -> dict[str, Any]:
    return {
        f"{kind}/{name}": {
            "private": repo["private"],
            "commits": repo["history"],
            "refs": {ref: sorted(repo["commits"][sha]) for ref, sha in repo["refs"].items()},
        }
        for (kind, name), repo in REPOS.items()
    }


@app.post("/_fault")
async def set_fault(request: Request) -> None:
    """{"puts": 1, "status": 507}: answer so after that many large files; {"puts": 1, "hold": true}: answer no more."""
    FAULT.clear()
    FAULT.update(await request.json())
    HELD.clear()
    RELEASED.set() if not FAULT else RELEASED.clear()


@app.post("/_gate")
async def gate(request: Request) -> None:
    """The models whose files are for nobody, because nobody has accepted their conditions yet; all see that they are.

    As on the Hub, where listing a gated model is free.
    """
    GATED.update(await request.json())


@app.get("/_held")
async def wait_for_hold() -> bool:
    """Answers once an upload is held."""
    return await HELD.wait()


def find(kind: str, name: str, revision: str, request: Request) -> tuple[Any, Any, Response | None]:
    repo = REPOS.get((kind, name))
    user = user_of(request)
    if repo is None or (repo["private"] and (user is None or name.split("/")[0] not in (user[0], *user[2]))):
        return None, None, refuse(404 if user else 401, "RepoNotFound", "Repository not found")
    sha = repo["refs"].get(revision, revision)
    if sha not in repo["commits"]:
        return repo, None, refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
    return repo, sha, None


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def add_commit(repo: dict[str, Any], ref: str, files: dict[str, Any], message: str) -> str:
    sha = hashlib.sha1(json.dumps([len(repo["history"]), ref, sorted(files), message]).encode()).hexdigest()
    repo["commits"][sha], repo["refs"][ref] = files, sha
    repo["history"].append(f"{ref}: {message}")
    return sha


def keep(data: bytes) -> dict[str, Any]:
    BLOBS[git_oid(data)] = data
    return {"oid": git_oid(data), "size": len(data), "lfs": None}


@app.get("/api/whoami-v2")
def whoami(request: Request) -> Any:
    user = user_of(request)
    if user is None:
        return refuse(401, "", "Invalid credentials in Authorization header")
    token = {"accessToken": {"displayName": "test", "role": user[1]}}
    return {"type": "user", "name": user[0], "orgs": [{"name": name} for name in user[2]], "auth": token}


@app.post("/api/repos/create")
async def create(request: Request) -> Any:
    body = await request.json()
    user = user_of(request)
    assert user is not None
    owner, kind = body.get("organization") or user[0], body.get("type") or "model"
    name = f"{owner}/{body['name']}"
    url = f"{request.base_url}{'datasets/' if kind == 'dataset' else ''}{name}"
    if owner in OTHERS:
        return refuse(403, "", f"you don't have the rights to create a repository under {owner}")
    if (kind, name) in REPOS:
        return JSONResponse({"error": "You already created this repo", "url": url}, 409)
    private = body.get("visibility") == "private" or bool(body.get("private"))
    repo = REPOS[kind, name] = {"refs": {}, "commits": {}, "history": [], "private": private}
    add_commit(repo, "main", {".gitattributes": keep(b"*.safetensors filter=lfs\n")}, "initial commit")
    return {"url": url, "name": name, "id": name}


@app.put("/api/{kind}s/{owner}/{name}/settings")
async def settings(kind: str, owner: str, name: str, request: Request) -> Any:
    repo, _, error = find(kind, f"{owner}/{name}", "main", request)
    if error:
        return error
    body = await request.json()
    repo["private"] = body["visibility"] == "private" if "visibility" in body else body["private"]
    return {"private": repo["private"]}


@app.post("/api/{kind}s/{owner}/{name}/branch/{branch:path}")
async def branch(kind: str, owner: str, name: str, branch: str, request: Request) -> Any:
    repo, sha, error = find(kind, f"{owner}/{name}", "main", request)
    if error:
        return error
    if branch in repo["refs"]:
        return refuse(409, "", "Reference already exists")
    repo["refs"][branch] = sha
    return {}


@app.post("/api/validate-yaml")
async def validate_yaml(request: Request) -> Any:
    """What the Hub checks of a card: YAML, the kinds of known fields, and complete results in `model-index`."""
    content, errors = (await request.json())["content"], []
    found = re.match(r"^\s*---[ \t]*\r?\n(.*?)\r?\n---", content, re.S)
    if not found:
        return {"errors": [], "warnings": [{"message": "empty or missing yaml metadata in repo card"}]}
    try:
        meta = yaml.safe_load(found[1]) or {}
    except yaml.YAMLError as error:
        return JSONResponse({"errors": [{"message": f"bad YAML: {error}"}], "warnings": []}, 400)
    for key in ("tags", "datasets", "metrics", "language", "license"):
        if key in meta and not isinstance(meta[key], list | str):
            errors.append(f'"{key}" must be a string or an array')
    if meta.get("license") == "other" and not meta.get("license_name"):
        errors.append('"license_name" is required')
    for number, model in enumerate(meta.get("model-index") or []):
        for result in model.get("results", [{}]):
            parts = {"task": ["type"], "dataset": ["type", "name"]}
            errors += [
                f'"model-index[{number}].results" needs "{part}.{key}"'
                for part, keys in parts.items()
                for key in keys
                if not isinstance(result.get(part, {}).get(key), str)
            ]
            if not all("value" in metric and "type" in metric for metric in result.get("metrics") or [{}]):
                errors.append(f'"model-index[{number}].results.metrics" needs type and value')
    body = {"errors": [{"message": message} for message in errors], "warnings": []}
    return JSONResponse(body, 400 if errors else 200)


@app.post("/api/{kind}s/{owner}/{name}/preupload/{revision:path}")
async def preupload(kind: str, owner: str, name: str, revision: str, request: Request) -> Any:
    repo, sha, error = find(kind, f"{owner}/{name}", revision, request)
    if error:
        return error
    head, answers = repo["commits"][sha], []
    for file in (await request.json())["files"]:
        there = head.get(file["path"]) or {}
        large = file["size"] >= LARGE_BYTES or file["path"].endswith(LARGE_KINDS)
        mode = "lfs" if large else "regular"
        oid = there.get("lfs") or there.get("oid")
        answers.append({"path": file["path"], "shouldIgnore": False, "oid": oid, "uploadMode": mode})
    return {"files": answers}


@app.post("/{repo:path}.git/info/lfs/objects/batch")
async def lfs_batch(repo: str, request: Request) -> Any:
    if user_of(request) is None:
        return refuse(401, "", "Authentication is required")
    objects = []
    for wanted in (await request.json())["objects"]:
        answer = {"oid": wanted["oid"], "size": wanted["size"]}
        if wanted["oid"] not in BLOBS:
            answer["actions"] = {
                "upload": {"href": f"{request.base_url}_lfs/{wanted['oid']}"},
                "verify": {"href": f"{request.base_url}_verify"},
            }
        objects.append(answer)
    return {"transfer": "basic", "objects": objects}


@app.put("/_lfs/{oid}")
async def lfs_put(oid: str, request: Request) -> Response:
    left = FAULT.get("puts", 1)
    if FAULT:
        FAULT["puts"] -= 1
    if left <= 0:
        if FAULT.get("hold"):
            HELD.set()
            await RELEASED.wait()
        return Response(status_code=FAULT.get("status", 500))
    data = await request.body()
    if hashlib.sha256(data).hexdigest() != oid:
        return Response(status_code=400)
    BLOBS[oid] = data
    return Response(headers={"ETag": f'"{oid}"'})


@app.post("/_verify")
async def lfs_verify(request: Request) -> Response:
    body = await request.json()
    return Response(status_code=200 if len(BLOBS.get(body["oid"], b"")) == body["size"] else 404)


@app.post("/api/{kind}s/{owner}/{name}/commit/{revision:path}")
async def commit(kind: str, owner: str, name: str, revision: str, request: Request) -> Any:
    repo, sha, error = find(kind, f"{owner}/{name}", revision, request)
    if error:
        return error
    files, message = dict(repo["commits"][sha]), ""
    for line in (await request.body()).splitlines():
        item = json.loads(line)
        key, value = item["key"], item["value"]
        if key == "header":
            message = value["summary"]
        elif key == "file":
            files[value["path"]] = keep(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            if value["oid"] not in BLOBS:
                return refuse(400, "BadRequest", f"{value['oid']} was not uploaded")
            size = len(BLOBS[value["oid"]])
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{value['oid']}\nsize {size}\n"
            files[value["path"]] = {"oid": git_oid(pointer.encode()), "size": size, "lfs": value["oid"]}
        elif key == "deletedFile":
            del files[value["path"]]
    new = add_commit(repo, revision, files, message)
    return {"success": True, "commitOid": new, "commitUrl": f"{request.base_url}{owner}/{name}/commit/{new}"}


@app.get("/api/{kind}s/{owner}/{name}")
@app.get("/api/{kind}s/{owner}/{name}/revision/{revision:path}")
def info(kind: str, owner: str, name: str, request: Request, revision: str = "main") -> Any:
    repo, sha, error = find(kind, f"{owner}/{name}", revision, request)
    if error:
        return error
    files = [{"rfilename": path} for path in sorted(repo["commits"][sha])]
    rest = {
        "gated": f"{owner}/{name}" in GATED and "manual",
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "_id": "0" * 24,
    }
    return {"id": f"{owner}/{name}", "sha": sha, "private": repo["private"], "siblings": files, **rest}


@app.get("/api/{kind}s/{owner}/{name}/refs")
def refs(kind: str, owner: str, name: str, request: Request) -> Any:
    repo, _, error = find(kind, f"{owner}/{name}", "main", request)
    if error:
        return error
    heads = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": sha} for n, sha in repo["refs"].items()]
    return {"branches": heads, "converts": [], "tags": []}


def entry(path: str, file: dict[str, Any]) -> dict[str, Any]:
    large = {"lfs": {"oid": file["lfs"], "size": file["size"], "pointerSize": 134}} if file["lfs"] else {}
    return {"type": "file", "path": path, "oid": file["oid"], "size": file["size"], **large}


@app.get("/api/{kind}s/{owner}/{name}/tree/{rest:path}")
def tree(kind: str, owner: str, name: str, rest: str, request: Request, recursive: bool = False) -> Any:
    revision, _, folder = rest.partition("/")
    repo, sha, error = find(kind, f"{owner}/{name}", revision, request)
    if error:
        return error
    start, found, folders = f"{folder}/" if folder else "", [], set()
    for path, file in sorted(repo["commits"][sha].items()):
        if not path.startswith(start):
            continue
        parts = path[len(start) :].split("/")
        for depth in range(1, len(parts) if recursive else min(2, len(parts))):
            folders.add(start + "/".join(parts[:depth]))
        if recursive or len(parts) == 1:
            found.append(entry(path, file))
    found += [{"type": "directory", "path": path, "oid": git_oid(path.encode()), "size": 0} for path in sorted(folders)]
    return found if found or not folder else refuse(404, "EntryNotFound", f"{folder} does not exist on {revision}")


@app.post("/api/{kind}s/{owner}/{name}/paths-info/{revision:path}")
async def paths_info(kind: str, owner: str, name: str, revision: str, request: Request) -> Any:
    repo, sha, error = find(kind, f"{owner}/{name}", revision, request)
    if error:
        return error
    body, files = await request.body(), repo["commits"][sha]
    try:
        paths = json.loads(body)["paths"]
    except ValueError:
        paths = parse_qs(body.decode())["paths"]
    return [entry(path, files[path]) for path in paths if path in files]


@app.api_route("/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
def resolve_model(owner: str, name: str, revision: str, path: str, request: Request) -> Response:
    return resolve("model", f"{owner}/{name}", revision, path, request)


@app.api_route("/datasets/{owner}/{name}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
def resolve_dataset(owner: str, name: str, revision: str, path: str, request: Request) -> Response:
    return resolve("dataset", f"{owner}/{name}", revision, path, request)


def resolve(kind: str, name: str, revision: str, path: str, request: Request) -> Response:
    repo, sha, error = find(kind, name, revision, request)
    if error:
        return error
    if name in GATED:
        status = 403 if user_of(request) else 401
        return refuse(status, "GatedRepo", f"Access to model {name} is restricted, its conditions were not accepted.")
    file = repo["commits"][sha].get(path)
    if file is None:
        answer = refuse(404, "EntryNotFound", "Entry not found")
        answer.headers["X-Repo-Commit"] = sha
        return answer
    key = file["lfs"] or file["oid"]
    data = BLOBS[key]
    headers = {"X-Repo-Commit": sha, "ETag": f'"{key}"', "Accept-Ranges": "bytes"}
    headers["Content-Type"] = "application/octet-stream"
    if request.method == "HEAD":
        return Response(headers={**headers, "Content-Length": str(len(data))})
    part = re.match(r"bytes=(\d+)-(\d*)$", request.headers.get("range", ""))
    if part:
        first, last = int(part[1]), int(part[2]) if part[2] else len(data) - 1
        span = {"Content-Range": f"bytes {first}-{last}/{len(data)}"}
        return Response(data[first : last + 1], 206, {**headers, **span})
    return Response(data, headers=headers)


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")

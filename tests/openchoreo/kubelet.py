#!/usr/bin/env python3
"""A small kubelet: runs the pods of a cluster as processes of this machine, each in a root of its own that holds what its
volumes do, reports their status, and serves their logs.

kubelet.py FOLDER PROGRAMS: FOLDER is one of tests/control-plane/up, PROGRAMS what tests/openchoreo/build prints. An image
NAME:RELEASE is PROGRAMS/RELEASE/NAME; one that is not there can't be pulled. Pods share the ports of this machine, and all
names of the control plane's Services lead to it. It ends, with its pods, at the end of its standard input.
"""
import base64, ctypes, datetime, http.server, json, os, pathlib, shutil, signal, ssl, subprocess, sys, threading, time
import urllib.error, urllib.parse, urllib.request

FOLDER, PROGRAMS = map(pathlib.Path, sys.argv[1:])
SERVER = "https://127.0.0.1:" + (FOLDER / "api-port").read_text().strip()
TOKEN = (FOLDER / "tokens.csv").read_text().split(",")[0]
TRUST = ssl.create_default_context(cafile=FOLDER / "apiserver.crt")
NODE = "node"
SERVICES = [f"cluster-gateway{which}.openchoreo-control-plane{of}" for which in ("", "-external") for of in ("", ".svc", ".svc.cluster.local")]
LIBC = ctypes.CDLL(None)


def api(method, path, body=None, kind="application/json", unless=()):
    """Asks the API server; nothing where it answers one of these codes."""
    headers = {"Authorization": "Bearer " + TOKEN, "Content-Type": kind}
    request = urllib.request.Request(SERVER + path, None if body is None else json.dumps(body).encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10, context=TRUST) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in unless:
            return None
        raise OSError(f"{method} {path}: {error.read().decode(errors='replace')}")


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def stamp(time=None):
    return (time or now()).strftime("%Y-%m-%dT%H:%M:%SZ")


def mark(time):
    """The time of a line in a log, which sorts as text."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ").encode()


class Waiting(Exception):
    """Why a container can't start: the reason, the message, and the seconds until the next attempt."""


class Pod:
    def __init__(self, pod):
        self.uid, self.namespace, self.name = (pod["metadata"][field] for field in ("uid", "namespace", "name"))
        self.path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        self.folder = FOLDER / "pods" / self.uid
        self.folder.mkdir(parents=True)
        self.process, self.started, self.ended, self.restarts = None, None, None, 0
        self.waiting, self.next_start, self.next_mount, self.term_at = ("ContainerCreating", None), 0, 0, None
        self.ready, self.ready_since, self.since = False, stamp(), stamp()
        self.status, self.told = None, set()

    def contents(self, volume):
        """What the files of a volume hold, by name."""
        for plural, name_of in (("secrets", "secretName"), ("configmaps", "name")):
            source = volume.get(plural[:-1].replace("map", "Map"))
            if source is None:
                continue
            found = api("GET", f"/api/v1/namespaces/{self.namespace}/{plural}/{source[name_of]}", unless=(404,))
            if found is None and not source.get("optional"):
                self.event("FailedMount", f'MountVolume.SetUp failed for volume "{volume["name"]}" : {plural[:-1]} "{source[name_of]}" not found')
                raise Waiting("ContainerCreating", None, 1)
            data = (found or {}).get("data") or {}
            decode = base64.b64decode if plural == "secrets" else str.encode
            files = {key: decode(value) for key, value in data.items()}
            items = source.get("items")
            if not items:
                return files
            if lacks := [item["key"] for item in items if item["key"] not in files]:
                self.event("FailedMount", f'MountVolume.SetUp failed for volume "{volume["name"]}" : references non-existent key: {lacks[0]}')
                raise Waiting("ContainerCreating", None, 1)
            return {item["path"]: files[item["key"]] for item in items}
        return {}

    def mount(self, pod):
        places = {place["name"]: place["mountPath"] for place in pod["spec"]["containers"][0].get("volumeMounts", [])}
        for volume in pod["spec"].get("volumes", []):
            if volume["name"] not in places:
                continue
            folder = self.folder / "root" / places[volume["name"]].lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            files = self.contents(volume)
            for file in folder.iterdir():
                if file.name not in files and {"secret", "configMap"} & volume.keys():
                    file.unlink()
            for name, content in files.items():
                (folder / (name + ".new")).write_bytes(content)
                (folder / (name + ".new")).rename(folder / name)

    def prepare(self, pod, program):
        """The root with what every container has: names, a token, and the program."""
        root = self.folder / "root"
        secrets = root / "var/run/secrets/kubernetes.io/serviceaccount"
        for folder in (root / "etc", root / "tmp", secrets):
            folder.mkdir(parents=True, exist_ok=True)
        (root / "tmp").chmod(0o1777)
        (root / "etc/hosts").write_text("127.0.0.1 localhost " + " ".join(SERVICES) + "\n")
        (root / "etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        account = pod["spec"].get("serviceAccountName") or "default"
        request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 86400}}
        token = api("POST", f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token", request, unless=(404,))
        if token is None:
            raise Waiting("CreateContainerConfigError", f'serviceaccount "{account}" not found', 1)
        (secrets / "token").write_text(token["status"]["token"])
        (secrets / "namespace").write_text(self.namespace)
        (secrets / "ca.crt").write_bytes((FOLDER / "apiserver.crt").read_bytes())  # not its mode
        if not (root / "program").exists():
            try:
                os.link(program, root / "program")
            except OSError:
                shutil.copy(program, root / "program")
        return root

    def environment(self, container):
        fields = {"metadata.name": self.name, "metadata.namespace": self.namespace, "status.podIP": "127.0.0.1"}
        address, _, port = SERVER.removeprefix("https://").rpartition(":")
        environment = {"KUBERNETES_SERVICE_HOST": address, "KUBERNETES_SERVICE_PORT": port, "HOME": "/tmp"}
        for each in container.get("env", []):
            field = each.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath")
            environment[each["name"]] = each.get("value") or fields.get(field, "")
        return environment

    def start(self, pod):
        container = pod["spec"]["containers"][0]
        name, _, release = container["image"].rsplit("/", 1)[-1].partition(":")
        program = PROGRAMS / release / name
        if not release or not program.is_file():
            raise Waiting("ImagePullBackOff", f'Back-off pulling image "{container["image"]}"', 2)
        root, user = self.prepare(pod, program), (pod["spec"].get("securityContext") or {}).get("runAsUser", 65532)
        self.mount(pod)

        def enter():
            LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a kubelet that is killed leaves nothing behind
            os.chroot(root)
            os.chdir("/")
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            LIBC.prctl(1, signal.SIGKILL)  # the change of the user cleared it

        self.process = subprocess.Popen(["/program", *container.get("args", [])], env=self.environment(container), preexec_fn=enter,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.started = now()
        threading.Thread(target=keep_log, args=(self.process.stdout, self.log(self.restarts)), daemon=True).start()

    def log(self, number):
        return self.folder / f"log.{number}"

    def look(self, pod):
        """Does what is next; whether the pod is still there."""
        if self.process and self.process.poll() is not None:
            code = self.process.returncode
            self.ended = {"terminated": {"exitCode": code if code >= 0 else 128 - code, "reason": "Error" if code else "Completed",
                                         "startedAt": stamp(self.started), "finishedAt": stamp()}}
            wait = min(300, 10 * 2 ** (self.restarts - 1)) if self.restarts else 1
            self.process, self.next_start, self.restarts = None, time.time() + wait, self.restarts + 1
            self.waiting = ("CrashLoopBackOff", f"back-off {wait}s restarting failed container")
            self.event("BackOff", "Back-off restarting failed container")
        if pod["metadata"].get("deletionTimestamp"):
            return self.end(pod)
        try:
            if not self.process and time.time() >= self.next_start:
                self.start(pod)
            elif self.process and time.time() >= self.next_mount:
                self.next_mount = time.time() + 10
                self.mount(pod)
        except Waiting as why:
            if not self.process:
                self.waiting, self.next_start = why.args[:2], time.time() + why.args[2]
        self.report(pod)
        return True

    def end(self, pod):
        if self.process:
            if self.term_at is None:
                self.term_at = time.time()
                self.process.terminate()
            elif time.time() - self.term_at > min(30, pod["spec"].get("terminationGracePeriodSeconds", 30)):
                self.process.kill()
            return True
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        api("DELETE", self.path, options, unless=(404, 409))
        return False

    def is_ready(self, container):
        probe = (container.get("readinessProbe") or {}).get("httpGet")
        if not self.process or not probe:
            return self.process is not None
        port = probe["port"]
        if isinstance(port, str):
            port = next(each["containerPort"] for each in container["ports"] if each["name"] == port)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{probe['path']}", timeout=2):
                return True
        except OSError:
            return False

    def report(self, pod):
        container = pod["spec"]["containers"][0]
        ready = self.is_ready(container)
        if ready != self.ready:
            self.ready, self.ready_since = ready, stamp()
        began = self.process is not None or self.restarts > 0
        state = {"waiting": dict(zip(("reason", "message"), filter(None, self.waiting)))}
        if self.process:
            state = {"running": {"startedAt": stamp(self.started)}}
        condition = lambda kind, holds, since: {"type": kind, "status": str(holds), "lastTransitionTime": since}
        status = {
            "phase": "Running" if began else "Pending", "hostIP": "127.0.0.1", "podIP": "127.0.0.1", "podIPs": [{"ip": "127.0.0.1"}],
            "startTime": self.since, "qosClass": pod["status"].get("qosClass", "Burstable"),
            "conditions": [*(condition(kind, True, self.since) for kind in ("PodScheduled", "Initialized")),
                           *(condition(kind, ready, self.ready_since) for kind in ("ContainersReady", "Ready"))],
            "containerStatuses": [{
                "name": container["name"], "image": container["image"], "imageID": container["image"], "ready": ready,
                "containerID": f"process://{self.uid}-{self.restarts}" if began else "", "started": self.process is not None,
                "restartCount": self.restarts, "state": state, "lastState": self.ended or {}}],
        }
        if status != self.status:
            metadata = {key: value for key, value in pod["metadata"].items() if key != "resourceVersion"}
            api("PUT", self.path + "/status", pod | {"status": status, "metadata": metadata}, unless=(404, 409))
            self.status = status

    def event(self, reason, message):
        if message in self.told:
            return
        self.told.add(message)
        api("POST", f"/api/v1/namespaces/{self.namespace}/events", {
            "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message, "count": 1,
            "metadata": {"generateName": self.name + ".", "namespace": self.namespace}, "source": {"component": "kubelet", "host": NODE},
            "firstTimestamp": stamp(), "lastTimestamp": stamp(),
            "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": self.namespace, "name": self.name, "uid": self.uid}}, unless=(403, 404))

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()


def keep_log(stream, path):
    with open(path, "ab", buffering=0) as log:
        for line in stream:
            log.write(mark(now()) + b" " + line)


pods = {}


class Logs(http.server.BaseHTTPRequestHandler):
    """The logs of pods, as an API server asks a node for them."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query, words = dict(urllib.parse.parse_qsl(url.query)), url.path.strip("/").split("/")
        pod = next((pod for pod in list(pods.values()) if words[:3] == ["containerLogs", pod.namespace, pod.name]), None)
        if pod is None:
            return self.say(404, b"no such pod\n")
        number = pod.restarts - (0 if pod.process and query.get("previous") != "true" else 1)
        if number < 0 or not pod.log(number).exists():
            why = "previous terminated container not found" if query.get("previous") == "true" else "container is waiting to start"
            return self.say(400, why.encode())
        lines = pod.log(number).read_bytes().splitlines(keepends=True)
        position, since = sum(map(len, lines)), b""
        if "sinceSeconds" in query:
            since = mark(now() - datetime.timedelta(seconds=int(query["sinceSeconds"])))
        if "sinceTime" in query:
            since = mark(datetime.datetime.fromisoformat(query["sinceTime"].replace("Z", "+00:00")))
        lines = [line for line in lines if line >= since]
        if "tailLines" in query:
            lines = lines[max(0, len(lines) - int(query["tailLines"])):]
        show = lambda line: line if query.get("timestamps") == "true" else line.split(b" ", 1)[1]
        text = b"".join(map(show, lines))[:int(query.get("limitBytes", sys.maxsize))]
        if query.get("follow") != "true":
            return self.say(200, text)
        self.send_response(200)
        self.end_headers()
        with open(pod.log(number), "rb") as log:
            log.seek(position)
            while True:
                self.wfile.write(text)
                self.wfile.flush()
                line, text = log.readline(), b""
                if line.endswith(b"\n"):
                    text = show(line)
                elif pod.restarts > number or pod.uid not in pods:
                    return
                else:
                    log.seek(-len(line), os.SEEK_CUR)
                    time.sleep(0.2)

    def say(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def serve_logs():
    key, certificate = FOLDER / "kubelet.key", FOLDER / "kubelet.crt"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "30",
                    "-subj", "/CN=kubelet", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, stderr=subprocess.DEVNULL)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Logs)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def register(port):
    api("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}}, unless=(409,))
    status = {"addresses": [{"type": "InternalIP", "address": "127.0.0.1"}], "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
              "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "lastHeartbeatTime": stamp(), "lastTransitionTime": stamp()}]}
    api("PATCH", f"/api/v1/nodes/{NODE}/status", {"status": status}, "application/merge-patch+json")


def turn():
    seen = set()
    for pod in api("GET", "/api/v1/pods")["items"]:
        metadata, uid = pod["metadata"], pod["metadata"]["uid"]
        if not pod["spec"].get("nodeName"):
            binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": metadata["name"]}, "target": {"apiVersion": "v1", "kind": "Node", "name": NODE}}
            api("POST", f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/binding", binding, unless=(404, 409))
            continue
        seen.add(uid)
        if uid not in pods:
            pods[uid] = Pod(pod)
        if not pods[uid].look(pod):
            del pods[uid]
    for uid in pods.keys() - seen:  # deleted by force
        pods.pop(uid).kill()


def end_with_input():
    sys.stdin.read()
    for pod in list(pods.values()):
        pod.kill()
    os._exit(0)


register(serve_logs())
threading.Thread(target=end_with_input, daemon=True).start()
while True:
    try:
        turn()
    except OSError as error:
        print(stamp(), error, flush=True)
    time.sleep(0.5)

"""What a kubelet asks of containerd for the pods of examples/, and what it makes of the probes' answers.

Usage: kubelet.py DIRECTORY CGROUP, where DIRECTORY holds containerd.sock and v1_pb2.py.
"""

import http.client
import json
import os
import signal
import sys
import time

import grpc
import v1_pb2 as cri
import yaml

work, cgroup = sys.argv[1:]
channel = grpc.insecure_channel(f"unix://{work}/containerd.sock")
passed = 0


def ok(text):
    global passed
    passed += 1
    print(f"ok {passed} - {text}", flush=True)


def call(name, request, timeout=60):
    """One call of the runtime service."""
    answer = getattr(cri, name + "Response")
    method = channel.unary_unary(
        f"/runtime.v1.RuntimeService/{name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    try:
        return method(request, timeout=timeout)
    except grpc.RpcError as error:
        if "PodSandbox" not in name:
            raise
        # There is nothing of ours in a pod without containers.
        raise SystemExit(f"FAILED OUTSIDE THIS REPOSITORY (the code is not at fault): {name}: {error.details()}")


def within(seconds, what, condition):
    end = time.monotonic() + seconds
    while not (last := condition()):
        if time.monotonic() > end:
            raise SystemExit(f"FAILED: not within {seconds} s: {what}")
        time.sleep(0.1)
    return last


def expect(what, saw, wanted):
    if saw != wanted:
        raise SystemExit(f"FAILED: {what} is {saw!r}, not {wanted!r}")


def contains(what, saw, wanted):
    if wanted not in saw:
        raise SystemExit(f"FAILED: {what} has no {wanted!r}: {saw!r}")


def lacks(what, saw, unwanted):
    if unwanted in saw:
        raise SystemExit(f"FAILED: {what} has {unwanted!r}: {saw!r}")


class ConfigMap:
    """A directory as a kubelet fills it: an update swaps the link that the files are behind."""

    def __init__(self, name):
        self.path = f"{work}/{name}"
        self.version = 0
        os.mkdir(self.path)
        for key in ("passwd", "group"):
            os.symlink(f"..data/{key}", f"{self.path}/{key}")
        self.healthy()

    def update(self, passwd):
        self.version += 1
        data = f"{self.path}/..{self.version}"
        os.mkdir(data)
        with open(f"{data}/group", "w") as file:
            file.write("root:x:0:\n")
        if passwd is None:
            # Reading a pipe that nobody writes to is a connector that is still connecting.
            os.mkfifo(f"{data}/passwd", 0o644)
        else:
            with open(f"{data}/passwd", "w") as file:
                file.write(passwd + "\n")
        os.symlink(f"..{self.version}", f"{self.path}/..new")
        os.rename(f"{self.path}/..new", f"{self.path}/..data")

    def healthy(self):
        self.update("root:x:0:0:root:/root:/bin/sh")

    def broken(self):
        self.update("no colons here")

    def connecting(self):
        self.update(None)


def quantity(text):
    assert text.endswith("Mi"), text
    return int(text[:-2]) << 20


class Pod:
    """One pod with one container, started from a pod template as a kubelet translates it."""

    def __init__(self, name, template, accounts):
        self.name = name
        (container,) = template["containers"]
        self.probes = {key: probe for key, probe in container.items() if key.endswith("Probe")}
        self.grace = template["terminationGracePeriodSeconds"]
        outer, inner = template["securityContext"], container["securityContext"]
        expect("the pod's seccomp profile", outer["seccompProfile"], {"type": "RuntimeDefault"})
        seccomp = cri.SecurityProfile(profile_type=cri.SecurityProfile.RuntimeDefault)
        self.config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, uid=name, namespace="default"),
            hostname=name,
            log_directory=f"{work}/logs/{name}",
            linux=cri.LinuxPodSandboxConfig(
                cgroup_parent=f"/{cgroup}",
                security_context=cri.LinuxSandboxSecurityContext(seccomp=seccomp),
            ),
        )
        self.sandbox = call("RunPodSandbox", cri.RunPodSandboxRequest(config=self.config)).pod_sandbox_id
        status = call("PodSandboxStatus", cri.PodSandboxStatusRequest(pod_sandbox_id=self.sandbox))
        self.address = status.status.network.ip
        memory = quantity(container["resources"]["limits"]["memory"])
        security = cri.LinuxContainerSecurityContext(
            capabilities=cri.Capability(drop_capabilities=inner["capabilities"]["drop"]),
            run_as_user=cri.Int64Value(value=outer["runAsUser"]),
            run_as_group=cri.Int64Value(value=outer["runAsGroup"]),
            readonly_rootfs=inner["readOnlyRootFilesystem"],
            no_new_privs=not inner["allowPrivilegeEscalation"],
            seccomp=seccomp,
        )
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=container["name"]),
            image=cri.ImageSpec(image=container["image"]),
            command=container.get("command", []),
            args=container.get("args", []),
            envs=[cri.KeyValue(key=env["name"], value=env["value"]) for env in container["env"]],
            mounts=[
                cri.Mount(container_path=mount["mountPath"], host_path=accounts.path, readonly=mount["readOnly"])
                for mount in container["volumeMounts"]
            ],
            log_path="0.log",
            linux=cri.LinuxContainerConfig(
                resources=cri.LinuxContainerResources(memory_limit_in_bytes=memory, oom_score_adj=999),
                security_context=security,
            ),
        )
        request = cri.CreateContainerRequest(pod_sandbox_id=self.sandbox, config=config, sandbox_config=self.config)
        self.container = call("CreateContainer", request).container_id
        call("StartContainer", cri.StartContainerRequest(container_id=self.container))

    def status(self, verbose=False):
        return call("ContainerStatus", cri.ContainerStatusRequest(container_id=self.container, verbose=verbose))

    def stand_still(self):
        """SIGSTOP, and wait until it has come to every thread; returns how to end that."""
        pid = json.loads(self.status(verbose=True).info["info"])["pid"]

        def is_stopped(thread):
            with open(f"/proc/{pid}/task/{thread}/stat") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "T"

        os.kill(pid, signal.SIGSTOP)
        within(30, "SIGSTOP stops it", lambda: all(is_stopped(thread) for thread in os.listdir(f"/proc/{pid}/task")))
        return lambda: os.kill(pid, signal.SIGCONT)

    def log(self):
        with open(f"{work}/logs/{self.name}/0.log") as file:
            return file.read()

    def exec_sync(self, command, timeout):
        """Exit code and output of a command, or what containerd says when its time is over."""
        request = cri.ExecSyncRequest(container_id=self.container, cmd=command, timeout=timeout)
        try:
            # A kubelet's own deadline is the longer one, too.
            answer = call("ExecSync", request, timeout=timeout + 60)
        except grpc.RpcError as error:
            return error.code().name, error.details()
        return answer.exit_code, (answer.stdout + answer.stderr).decode()

    def http_get(self, path, port, timeout):
        """Status and body, with the head that a kubelet sends."""
        connection = http.client.HTTPConnection(self.address, port, timeout=timeout)
        try:
            connection.putrequest("GET", path, skip_accept_encoding=True)
            for header in (("User-Agent", "kube-probe/1.37"), ("Accept", "*/*"), ("Connection", "close")):
                connection.putheader(*header)
            connection.endheaders()
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except OSError as error:
            return type(error).__name__, str(error)
        finally:
            connection.close()

    def probe(self, name):
        """One probe of the manifest: whether a kubelet takes it for a success, and what it would report."""
        probe = self.probes[name]
        if "exec" in probe:
            code, said = self.exec_sync(probe["exec"]["command"], probe["timeoutSeconds"])
            return code == 0, said
        status, said = self.http_get(probe["httpGet"]["path"], 8081, probe["timeoutSeconds"])
        return isinstance(status, int) and 200 <= status < 400, f"{status} {said}"

    def comes_to(self, name, success):
        within(30, f"{self.name}: {name} is {success}", lambda: self.probe(name)[0] == success)
        return self.probe(name)[1].strip()

    def stop(self):
        """Ends the pod as a kubelet does; returns how its container ended."""
        call("StopContainer", cri.StopContainerRequest(container_id=self.container, timeout=self.grace))
        status = self.status().status
        call("StopPodSandbox", cri.StopPodSandboxRequest(pod_sandbox_id=self.sandbox))
        call("RemovePodSandbox", cri.RemovePodSandboxRequest(pod_sandbox_id=self.sandbox))
        return status.exit_code, status.reason


def template(file):
    with open(f"examples/{file}") as text:
        return yaml.safe_load(text)["spec"]["template"]["spec"]


def exec_probes():
    accounts = ConfigMap("exec-accounts")
    pod = Pod("exec", template("kubernetes.yaml"), accounts)
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        pod.comes_to(name, True)
    ok("kubernetes.yaml: startup, readiness and liveness succeed")

    asked = ["/baton-passwd", "health-check", "--timeout=2"]
    accounts.broken()
    within(30, "/health fails", lambda: pod.exec_sync(asked, 4)[0] == 1)
    said = pod.exec_sync(asked, 4)[1].strip()
    contains("the probe", said, "/accounts/passwd:1: ")
    for name in ("readinessProbe", "livenessProbe"):
        expect(f"{name}, with a broken source", pod.probe(name)[0], True)
    ok(f"a ConfigMap that is updated to something broken is noticed: {said}")
    accounts.healthy()
    within(30, "/health succeeds", lambda: pod.exec_sync(asked, 4)[0] == 0)

    go_on = pod.stand_still()
    success, said = pod.probe("livenessProbe")
    expect("liveness of a process that stands still", success, False)
    contains("a probe that gives up before the kubelet does", said, "baton-passwd: health-check: http://127.0.0.1:8081/live: ")
    ok(f"SIGSTOP, and the kubelet's 4 s: {said.strip()}")
    code, said = pod.exec_sync(pod.probes["livenessProbe"]["exec"]["command"], 1)
    expect("an exec that outlives the kubelet's patience", code, "DEADLINE_EXCEEDED")
    lacks("what containerd says of it", said, "baton-passwd:")
    ok(f"SIGSTOP, and the kubelet's 1 s where the manifest says nothing: {said}")
    go_on()
    pod.comes_to("livenessProbe", True)

    expect("how the container ended", pod.stop(), (0, "Completed"))
    ok("the container ends with 0 when the pod is stopped")


def http_probes():
    accounts = ConfigMap("http-accounts")
    accounts.connecting()
    pod = Pod("http", template("kubernetes-http.yaml"), accounts)
    pod.comes_to("startupProbe", True)
    said = pod.comes_to("readinessProbe", False)
    contains("readiness of a connector that connects", said, "503 ")
    ok(f"kubernetes-http.yaml: while it connects it is live, and not ready: {said}")
    # Opened for writing and closed again, the pipe is an empty file: let it be read as one, and then replaced.
    with open(f"{accounts.path}/passwd", "w") as pipe:
        pipe.write("root:x:0:0:root:/root:/bin/sh\n")
    accounts.healthy()
    pod.comes_to("readinessProbe", True)
    ok("once it is connected it is ready")

    accounts.broken()
    within(30, "/health fails", lambda: pod.http_get("/health", 8081, 2)[0] == 503)
    status, body = pod.http_get("/health", 8081, 2)
    lacks("/health from outside the pod", body, "/accounts/passwd")
    contains("/health from outside the pod", body, '"status":"unhealthy"')
    within(10, "the reason is in the log", lambda: "/accounts/passwd:1: " in pod.log())
    ok(f"from outside the pod /health is {status} without the reason, which the log has: {body.strip()}")
    accounts.healthy()

    go_on = pod.stand_still()
    success, said = pod.probe("livenessProbe")
    expect("liveness of a process that stands still", success, False)
    ok(f"SIGSTOP: {said.strip()}")
    go_on()
    pod.comes_to("livenessProbe", True)
    expect("how the container ended", pod.stop(), (0, "Completed"))


# As the documentation of the health checks prints them.
KUBERNETES = """
livenessProbe:
  exec:
    command: ["/baton-myconnector", "health-check", "--endpoint=live"]
  initialDelaySeconds: 10
  periodSeconds: 5

readinessProbe:
  exec:
    command: ["/baton-myconnector", "health-check", "--endpoint=ready"]
  initialDelaySeconds: 5
  periodSeconds: 3
"""
ECS = """
{
  "healthCheck": {
    "command": ["CMD", "/baton-myconnector", "health-check"],
    "interval": 30,
    "timeout": 10,
    "retries": 3,
    "startPeriod": 60
  }
}
"""


def documented_probes():
    accounts = ConfigMap("documented-accounts")
    spec = template("kubernetes.yaml")
    (container,) = spec["containers"]
    container["image"] = "docker.io/library/baton-myconnector:latest"
    container["command"], container["args"] = ["/baton-myconnector"], ["--health-check"]
    probes = yaml.safe_load(KUBERNETES)
    container.update(probes)
    for name in probes:
        # What Kubernetes puts where nothing is said.
        container[name]["timeoutSeconds"] = 1
    pod = Pod("documented", spec, accounts)
    for name in probes:
        pod.comes_to(name, True)
    ok("the documented Kubernetes probes succeed, as printed")
    check = json.loads(ECS)["healthCheck"]
    expect("the first word of ECS's command", check["command"][0], "CMD")
    expect("the documented ECS check", pod.exec_sync(check["command"][1:], check["timeout"]), (0, "healthy\n"))
    accounts.broken()
    within(30, "the ECS check fails", lambda: pod.exec_sync(check["command"][1:], check["timeout"])[0] == 1)
    ok("the documented ECS check succeeds, as printed, and fails with a broken source")
    expect("how the container ended", pod.stop(), (0, "Completed"))


exec_probes()
http_probes()
documented_probes()
print(f"{passed} passed, 0 failed")

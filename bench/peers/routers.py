"""The routers that are compared: where each comes from, how it is started, and that it answers correctly.

Each is started as its own documentation says, on loopback, with one process, its log at errors, and its cache-aware
policy where it has one; everything else is its default. Nothing here measures.
"""

from __future__ import annotations

import json
import os
import sys
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from bench.peers.backend import CONTENT, MODEL
from bench.peers.environment import BUILD, Environment
from bench.peers.load import KEY
from bench.peers.processes import NotUp, Running

HOME = BUILD / "peers"
UP_WITHIN = 60.0
TOKENS = "score "


@attrs.frozen
class Setting:
    """Where a router is to listen, for which model servers, and where its files can lie."""

    port: int
    spare_port: int
    endpoints: tuple[str, ...]
    folder: Path
    model: str = MODEL


@attrs.frozen
class Start:
    """What starts it."""

    command: tuple[str | Path, ...]
    environment: Mapping[str, str] = attrs.field(factory=dict)


@attrs.frozen
class Router:
    """One router. `environment` is None for what this project's own environment has."""

    name: str
    policy: str
    start: Callable[[Setting], Start]
    environment: Environment | None = None
    packages: tuple[str, ...] = ()
    missing: str = ""
    """Why it cannot be had, if it cannot."""

    @property
    def is_peer(self) -> bool:
        """Whether it has to be brought here to be compared."""
        return self.environment is not None or bool(self.missing)

    def origin(self) -> str:
        """Return the versions measured."""
        if not self.environment:
            return ""
        return ", ".join(f"{name} {version}" for name, version in self.environment.versions(*self.packages).items())


# --- how each is started ----------------------------------------------------------------------------------------------


def ours(*options: str | Path) -> Callable[[Setting], Start]:
    """Return what starts the gateway on nothing but its endpoints, or with more options."""

    def start(at: Setting) -> Start:
        program = Path(sys.executable).with_name("inferencesched")
        endpoints = [part for url in at.endpoints for part in ("--endpoint", url)]
        return Start((program, "serve", "--host", "127.0.0.1", "--port", str(at.port), *endpoints, *options))

    return start


def ours_from_manifests(at: Setting) -> Start:
    """Return it with everything on: a route by model, an objective, flow control, the scorers of upstream's default."""
    pool = {"name": "bench"}
    weights = {"queue-scorer": 2, "kv-cache-utilization-scorer": 2, "prefix-cache-scorer": 3}
    hosts = [url.removeprefix("http://").split(":") for url in at.endpoints]
    documents = [
        {
            "apiVersion": "llm-d.ai/v1alpha1",
            "kind": "EndpointPickerConfig",
            "featureGates": ["flowControl"],
            "plugins": [{"type": name} for name in weights],
            "schedulingProfiles": [
                {"name": "default", "plugins": [{"pluginRef": name, "weight": n} for name, n in weights.items()]}
            ],
        },
        {
            "apiVersion": "inference.networking.k8s.io/v1",
            "kind": "InferencePool",
            "metadata": pool,
            "spec": {"selector": {"matchLabels": {"app": "bench"}}, "targetPorts": [{"number": 8000}]},
        },
        {
            "apiVersion": "llm-d.ai/v1alpha2",
            "kind": "InferenceObjective",
            "metadata": pool,
            "spec": {"priority": 10, "poolRef": pool},
        },
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": pool,
            "spec": {
                "rules": [
                    {
                        "matches": [{"headers": [{"name": "X-Gateway-Model-Name", "value": at.model}]}],
                        "filters": [
                            {
                                "type": "RequestHeaderModifier",
                                "requestHeaderModifier": {
                                    "set": [{"name": "x-llm-d-inference-objective", "value": "bench"}]
                                },
                            }
                        ],
                        "backendRefs": [{"group": "inference.networking.k8s.io", "kind": "InferencePool", **pool}],
                    }
                ]
            },
        },
        {
            "endpoints": [
                {"name": f"engine-{i}", "address": host, "port": port, "labels": {"app": "bench"}}
                for i, (host, port) in enumerate(hosts)
            ]
        },
    ]
    path = at.folder / "manifests.yaml"
    path.write_text("\n---\n".join(json.dumps(document) for document in documents))  # JSON is YAML
    program = Path(sys.executable).with_name("inferencesched")
    return Start((program, "serve", "--host", "127.0.0.1", "--port", str(at.port), "-f", path))


def _aiohttp(at: Setting) -> Start:
    endpoints = [part for url in at.endpoints for part in ("--endpoint", url)]
    return Start((sys.executable, "-m", "bench.peers.aiohttp_proxy", "--port", str(at.port), *endpoints))


def _wire(at: Setting) -> Start:
    endpoints = [part for url in at.endpoints for part in ("--endpoint", url.removeprefix("http://"))]
    return Start((sys.executable, "-m", "bench.peers.wire_proxy", "--port", str(at.port), *endpoints))


def _nginx(at: Setting) -> Start:
    servers = "\n".join(f"server {url.removeprefix('http://')};" for url in at.endpoints)
    temporary = "\n".join(
        f"{kind}_temp_path {at.folder}/proxy-{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    configuration = at.folder / "nginx-proxy.conf"
    configuration.write_text(f"""
    daemon off; worker_processes 1; pid {at.folder}/nginx-proxy.pid; error_log {at.folder}/nginx-proxy.log crit;
    events {{ worker_connections 8192; }}
    http {{
    access_log off; tcp_nodelay on; keepalive_requests 100000000;
    client_max_body_size 64m; client_body_buffer_size 2m;
    {temporary}
    upstream engines {{ {servers} keepalive 256; keepalive_requests 100000000; }}
    server {{ listen 127.0.0.1:{at.port} backlog=4096; location / {{
    proxy_pass http://engines; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }}
    }}
    """)
    return Start(("nginx", "-c", configuration))


def _smg(at: Setting) -> Start:
    program = HOME / "smg" / "bin" / "smg"
    return Start((
        program, "launch", "--host", "127.0.0.1", "--port", str(at.port), "--worker-urls", *at.endpoints,
        "--policy", "cache_aware", "--log-level", "error", "--disable-tokenizer-autoload",
        "--prometheus-port", str(at.spare_port),
    ))  # fmt: skip


def _vllm_router(at: Setting) -> Start:
    program = HOME / "vllm-router" / "bin" / "vllm-router"
    return Start((
        program, "--host", "127.0.0.1", "--port", str(at.port), "--worker-urls", *at.endpoints,
        "--policy", "cache_aware", "--log-level", "error", "--worker-startup-check-interval", "1",
        "--prometheus-port", str(at.spare_port),
    ))  # fmt: skip


def _sglang_router(at: Setting) -> Start:
    python = HOME / "sglang-router" / "bin" / "python"
    return Start((
        python, "-m", "sglang_router.launch_router", "--host", "127.0.0.1", "--port", str(at.port),
        "--worker-urls", *at.endpoints, "--policy", "cache_aware", "--log-level", "error",
        "--prometheus-port", str(at.spare_port),
    ))  # fmt: skip


def _litellm(at: Setting) -> Start:
    deployments = [
        {
            "model_name": at.model,
            "litellm_params": {"model": f"openai/{at.model}", "api_base": f"{url}/v1", "api_key": "none"},
        }
        for url in at.endpoints
    ]
    configuration = at.folder / "litellm.yaml"  # JSON is YAML
    configuration.write_text(json.dumps({"model_list": deployments, "general_settings": {"master_key": KEY}}))
    return Start(
        (
            HOME / "litellm" / "bin" / "litellm", "--config", configuration, "--host", "127.0.0.1",
            "--port", str(at.port), "--num_workers", "1",
        ),
        # Its price list comes from the network otherwise.
        {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
    )  # fmt: skip


def _production_stack(at: Setting) -> Start:
    return Start(
        (
            HOME / "production-stack" / "bin" / "python", "-m", "vllm_router.app", "--host", "127.0.0.1",
            "--port", str(at.port), "--service-discovery", "static", "--static-backends", ",".join(at.endpoints),
            "--static-models", ",".join([at.model] * len(at.endpoints)), "--routing-logic", "prefixaware",
            "--log-level", "error",
        ),
        {"PYTHONPATH": str(PRODUCTION_STACK_SOURCE / "src")},
    )  # fmt: skip


PRODUCTION_STACK_SOURCE = HOME / "production-stack" / "source"
"""Where a checkout of github.com/vllm-project/production-stack belongs: the project is in no package index."""


def production_stack() -> Router:
    """Return production-stack's router, with the requirements that its checkout names."""
    project = PRODUCTION_STACK_SOURCE / "pyproject.toml"
    if not project.exists():
        return Router(
            "production-stack",
            "prefixaware",
            _production_stack,
            missing="in no package index; check out vllm-project/production-stack at "
            + os.path.relpath(PRODUCTION_STACK_SOURCE),
        )
    wanted = tomllib.loads(project.read_text())["project"]["dependencies"]
    needed = tuple(each for each in wanted if not each.startswith("black"))  # a formatter has no part in routing
    environment = Environment(HOME / "production-stack", (needed,))
    return Router("production-stack", "prefixaware", _production_stack, environment, ("fastapi", "aiohttp", "uvicorn"))


def packaged(name: str, policy: str, start: Callable[[Setting], Start], version: str, extra: str = "") -> Router:
    """Return a router that is a package of its own name."""
    return Router(name, policy, start, Environment(HOME / name, ((f"{name}{extra}=={version}",),)), (name,))


def routers() -> dict[str, Router]:
    """Return all of them by name: ours, the references, the peers."""
    known = [
        Router("ours", "default", ours()),
        Router("ours-manifests", "flow control", ours_from_manifests),
        Router("wire", "round robin", _wire),
        Router("nginx", "round robin", _nginx),
        Router("aiohttp", "round robin", _aiohttp),
        packaged("smg", "cache_aware", _smg, "1.13.0"),
        packaged("vllm-router", "cache_aware", _vllm_router, "0.1.17"),
        packaged("sglang-router", "cache_aware", _sglang_router, "0.3.2"),
        production_stack(),
        packaged("litellm", "simple-shuffle", _litellm, "1.106.2", "[proxy]"),
    ]
    return {router.name: router for router in known}


# --- whether it works -------------------------------------------------------------------------------------------------


def verify(router: Running, port: int, *, streams: bool, within: float = UP_WITHIN) -> None:
    """Return when a whole answer, and if wanted a whole stream, has come through it as the model server gave it.

    Raises:
        NotUp: it has ended, or what came is not what was sent, until the seconds were over.
    """
    until = time.monotonic() + within
    seen = "nothing"
    while time.monotonic() < until:
        if router.process.poll() is not None:
            raise NotUp(f"ended with {router.process.returncode}: {router.last_words()}")
        try:
            seen = ask(port, stream=False)
            if json.loads(seen)["choices"][0]["message"]["content"] == CONTENT:
                seen = ask(port, stream=True) if streams else f"{TOKENS}[DONE]"
                if TOKENS in seen and "[DONE]" in seen:
                    return
        except (OSError, ValueError, KeyError) as error:
            seen = f"{error!r}"
        time.sleep(0.2)
    raise NotUp(f"no correct answer within {within:.0f} s, the last: {seen[:200]} {router.last_words()}")


def ask(port: int, *, stream: bool, path: str = "/v1/chat/completions") -> str:
    """Return what one request is answered with."""
    body = {"model": MODEL, "max_tokens": 32, "messages": [{"role": "user", "content": "Say it."}], "stream": stream}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}"}
    url = f"http://127.0.0.1:{port}{path}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 — our own loopback address
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return str(error.read().decode(errors="replace"))

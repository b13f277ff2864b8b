"""A small box with nothing wrong: configuration, Compose files, images. Tests break one thing at a time in it."""

from __future__ import annotations

from pathlib import Path

DIGEST = "sha256:" + "0123456789abcdef" * 4

CONFIG = """\
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  lifecycle:
    gpus:
      "0": {memory: 100GiB, reserve: 10GiB}
    idle_timeout: 20m
    start_timeout: 30m
    stop_timeout: 30s
litellm_settings:
  turn_off_message_logging: true
include:
  - compose/litellm.yaml
"""

MODELS = """\
model_list:
  - model_name: helper
    litellm_params:
      model: hosted_vllm/helper
      api_base: http://box-helper:8000/v1
    model_info:
      max_input_tokens: 32768
      lifecycle: {container: box-helper, memory: 6GiB, role: utility}

  - model_name: main
    litellm_params:
      model: hosted_vllm/main
      api_base: http://box-main:8000/v1
    model_info:
      max_input_tokens: 131072
      lifecycle: {container: box-main, memory: 80GiB}
      catalogue: {weights: example/main}

  - model_name: broken
    litellm_params:
      model: hosted_vllm/broken
      api_base: http://box-broken:8000/v1
    model_info:
      max_input_tokens: 4096
      lifecycle: {container: box-broken, memory: 90GiB, role: exclusive}
      catalogue:
        disabled: never worked here
"""

COMPOSE = f"""\
name: box
include:
  - compose/models.yml
x-control: &control
  restart: unless-stopped
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  logging: {{driver: json-file, options: {{max-size: 10m}}}}
services:
  gateway:
    <<: *control
    image: example/gateway@{DIGEST}
    environment:
      LITELLM_MASTER_KEY: ${{LITELLM_MASTER_KEY:?needs a value}}
    volumes: ["./litellm_config.yaml:/etc/hearth/litellm_config.yaml:ro"]
    ports: ["127.0.0.1:${{PORT:-8009}}:8009"]
    networks: [control, models]
  router:
    <<: *control
    image: example/router:1.0
    volumes: ["/var/run/docker.sock:/var/run/docker.sock"]
    networks: [control, models]
networks:
  control: {{internal: true}}
  models:
volumes:
  weights:
  hub:
  cache-main:
  cache-helper:
  cache-broken:
"""

ENGINE = """\
services:
  engine:
    restart: "no"
    init: true
    networks: [models]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    deploy:
      resources:
        reservations:
          devices: [{driver: nvidia, count: all, capabilities: [gpu]}]
    environment:
      HF_HOME: /hub
      FLASHINFER_WORKSPACE_BASE: /cache
      TRITON_CACHE_DIR: /cache/triton
      VLLM_CACHE_ROOT: /cache/vllm
    volumes:
      - weights:/models
      - hub:/hub
    healthcheck:
      test: [CMD, curl, -sf, "http://127.0.0.1:8000/health"]
      start_period: 30m
    stop_grace_period: 30s
    logging: {driver: json-file, options: {max-size: 10m}}
"""

SERVICES = f"""\
services:
  box-helper:
    extends: {{file: engine.yml, service: engine}}
    profiles: [models]
    container_name: box-helper
    image: example/sglang:0.5@{DIGEST}
    entrypoint: []
    environment:
      HF_HUB_CACHE: /models
    volumes: ["cache-helper:/cache"]
    command:
      - python3
      - -m
      - sglang.launch_server
      - --model-path=example/helper
      - --served-model-name=helper
      - --port=8000
      - --context-length=32768
      - --mem-fraction-static=0.05

  box-main:
    extends: {{file: engine.yml, service: engine}}
    profiles: [models-built]
    container_name: box-main
    image: ${{MAIN_IMAGE:-own-vllm}}
    pull_policy: never
    volumes: ["cache-main:/cache"]
    command:
      - vllm
      - serve
      - example/main
      - --served-model-name=main
      - --port=8000
      - --download-dir=/models
      - --max-model-len=131072
      - --gpu-memory-utilization=0.80
      - --own-option

  box-broken:
    extends: {{file: engine.yml, service: engine}}
    profiles: [models-disabled]
    container_name: box-broken
    image: local/own:2
    pull_policy: never
    volumes: ["cache-broken:/cache"]
    command: vllm serve /models/broken --served-model-name broken --gpu-memory-utilization 0.9 --max-model-len 4096
"""

FACTS = """\
images:
  own-vllm:
    flags: {--own-option: the image's own}
options:
  sglang: [--model-path, --served-model-name, --port, --context-length, --mem-fraction-static]
"""

RECIPES = """\
{"target": {
  "engine": {"context": "custom-docker-containers"},
  "own": {"inherits": ["engine"], "dockerfile": "own-vllm/Dockerfile", "tags": ["local/own:2"]}
}}
"""

FILES = {
    "litellm_config.yaml": CONFIG,
    "compose/litellm.yaml": MODELS,
    "docker-compose.yml": COMPOSE,
    "compose/engine.yml": ENGINE,
    "compose/models.yml": SERVICES,
    "custom-docker-containers/engine-flags.yaml": FACTS,
    "custom-docker-containers/docker-bake.json": RECIPES,
    "custom-docker-containers/own-vllm/Dockerfile": "FROM scratch\n",
}
#: What the shell of whoever runs it has.
ENVIRONMENT = {"LITELLM_MASTER_KEY": "sk-of-the-shell"}


def plant(directory: Path) -> Path:
    """Write the files; the configuration's path."""
    for name, text in FILES.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return directory / "litellm_config.yaml"


def edit(directory: Path, name: str, old: str, new: str) -> None:
    """Replace the one place where `old` stands in a file."""
    text = (directory / name).read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
    (directory / name).write_text(text.replace(old, new), encoding="utf-8")

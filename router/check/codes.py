"""Every kind of finding, by name. docs/check.md is generated from this list."""

from __future__ import annotations

from pathlib import Path

from router.check.findings import Code, Finding, Place, Severity

_E, _W, _H = Severity.ERROR, Severity.WARNING, Severity.HINT

#: By group, in the order of the manual.
GROUPS: dict[str, tuple[Code, ...]] = {
    "The configuration": (
        Code(
            "config-invalid",
            _E,
            "A value in the configuration cannot be used.",
            "Correct it; docs/configuration.md has every key.",
        ),
        Code(
            "unknown-key",
            _E,
            "A key that Hearth does not know, or one that it reads of LiteLLM's with a letter wrong.",
            "Correct or remove it.",
        ),
        Code(
            "repeated-key",
            _E,
            "A key stands twice in one mapping; YAML takes the last without a word.",
            "Remove one of them.",
        ),
        Code(
            "never-fits",
            _E,
            "A model's memory is more than its GPU has for models.",
            "Take a smaller one, or serve less.",
        ),
        Code("duplicate-model", _E, "Two engines for one model name.", "Give one of them another `model_name`."),
        Code(
            "duplicate-container",
            _E,
            "Two models, or two services, with the same container or address.",
            "Give each its own.",
        ),
    ),
    "Names and addresses": (
        Code(
            "container-missing",
            _E,
            "A model's container is in no Compose file.",
            "Add the service, or correct `lifecycle.container`.",
        ),
        Code(
            "container-name",
            _E,
            "The service of a model has no `container_name`, or not the one that is configured; the router would not "
            "find the container.",
            "Set `container_name`.",
        ),
        Code(
            "model-missing",
            _E,
            "A service runs a model that no entry in `model_list` names.",
            "Add the entry, or remove the service.",
        ),
        Code("service-twice", _E, "Two Compose files have a service of the same name.", "Rename one of them."),
        Code(
            "address-host",
            _E,
            "The host in `api_base` is not a name of the model's container.",
            "Use the container's name as the host.",
        ),
        Code(
            "address-port",
            _E,
            "The port in `api_base` is not the one that the engine listens on.",
            "Make the two the same.",
        ),
        Code(
            "network",
            _E,
            "The gateway or the router shares no network with a model's container.",
            "Put the service on the network of the engines.",
        ),
        Code(
            "served-name",
            _E,
            "The engine serves its model under another name than LiteLLM will ask for.",
            "Make `--served-model-name` what follows the provider in `litellm_params.model`.",
        ),
        Code(
            "weights-name",
            _E,
            "The engine loads other weights than the catalogue says.",
            "Make `catalogue.weights` what the engine loads.",
        ),
        Code(
            "tool-calls",
            _W,
            "Clients are told that a model can call tools, and its engine is not told to.",
            "Add the engine's options for tools, or set `supports_function_calling: false`.",
        ),
        Code(
            "context-length",
            _E,
            "Clients are promised a longer context than the engine takes.",
            "Make `max_input_tokens` the engine's own limit, or less.",
        ),
        Code(
            "context-unused",
            _W,
            "The engine keeps memory for a longer context than clients may use.",
            "Make the two the same.",
        ),
        Code(
            "context-unknown",
            _W,
            "The configuration does not say how long a model's context is, so nothing is refused before it wakes.",
            "Set `model_info.max_input_tokens` to what the engine takes.",
        ),
    ),
    "Containers": (
        Code(
            "profile",
            _E,
            "A model's service is not in exactly one of the profiles models, models-built and models-disabled: `up` "
            "would start it, or nothing would ever create it.",
            "Give it one of them.",
        ),
        Code(
            "disabled-profile",
            _E,
            "The profile and `model_info.catalogue.disabled` do not agree on whether a model works.",
            "Change one of them.",
        ),
        Code(
            "restart",
            _E,
            "Docker would restart a model's container by itself, past the router.",
            'Set `restart: "no"`.',
        ),
        Code(
            "published-port",
            _E,
            "A model's service publishes a port: requests could reach the engine past the gateway, its keys and the "
            "router.",
            "Remove `ports`.",
        ),
        Code(
            "open-port",
            _E,
            "A port is published on all addresses of the host.",
            "Publish it on 127.0.0.1, and put a proxy with TLS in front for other machines.",
        ),
        Code(
            "hardening",
            _E,
            "A container has rights that it does not need.",
            "Set `cap_drop: [ALL]` and `security_opt: [no-new-privileges:true]`, without `privileged` or host "
            "namespaces.",
        ),
        Code(
            "docker-socket",
            _E,
            "Another service than the router can reach Docker, which is root on the host.",
            "Remove the mount.",
        ),
        Code("gpu-missing", _E, "A model's service reserves no GPU.", "Reserve it, as compose/engine.yml does."),
        Code(
            "init",
            _W,
            "A model's container has no init process; an engine that ignores TERM takes its whole stop timeout.",
            "Set `init: true`.",
        ),
        Code("log-size", _W, "A container's log grows without a limit.", "Set `max-size` among the logging options."),
        Code(
            "unknown-engine",
            _W,
            "The command starts no engine that Hearth knows, so its options are not checked.",
            "Check name, port, context and memory by hand.",
        ),
        Code(
            "health-path",
            _E,
            "A health check asks for something that the engine does not answer.",
            "Ask for /health at the engine's own port.",
        ),
        Code(
            "health-check",
            _W,
            "A model's service has no health check, so `docker ps` says nothing of it.",
            "Add one.",
        ),
        Code(
            "start-period",
            _H,
            "Docker calls the container unhealthy while the router still waits for its start.",
            "Make the health check's `start_period` the model's `start_timeout`.",
        ),
        Code(
            "start-timeout",
            _W,
            "The router gives up on a start sooner than the health check allows for.",
            "Make the model's `start_timeout` the health check's `start_period`.",
        ),
        Code(
            "stop-grace",
            _W,
            "`docker compose down` kills an engine sooner than the router would.",
            "Make `stop_grace_period` at least the model's `stop_timeout`.",
        ),
        Code(
            "idle-timeout",
            _W,
            "A model may idle for a shorter time than its stop takes.",
            "Make `idle_timeout` longer, or 0 for never.",
        ),
        Code("variable-unset", _W, "A variable without a default is not set; empty text is taken.", "Set it in .env."),
        Code("variable-required", _H, "A variable that Compose insists on is not set.", "Set it in .env."),
    ),
    "Images": (
        Code(
            "image-entrypoint",
            _E,
            "The command does not go with the image: `serve` needs one that starts `vllm` by itself, `vllm serve` one "
            "that does not, and the engine must be in it.",
            "Correct the command, or clear `entrypoint`; engine-flags.yaml says what is known of images.",
        ),
        Code("image-missing", _E, "A service has neither an image nor a build.", "Give it one."),
        Code(
            "image-unpinned",
            _E,
            "A pulled image has no digest and no tag, or the tag latest: it may be another one tomorrow.",
            "Add @sha256:... to it.",
        ),
        Code(
            "image-profile",
            _E,
            "An image that is built on the box is in the profile of those that are pulled, whose `create` fails "
            "without it.",
            "Use the profile models-built.",
        ),
        Code(
            "dockerfile-missing",
            _E,
            "There is no Dockerfile for an image that is built on the box.",
            "Add it to custom-docker-containers/, and the image's name to the tags of its target in docker-bake.json.",
        ),
        Code(
            "pull-policy",
            _W,
            "An image that is built on the box may be pulled from a public registry, from whoever has that name there.",
            "Set `pull_policy: never`.",
        ),
    ),
    "Weights and caches": (
        Code(
            "weights-mount",
            _E,
            "The weights are on no volume: each new container downloads them again.",
            "Mount the volume of the weights where the engine puts them.",
        ),
        Code(
            "cache-mount",
            _W,
            "A cache is on no volume: each new container downloads or compiles again.",
            "Mount a volume there.",
        ),
        Code(
            "cache-shared",
            _W,
            "Two images share a volume for compiled kernels; what one compiled may break the other.",
            "Give each image its own volume.",
        ),
        Code(
            "volume-undeclared",
            _E,
            "A volume is not declared at the top level of any file.",
            "Declare it at `volumes`.",
        ),
        Code("mount-source", _E, "A file or directory that is mounted is not there.", "Correct the path."),
    ),
    "Memory": (
        Code(
            "memory-share",
            _E,
            "The command does not say how much memory the engine takes, so it takes nearly all.",
            "State it: --gpu-memory-utilization, or --mem-fraction-static for SGLang.",
        ),
        Code(
            "memory-claim",
            _E,
            "The engine takes more memory than its model claims; others would be started into what it has taken.",
            "Raise `lifecycle.memory`, or lower the engine's share.",
        ),
        Code(
            "memory-slack",
            _H,
            "A model claims much more memory than its engine takes, which others could use.",
            "Lower `lifecycle.memory` if nothing was measured to need it.",
        ),
        Code(
            "memory-beside",
            _W,
            "A normal model leaves no room for the utility models, which stop whenever it runs.",
            "Give the engine a smaller share, or make the role exclusive.",
        ),
        Code(
            "memory-utilities",
            _E,
            "The utility models do not fit together, and each comes back by itself: they would never rest.",
            "Make one of them normal.",
        ),
    ),
    "Prompts and secrets": (
        Code("prompt-logging", _E, "Prompts or answers are written to a log.", "Remove the option."),
        Code(
            "secret",
            _E,
            "A key or password is written down, or has a default: whoever reads the file has it.",
            "Take it from the environment, without a default.",
        ),
    ),
    "The engines' own options": (
        Code(
            "engine-flag",
            _E,
            "The engine's parser does not know an option, and engine-flags.yaml does not list it for the image: the "
            "container would end at once.",
            "Correct or remove it; list it there with the reason if the image's own engine has it.",
        ),
        Code(
            "engine-value",
            _E,
            "The engine's parser does not take a value.",
            "Correct it; the message is the parser's own.",
        ),
        Code(
            "flag-unlisted",
            _W,
            "An option of an engine whose parser is not at hand is not among those that engine-flags.yaml lists.",
            "Look it up, and list it there.",
        ),
        Code("flag-twice", _W, "An option is given twice; the last one counts.", "Remove one."),
        Code(
            "flag-known",
            _H,
            "engine-flags.yaml excuses an option that the parser knows by now.",
            "Remove it from the list once the image has that version.",
        ),
        Code("flag-unused", _H, "engine-flags.yaml excuses an option that no service uses.", "Remove it."),
    ),
}

CODES: dict[str, Code] = {code.name: code for group in GROUPS.values() for code in group}


def found(code: str, where: str | Path | Place, message: str, action: str | None = None) -> Finding:
    """A finding of a known kind."""
    kind = CODES[code]
    return Finding(kind.severity, code, str(where), message, action or kind.action)

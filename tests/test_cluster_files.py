"""What a cluster is made from, ray-cluster.yaml and the Serve configuration: valid for Ray, true to this checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.core.errors import EnvironmentFaultError
from cluster.core.presets import preset
from cluster.core.storage import Store
from serve_apps.config_file import AppArguments, app, model_tiers
from tests.test_architecture import PACKAGES, ROOT
from train_jobs.distributed.resources import node_types, refuse_impossible, wanted

CLUSTER = ROOT / "ray-cluster.yaml"
SERVE = ROOT / "serve_apps" / "serve-config.yaml"
COMMANDS = ("setup_commands", "head_setup_commands", "head_start_ray_commands", "worker_start_ray_commands")


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    return yaml.safe_load(CLUSTER.read_text())


@pytest.fixture(scope="module")
def serve_file() -> dict[str, Any]:
    return yaml.safe_load(SERVE.read_text())


def commands(cluster: dict[str, Any]) -> list[str]:
    return [command for group in COMMANDS for command in cluster[group]]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.lower().split("==") for line in lines if "==" in line)


def named(requirement: str) -> str:
    return re.split(r"[\[<>=~! ]", requirement, maxsplit=1)[0].lower()


# -- ray-cluster.yaml -------------------------------------------------------------------------------------------------
@pytest.mark.process
def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["head_setup_commands"] == cluster["setup_commands"], "Ray's default installs what nobody pinned"


@pytest.mark.process
def test_ray_would_refuse_a_wrong_one(cluster: dict[str, Any]) -> None:
    """The validator in the test above does look."""
    import jsonschema
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config({**cluster, "idle_timeout_minuets": 5}))


def test_nodes_come_on_demand_and_the_head_does_no_work(cluster: dict[str, Any]) -> None:
    types = cluster["available_node_types"]
    head = types[cluster["head_node_type"]]
    assert head["resources"]["CPU"] == 0
    assert "--num-cpus=0" in cluster["head_start_ray_commands"][-1]
    groups = {name: node for name, node in types.items() if name != cluster["head_node_type"]}
    assert {node["labels"]["plinth.group"] for node in groups.values()} == set(groups)
    assert all(node["min_workers"] == 0 < node["max_workers"] for node in groups.values())
    assert {name: node["resources"].get("GPU", 0) for name, node in groups.items()} == {"cpu": 0, "gpu": 1, "gpu8": 8}
    assert cluster["max_workers"] >= sum(node["max_workers"] for node in groups.values())


@pytest.mark.parametrize(
    ("settings", "group"),
    [
        ([], "4 x 1 CPU"),
        (
            ["train.workers=32", "train.gpus=1", "train.worker_cpus=12", "train.node_group=gpu8"],
            "32 x (12 CPU, 1 GPU) on nodes of the group gpu8",
        ),
        (["train.workers=32", "train.workers_min=8", "train.gpus=1"], "8 to 32 x (1 CPU, 1 GPU)"),
    ],
)
def test_training_fits_the_nodes(cluster: dict[str, Any], settings: list[str], group: str) -> None:
    wish = wanted(preset("cluster", settings).train, {})
    assert str(wish) == group
    refuse_impossible(wish, [{}], node_types(cluster))


def test_training_that_no_node_can_hold_is_refused(cluster: dict[str, Any]) -> None:
    for settings, why in (
        (["train.gpus=1", "train.worker_cpus=97"], r"no node.*96 CPU, 8 GPU"),
        (["train.gpus=1", "train.node_group=gpu9"], r"gpu9, and no node.*0 CPU, 0 GPU"),
        (["train.gpus=1", "train.workers=37"], "together hold 36 such workers"),  # 4 x 8 + 4 x 1
    ):
        with pytest.raises(EnvironmentFaultError, match=why):
            refuse_impossible(wanted(preset("cluster", settings).train, {}), [{}], node_types(cluster))


def test_every_preset_worker_fits_on_a_cpu_node(cluster: dict[str, Any]) -> None:
    """What reserves more CPUs than any node has would wait for ever."""
    cpus = cluster["available_node_types"]["cpu"]["resources"]["CPU"]
    serve = preset("cluster").serve
    threads = [tier.threads for tier in serve.with_registered(["small", "medium", "large"])]
    assert len(threads) == 4
    assert serve.replica_cpus * max(serve.embed_threads, *threads) <= cpus


def test_installed_versions_are_those_of_the_constraints(cluster: dict[str, Any]) -> None:
    installs = [c for c in commands(cluster) if re.search(r"\bpip install\b", c)]
    assert len(installs) == 2
    assert all(re.search(r"--constraint (~/plinth/)?constraints\.txt", command) for command in installs)
    assert not any("==" in command for command in commands(cluster))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned, extras = constraints(), project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["aws"], *extras["gpu"], "uv"]
    assert [name for name in map(named, wanted) if name not in pinned] == []
    assert installs[1].endswith('${gpu:+--override gpu-overrides.txt} --editable ".[aws,names$gpu]"')


def test_what_the_nodes_get_is_what_this_checkout_has(cluster: dict[str, Any]) -> None:
    mounts = cluster["file_mounts"]
    project = {there: here for there, here in mounts.items() if there.startswith("~/plinth/")}
    assert all((ROOT / here).exists() for here in project.values())
    assert {here for here in project.values() if (ROOT / here).is_dir()} == set(PACKAGES)
    described = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {"pyproject.toml", "constraints.txt", described["readme"], *described["license-files"]}
    assert needed <= set(project.values())
    assert all(there == f"~/plinth/{here}" for there, here in project.items())


def test_ray_starts_with_token_on_loopback_dashboard_and_not_otherwise(cluster: dict[str, Any]) -> None:
    head, worker = cluster["head_start_ray_commands"][-1], cluster["worker_start_ray_commands"][-1]
    for command in (head, worker):
        before, _, start = command.partition("ray start")
        assert "environment=$(~/venv/bin/plinth env --node --preset cluster) && eval" in before
        assert ";" not in before.replace("|| true; }", ""), "a refusal must stop the whole command"
        assert "token" not in start.lower()
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


@pytest.mark.process
@pytest.mark.parametrize("which", ["head_start_ray_commands", "worker_start_ray_commands"])
def test_without_a_token_ray_is_not_started(cluster: dict[str, Any], which: str, tmp_path: Path) -> None:
    (tmp_path / ".plinth").mkdir()
    (tmp_path / ".plinth" / "node.env").write_text(f"export PLINTH_STORE={tmp_path}/store\n")
    (tmp_path / "venv").symlink_to(sys.prefix)
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "ray").write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    (bin_folder / "ray").chmod(0o700)
    environ = {"HOME": str(tmp_path), "PATH": f"{bin_folder}:/usr/bin:/bin"}
    command = ["bash", "-c", cluster[which][-1]]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "no Ray token" in done.stderr
    assert not (tmp_path / "started").exists()


def test_commands_are_shell(cluster: dict[str, Any]) -> None:
    for command in commands(cluster):
        done = subprocess.run(["bash", "-n", "-c", command], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"


@pytest.mark.parametrize("path", [CLUSTER, SERVE])
def test_no_secret_is_in_the_files(path: Path) -> None:
    text = path.read_text()
    secret = re.compile(
        r"AKIA[0-9A-Z]{16}|[0-9a-f]{32}|BEGIN [A-Z ]*PRIVATE KEY|(?i:token|secret|password)\s*[=:]\s*\S"
    )
    mount = "~/.plinth/ray_token: ~/.plinth/cluster_token"  # a path to a path
    assert secret.findall(text.replace(mount, "")) == []


def test_fields_to_set_are_marked(cluster: dict[str, Any]) -> None:
    """A file deployed as it is must not find somebody else's image, bucket or role."""
    assert all("CHANGE-ME" in node["node_config"]["ImageId"] for node in cluster["available_node_types"].values())
    workers = (node["node_config"] for name, node in cluster["available_node_types"].items() if name != "head")
    assert all("CHANGE-ME" in config["IamInstanceProfile"]["Name"] for config in workers)
    assert any("CHANGE-ME" in command for command in cluster["setup_commands"])
    assert re.search(r"region: \S+ +# CHANGE-ME", CLUSTER.read_text())


# -- the Serve configuration file -------------------------------------------------------------------------------------
@pytest.mark.process
def test_serve_accepts_the_configuration_file(serve_file: dict[str, Any]) -> None:
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_validate(serve_file)
    assert schema.http_options.host == "127.0.0.1"
    (application,) = schema.applications
    assert (application.name, application.route_prefix) == ("plinth", "/")
    assert set(serve_file) <= set(ServeDeploySchema.model_fields), "Serve ignores keys it does not know"
    assert set(serve_file["applications"][0]) <= set(type(application).model_fields)


def test_arguments_of_the_file_build_a_configuration(serve_file: dict[str, Any]) -> None:
    arguments = AppArguments.model_validate(serve_file["applications"][0]["args"])
    config = preset(arguments.preset, arguments.overrides)
    assert not config.cluster.single_node
    assert config.serve.replica_cpus > 0, "replicas that reserve nothing bring no nodes"
    assert (config.cluster.host, config.cluster.http_port) == tuple(
        serve_file["http_options"][k] for k in ("host", "port")
    )


@pytest.mark.process
def test_the_file_deploys_the_graph_of_plinth_up(serve_file: dict[str, Any], home: Path) -> None:
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary as build
    from ray.serve._private.build_app import build_app as flatten

    from serve_apps.deploy import build_app

    def graph(application: Any) -> dict[str, tuple[int, Any]]:
        built = flatten(application, name="plinth", make_deployment_handle=lambda *_: None)
        return {d.name: (d.num_replicas, d.ray_actor_options) for d in built.deployments}

    entry = serve_file["applications"][0]
    module, _, attribute = entry["import_path"].partition(":")
    assert (module, attribute) == (app.__module__, app.__name__)
    deployed = graph(build(app, entry["args"]))
    config = preset("cluster")
    assert deployed == graph(build_app(config, model_tiers(config, Store(str(home / "store")))))
    assert deployed["gateway"][1]["resources"] == {"node:__internal_head__": 0.001}
    assert all(options["num_cpus"] >= 1 for name, (_, options) in deployed.items() if name != "gateway")
    laptop = graph(build_app(preset("laptop"), ["small"]))
    assert set(laptop) == set(deployed)
    assert all(options["num_cpus"] == 0 and "resources" not in options for _, options in laptop.values())


def test_unknown_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="prest"):
        AppArguments.model_validate({"prest": "cluster"})


def test_an_object_store_is_read_without_cached_listings() -> None:
    """s3fs would otherwise show a long-running replica for ever what it saw first."""
    assert not Store("s3://bucket/folder").fs.dircache.use_listings_cache

"""A running head is asked whether it lets others in as the configuration says."""

from __future__ import annotations

from pathlib import Path

from cluster.core.home import Home
from cluster.core.sections.cluster import ClusterSection
from cluster.haproxy_edge import mend
from cluster.serve_mode import open_door, same_door


def test_a_door_opened_or_closed_while_it_runs_is_noticed(tmp_path: Path) -> None:
    home, shut, wide = Home(tmp_path), ClusterSection(), ClusterSection(host="0.0.0.0", https_port=9443)
    assert same_door(shut, home, str(tmp_path))
    assert not same_door(wide, home, str(tmp_path))
    open_door(wide, home, str(tmp_path))
    assert same_door(wide, home, str(tmp_path))
    assert not same_door(shut, home, str(tmp_path))
    assert not same_door(wide.model_copy(update={"https_port": 9444}), home, str(tmp_path))
    open_door(shut, home, str(tmp_path))
    assert same_door(shut, home, str(tmp_path))


def test_the_door_is_found_from_serves_own_folder(tmp_path: Path) -> None:
    open_door(ClusterSection(host="0.0.0.0", https_port=9443), Home(tmp_path), str(tmp_path))
    (tmp_path / "5d41").mkdir()
    config = tmp_path / "5d41" / "haproxy.cfg"
    config.write_text("global\ndefaults\n    mode http\nfrontend http_frontend\n    bind 127.0.0.1:8000\n")
    mend(["-f", str(config)])
    assert "bind 0.0.0.0:9443 ssl" in config.read_text()

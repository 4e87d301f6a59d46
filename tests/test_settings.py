"""One typed tree: profiles over defaults, the project's file over those, the environment over all."""

import json
from pathlib import Path

import pytest

from pixelis_pipeline.settings import PROFILES, Settings, SettingsError, entire, load, provenance


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch):
    for name in ("PIXELIS_PROFILE", "PIXELIS_REALDATA"):
        monkeypatch.delenv(name, raising=False)


def test_layers_lie_on_one_another_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert load(tmp_path).profile == "embedded"
    (tmp_path / "pixelis.toml").write_text(
        "profile = 'tiny'\n[sources.sa1b]\nseed = 8\n[replay]\nseg_iou = 0.6\n"
    )
    local = load(tmp_path)
    assert (local.profile, local.sources["sa1b"].seed, local.sources["sa1b"].items) == ("tiny", 8, 6)
    monkeypatch.setenv("PIXELIS_SOURCES__SA1B__SEED", "9")
    monkeypatch.setenv("PIXELIS_BATCHES", '["000", "001"]')
    monkeypatch.setenv("PIXELIS_TEACHER_KEY", "a secret that is no setting")
    changed = load(tmp_path)
    assert (changed.sources["sa1b"].seed, changed.batches) == (9, ("000", "001"))
    assert changed.replay.seg_iou == 0.6 and "secret" not in changed.model_dump_json()


@pytest.mark.parametrize("profile", sorted(p.stem for p in PROFILES.glob("*.toml")))
def test_every_profile_that_ships_is_valid(tmp_path: Path, profile: str):
    assert load(tmp_path, profile).profile == profile


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("PIXELIS_SOURCES__SA1B__SEED", "abc", "sources.sa1b.seed"),
        ("PIXELIS_SOURCES__SA1B__ITEMS", "0", "sources.sa1b.items"),
        ("PIXELIS_SOURCES__SA1B__LIMIT", "-1", "sources.sa1b.limit"),
        ("PIXELIS_MEDIA__PIXELS", "0", "media.pixels"),
        ("PIXELIS_BATCHES", "[]", "batches"),
        ("PIXELIS_BATCHES", '["000", "000"]', "a batch is named twice"),
        ("PIXELIS_BATCHES", '["../../x"]', "batches"),
        ("PIXELIS_BATCHES", '["a|b"]', "batches"),
        ("PIXELIS_SOURCES", "5", "sources must be a table"),
        ("PIXELIS_TEACHER__NAME", "x", "teacher.name"),
        ("PIXELIS_TEACHERS__MODEL", "x", "teachers"),
    ],
)
def test_junk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError, match=told):
        load(tmp_path)


def test_credentials_in_an_endpoint_are_refused_and_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PIXELIS_TEACHER__ENDPOINT", "https://user:hunter2@example.org/v1")
    with pytest.raises(SettingsError, match="key_variable") as raised:
        load(tmp_path)
    assert "hunter2" not in str(raised.value)


def test_a_file_that_is_no_text_is_an_error_with_its_path(tmp_path: Path):
    (tmp_path / "pixelis.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match=r"pixelis\.toml"):
        load(tmp_path)


def test_every_number_of_the_paper_says_where_it_comes_from():
    listed = {name: mark for name, _, mark in provenance()}
    assert listed["synthesis.temperatures"].code == "S" and listed["curation.spot_check"].code == "S"
    assert all(mark.code in "SDMP" for mark in listed.values()) and len(listed) > 30


def test_another_process_gets_every_setting(tmp_path: Path):
    """Also those that are left out where settings are recorded, through JSON."""
    (tmp_path / "pixelis.toml").write_text(
        "batches = ['000', '001']\n[engine]\nworkers = 3\n[curation]\nencoder = '/models/clip'\n"
        "[teacher.prices.ours]\nprompt = 1\ncompletion = 2\n[sources.sa1b]\npath = '/data'\n"
    )
    settings = load(tmp_path, "tiny")
    assert Settings.model_validate(json.loads(json.dumps(entire(settings)))) == settings
    assert Settings.model_validate(settings.model_dump()) != settings

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


@pytest.mark.parametrize(
    "name, value, told",
    [
        ("policy.name", "nano", "operations.processes is 8: the nano policy learns in one process"),
        ("policy.device", "auto", "policy.device is 'auto'.* set it to \"cuda\""),
        ("policy.device", "cuda:1", "policy.device is 'cuda:1'"),
        ("sft.batch", "12", r"operations.processes \(8\) cannot share sft.batch \(12\) evenly"),
        ("rft.prompts", "4", r"operations.processes \(8\) cannot share rft.prompts \(4\) evenly"),
    ],
)
def test_what_several_processes_cannot_share_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
):
    assert load(tmp_path, "gpu80x8").operations.processes == 8
    monkeypatch.setenv(f"PIXELIS_{name.upper().replace('.', '__')}", value)
    with pytest.raises(SettingsError, match=f"^{told}"):
        load(tmp_path, "gpu80x8")
    monkeypatch.setenv("PIXELIS_OPERATIONS__PROCESSES", "1")
    load(tmp_path, "gpu80x8")


def test_weights_are_split_over_gpus_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIXELIS_OPERATIONS__STRATEGY", "fsdp")
    load(tmp_path, "gpu80x8")
    monkeypatch.setenv("PIXELIS_POLICY__DEVICE", "cpu")
    with pytest.raises(SettingsError, match="accelerate splits weights over GPUs only"):
        load(tmp_path, "gpu80x8")


def test_eight_gpus_learn_as_one_does(tmp_path: Path):
    """The profiles differ in how a training is spread, and in the prompts of a step, which eight share."""
    one, eight = (load(tmp_path, name).model_dump() for name in ("gpu80", "gpu80x8"))
    assert eight["rft"].pop("prompts") % 8 == 0 and one["rft"].pop("prompts")
    for each in (one, eight):
        del each["profile"], each["operations"]
    assert one == eight


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
